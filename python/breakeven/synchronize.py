"""`Lock`, `RLock`, `Semaphore`, `BoundedSemaphore`, `Condition`, `Event` and `Barrier` with the contract of
`multiprocessing.synchronize`, in shared memory.

What differs from the standard library, and why:

- A process that ends while it holds a `Lock` or `RLock`, whatever way it ends, does not take it along: the next
  `acquire()` gets it, and returns True as ever. `lock.owner_died` is then true until the lock is released, for whoever
  wants to look after what the lock guards; `lock.recoveries` counts how often that has happened.
- The permits that a process holds of a `Semaphore` (taken, less those given back) come back when it ends, up to the
  semaphore's initial value. So a limit stays what it was, and a `Semaphore(0)` that carries signals gets none that
  nobody sent.
- `Condition.notify()` does not wait for those whom it wakes, so a killed one does not stop it; and a notification that
  a process was given and died before it saw goes to another.
- A process that is killed while it waits at a `Barrier` breaks the barrier for the others. (One that is killed before
  it comes is not known to be missing; the timeout is for that.)
- `Event.wait()` returns True to all who waited when the event was set, also if it was cleared at once.
- A lock is a place in shared memory: no name, no descriptor, no helper process; it works under every start method.

The classes derive from the standard library's, for the sake of `isinstance` checks and what programs find in private
parts (`_semlock`); how they work is in `crates/shm/src/sync`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import context as _context
from multiprocessing import synchronize as _stdlib

from . import _launch, _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"]

RECURSIVE_MUTEX: int = _stdlib.RECURSIVE_MUTEX  # type: ignore[attr-defined]
SEMAPHORE: int = _stdlib.SEMAPHORE  # type: ignore[attr-defined]
SEM_VALUE_MAX: int = _stdlib.SEM_VALUE_MAX  # type: ignore[attr-defined]
SemLock = _stdlib.SemLock
sem_unlink = _stdlib.sem_unlink  # type: ignore[attr-defined]


def __getattr__(name: str) -> Any:
    # What multiprocessing.synchronize has beside its classes: programs import it from there.
    if not name.startswith("_") and hasattr(_stdlib, name):
        return getattr(_stdlib, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _share(obj: Any, handle: tuple[int, int]) -> tuple[Any, int]:
    """What a child that is being started needs to open an object, and the object kept until it has."""
    arena_fd, number = handle
    _launch.keep(("lock", number), obj)
    return _launch.SharedFd.for_child(arena_fd), number


class _Native:
    """What the classes have in common whose objects are native ones."""

    _is_fork_ctx = False
    name = None  # the standard library's semaphores have one in the file system
    SEM_VALUE_MAX = SEM_VALUE_MAX

    @property
    def _semlock(self) -> Any:
        return self

    @property
    def handle(self) -> int:
        """A number that is this object's own in all processes."""
        return self._handle()[1]  # type: ignore[attr-defined]

    def _make_methods(self) -> None:
        """There is nothing to make: the methods are the native ones."""

    def __getstate__(self) -> Any:
        _context.assert_spawning(self)
        return _share(self, self._handle())  # type: ignore[attr-defined]

    def __setstate__(self, state: Any) -> None:
        arena_fd, number = state
        self._attach(arena_fd.take(), number)  # type: ignore[attr-defined]


class Lock(_native.Mutex, _Native, _stdlib.Lock):
    """A lock between processes, which any thread of any process may release."""

    kind = SEMAPHORE
    maxvalue = 1

    def __init__(self, *, ctx: Any = None) -> None:
        self._create(False)


class RLock(_native.Mutex, _Native, _stdlib.RLock):
    """A lock between processes which the thread that holds it can take again, and only that thread can release."""

    kind = RECURSIVE_MUTEX
    maxvalue = 1

    def __init__(self, *, ctx: Any = None) -> None:
        self._create(True)


class Semaphore(_native.Semaphore, _Native, _stdlib.Semaphore):
    """A counter of permits: `acquire` takes one, waiting for it if there is none, and `release` gives one."""

    kind = SEMAPHORE

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        self._create(value, SEM_VALUE_MAX)

    def get_value(self) -> int:
        """How many permits there are."""
        return self._get_value()


class BoundedSemaphore(Semaphore, _stdlib.BoundedSemaphore):
    """A semaphore that never has more permits than at first: releasing it too often raises ValueError."""

    def __init__(self, value: int = 1, *, ctx: Any = None) -> None:
        self._create(value, value)

    __repr__ = _stdlib.BoundedSemaphore.__repr__


class _Count:
    """What the standard library keeps in a semaphore, and somebody may look at."""

    def __init__(self, value: Callable[[], int]) -> None:
        self._get_value = self.get_value = value

    @property
    def _semlock(self) -> _Count:
        return self


def _zero() -> int:
    return 0


class Condition(_stdlib.Condition):
    """A condition variable between processes, over a lock of ours or any other with a `_semlock`.

    At most 1,024 threads can wait for one condition at a time.
    """

    def __init__(self, lock: Any = None, *, ctx: Any = None) -> None:
        self._connect(lock or RLock(ctx=ctx), _native.Waiters())

    def _connect(self, lock: Any, waiters: _native.Waiters) -> None:
        self._lock = lock
        self._waiters = waiters
        self._sleeping_count = _Count(waiters.waiting)
        self._woken_count = self._wait_semaphore = _Count(_zero)
        self._make_methods()

    def __getstate__(self) -> Any:
        _context.assert_spawning(self)
        return self._lock, _share(self._waiters, self._waiters._handle())

    def __setstate__(self, state: Any) -> None:
        lock, (arena_fd, number) = state
        self._connect(lock, _native.Waiters._attached(arena_fd.take(), number))

    def _make_methods(self) -> None:
        self.acquire = self._lock.acquire  # type: ignore[method-assign]
        self.release = self._lock.release  # type: ignore[method-assign]

    def wait(self, timeout: float | None = None) -> bool:
        """Let the lock go, wait until notified or for `timeout` seconds, take the lock again.

        Returns whether it was notified. Raises AssertionError if the calling thread does not hold the lock.
        """
        assert self._lock._semlock._is_mine(), "must acquire() condition before using wait()"
        return self._wait(timeout, False)

    def _wait(self, timeout: float | None, watch: bool) -> bool:
        lock, waiters = self._lock, self._waiters
        place = waiters.enter()
        try:
            count = lock._semlock._count()
            for _ in range(count):
                lock.release()
            try:
                waiters.wait(place, timeout, watch)
            finally:
                for _ in range(count):
                    lock.acquire()
        except BaseException:
            if waiters.leave(place):
                waiters.notify(1)  # it was meant for somebody who goes on
            raise
        return waiters.leave(place)

    def notify(self, n: int = 1) -> None:
        """Wake the `n` threads that wait longest. The calling thread holds the lock, else AssertionError is raised."""
        assert self._lock._semlock._is_mine(), "lock is not owned"
        if n > 0:
            self._waiters.notify(n)

    def notify_all(self) -> None:
        """Wake all who wait."""
        self.notify(sys.maxsize)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate()` is true, for at most `timeout` seconds; returns its last result."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result


class Event(_native.Event, _Native, _stdlib.Event):
    """A flag between processes that one can wait for."""

    def __init__(self, *, ctx: Any = None) -> None:
        self._create()

    def __repr__(self) -> str:
        state = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {state}>"


# What is noted with a barrier's condition, and guarded by its lock.
_ROUND, _ARRIVED, _BROKEN, _RESETS = range(4)
# How often, in seconds, those who wait look whether the one who is to wake them died holding the lock.
_LOOK_EVERY = 1.0
_REMEMBERED = 64  # rounds; bit n of _RESETS: round n (modulo 64) was ended by reset()


class Barrier(_stdlib.Barrier):
    """A place where `parties` threads of any processes wait for each other.

    `action` is called by one of them when all have come. A process that is killed while it waits breaks the barrier for
    the others, as a timeout does: they get `threading.BrokenBarrierError`, and so does everybody until `reset()`.
    """

    _parties: int
    _action: Callable[[], object] | None
    _timeout: float | None
    _cond: Condition

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: Any = None,
    ) -> None:
        self.__setstate__((parties, action, timeout, Condition(Lock(ctx=ctx), ctx=ctx)))

    def __getstate__(self) -> Any:
        return self._parties, self._action, self._timeout, self._cond

    def __setstate__(self, state: Any) -> None:
        self._parties, self._action, self._timeout, self._cond = state

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties have come, for at most `timeout` seconds (or what the barrier was made with).

        Returns a number from 0 that is different for each of them. Raises BrokenBarrierError if the barrier is broken,
        or is broken or reset meanwhile.
        """
        if timeout is None:
            timeout = self._timeout
        lock = self._cond._lock
        lock.acquire()
        try:
            self._look_for_deaths()
            notes = self._cond._waiters
            if notes.note(_BROKEN):
                raise threading.BrokenBarrierError
            index = notes.note(_ARRIVED)
            notes.set_note(_ARRIVED, index + 1)
            if index + 1 < self._parties:
                self._wait_for_others(notes.note(_ROUND), timeout)
                return index
            try:
                if self._action:
                    self._action()
            except BaseException:
                self._break()
                raise
            self._end_round(was_reset=False)
            return index
        finally:
            if lock._is_mine():  # else a signal handler raised while it was to be taken again
                lock.release()

    def _wait_for_others(self, round_: int, timeout: float | None) -> None:
        notes, lock = self._cond._waiters, self._cond._lock
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LOOK_EVERY if end is None else min(_LOOK_EVERY, max(0.0, end - time.monotonic()))
            try:
                self._cond._wait(left, True)
            except BaseException:
                if not lock._is_mine():
                    lock.acquire()
                if notes.note(_ROUND) == round_ and not notes.note(_BROKEN):
                    notes.set_note(_ARRIVED, notes.note(_ARRIVED) - 1)
                raise
            self._look_for_deaths()
            if notes.note(_ROUND) != round_:
                break
            if notes.note(_BROKEN):
                raise threading.BrokenBarrierError
            if end is not None and time.monotonic() >= end:
                self._break()
                raise threading.BrokenBarrierError
        if notes.note(_RESETS) >> round_ % _REMEMBERED & 1:
            raise threading.BrokenBarrierError

    def _look_for_deaths(self) -> None:
        """Breaks the barrier if somebody died who had waited at it, or in the middle of changing it."""
        died = self._cond._waiters.take_deaths() > 0
        if died or self._cond._lock.owner_died:
            self._break()

    def _break(self) -> None:
        notes = self._cond._waiters
        notes.set_note(_BROKEN, 1)
        notes.set_note(_ARRIVED, 0)
        self._cond.notify_all()

    def _end_round(self, was_reset: bool) -> None:
        notes = self._cond._waiters
        round_ = notes.note(_ROUND)
        bit = 1 << round_ % _REMEMBERED
        resets = notes.note(_RESETS) & ~bit
        notes.set_note(_RESETS, resets | bit if was_reset else resets)
        notes.set_note(_ARRIVED, 0)
        notes.set_note(_ROUND, round_ + 1)
        self._cond.notify_all()

    def reset(self) -> None:
        """Make the barrier as new. Those who wait at it get BrokenBarrierError."""
        with self._cond:
            notes = self._cond._waiters
            notes.take_deaths()
            self._end_round(was_reset=True)
            notes.set_note(_BROKEN, 0)

    def abort(self) -> None:
        """Break the barrier, until `reset()`."""
        with self._cond:
            self._break()

    @property
    def parties(self) -> int:
        """How many have to come."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many wait at the moment."""
        return self._cond._waiters.note(_ARRIVED)

    @property
    def broken(self) -> bool:
        """Is the barrier broken?"""
        return self._cond._waiters.note(_BROKEN) != 0
