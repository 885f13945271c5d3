"""Start-method contexts: the standard library's, with breakeven's locks, queues and pools.

The classes derive from `multiprocessing.context`'s, and the start method in force is kept in one place, the standard
library's own default context. Programs that mix `multiprocessing` and `breakeven` therefore see one start method, and
asking breakeven for it fixes it exactly when asking multiprocessing would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from multiprocessing import context as _stdlib
from multiprocessing import reduction
from multiprocessing.context import (
    AuthenticationError,
    BufferTooShort,
    ProcessError,
    TimeoutError,
    assert_spawning,
    get_spawning_popen,
    set_spawning_popen,
)

from . import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import managers, pool, queues, synchronize

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "assert_spawning",
    "get_spawning_popen",
    "reduction",
    "set_spawning_popen",
]


class ForkProcess(_stdlib.ForkProcess):
    """The standard library's; a child that is killed before it could speak up is noticed at once."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from multiprocessing.popen_fork import Popen

        popen = Popen(process_obj)  # returns in the parent only
        _native.note_child(popen.pid)
        return popen


class SpawnProcess(_stdlib.SpawnProcess):
    """The standard library's, forked from a template that is as fresh as a new interpreter; see `_warm`."""

    _comes_up_ahead = True

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from ._warm import popen

        return popen(process_obj)


class ForkServerProcess(_stdlib.ForkServerProcess):
    """The standard library's, forked from a template that has the program's modules imported; see `_warm`."""

    _comes_up_ahead = True

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from ._warm import popen

        return popen(process_obj)


class Process(_stdlib.Process):
    """A process started by the start method in force."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _default_context.get_context().Process._Popen(process_obj)


class BaseContext(_stdlib.BaseContext):
    """A context of the standard library whose locks, queues and pools are breakeven's."""

    def Queue(self, maxsize: int = 0) -> queues.Queue:  # type: ignore[override]
        """A queue of at most `maxsize` messages; 0 or less means without limit."""
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue:  # type: ignore[override]
        """A `Queue` with `task_done()` and `join()`."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> queues.SimpleQueue:  # type: ignore[override]
        """A queue without limit that has `put`, `get`, `empty` and `close` only."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pipe(self, duplex: bool = True) -> tuple[Any, Any]:
        """Two connected ends; without `duplex` the first receives and the second sends. See `breakeven.connection`."""
        from .connection import Pipe

        return Pipe(duplex)

    def Lock(self) -> synchronize.Lock:  # type: ignore[override]
        """A lock, which any thread of any process may release."""
        from .synchronize import Lock

        return Lock(ctx=self.get_context())

    def RLock(self) -> synchronize.RLock:  # type: ignore[override]
        """A lock which the thread that holds it can take again, and only that thread can release."""
        from .synchronize import RLock

        return RLock(ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:  # type: ignore[override]
        """A counter of permits, with `value` of them at first."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:  # type: ignore[override]
        """A counter of permits that never has more than at first."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Condition(self, lock: Any = None) -> synchronize.Condition:  # type: ignore[override]
        """A condition variable over `lock`, or over an RLock of its own."""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Event(self) -> synchronize.Event:  # type: ignore[override]
        """A flag that one can wait for."""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(  # type: ignore[override]
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> synchronize.Barrier:
        """A place where `parties` threads of any processes wait for each other."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Pool(  # type: ignore[override]
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> pool.Pool:
        """A pool of worker processes; the arguments are those of `multiprocessing.Pool`."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self.get_context())

    def Manager(self) -> managers.SyncManager:  # type: ignore[override]
        """A started manager, whose lists live in shared memory; see `breakeven.managers`."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def get_context(self, method: str | None = None) -> Any:
        """The context of this start method, or this context. Raises ValueError for a method that does not exist."""
        if method is None:
            return self
        return ours(super().get_context(method))


class ForkContext(BaseContext, _stdlib.ForkContext):
    """Children are forks of this process."""

    Process = ForkProcess


class SpawnContext(BaseContext, _stdlib.SpawnContext):
    """Children are as fresh interpreters."""

    Process = SpawnProcess


class ForkServerContext(BaseContext, _stdlib.ForkServerContext):
    """Children are forks of a server process that was started afresh."""

    Process = ForkServerProcess


class DefaultContext(BaseContext, _stdlib.DefaultContext):
    """The context behind `breakeven.Queue`, `breakeven.Process` and so on; its start method can be set once.

    It has no state: `set_start_method` and the rest are inherited and act on the standard library's default context,
    through the two properties below.
    """

    Process = Process

    def __init__(self) -> None:
        # Not calling the inherited one: it would assign what are properties here.
        pass

    @property
    def _default_context(self) -> Any:
        return ours(_stdlib._default_context._default_context)  # type: ignore[attr-defined]

    @property
    def _actual_context(self) -> Any:
        actual = _stdlib._default_context._actual_context  # type: ignore[attr-defined]
        return None if actual is None else ours(actual)

    @_actual_context.setter
    def _actual_context(self, context: Any) -> None:
        _stdlib._default_context._actual_context = (  # type: ignore[attr-defined]
            None if context is None else theirs(context)
        )

    def get_context(self, method: str | None = None) -> Any:
        """The context of this start method; without one, the context in force, which is thereby fixed."""
        if method is None:
            return _stdlib.DefaultContext.get_context(self)  # type: ignore[call-arg]
        return super().get_context(method)


_concrete_contexts: dict[str, Any] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_default_context = DefaultContext()


def ours(context: Any) -> Any:
    """breakeven's counterpart of a context of the standard library; any other context is returned as it is.

    Others exist: libraries register start methods of their own.
    """
    name = getattr(context, "_name", "")
    if context is _stdlib._concrete_contexts.get(name):  # type: ignore[attr-defined]
        return _concrete_contexts.get(name, context)
    return context


def theirs(context: Any) -> Any:
    """The inverse of `ours`."""
    name = getattr(context, "_name", "")
    if context is _concrete_contexts.get(name):
        return _stdlib._concrete_contexts[name]  # type: ignore[attr-defined]
    return context


def _force_start_method(method: str) -> None:
    _stdlib._force_start_method(method)  # type: ignore[attr-defined]
