"""`ProcessPoolExecutor`: `concurrent.futures`' executor on the engine of `breakeven.Pool`.

Futures are `concurrent.futures.Future` objects, so `wait`, `as_completed` and asyncio take them. Calls that are
submitted faster than workers run them travel together, as many as take a few milliseconds; until it travels, a call can
be cancelled. A worker that dies takes the call that it was running with it, and no other: that one's future has a
`WorkerDied`, which is a `BrokenProcessPool` too, and the executor goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import weakref
from concurrent.futures import Executor, Future, ThreadPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import util

from . import _pool_state as state
from . import _pool_wire as wire
from ._cores import usable_cores
from ._pool_engine import Engine, ProcessTransport
from ._pool_errors import WorkerDied
from .pool import IMapIterator
from .pool import TimeoutError as _PoolTimeout

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor", "ThreadPoolExecutor"]


class LostCall(WorkerDied, BrokenProcessPool):
    """The worker died that was running this call; see `WorkerDied`."""


class _Task:
    """A submitted call."""

    __slots__ = ("args", "future", "handle", "keywords")

    def __init__(self, future, handle, args, keywords):
        self.future = future
        self.handle = handle
        self.args = args
        self.keywords = keywords

    def begin(self):
        return self.future.set_running_or_notify_cancel()

    def finish(self, value, error):
        future = self.future
        try:
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        except Exception:
            util.debug("a future had an outcome already")


def _make_process(context, target, args):
    return context.Process(target=target, args=args)


class ProcessPoolExecutor(Executor):
    """An executor whose calls run in worker processes.

    Args:
        max_workers: by default as many as there are usable cores (affinity and cgroup quota).
        mp_context: the multiprocessing context that makes the processes.
        initializer, initargs: called in each worker first; if it fails, the executor is broken.
        max_tasks_per_child: a worker is replaced after so many calls; not with the fork start method.

    Raises ValueError or TypeError for arguments that make no sense.
    """

    def __init__(self, max_workers=None, mp_context=None, initializer=None, initargs=(), *, max_tasks_per_child=None):
        if max_workers is None:
            max_workers = usable_cores()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        if mp_context is None:
            mp_context = multiprocessing.get_context("spawn" if max_tasks_per_child is not None else None)
        method = mp_context.get_start_method()
        if max_tasks_per_child is not None and method == "fork":
            raise ValueError(
                "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
                "supply a different mp_context."
            )
        self._max_workers = max_workers
        self._mp_context = mp_context
        # A fork of a process that has threads is what one does not want: with fork, all at once, before the helper
        # runs.
        self._all_at_once = method == "fork"
        self._lock = threading.Lock()
        self._shut_down = False
        transport = ProcessTransport(
            mp_context,
            _make_process,
            max_workers,
            daemon=None,
            prefix=None,
            as_is=True,
            settings=(initializer, initargs, max_tasks_per_child),
            died=LostCall,
        )
        self._engine = engine = Engine(transport, 0, always_background=True, fatal=_broken)
        engine.window = max_workers + 1
        self._largest = 1 if max_tasks_per_child is not None else state.LARGEST_PARCEL
        self._stream = state.CallStream(engine.ledger, state.Pacer(max_workers, None, self._largest), engine.window)
        engine.ledger.feeding.append(self._stream)
        _engines.add(engine)
        # Dropped without shutdown: what was submitted is still run, and then the workers end.
        self._let_go = weakref.finalize(self, engine.close, True)
        self._let_go.atexit = False

    @property
    def _processes(self):
        return {process.pid: process for process in self._engine.pool}

    @property
    def _broken(self):
        return self._engine.ledger.broken is not None

    def _ready(self):
        """Raise unless calls can be submitted, and see to it that there are workers. Under the lock."""
        if self._engine.ledger.broken is not None:
            error = self._engine.ledger.broken
            raise BrokenProcessPool(str(error)) from error.__cause__
        if self._shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _interpreter_ends:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        engine = self._engine
        if engine.processes < self._max_workers:
            if self._all_at_once:
                engine.processes = self._max_workers
                engine.populate()
            elif self._stream.in_flight >= engine.processes:
                engine.processes += 1
                engine.populate()

    def submit(self, fn, /, *args, **kwargs):
        """Run `fn(*args, **kwargs)` in a worker; returns its future."""
        engine = self._engine
        future = Future()
        with self._lock:
            self._ready()
            try:
                handle = engine.transport.functions.handle(fn)
            except Exception as error:
                handle = None
                future.set_running_or_notify_cancel()
                future.set_exception(error)
            if handle is not None:
                stream = self._stream
                stream.pending.append(_Task(future, handle, args, kwargs))
                if stream.in_flight < stream.window:
                    with engine.lock:
                        engine.keep(True)
                        engine.feed()
                        engine.want_helper()
        return future

    def map(self, fn, *iterables, timeout=None, chunksize=1):
        """The results of `fn` for the items of the iterables, which are read at once, in order, as an iterator.

        Args:
            timeout: seconds from this call on, after which the iterator raises TimeoutError.
            chunksize: items that an exception takes with it.

        After an exception, or when the iterator is closed, what has not been sent to a worker is not run.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        deadline = None if timeout is None else time.monotonic() + timeout
        if len(iterables) == 1:
            star, items = 0, list(iterables[0])
        else:
            star, items = 1, list(zip(*iterables, strict=False))
        engine = self._engine
        results = IMapIterator(self)
        results.unbounded = True
        pacer = state.Pacer(self._max_workers, -(-len(items) // chunksize), self._largest)
        results.start(items, chunksize, pacer, 2 * self._max_workers + 2)
        with self._lock:
            self._ready()
            if engine.processes < min(self._max_workers, len(items)):
                engine.processes = min(self._max_workers, len(items))
                engine.populate()
            handle = engine.transport.functions.handle(fn)
            results.handle = wire.Spec(handle, star, engine.transport.share(items))
            engine.submit(results, background=True)
            with engine.lock:
                results.check_end()
        return _results(results, deadline)

    def shutdown(self, wait=True, *, cancel_futures=False):
        """No more calls; with `wait`, return when all are done and the workers have ended.

        With `cancel_futures`, calls that have not been sent to a worker are cancelled.
        """
        engine = self._engine
        with self._lock:
            self._shut_down = True
            cancelled = ()
            if cancel_futures:
                with engine.lock:
                    cancelled = self._stream.withdraw()
        for task in cancelled:
            task.future.cancel()
        engine.close(reap=not wait)
        if wait:
            engine.join()


def _results(results, deadline):
    try:
        while True:
            try:
                # Not by way of a name: the generator would hold on to the value that it has given.
                yield results.next(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except StopIteration:
                return
            except _PoolTimeout:
                raise TimeoutError from None
    finally:
        with results._engine.lock:
            results.cancel()


def _broken(error):
    """The error of an executor that has ended of another."""
    broken = BrokenProcessPool(f"The workers of this executor do not come up, it is not usable anymore: {error!r}")
    broken.__cause__ = error
    return broken


_engines = weakref.WeakSet()
_interpreter_ends = False


def _at_exit():
    """What was submitted is run before the interpreter ends, as with the standard library's executors."""
    global _interpreter_ends
    _interpreter_ends = True
    for engine in list(_engines):
        if engine._pid == os.getpid():
            engine.close()
            engine.join()


threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
