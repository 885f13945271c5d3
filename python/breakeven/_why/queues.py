"""Hooks: `multiprocessing.Queue` and its kin."""

from __future__ import annotations

from .. import _native
from . import kinds
from .hooks import hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def hook_multiprocessing_queues(module: ModuleType) -> None:
    for name in ("Queue", "SimpleQueue"):
        queue = getattr(module, name)
        hook(queue, "put", kinds.PUT, "put", site=True)
        hook(queue, "get", kinds.GET, "get", site=True)
        hook(queue, "__init__", kinds.SILENT, after=after_init)
    hook(module.JoinableQueue, "put", kinds.PUT, "put", site=True)
    hook(module.Queue, "_start_thread", kinds.SILENT, before=_before_feeder)


def after_init(args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    queue = args[0]
    maxsize = getattr(queue, "_maxsize", 0)
    # The standard library's "unbounded" is what a semaphore can count.
    unbounded = maxsize >= 2**31 - 1
    _native.trace_point(
        kinds.QUEUE,
        _native.trace_number(queue),
        value=0 if unbounded else maxsize,
        name=type(queue).__name__,
        site=_native.trace_site(),
    )


def _before_feeder(args: tuple[Any, ...], kwargs: Any) -> None:
    # Called by the first put of this process: the feeder counts its messages from one, and so do puts.
    args[0]._breakeven_puts = 1
