"""The API of `multiprocessing` with threads: the standard library's `multiprocessing.dummy`, with our `ThreadPool`."""

from __future__ import annotations

import sys
from multiprocessing import dummy as _dummy
from multiprocessing.dummy import *  # noqa: F403
from multiprocessing.dummy import DummyProcess, Namespace, Value, connection, shutdown
from typing import Any

from .pool import ThreadPool

__all__ = [*_dummy.__all__, "Array", "DummyProcess", "Namespace", "Value", "connection", "dict", "list", "shutdown"]

_stdlib: Any = _dummy
Array = _stdlib.Array
dict = _stdlib.dict
list = _stdlib.list


def Pool(processes=None, initializer=None, initargs=()):  # type: ignore[no-redef]
    """A pool of threads."""
    return ThreadPool(processes, initializer, initargs)


def Manager():  # type: ignore[no-redef]
    """This module: threads share everything anyway."""
    return sys.modules[__name__]
