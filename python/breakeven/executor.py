"""`ProcessPoolExecutor` and `ThreadPoolExecutor`: the executors of `concurrent.futures`, up to CPython 3.14's.

The processes' runs on the engine of `breakeven.Pool`. Futures are `concurrent.futures.Future` objects, so `wait`,
`as_completed` and asyncio take them. Calls that are submitted faster than workers run them travel together, as many as
take a few milliseconds; until it travels, a call can be cancelled. A worker that dies takes the call that it was
running with it, and no other: that one's future has a `WorkerDied`, which is a `BrokenProcessPool` too, and the
executor goes on.

Time limits, and cancelling calls that are running, are options of a call, but `submit` hands all of its keywords to the
function, which may have a `timeout` of its own. So they belong to a view of the executor, `with_options(...)`, which is
an executor itself and can be given to whoever wants one: `loop.run_in_executor(executor.with_options(timeout=5), f)`.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections import deque
from concurrent.futures import CancelledError, Executor, TimeoutError, process
from concurrent.futures import ThreadPoolExecutor as _ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import util

from . import _blas
from . import _pool_state as state
from . import _pool_wire as wire
from ._cores import usable_cores
from ._futures import CallFuture, settle
from ._pool_engine import Engine, ProcessTransport
from ._pool_errors import Family, PoolTerminated, UnreadableError, WorkerDied
from ._task_timeout import TaskTimeout
from .pool import IMapJob
from .pool import TimeoutError as _PoolTimeout

__all__ = ["BrokenProcessPool", "LostCall", "ProcessPoolExecutor", "TaskTimeout", "ThreadPoolExecutor"]


class LostCall(WorkerDied, BrokenProcessPool):
    """The worker died that was running this call; see `WorkerDied`."""


class UnreadableCall(UnreadableError, BrokenProcessPool):
    """This call's arguments did not unpickle in the worker, or its outcome not here; see `UnreadableError`."""


def _make_process(context, target, args):
    return context.Process(target=target, args=args)


class _Manager:
    """What stands for the thread that the standard executor has: `join` waits until everything has ended."""

    def __init__(self, engine):
        self._engine = engine

    def join(self, timeout=None):
        """Wait until the executor has ended, or for so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        engine = self._engine
        while self.is_alive():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            helper = engine._helper
            if helper is not None:
                helper.join(left)
            else:
                time.sleep(0.01)

    def is_alive(self):
        """Has the executor workers, or a thread?"""
        engine = self._engine
        if engine._helper is not None and engine._helper.is_alive():
            return True
        return not engine.terminated and any(worker.process.is_alive() for worker in [*engine.workers.values()])


class _Calls:
    """The channel of calls, for those who would wait for the standard executor's queue to be flushed."""

    def close(self):
        """Nothing: `shutdown` closes it."""

    join_thread = cancel_join_thread = close


class _View(Executor):
    """An executor's workers with other options for what is submitted through it."""

    def __init__(self, executor, timeout, cancel_running):
        self._executor = executor
        self._timeout = timeout
        self._cancel_running = cancel_running

    def submit(self, fn, /, *args, **kwargs):
        """As `ProcessPoolExecutor.submit`, with the options of this view."""
        return self._executor._submit(fn, args, kwargs, self._timeout, self._cancel_running)

    def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None):
        """As `ProcessPoolExecutor.map`; the view's time limit holds for each item (with `chunksize`, so many times
        that for each chunk), its error comes at that item's place."""
        return self._executor._map(fn, iterables, timeout, chunksize, buffersize, self._timeout)

    def with_options(self, *, timeout=None, cancel_running=None):
        """This view with other options; what is not given stays."""
        return self._executor.with_options(
            timeout=self._timeout if timeout is None else timeout,
            cancel_running=self._cancel_running if cancel_running is None else cancel_running,
        )

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Shut the executor down."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


class ProcessPoolExecutor(Executor):
    """An executor whose calls run in worker processes.

    Args:
        max_workers: by default as many as there are usable cores (affinity and cgroup quota).
        mp_context: the multiprocessing context that makes the processes; by default the default one, and with
            `max_tasks_per_child` that of spawn.
        initializer, initargs: called in each worker first; if it raises, the executor is broken.
        max_tasks_per_child: a worker is replaced after exactly so many calls (chunks, for `map`).

    Raises ValueError or TypeError for arguments that make no sense.
    """

    # Refuse what the standard executor refuses?
    _strict = False

    def __init__(self, max_workers=None, mp_context=None, initializer=None, initargs=(), *, max_tasks_per_child=None):
        if max_workers is None:
            max_workers = usable_cores()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if mp_context is None:
            mp_context = multiprocessing.get_context("spawn" if max_tasks_per_child is not None else None)
        method = mp_context.get_start_method(allow_none=False)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if method == "fork" and self._strict:
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
                    "supply a different mp_context."
                )
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        # A fork of a process that has threads is what one does not want: with fork, all at once, before the helper
        # runs.
        self._safe_to_dynamically_spawn_children = method != "fork"
        self._shutdown_thread = False
        self._ended = False  # shut down: the standard executor forgets its processes then
        self._pid = os.getpid()
        transport = ProcessTransport(
            mp_context,
            _make_process,
            max_workers,
            daemon=None,
            prefix=None,
            as_is=True,
            settings=(initializer, initargs, max_tasks_per_child),
            family=_FAMILY,
        )
        self._engine = engine = Engine(transport, 0, always_background=True, fatal=_broken, settle=settle, attempts=1)
        engine.window = max_workers + process.EXTRA_QUEUED_CALLS
        self._largest = 1 if max_tasks_per_child is not None else state.LARGEST_PARCEL
        self._stream = state.CallStream(engine.ledger, state.Pacer(max_workers, None, self._largest), engine.window)
        engine.ledger.feeding.append(self._stream)
        self._shutdown_lock = engine.lock
        self._function = transport.functions.handle
        # Must a call be looked at under the lock, because something is not as it is in the middle of the work?
        self._careful = True
        self._refused = 0  # calls that could not be pickled; the standard executor starts workers for them
        _executors.add(self)
        _engines.add(engine)
        _register_exit()
        # Dropped without shutdown: what was submitted is still run, and then the workers end.
        self._let_go = weakref.finalize(self, engine.abandon_later)
        self._let_go.atexit = False

    # --- what programs look at ---

    @property
    def _processes(self):
        """The worker processes by process id; None after `shutdown`."""
        if self._ended:
            return None
        return {process.pid: process for process in list(self._engine.pool)}

    @property
    def _broken(self):
        broken = self._engine.ledger.broken
        return False if broken is None else str(broken)

    @property
    def _executor_manager_thread(self):
        return None if self._ended or not self._engine.processes else _Manager(self._engine)

    @property
    def _call_queue(self):
        return None if self._ended else _Calls()

    @property
    def _pending_work_items(self):
        """The calls that are not done, by number."""
        ledger = self._engine.ledger
        sent = [call for entry in list(ledger.messages.values()) for call in getattr(entry, "items", ())]
        return dict(enumerate([*(call for call in sent if isinstance(call, CallFuture)), *self._stream.pending]))

    def __reduce__(self):
        raise TypeError(f"a {type(self).__name__} cannot be passed between processes or pickled")

    # --- calls ---

    def _ready(self):
        """Raise unless calls can be submitted, and see to it that there are workers. Under the lock."""
        engine = self._engine
        if self._pid != os.getpid():
            raise RuntimeError(
                f"this {type(self).__name__} belongs to process {self._pid}, and its workers answer to that one only; "
                f"make a new one in process {os.getpid()}"
            )
        broken = engine.ledger.broken
        if broken is not None:
            raise BrokenProcessPool(str(broken)) from broken.__cause__
        if self._shutdown_thread:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _interpreter_ends:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def _more_workers(self):
        """Start the workers that the next call needs. Under the lock."""
        engine = self._engine
        if engine.processes < self._max_workers:
            if not self._safe_to_dynamically_spawn_children:
                self._start(self._max_workers)
            elif self._stream.in_flight + len(self._stream.pending) + self._refused >= engine.processes:
                self._start(engine.processes + 1)
        if engine.processes >= self._max_workers:
            self._careful = False

    def _start(self, processes):
        engine = self._engine
        before = engine.processes
        engine.processes = processes
        try:
            engine.populate()
        except BaseException:
            engine.processes = max(before, len(engine.workers))
            raise

    def submit(self, fn, /, *args, **kwargs):
        """Run `fn(*args, **kwargs)` in a worker; returns its future.

        Raises RuntimeError after `shutdown`, and BrokenProcessPool if the initializer has failed. What pickling the
        call raises, the future raises. See `with_options` for time limits.
        """
        engine = self._engine
        if self._careful or engine.ledger.broken is not None:
            return self._submit(fn, args, kwargs, None, False)
        try:
            future = CallFuture(engine, self._function(fn), args, kwargs)
        except Exception as error:
            return _failed(error)
        stream = self._stream
        stream.pending.append(future)
        # Without the lock, as long as there is enough on its way. Whoever books results looks at what is pending after
        # that, and this looks at what is on its way after the call is pending: one of the two sees the other's.
        if stream.in_flight < stream.window or self._careful or engine.ledger.broken is not None:
            self._send(future)
        return future

    def _submit(self, fn, args, kwargs, limit, kills):
        engine = self._engine
        with engine.lock:
            self._ready()
            self._more_workers()
            try:
                future = CallFuture(engine, self._function(fn), args, kwargs)
            except Exception as error:
                self._refused += 1
                return _failed(error)
            if limit is not None:
                future.limit = limit
                engine.limit(limit)
            if kills:
                future.kills = kills
            stream = self._stream
            on_the_way = stream.in_flight + len(stream.pending)
            stream.pending.append(future)
            self._send(future)
            if stream.in_flight + len(stream.pending) == on_the_way:  # no result is booked under the lock
                self._refused += 1  # the arguments could not be pickled
        return future

    def _send(self, future):
        engine = self._engine
        with engine.lock:
            if self._careful or engine.ledger.broken is not None:
                try:
                    self._ready()
                except Exception:
                    # It was shut down, or broke, between the look and the call.
                    try:
                        self._stream.pending.remove(future)
                    except ValueError:
                        return
                    raise
            if self._stream.in_flight < self._stream.window:
                engine.keep(True)
                engine.feed()
            engine.want_helper()

    def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None):
        """The results of `fn` for the items of the iterables, in order, as an iterator.

        Args:
            timeout: seconds from this call on, after which the iterator raises TimeoutError.
            chunksize: items that an exception takes with it. Small ones travel together whatever it is.
            buffersize: how many chunks may be under way or waiting to be read; the iterables are read as results are.
                By default they are read at once, to their end.

        After an exception, or when the iterator is closed, what has not been sent to a worker is not run.
        """
        return self._map(fn, iterables, timeout, chunksize, buffersize, None)

    def _map(self, fn, iterables, timeout, chunksize, buffersize, limit):
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or >= 1.")
        deadline = None if timeout is None else time.monotonic() + timeout
        if len(iterables) == 1:
            star, source = 0, iterables[0]
        else:
            star, source = 1, zip(*iterables, strict=False)
        source = iter(source) if buffersize is not None else source
        items = list(itertools.islice(source, buffersize * chunksize) if buffersize is not None else source)
        engine = self._engine
        results = IMapJob(engine, ordered=True)
        results._pool = self  # stays, until all is done
        results.unbounded = True
        if limit is not None:
            results.limit = limit * chunksize
        with engine.lock:
            self._ready()
            if items:
                wanted = min(self._max_workers, -(-len(items) // chunksize))
                if not self._safe_to_dynamically_spawn_children:
                    wanted = self._max_workers
                if engine.processes < wanted:
                    self._start(wanted)
            if limit is not None:
                engine.limit(limit)
            handle = self._function(fn)
            window = 2 * self._max_workers + 2
            if buffersize is None:
                pacer = state.Pacer(self._max_workers, -(-len(items) // chunksize), self._largest)
                results.start(items, chunksize, pacer, window)
                results.handle = wire.Spec(handle, star, engine.transport.share(items))
            else:
                pacer = state.Pacer(self._max_workers, None, min(self._largest, buffersize))
                results.start(None, chunksize, pacer, window)
                results.stock = deque(items)
                results.handle = wire.Spec(handle, star, {})
                if len(items) < buffersize * chunksize:
                    results.end_of_input()
            engine.submit(results, background=True)
            results.check_end()
        if buffersize is None:
            return _results(results, deadline)
        return _results_and_more(results, deadline, source, chunksize)

    def with_options(self, *, timeout=None, cancel_running=False):
        """A view of this executor, with options for what is submitted through it. It shares the workers.

        Args:
            timeout: seconds that a call may run, counted from when a worker begins it. One that runs for longer is
                stopped: its worker is killed and replaced, and its future raises `TaskTimeout`, a TimeoutError. Other
                calls do not notice.
            cancel_running: whether `future.cancel()` also stops calls that are running, in the same way (as
                `future.cancel(running=True)` does). Then cancelling an asyncio task that awaits one stops that, too.

        Raises ValueError for a timeout that is not positive.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0, or None for no limit, not {timeout!r}")
        return _View(self, timeout, cancel_running)

    # --- end ---

    def shutdown(self, wait=True, *, cancel_futures=False):
        """No more calls; with `wait`, return when all are done and the workers have ended.

        With `cancel_futures`, calls that have not been sent to a worker are cancelled.
        """
        engine = self._engine
        if self._pid != os.getpid():
            # A forked child has nothing of it to end.
            self._shutdown_thread = self._ended = True
            return
        with engine.lock:
            self._shutdown_thread = True
            self._careful = True
            cancelled = ()
            if cancel_futures:
                cancelled = self._stream.withdraw()
                for job in list(engine.ledger.jobs.values()):
                    job.cut(CancelledError())
        for call in cancelled:
            call.cancel(running=True)
        engine.close(reap=not wait)
        self._let_go.detach()
        if wait:
            engine.join()
        self._ended = True

    def _force_shutdown(self, operation):
        if operation not in ("terminate", "kill"):
            raise ValueError(f"Unsupported operation: {operation!r}")
        engine = self._engine
        if self._pid != os.getpid():
            return
        with engine.lock:
            engine.forced = True  # from now on, none is replaced
        self.shutdown(wait=False, cancel_futures=True)
        engine.force(operation == "kill")

    def terminate_workers(self):
        """Shut down at once: send the workers SIGTERM, and cancel what has not begun.

        What was running fails with `LostCall`, as soon as its worker has ended. Does not wait for that.
        """
        return self._force_shutdown(operation="terminate")

    def kill_workers(self):
        """The same with SIGKILL, which no worker can ignore."""
        return self._force_shutdown(operation="kill")


class StrictProcessPoolExecutor(ProcessPoolExecutor):
    """What programs get that ask for the standard library's while breakeven is installed."""

    _strict = True


StrictProcessPoolExecutor.__name__ = StrictProcessPoolExecutor.__qualname__ = "ProcessPoolExecutor"


def _failed(error):
    """The future of a call that could not be made."""
    future = CallFuture(None, None, None, None)
    future.set_running_or_notify_cancel()
    future.set_exception(error)
    return future


def _next(results, deadline):
    try:
        return results.next(None if deadline is None else max(0.0, deadline - time.monotonic()))
    except _PoolTimeout:
        raise TimeoutError from None


def _results(results, deadline):
    try:
        while True:
            try:
                # Not by way of a name: the generator would hold on to the value that it has given.
                yield _next(results, deadline)
            except StopIteration:
                return
    finally:
        _drop(results)


def _results_and_more(results, deadline, source, chunksize):
    """The same, where for each chunk that is read another is taken from the input."""
    engine = results._engine
    given = 0  # items of the chunk that is being read
    try:
        while True:
            if given == 0 and results.length is None:
                # With the chunk that is read now, there is room for one more.
                more = list(itertools.islice(source, chunksize))
                with engine.lock:
                    if results.length is None:
                        results.stock.extend(more)
                        if len(more) < chunksize:
                            results.end_of_input()
                        engine.feed()
                        engine.want_helper()
            given = (given + 1) % chunksize
            try:
                yield _next(results, deadline)
            except StopIteration:
                return
    finally:
        _drop(results)


def _drop(results):
    with results._engine.lock:
        results.cancel()


def _broken(error):
    """The error of an executor that has ended of another."""
    if isinstance(error, PoolTerminated):
        return BrokenProcessPool("The workers of this executor were told to end before this call had finished.")
    broken = BrokenProcessPool(f"The workers of this executor do not come up, it is not usable anymore: {error!r}")
    broken.__cause__ = error
    return broken


_FAMILY = Family(LostCall, UnreadableCall, process._RemoteTraceback)  # type: ignore[attr-defined]
_engines = weakref.WeakSet()
_executors = weakref.WeakSet()
_interpreter_ends = False


def _at_exit():
    """What was submitted is run before the interpreter ends, as with the standard library's executors."""
    global _interpreter_ends
    _interpreter_ends = True
    for executor in list(_executors):
        executor._careful = True
    for engine in list(_engines):
        if engine._pid == os.getpid():
            engine.close()
            engine.join()


class _ExitHook(util.Finalize):  # type: ignore[name-defined]
    """Calls `_at_exit` when a process of multiprocessing's ends: it waits for its children first, and only then runs
    what threading knows of. The workers must have been told to end by then.

    Programs that go on, and test suites, run finalizers too, which ends no executor of the standard library.
    Whichever way multiprocessing's registry lets go of the hook then, called or not, another takes its place.
    """

    def __init__(self):
        super().__init__(None, _at_process_exit, exitpriority=100)
        self._process = os.getpid()

    def __del__(self):
        if not util.is_exiting() and self._process == os.getpid():
            _ExitHook()


def _at_process_exit():
    if util.is_exiting():
        _at_exit()


_registered = 0  # the process whose finalizers know of `_at_exit`


def _register_exit():
    global _registered
    if _registered != os.getpid():
        _registered = os.getpid()
        _ExitHook()


def _after_fork():
    """In a forked child: its parent's executors are of no use here, and their locks may be taken for ever."""
    for executor in list(_executors):
        executor._engine.lock = executor._shutdown_lock = threading.RLock()
        executor._engine.news = threading.Condition(executor._engine.lock)
        executor._careful = True


threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_after_fork)


class ThreadPoolExecutor(_ThreadPoolExecutor):
    """The standard library's, with what later versions of it can do: `map(buffersize=...)` before CPython 3.14.

    While calls are under way, numerical libraries use as many threads as there are cores for each of its threads; see
    `breakeven.configure`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._team = _blas.Team()

    def submit(self, fn, /, *args, **kwargs):
        """A future of `fn(*args, **kwargs)`."""
        return self._team.submit(super().submit, self._max_workers, fn, args, kwargs)

    if sys.version_info < (3, 14):

        def map(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None):
            """The results of `fn` for the items of the iterables, in order, as an iterator.

            Args:
                timeout: seconds from this call on, after which the iterator raises TimeoutError.
                chunksize: ignored, for threads get no chunks.
                buffersize: how many calls may be under way or waiting to be read; the iterables are read as results
                    are. By default they are read at once, to their end.
            """
            if buffersize is None:
                return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)
            if buffersize < 1:
                raise ValueError("buffersize must be None or >= 1.")
            deadline = None if timeout is None else time.monotonic() + timeout
            source = zip(*iterables, strict=False)
            pending = deque(self.submit(fn, *args) for args in itertools.islice(source, buffersize))
            return _buffered(weakref.ref(self), fn, source, pending, deadline)


def _buffered(executor_reference, fn, source, pending, deadline):
    try:
        while pending:
            executor = executor_reference()
            if executor is not None:
                for args in itertools.islice(source, 1):
                    pending.append(executor.submit(fn, *args))
                del executor
            yield _outcome(pending.popleft(), deadline)
    finally:
        for future in pending:
            future.cancel()


def _outcome(future, deadline):
    try:
        return future.result(None if deadline is None else deadline - time.monotonic())
    finally:
        future.cancel()
        del future  # an exception's traceback must not hold it
