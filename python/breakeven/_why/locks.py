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
    lock = module.SemLock
    hook(lock, "_make_methods", kinds.SILENT, after=_after_make_methods)
    change(lock, "__enter__", _native.LockMethod(lock.__enter__, False))
    change(lock, "__exit__", _native.LockMethod(lock.__exit__, True))
    hook(module.Condition, "wait", kinds.LOCK_WAIT, site=True, before=_before_wait)
    hook(module.Event, "wait", kinds.LOCK_WAIT, site=True, before=_before_wait)
    _exclusive.update((module.RECURSIVE_MUTEX, module.SEMAPHORE))
    _recursive.append(module.RECURSIVE_MUTEX)


_exclusive: set[int] = set()
_recursive: list[int] = []


def _after_make_methods(args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    lock = args[0]
    semaphore = lock._semlock
    exclusive = semaphore.kind == _recursive[0] or semaphore.maxvalue == 1
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
