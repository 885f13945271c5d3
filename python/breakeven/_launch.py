"""Handing objects in shared memory to a child that is being started (spawn and forkserver)."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from multiprocessing import context as _context
from multiprocessing import reduction

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SharedFd", "forget_ended", "keep"]


class SharedFd:
    """A descriptor which any number of objects inside one pickled Process refer to.

    All objects in shared memory lie in one arena, so a Process with two queues among its arguments carries the arena's
    descriptor twice; but the spawn launcher refuses a descriptor that is listed twice, and the child must not close it
    twice. Hence one object per launch and descriptor (pickle's memo keeps it one in the child), of which each user
    takes a duplicate. The original is closed with the object, when the child has unpickled its Process.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._received = False

    @classmethod
    def for_child(cls, fd: int) -> SharedFd:
        popen = _context.get_spawning_popen()
        shared = popen.__dict__.setdefault("_breakeven_fds", {})
        if fd not in shared:
            shared[fd] = cls(fd)
        return shared[fd]

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedFd._receive, (reduction.DupFd(self._fd),)

    @classmethod
    def _receive(cls, duplicate: Any) -> SharedFd:
        self = cls(duplicate.detach())
        self._received = True
        return self

    def take(self) -> int:
        return os.dup(self._fd)

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        if self._received:
            _close(self._fd)


# Launches whose children may not have opened yet what they were handed.
_launches: weakref.WeakSet[Any] = weakref.WeakSet()


def keep(key: Any, handle: Any) -> None:
    """Keeps a handle on an object for the child that is just being started, under a key of the object's.

    This process may drop its own before the child has opened the object, and the child may die before it does. So the
    launch has one, which goes with it: when its Process object is let go, or when the child is known to have ended and
    anybody hands over or closes an object next.
    """
    forget_ended()
    popen = _context.get_spawning_popen()
    popen.__dict__.setdefault("_breakeven_kept", {})[key] = handle
    _launches.add(popen)


def forget_ended() -> None:
    """Lets go of what was kept for children that are known to have ended."""
    for popen in list(_launches):
        if popen.returncode is not None:
            popen.__dict__.pop("_breakeven_kept", None)
            _launches.discard(popen)
