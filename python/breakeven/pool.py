"""`Pool` and `ThreadPool`: the standard library's, on breakeven's channels.

The API and its meaning are `multiprocessing.pool`'s. What is better than there: no threads in the background as long as
the API does not force one; chunks that adapt when no `chunksize` is given; functions and repeated big arguments sent
once; and nothing that a task, an argument or a worker's death does makes a pool hang (see `_pool_errors` for what comes
instead).
"""

from __future__ import annotations

import itertools
import types
import warnings
from collections import deque
from multiprocessing import TimeoutError, get_context, util

from . import _pool_state as state
from . import _pool_wire as wire
from ._cores import usable_cores
from ._native import static_chunks
from ._pool_engine import Engine, ProcessTransport, ThreadTransport, look_after_others
from ._pool_errors import (
    PoolTerminated,
    TaskAborted,
    TaskError,
    TaskPanicked,
    UnreadableError,
    WorkerDied,
    may_be_the_users,
    unsent,
)

__all__ = [
    "ApplyResult",
    "AsyncResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "MaybeEncodingError",
    "Pool",
    "PoolTerminated",
    "RemoteTraceback",
    "TaskAborted",
    "TaskError",
    "TaskPanicked",
    "ThreadPool",
    "UnreadableError",
    "WorkerDied",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._pool_errors import MaybeEncodingError, RemoteTraceback


INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"


def __getattr__(name: str) -> Any:
    # What multiprocessing.pool has beside its classes (worker, mapstar, job_counter, ...): programs import that too.
    # And the exceptions that are the same there: importing them now would double the time that the first pool takes.
    if not name.startswith("_"):
        from multiprocessing import pool

        if hasattr(pool, name):
            return getattr(pool, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Iterating over these runs no user code and cannot block, so it needs no thread.
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_CONTAINERS = frozenset({list, tuple, range, dict, set, frozenset, str, bytes, bytearray, deque, *_VIEWS})


class Pool:
    """Worker processes that run functions.

    Args:
        processes: how many workers; by default as many as there are usable cores (affinity and cgroup quota).
        initializer, initargs: called in each worker before its first task. If it fails in three workers in a row, its
            error is raised by all pending and later calls.
        maxtasksperchild: a worker is replaced after so many tasks (a chunk counts as one).
        context: the multiprocessing context that makes the processes.

    Raises ValueError for a number below one, TypeError for an initializer that is not callable.

    As a context manager it terminates at the end of the block: leave the block only when the results are in.
    """

    _wrap_exception = True

    @staticmethod
    def Process(ctx, *args, **kwds):
        """Makes a worker's process object; for subclasses to override."""
        return ctx.Process(*args, **kwds)

    def __init__(self, processes=None, initializer=None, initargs=(), maxtasksperchild=None, context=None):
        self._state = INIT
        self._engine: Any = None
        self._ctx = context or get_context()
        if processes is None:
            processes = usable_cores()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._initializer = initializer
        self._initargs = initargs
        self._maxtasksperchild = maxtasksperchild
        self._engine = engine = Engine(self._transport(), processes, always_background=maxtasksperchild is not None)
        self._terminate = util.Finalize(self, engine.terminate, exitpriority=15)
        look_after_others()
        try:
            engine.populate()
        except BaseException:
            engine.abandon()
            self._terminate()
            raise
        self._state = RUN

    def _transport(self):
        settings = (self._initializer, self._initargs, self._maxtasksperchild)
        plain = type(self).Process is Pool.Process
        return ProcessTransport(self._ctx, self.Process, self._processes, settings=settings, at_once=plain)

    # The defaults keep the names alive while the interpreter shuts down.
    def __del__(self, _warn=warnings.warn, RUN=RUN):
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self):
        cls = self.__class__
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def __reduce__(self):
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    @property
    def _pool(self):
        return self._engine.pool if self._engine is not None else []

    @property
    def _cache(self):
        """The results that are not complete yet, by number; programs look at its length to see what is pending."""
        ledger = self._engine.ledger
        cache = dict(ledger.jobs)
        for seq, entry in list(ledger.messages.items()):
            if not isinstance(entry, state.Parcel):
                cache["call", seq] = entry
        return cache

    def _repopulate_pool(self):
        self._engine.poll()
        self._engine.populate()

    def _check_running(self):
        if self._state != RUN:
            raise ValueError("Pool not running")
        broken = self._engine.ledger.broken
        if broken is not None:
            raise broken

    # --- calls ---

    def apply(self, func, args=(), kwds=types.MappingProxyType({})):
        """`func(*args, **kwds)` in a worker; returns its result or raises its exception."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(self, func, args=(), kwds=types.MappingProxyType({}), callback=None, error_callback=None):
        """Like `apply`, but returns an `AsyncResult` at once.

        A callback is called with the result, an error callback with the exception, in a thread of the pool's, before
        the result is ready; they should return quickly.
        """
        self._check_running()
        result = ApplyResult(self, callback, error_callback)
        engine = self._engine
        try:
            result.handle = handle = engine.transport.functions.handle(func)
            engine.call(result, handle, args, kwds)
        except BaseException as error:
            if may_be_the_users(error):
                raise
            # Where the standard pool raises it, too: at get().
            with engine.lock:
                result.fail(unsent(error))
                if engine.ledger.callbacks:
                    engine.want_helper()
        return result

    def map(self, func, iterable, chunksize=None):
        """The results of `func` for each item, in order, as a list.

        If a call raises, the rest of its chunk is not run; the other chunks are, and then the first exception is
        raised.
        """
        return self._map_async(func, iterable, 0, chunksize, waits=True).get()

    def starmap(self, func, iterable, chunksize=None):
        """Like `map`, with items that are the arguments: `func(*item)`."""
        return self._map_async(func, iterable, 1, chunksize, waits=True).get()

    def map_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        """Like `map`, but returns an `AsyncResult` at once."""
        return self._map_async(func, iterable, 0, chunksize, callback, error_callback)

    def starmap_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        """Like `starmap`, but returns an `AsyncResult` at once."""
        return self._map_async(func, iterable, 1, chunksize, callback, error_callback)

    def _map_async(self, func, iterable, star, chunksize, callback=None, error_callback=None, waits=False):
        self._check_running()
        engine = self._engine
        if type(iterable) is list:
            # A caller who does not wait may change the list before everything has been sent.
            source: Any = engine.transport.sequence(iterable if waits else iterable.copy())
        elif type(iterable) is tuple or type(iterable) is range:
            source = iterable
        else:
            source = engine.transport.sequence(list(iterable))
        result = MapResult(self, callback, error_callback)
        count = len(source)
        if not count:
            result._value = []
            with engine.lock:
                result.settle()
                if engine.ledger.callbacks:
                    engine.want_helper()
            return result
        plan: Any = None
        pacer = window = None
        if chunksize is not None:
            if chunksize < 1:
                raise ValueError(f"Chunksize must be 1+, not {chunksize}")
            pacer = self._pacer(-(-count // chunksize))
            window = engine.window
        elif self._maxtasksperchild is not None:
            # Chunks count as tasks: as many as the standard pool makes of it.
            plan = itertools.repeat(-(-count // (self._processes * 4)))
        else:
            plan = iter(static_chunks(count, self._processes))
        try:
            handle = engine.transport.functions.handle(func)
            result.start(source, chunksize, plan, pacer, window)
            result.handle = wire.Spec(handle, star, engine.transport.share(source))
            engine.submit(result, background=not waits)
        except Exception as error:
            with engine.lock:
                if not result._done:
                    result.fail(error)
                if engine.ledger.callbacks:
                    engine.want_helper()
        return result

    def _pacer(self, chunks=None):
        if self._maxtasksperchild is not None:
            return state.Pacer(self._processes, chunks, largest=1)
        return state.Pacer(self._processes, chunks)

    def imap(self, func, iterable, chunksize=1):
        """An iterator over the results, in order; input is taken as results are consumed, a bounded number ahead.

        An item whose call raised raises it at its place; the iterator goes on after it. `chunksize` is the number of
        items that an exception takes with it.
        """
        return self._imap(IMapIterator, func, iterable, chunksize)

    def imap_unordered(self, func, iterable, chunksize=1):
        """Like `imap`, with the results as they come."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize)

    def _imap(self, kind, func, iterable, chunksize):
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        result = kind(self)
        job = result._job
        engine = self._engine
        iterator = source = None
        if type(iterable) in _CONTAINERS:
            source = iterable if type(iterable) in (tuple, range) else list(iterable)
        else:
            iterator = iter(iterable)
        chunks = None if source is None else -(-len(source) // chunksize)
        job.start(source, chunksize, self._pacer(chunks), engine.window)
        try:
            shared = {} if source is None else engine.transport.share(source)
            job.handle = wire.Spec(engine.transport.functions.handle(func), 0, shared)
        except Exception as error:
            job.fail(error)
            return result
        engine.submit(job, background=False)
        with engine.lock:
            job.check_end()
        if iterator is not None:
            engine.start_feeder(job, iterator)
        return result

    # --- end ---

    def close(self):
        """No more calls; the workers end when everything is done."""
        util.debug("closing pool")
        if self._state == RUN:
            self._state = CLOSE
            self._engine.close()

    def terminate(self):
        """End the workers at once; what is not finished fails with `PoolTerminated`."""
        util.debug("terminating pool")
        self._state = TERMINATE
        self._terminate()

    def join(self):
        """Wait until the workers have ended; after `close` or `terminate` only (ValueError)."""
        util.debug("joining pool")
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._engine.join()
        # Nothing is left to end, and what is registered for the exit would keep the engine, and what it holds, alive.
        self._terminate.cancel()

    def __enter__(self):
        if self._state != RUN:
            raise ValueError("Pool not running")
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        self.terminate()


def _drain(values):
    """Iterate over a list and let go of each value when it is given: results may be large."""
    values.reverse()
    while values:
        yield values.pop()


class ApplyResult(state.Call):
    """The outcome of one asynchronous call."""

    def __init__(self, pool, callback, error_callback):
        # As state.Call's, written out: this is the hot path of apply_async.
        self._pool = pool
        self._ledger = ledger = pool._engine.ledger
        self._callback = callback
        self._error_callback = error_callback
        if callback is not None or error_callback is not None:
            ledger.awaiting_callback += 1
        self._done = False
        self._ok = True
        self._value = None
        self.handle = None
        self.number = None

    def _is_done(self):
        return self._done

    def ready(self):
        """Is the outcome known?"""
        if not self._done:
            pool = self._pool
            if pool is not None:
                pool._engine.poll()
        return self._done

    def successful(self):
        """Did the call return? ValueError if that is not known yet."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._ok

    def wait(self, timeout=None):
        """Wait until the outcome is known, or for so many seconds."""
        if not self._done:
            pool = self._pool
            if pool is not None:
                pool._engine.wait(self._is_done, timeout)

    def get(self, timeout=None):
        """The result; raises the call's exception, or TimeoutError after so many seconds."""
        if not self._done:
            self.wait(timeout)
            if not self._done:
                raise TimeoutError
        if self._ok:
            return self._value
        try:
            raise self._value
        finally:
            del self  # the traceback must not hold the result that holds the exception

    __class_getitem__ = classmethod(types.GenericAlias)


AsyncResult = ApplyResult


class MapResult(ApplyResult, state.Map):
    """The outcome of a `map_async` or `starmap_async`."""

    def __init__(self, pool, callback, error_callback):
        ApplyResult.__init__(self, pool, callback, error_callback)
        self.prepare()


class IMapIterator:
    """The results of an `imap`.

    It keeps the pool alive, as long as there may be results to come; the work does not. So work for which nobody holds
    the pool or the iterator any more ends with the pool.
    """

    _ordered = True

    def __init__(self, pool):
        self._pool: Any = pool
        self._job = IMapJob(pool._engine, self._ordered)

    def __iter__(self):
        return self

    def __next__(self):
        job = self._job
        for value in job._now:
            return value
        return self.next()

    def next(self, timeout=None):
        """The next result, or its call's exception; StopIteration at the end, TimeoutError after so many seconds."""
        try:
            return self._job.next(timeout)
        except StopIteration:
            self._pool = None
            raise


class IMapUnorderedIterator(IMapIterator):
    """The results of an `imap_unordered`."""

    _ordered = False


class IMapJob(state.IMap):
    """The work behind an iterator over results, and its consumer's end."""

    def __init__(self, engine, ordered):
        state.IMap.__init__(self, engine.ledger, ordered)
        self._engine = engine
        self._now = iter(())  # the segment that is being consumed
        self._now_size = 0

    def __iter__(self):
        return self

    def next(self, timeout=None):
        """The next result, or its call's exception; StopIteration at the end, TimeoutError after so many seconds."""
        for value in self._now:
            return value
        return self._next_segment(timeout)

    __next__ = next

    def _has_news(self):
        return bool(self.segments) or self.complete()

    def _next_segment(self, timeout):
        engine = self._engine
        refilled = False
        while True:
            with engine.lock:
                for value in self._now:  # another thread may have been here first
                    return value
                self.consumed += self._now_size
                self._now_size = 0
                if self.segments:
                    segment = self.segments.popleft()
                    if isinstance(segment, BaseException):
                        self.consumed += self.chunk
                        self._room_made(engine)
                        raise segment
                    self._now = iter(segment) if not segment or type(segment[0]) in wire.ATOMS else _drain(segment)
                    self._now_size = len(segment)
                elif self.complete():
                    raise StopIteration
                self._room_made(engine)
            if self._now_size:
                if not refilled:
                    # While this segment is consumed, the workers shall have the next.
                    refilled = True
                    engine.poll()
                continue
            engine.wait(self._has_news, timeout)
            if not self._has_news():
                raise TimeoutError

    def _room_made(self, engine):
        if not self.complete():
            if engine.ledger.feeding:
                engine.feed()
            if engine._waiting:
                engine.news.notify_all()


class ThreadPool(Pool):
    """The same with threads: nothing is copied, and only work that releases the interpreter lock runs in parallel."""

    _wrap_exception = False

    @staticmethod
    def Process(ctx, *args, **kwds):
        """Makes a worker thread."""
        from multiprocessing.dummy import Process

        return Process(*args, **kwds)

    def __init__(self, processes=None, initializer=None, initargs=()):
        Pool.__init__(self, processes, initializer, initargs)

    def _transport(self):
        return ThreadTransport(self.Process, settings=(self._initializer, self._initargs, None))
