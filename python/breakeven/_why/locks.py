"""Hooks: `multiprocessing.synchronize`."""

from __future__ import annotations

import zlib

from .. import _native
from . import kinds
from .hooks import change, hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def hook_multiprocessing_synchronize(module: ModuleType) -> None:
    hook_semaphores(module)
    # Waits for other participants; the locks that they are made of are not worth records.
    for waits in (module.Condition, module.Event):
        hook(waits, "wait", kinds.LOCK_WAIT, site=True, outermost=True, before=_before_wait)
    barrier = _native.Hook(module.Barrier.wait, kinds.LOCK_WAIT, site=True, outermost=True, before=_before_wait)
    change(module.Barrier, "wait", barrier)


def hook_semaphores(module: ModuleType) -> None:
    """Hooks for a module that defines `SemLock` as `multiprocessing.synchronize` does."""
    lock = module.SemLock
    hook(lock, "_make_methods", kinds.SILENT, after=_after_make_methods)
    change(lock, "__enter__", _native.LockMethod(lock.__enter__, False))
    change(lock, "__exit__", _native.LockMethod(lock.__exit__, True))


# `kind` of a recursive semaphore, in C.
_RECURSIVE_MUTEX = 0


def _after_make_methods(args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    lock = args[0]
    semaphore = lock._semlock
    exclusive = semaphore.kind == _RECURSIVE_MUTEX or semaphore.maxvalue == 1
    name = _native.trace_intern(type(lock).__name__)
    traced = _native.TracedLock(semaphore, number_of(lock), name, exclusive)
    lock._breakeven_lock = traced
    lock.acquire = traced.acquire
    lock.release = traced.release


def number_of(lock: Any) -> int:
    """The number of a lock in records: made of its semaphore's name, or of its address, which forked children share."""
    inner = getattr(lock, "_semlock", None)
    if inner is None:
        inner = getattr(getattr(lock, "_lock", None) or getattr(lock, "_cond", None), "_semlock", None)
    if inner is None:
        return 0
    name = getattr(inner, "name", None)
    if name:
        return (zlib.crc32(name.encode()) << 16) | 1
    return int(inner.handle) & 0xFFFF_FFFF_FFFF


def _before_wait(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    thing = args[0]
    return number_of(thing), 0, 0, type(thing).__name__
