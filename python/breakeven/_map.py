"""`map`, `starmap`, `imap` and `imap_unordered`: parallel where that pays, the serial loop where it does not."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading

from . import _blas, _map_threads
from ._map_engine import Flow, Run
from ._map_work import Call, Stream, source_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Progress = Any

__all__ = ["imap", "imap_unordered", "map", "starmap"]

BACKENDS = ("auto", "serial", "threads", "processes", "interpreters")

# Never more processes than this, or the cores, unless somebody asks for more.
MOST = 32


def map(
    func: Callable[..., Any],
    *iterables: Iterable[Any],
    workers: int | None = None,
    backend: Any = "auto",
    chunksize: int | None = None,
    progress: bool = False,
    timeout: float | None = None,
    retries: int = 0,
    return_exceptions: bool = False,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> list[Any]:
    """`[func(item) for item in iterable]`, in parallel if that is faster.

    With several iterables `func` gets an item of each, up to the end of the shortest. The results are in order and are
    those of the loop. The calling thread works on the items itself; helpers (threads or processes) join in if that
    pays. So what `func` does besides returning a value happens in this process or in another one.

    Args:
        workers: how many items may run at the same time at most, by default as many as there are usable cores (and
            more for work that sleeps).
        backend: "auto"; "serial" runs everything in this thread; "threads" or "processes" say what helpers are;
            "interpreters" needs CPython 3.14; or an executor of `concurrent.futures`.
        chunksize: how many items are given to a helper at a time; by default that is found out.
        progress: show a progress bar that counts items (needs tqdm; quiet where stderr is no terminal).
        timeout: seconds for the whole call.
        retries: how often an item that raised, or whose helper died, is tried again.
        return_exceptions: put what an item raised into the results, in its place.
        initializer, initargs: called in each helper before its first item.

    Raises what the first item (in their order) that raises does, with a note which item that is; TimeoutError;
    `WorkerDied` if the process that ran an item was killed; ValueError and TypeError for arguments that make no sense.
    """
    if not iterables:
        raise TypeError("map() needs at least one iterable")
    return _run(
        func,
        iterables,
        len(iterables) > 1,
        workers,
        backend,
        chunksize,
        progress,
        timeout,
        retries,
        return_exceptions,
        initializer,
        initargs,
    )


def starmap(
    func: Callable[..., Any],
    iterable: Iterable[Iterable[Any]],
    *,
    workers: int | None = None,
    backend: Any = "auto",
    chunksize: int | None = None,
    progress: bool = False,
    timeout: float | None = None,
    retries: int = 0,
    return_exceptions: bool = False,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> list[Any]:
    """`[func(*item) for item in iterable]`; otherwise as `map`."""
    return _run(
        func,
        (iterable,),
        True,
        workers,
        backend,
        chunksize,
        progress,
        timeout,
        retries,
        return_exceptions,
        initializer,
        initargs,
    )


def imap(
    func: Callable[..., Any],
    *iterables: Iterable[Any],
    workers: int | None = None,
    backend: Any = "auto",
    chunksize: int | None = None,
    progress: bool = False,
    timeout: float | None = None,
    retries: int = 0,
    return_exceptions: bool = False,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[Any]:
    """The results of `func` for each item, in order, as an iterator that runs a bounded number of items ahead.

    The input may be endless; items are taken from it in this thread, while results are asked for. Dropping the
    iterator, or closing it (`close()`), stops what is under way. What an item raises is raised in its place and ends
    the iterator. The arguments are those of `map`.
    """
    if not iterables:
        raise TypeError("imap() needs at least one iterable")
    return _flow(
        True,
        func,
        iterables,
        workers,
        backend,
        chunksize,
        progress,
        timeout,
        retries,
        return_exceptions,
        initializer,
        initargs,
    )


def imap_unordered(
    func: Callable[..., Any],
    *iterables: Iterable[Any],
    workers: int | None = None,
    backend: Any = "auto",
    chunksize: int | None = None,
    progress: bool = False,
    timeout: float | None = None,
    retries: int = 0,
    return_exceptions: bool = False,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
) -> Iterator[Any]:
    """As `imap`, with the results in the order in which they come."""
    if not iterables:
        raise TypeError("imap_unordered() needs at least one iterable")
    return _flow(
        False,
        func,
        iterables,
        workers,
        backend,
        chunksize,
        progress,
        timeout,
        retries,
        return_exceptions,
        initializer,
        initargs,
    )


def _flow(
    ordered: bool,
    func: Any,
    iterables: tuple[Any, ...],
    workers: int | None,
    backend: Any,
    chunksize: int | None,
    progress: bool,
    timeout: float | None,
    retries: int,
    return_exceptions: bool,
    initializer: Any,
    initargs: tuple[Any, ...],
) -> Iterator[Any]:
    options = Options(workers, backend, chunksize, timeout, retries, initializer, initargs)
    star = len(iterables) > 1
    call = Call(func, star, True, retries)
    source = Stream(list(iterables), star)
    bar = _bar(source.total) if progress else None

    def values() -> Iterator[Any]:
        # Nothing begins before the first result is asked for.
        run = options.run(call, source, None if bar is None else bar.update, stream=True)
        run.prepare(ordered, not return_exceptions)
        try:
            yield from run.values()
        finally:
            if bar is not None:
                bar.close()

    return values()


def _run(
    func: Any,
    iterables: tuple[Any, ...],
    star: bool,
    workers: int | None,
    backend: Any,
    chunksize: int | None,
    progress: bool,
    timeout: float | None,
    retries: int,
    return_exceptions: bool,
    initializer: Any,
    initargs: tuple[Any, ...],
) -> list[Any]:
    options = Options(workers, backend, chunksize, timeout, retries, initializer, initargs)
    call = Call(func, star, return_exceptions, retries)
    source = source_of(iterables, star)
    bar = _bar(source.total) if progress else None
    run = options.run(call, source, None if bar is None else bar.update)
    if bar is None:
        return run.to_the_end()
    with bar:
        return run.to_the_end()


class Options:
    """How a map is to be run; checks what it is given."""

    def __init__(
        self,
        workers: int | None = None,
        backend: Any = "auto",
        chunksize: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        initializer: Any = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        if workers is not None and (type(workers) is not int or workers < 1):
            raise ValueError(f"workers must be at least 1, not {workers!r}")
        if chunksize is not None and (type(chunksize) is not int or chunksize < 1):
            raise ValueError(f"chunksize must be at least 1, not {chunksize!r}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
        if type(retries) is not int or retries < 0:
            raise ValueError(f"retries must be 0 or more, not {retries!r}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self.workers = workers
        self.chunksize = chunksize
        self.timeout = timeout
        self.initializer = initializer
        self.initargs = tuple(initargs)
        self.executor: Any = None
        self.backend = self._backend(backend)

    def _backend(self, backend: Any) -> str:
        if os.environ.get("BREAKEVEN") == "serial":
            return "serial"
        if isinstance(backend, str):
            if backend == "interpreters":
                raise NotImplementedError(_interpreters())
            if backend in BACKENDS:
                return backend
            if "://" in backend:
                raise NotImplementedError(f"backend {backend!r}: clusters come with a later version of breakeven")
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, or an executor; not {backend!r}")
        if callable(getattr(backend, "submit", None)) and callable(getattr(backend, "map", None)):
            if type(backend).__module__.partition(".")[0] in ("distributed", "ray"):
                raise NotImplementedError("Dask clients and Ray come with a later version of breakeven")
            self.executor = backend
            return "executor"
        raise TypeError(f"backend must be a name or an executor, not {type(backend).__name__}")

    def run(self, call: Call, source: Any, progress: Any = None, stream: bool = False) -> Any:
        """The engine for a map with these options."""
        from ._native import Planner

        team = _Teams(self, call, source)
        cores = team.cores
        kinds = team.kinds()
        backend = self.backend
        # What a caller asks of processes is that what its items do stays there; and one that is in an item cannot look
        # at the clock.
        alone = backend in ("processes", "executor") or self.timeout is not None
        if backend == "serial" or not kinds:
            kinds, alone = (), False
        workers = team.workers
        if workers is None and "threads" not in kinds:
            workers = cores  # waiting is no reason for more processes
        planner = Planner(
            source.total,
            charges=_charges(),
            cores=cores,
            workers=workers,
            kinds=kinds,
            gil=_gil(),
            here=not alone,
            must=alone or (backend == "threads" and self.workers != 1),
            chunksize=self.chunksize,
            stream=stream,
            idle=team.idle,
        )
        kind: Any = Flow if stream else Run
        run = kind(call, source, planner, team.make, None, progress, alone)
        if self.timeout is not None:
            run.limit_time(self.timeout)
        return run


def _gil() -> bool:
    enabled = getattr(sys, "_is_gil_enabled", None)
    return True if enabled is None else bool(enabled())


def _charges() -> Any:
    try:
        from ._charges import current  # type: ignore[import-not-found]
    except ImportError:
        return None
    return current()


def _interpreters() -> str:
    if sys.version_info < (3, 14):
        return (
            'backend="interpreters" needs CPython 3.14 or later, this is '
            f'{sys.version_info.major}.{sys.version_info.minor}; use "processes"'
        )
    return 'backend="interpreters" is not there yet; use "threads" or "processes"'


def _bar(total: int | None) -> Any:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install tqdm") from None

    class Bar(tqdm):  # type: ignore[misc]
        # No thread that looks after bars: with one, nothing could be forked any more.
        monitor_interval = 0

    # By default the lock is one between processes as well, a semaphore in /dev/shm; only this thread writes.
    Bar.set_lock(threading.RLock())
    return Bar(total=total, disable=None)


class _Teams:
    """Which helpers a map may have, and their making."""

    def __init__(self, options: Options, call: Call, source: Any) -> None:
        self._options = options
        self._call = call
        self._source = source
        self._team: Any = None
        self._safe = False  # may be forked
        self.idle = 0  # helpers of an earlier map that would do
        self.cores = _cores()
        self.workers = options.workers
        if options.executor is not None:
            has = getattr(options.executor, "_max_workers", None)
            self._executors = has if type(has) is int and has > 0 else self.cores
            self.workers = min(self._executors, options.workers or self._executors)

    def kinds(self) -> tuple[str, ...]:
        """What may be started, for the planner."""
        backend = self._options.backend
        if backend == "serial" or getattr(_map_threads.local, "helper", False):
            return ()
        if backend == "executor":
            return (self._executor_team().kind,)
        if backend == "threads":
            return ("threads",)
        processes: tuple[str, ...] = ()
        if (
            self.cores > 1
            or backend == "processes"
            or self._options.timeout is not None
            or (self._options.workers or 1) > 1
        ):
            self._safe = fork_is_safe()
            helpers = sys.modules.get("breakeven._map_helpers")
            if helpers is not None and self._options.initializer is None:
                self.idle = helpers.waiting(self._method(), self._slots(), self._call.function)
            if self._source.stream or not self._safe:
                processes = ("warm",)
            else:
                processes = ("warm", "fork") if self.idle else ("fork",)
        if backend == "processes" or self._options.timeout is not None:
            # A thread cannot be stopped in the middle of an item.
            return processes
        return ("threads", *processes)

    def _slots(self) -> int:
        return max(self._options.workers or MOST, self.cores, MOST)

    def _method(self) -> str:
        return "fork" if self._safe else "forkserver"

    def _executor_team(self) -> Any:
        from ._map_teams import ExecutorTeam

        if self._team is None:
            self._team = ExecutorTeam(self._options.executor, self._executors, self._call, self._source)
        return self._team

    def make(self, kind: str) -> Any:
        """Helpers of a kind, none of them started yet."""
        options = self._options
        if options.executor is not None:
            return self._executor_team()
        if kind == "threads":
            return _map_threads.ThreadTeam(self._call, self._source, options.initializer, options.initargs)
        from . import _map_helpers
        from .context import _concrete_contexts

        slots = self._slots()
        method = self._method()
        context = _concrete_contexts[method]
        if kind == "warm" and options.initializer is None:
            team = _map_helpers.borrow(method, slots, self._call.function)
            if team is not None:
                team.begin(kind, self._call, self._source, False)
                return team
        team = _map_helpers.ProcessTeam(kind, context, slots, options.initializer, options.initargs)
        team.begin(kind, self._call, self._source, kind == "fork")
        return team


def _cores() -> int:
    cores = _blas._cores()
    helpers = sys.modules.get("breakeven._map_helpers")
    sharing = max(getattr(helpers, "sharing", 0), getattr(_map_threads.local, "sharing", 0))
    return max(1, cores // sharing) if sharing > 1 else cores


def fork_is_safe() -> bool:
    """May this process be forked here and now, and does the program have nothing against it?

    Not if it has other threads, which may hold locks; those of OpenBLAS do not count, since they are made for it. Not
    if the program has set another start method.
    """
    method = multiprocessing.get_start_method(allow_none=True)
    if method not in (None, "fork") or (method is None and sys.version_info >= (3, 14)):
        return False
    if threading.active_count() > 1 or threading.current_thread() is not threading.main_thread():
        return False
    threads = len(os.listdir("/proc/self/task")) - 1
    if threads:
        for library in _blas._libraries():
            if library.kind == "openblas":
                threads -= library.initial() - 1
    return threads <= 0
