"""Hooks: `multiprocessing.managers`."""

from __future__ import annotations

import zlib

from .. import _native
from . import kinds
from .hooks import hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def hook_multiprocessing_managers(module: ModuleType) -> None:
    hook(module.BaseProxy, "_callmethod", kinds.CALL, "call", site=True, before=_number_of_proxy, after=_client)
    hook(module.Server, "serve_client", kinds.SILENT, before=_before_serve)


def _number(address: Any) -> int:
    return (zlib.crc32(repr(address).encode()) << 16) | 2


def _number_of_proxy(proxy: Any) -> int:
    """The number of a proxy's manager, which is from now on kept in the proxy."""
    proxy._breakeven_number = number = _number(proxy._token.address)
    return number


def _client() -> int:
    """What the numbers of a thread's calls begin with. Its name is what it tells the server on its connection."""
    import threading
    from multiprocessing import process

    thread, name = threading.current_thread().name, process.current_process().name
    return _calls_of(name if thread == "MainThread" else f"{name}|{thread}")


def _calls_of(client: str) -> int:
    return zlib.crc32(client.encode()) << 32


def _before_serve(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    server, connection = args[0], args[1]
    import threading

    # The server has given the thread the name of its client.
    calls = _calls_of(threading.current_thread().name)
    return 0, 0, 0, None, (server, _native.ServedConnection(connection, _number(server.address), calls)), kwargs
