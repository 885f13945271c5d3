"""The driver of a pool: starts and watches workers, moves messages, and runs nothing in the background unless it must.

Whoever waits for a result drives: it takes what has arrived for all jobs, sends what there is room for, and looks after
the workers. There is one driver at a time; others who wait sleep until it has news, and one of them takes over when it
leaves. A helper thread is started only for what must go on while nobody waits: callbacks, input that has not been sent,
workers that are replaced by plan, an executor's futures.

What follows from what happens is decided by `_pool_state.Ledger`, under `Engine.lock`; no user code runs under it.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import sys
import threading
import time
from contextlib import nullcontext
from functools import partial
from itertools import islice
from multiprocessing import popen_fork, util

from . import _blas
from . import _pool_wire as wire
from ._pool_errors import POOL, PoolTerminated, WorkerDied, may_be_the_users, unsent
from ._pool_state import HeldCall, HeldCalls, Ledger, Map, Pacer, Parcel, Starts
from ._pool_wire import BYE, DAMAGED, DIED, FAILED, ONE, PART, READY, UNFIT
from ._pool_worker import Cells, ChannelEnd, Setup, ThreadPort, process_main, thread_main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How long a driver sleeps before it looks after the workers. A death wakes it earlier; where the kernel has no pidfds
# (before 5.3), so long may one go unnoticed.
SLICE = 0.1

# How often it looks at the least whether a task has come to its time limit.
LOOK = 0.005

# Workers that are killed while they start, and none comes up: for so long the pool goes on starting others.
KILLED_PATIENCE = 1.0

# How long terminate() waits for workers to answer SIGTERM before it sends SIGKILL, and join() for terminated threads.
GRACE = 2.0

# A helper with nothing to do for so long ends.
HELPER_IDLE = 1.0

# Engines with work under way: it goes on even if the caller has dropped the pool and the result.
_active = set()

# How long a call may wait for company, and how often the helper looks after calls that travelled together.
HELD_SECONDS = 0.002
# Calls are held when they come, and are taken, at less than so many seconds each; which is looked at every so many
# calls.
HOLD_SECONDS = 5e-5
HOLD_EVERY = 16
HELD_LOOK = 0.01


def look_after_others():
    """Take in what has arrived for pools that nobody waits for: they may be done, and then they can go."""
    pid = os.getpid()
    for engine in list(_active):
        if engine._pid == pid:
            engine.poll()


_NOTE = (-1,)  # a result message that says nothing: wakes a driver
_DIED = (DIED,)

# Exit code of a worker whose own was lost: somebody else in the program has waited for the process.
UNKNOWN_EXIT = 255


class Worker:
    """A worker process or thread as its pool sees it."""

    __slots__ = ("limit", "mark", "peak", "process", "ready", "seen", "since", "slot", "unfit", "verdict")

    def __init__(self, process, slot):
        self.process = process
        self.slot = slot
        self.ready = False
        self.unfit = False
        self.peak = None
        # For tasks with a time limit: where the worker was when the driver last looked, and since when.
        self.mark = None
        self.since = 0.0
        self.limit = None
        self.verdict = None  # why it was stopped: makes the errors for its tasks
        self.seen = None  # where it was when somebody last looked for tasks that hold others up


def _timeout(limit, pid, task, where="running"):
    from ._task_timeout import TaskTimeout

    return TaskTimeout(task, limit, pid)


def _is_there(pid, fd):
    """Does this process still run? `fd`: its pidfd, if there is one."""
    if fd is not None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return not poll.poll(0)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


class ProcessTransport:
    """Channels to and from worker processes, and their starting and ending."""

    local = False
    team = None

    def __init__(
        self,
        context,
        make,
        slots,
        *,
        settings,
        daemon=True,
        prefix="PoolWorker",
        as_is=False,
        family=POOL,
        at_once=False,
    ):
        """
        Args:
            at_once: workers are started right away, and nobody has a say in how their process objects are made. So the
                first may come up meanwhile.
            family: the classes of the errors.
            make: called as `make(context, target=..., args=...)`, returns a process object.
            daemon: what the processes' `daemon` becomes; None leaves it.
            settings: (initializer, initargs, max_tasks)
        """
        from . import _native

        method = context.get_start_method()
        inherited = method == "fork"
        self._ahead = None
        if at_once and getattr(context.Process, "_comes_up_ahead", False):
            from . import _warm

            self._ahead = _warm.ahead(method)
        self._context = context
        self._make = make
        self._daemon = daemon
        self._prefix = prefix
        self.as_is = as_is
        self._family = family
        self.read = partial(wire.read_result, family=family)
        self._initializer, self._initargs, self._max_tasks = settings
        self._limit = _blas.Limit(slots)
        self._around_start = partial(_blas.for_fork, self._limit) if inherited else nullcontext
        self.tasks = _native.Channel(0, claim_slots=slots)
        self.results = _native.Channel(0)
        self.cells = Cells(slots, inherited)
        self.functions = wire.Functions(_native.publish)
        self._native = _native
        self.memory_errors = (_native.MemoryLimitError,)
        self.put = self.tasks.put
        self.sequence = _native.Slice
        self.taken = self.tasks.taken
        self._get_many = self.results.get_many
        self._pidfds: dict[Worker, int] = {}
        self._watched: tuple[int, ...] = ()  # all of them

    def collect(self, timeout):
        """What has arrived, after waiting at most so many seconds for the first (0: without waiting)."""
        try:
            if timeout > 0:
                found = self._get_many(None, True, timeout, self._watched)
                if found:
                    return found
                return [_DIED]
            return self._get_many(None, False)
        except queue.Empty:
            return []
        except Exception as error:
            # Every result travels so that it decodes (`_pool_wire`); if one does not, the memory is damaged, and nobody
            # can say whose result it was.
            received = getattr(error, "received", None)
            if received is None:
                raise
            return [*received, (wire.DAMAGED, error)]

    def count(self, tasks):
        """So many tasks are done; for `breakeven run --receipt`."""
        if tasks:
            self._native.count("tasks", tasks)

    def poke(self):
        """Wake whoever is in `collect`."""
        self.results.put(_NOTE)

    def share(self, items):
        """Publish the big arguments that several items have in common."""
        twice = wire.repeated(items)
        native = self._native
        return {key: wire.Shared(native.publish(value), native.fetch) for key, value in twice.items()}

    def start(self, slots):
        """Start workers; yields them, and then raises whatever starting one has raised.

        All are made before the first is forked, and looked after when the last is: after a fork, this process copies
        each page that it touches, and after the next fork once more.
        """
        processes = [self._make_worker(slot) for slot in slots]
        started = []
        failure = None
        if self._ahead is not None and processes:
            processes[0]._ahead, self._ahead = self._ahead, None
        try:
            with self._around_start():
                for process in processes:
                    process.start()
                    started.append(process)
        except BaseException as error:
            failure = error
            for process in processes:
                process.__dict__.pop("_ahead", None)  # it was not even tried
        for slot, process in zip(slots, started):  # noqa: B905  # not all may have been started
            yield self._watch(Worker(process, slot))
        if failure is not None:
            raise failure

    def _make_worker(self, slot):
        """The process object of a worker."""
        self.tasks.clear_claim(slot)
        self.cells.clear(slot)
        setup = Setup(
            tasks=ChannelEnd(self.tasks),
            results=ChannelEnd(self.results),
            cells=self.cells,
            slot=slot,
            parent=os.getpid(),
            initializer=self._initializer,
            initargs=self._initargs,
            max_tasks=self._max_tasks,
            as_is=self.as_is,
            limit=self._limit,
        )
        process = self._make(self._context, target=process_main, args=(setup,))
        if self._prefix:
            process.name = process.name.replace("Process", self._prefix)
        if self._daemon is not None:
            process.daemon = self._daemon
        return process

    def _watch(self, worker):
        """Notice at once when this worker ends."""
        try:
            self._pidfds[worker] = os.pidfd_open(worker.process.pid)
        except (OSError, AttributeError):
            # It has ended already; or the kernel has no such thing, or this process no descriptor left; or what the
            # context calls a process is none.
            pass
        else:
            self._watched = tuple(self._pidfds.values())
        return worker

    def forget(self, worker):
        """Its end is no news any more."""
        fd = self._pidfds.pop(worker, None)  # one step: several threads may be waiting for the workers
        if fd is not None:
            self._watched = tuple(self._pidfds.values())
            os.close(fd)

    def ended(self, worker):
        """Has this worker's process ended? Records its memory peak if so."""
        process = worker.process
        popen = getattr(process, "_popen", None)
        if popen is not None and popen.returncode is None and type(popen).poll is popen_fork.Popen.poll:
            # A child of this process: its end can be awaited together with its resource usage.
            try:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            except OSError:
                # Somebody else has waited for it, as a program may that waits for all its children.
                if not _is_there(process.pid, self._pidfds.get(worker)):
                    popen.returncode = UNKNOWN_EXIT
            else:
                if pid == 0:
                    return False
                popen.returncode = os.waitstatus_to_exitcode(status)
                worker.peak = usage.ru_maxrss * 1024
        if process.exitcode is None:
            return False
        worker.peak = worker.peak or getattr(popen, "peak_rss", None)  # as the template has told
        return True

    def lost(self, worker, others):
        """(seq, chunks started) of the message that a dead worker took with it, or None."""
        seq = self.tasks.claim(worker.slot)
        if seq is None or seq >= self.tasks.taken():
            return None
        # A claim is recorded before the take that it announces; who dies in between leaves the message to another.
        if any(self.tasks.claim(other.slot) == seq for other in others):
            return None
        return seq, self.cells.started(worker.slot, seq), partial(self.outcomes, worker.slot)

    def outcomes(self, slot, count):
        """(values, error) of the first `count` chunks that a worker has finished and not sent; one is None."""
        return [wire.read_outcome(record, self._family) for record in self.cells.outcomes(slot, count)]

    def at(self, worker):
        """Where a worker is: (message, how many of its chunks it has begun), or None if it waits for a message."""
        claim = self.tasks.claim(worker.slot)
        if claim is None or claim >= self.tasks.taken():
            return None
        word = self.cells.words[worker.slot * Cells.WORDS]
        if word >= 0 and word >> 24 == claim & 0x7FFFFFFFFF:
            return claim, word & 0xFFFFFF
        return claim, 0

    def waits(self, worker):
        """Has it nothing to do?"""
        return self.cells.words[worker.slot * Cells.WORDS] < 0

    def keep(self, worker, mark):
        """A frozen worker shall begin no more of its message than it has."""
        self.cells.keep(worker.slot, *mark)

    def freeze(self, worker):
        """Stop a worker, for the moment; False if it has ended."""
        process = worker.process
        if process.exitcode is not None:
            return False
        try:
            os.kill(process.pid, signal.SIGSTOP)
            deadline = time.monotonic() + GRACE
            while True:
                with open(f"/proc/{process.pid}/stat", "rb") as file:
                    state = file.read().rpartition(b") ")[2][:1]
                if state in b"Tt":
                    return True
                if state in b"ZX":
                    return False
                if time.monotonic() > deadline:
                    return True  # asleep in the kernel: it does nothing of its own before it is stopped
                time.sleep(0.0005)
        except (ProcessLookupError, FileNotFoundError):
            return False

    def thaw(self, worker):
        """Let it go on."""
        try:
            os.kill(worker.process.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def end(self, worker):
        """Kill one worker, and wait until it has ended."""
        worker.process.kill()
        worker.process.join()

    def death(self, worker):
        """Makes the errors for the tasks of a dead worker."""
        if worker.verdict is not None:
            return worker.verdict
        process = worker.process
        peak = worker.peak or self.cells.peak(worker.slot)
        died = self._family.died
        return lambda task, where="running": died(task, process.pid, process.exitcode, peak, where)

    def stop(self, workers):
        """Let each worker end after what it is doing."""
        for _ in workers:
            self.tasks.put(None)

    def kill(self, workers):
        """End the workers, whatever they are doing, and wait until they have ended."""
        for worker in workers:
            if worker.process.exitcode is None:
                worker.process.terminate()
        deadline = time.monotonic() + GRACE
        for worker in workers:
            process = worker.process
            if not self._ends_within(worker, max(0.0, deadline - time.monotonic())):
                # It has a handler for SIGTERM, or is stopped.
                process.kill()
            process.join()

    def _ends_within(self, worker, seconds):
        """Does this worker's process end within so many seconds?"""
        fd = self._pidfds.get(worker)
        if fd is not None:
            # Joining with a time limit would import multiprocessing.connection first, with all that it imports: when
            # the interpreter exits with a pool that lives, half of the time would go there.
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            events = poll.poll(seconds * 1000)
            if not any(event & select.POLLNVAL for _, event in events):  # else another thread has forgotten the worker
                return bool(events)
        worker.process.join(seconds)
        return worker.process.exitcode is not None

    def wait_ended(self, workers, busy_patience=None):
        for worker in workers:
            worker.process.join()
            self.forget(worker)

    def close(self):
        """Give back channels and memory."""
        if self._ahead is not None:
            self._ahead.discard()
            self._ahead = None
        self.functions.clear()
        for worker in list(self._pidfds):
            self.forget(worker)
        for channel in (self.tasks, self.results):
            try:
                channel.end_loans()  # to workers that died while they were starting
                channel.close()
            except ValueError:
                pass
        try:
            self.cells.close()
        except (BufferError, ValueError):
            pass
        # The workers have ended; who leaves them to somebody who runs out of memory makes him wait for it.
        self._native.reap()


class _ThreadTasks(queue.SimpleQueue):
    """A task channel between threads: numbers messages as a channel does."""

    def __init__(self):
        self._seq = 0

    def send(self, message):
        # Under the engine's lock, so the numbers are in order.
        seq = self._seq
        self._seq = seq + 1
        self.put(None if message is None else (seq, message))
        return seq


class ThreadTransport:
    """The same for worker threads."""

    local = True
    memory_errors = ()

    def __init__(self, make, *, settings, as_is=False):
        self._make = make
        self.as_is = as_is
        self._initializer, self._initargs, _ = settings
        self.tasks = _ThreadTasks()
        self.results = queue.SimpleQueue()
        self.functions = wire.LocalFunctions()
        self.team = _blas.Team()
        self._ports = {}
        self.put = self.tasks.send
        self.taken = lambda: 0  # not needed: calls between threads are never held

    def collect(self, timeout):
        results = self.results
        found = []
        try:
            found.append(results.get(True, timeout) if timeout > 0 else results.get_nowait())
            while True:
                found.append(results.get_nowait())
        except queue.Empty:
            return found

    @staticmethod
    def read(message):
        return message

    @staticmethod
    def sequence(items):
        """The items of a map, in the form that is cheap to send in parts."""
        return items

    def count(self, tasks):
        """Threads' tasks are not counted: they send no messages either."""

    def poke(self):
        self.results.put(_NOTE)

    def share(self, items):
        return {}

    def start(self, slots):
        for slot in slots:
            port = ThreadPort(self.tasks, self.results, self.team, self.as_is)
            thread = self._make(None, target=thread_main, args=(port, slot, self._initializer, self._initargs))
            thread.daemon = True
            thread.start()
            self._ports[slot] = port
            yield Worker(thread, slot)

    def forget(self, worker):
        pass

    def ended(self, worker):
        return not worker.process.is_alive()

    def lost(self, worker, others) -> Any:
        return None

    def death(self, worker):
        return lambda task, where="running": WorkerDied(task, None, None, None, where)

    def stop(self, workers):
        for _ in workers:
            self.tasks.send(None)

    def kill(self, workers):
        """A thread cannot be ended: those that are idle end, those in a task end after it."""
        try:
            while True:
                self.tasks.get_nowait()
        except queue.Empty:
            pass
        self.stop(workers)
        for worker in workers:
            # Not for one that is inside a task: that may take for ever.
            while worker.process.is_alive() and not self._ports[worker.slot].busy:
                worker.process.join(0.01)

    def wait_ended(self, workers, busy_patience=None):
        """`busy_patience`: seconds for all that are inside a task; None to wait for them however long it takes."""
        deadline = None if busy_patience is None else time.monotonic() + busy_patience
        for worker in workers:
            worker.process.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def close(self):
        self.team.rest()


class Engine:
    """Workers, messages and waiting; shared by pools and executors."""

    def __init__(
        self, transport, processes, *, always_background=False, fatal=lambda error: error, settle=None, attempts=3
    ):
        """
        Args:
            attempts: how often in a row an initializer may fail before the pool gives up.
            settle: called as `settle(engine, calls, values, errors)` with the outcomes of a `CallStream`'s calls.
            processes: how many workers; may be raised later.
            always_background: a helper thread drives whenever there is work and nobody waits.
            fatal: makes the error that ends the pool from the one that it ends of.
        """
        self.transport: Any = transport
        self._team = transport.team
        self.processes = processes
        self.always_background = always_background
        self.fatal = fatal
        self._settle: Any = settle
        self._attempts = attempts
        # How often the driver looks how long tasks have been running; None if none has a time limit.
        self.look: float | None = None
        self._next_look = 0.0
        self.forced = False  # the workers were told to die; none is replaced
        self.abandoned = False  # whoever could have closed this is gone
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)
        self.ledger = Ledger()
        self.workers: dict[int, Worker] = {}  # slot -> Worker
        self.pool = []  # the process objects, oldest first
        self.retired = []  # workers that have ended by plan and are not yet joined
        self.starts = Starts()
        self.closing = False
        self.terminated = False
        self.window = 2 * processes + 2
        self._told = False
        self._reap = False
        self._pid = os.getpid()
        self._driver: int | None = None
        self._waiting = 0  # threads to wake when there is news
        self._eager = 0  # those of them that would drive
        self._raw = []
        self._held = []  # calls that wait for company
        self._hold = 0  # how many of them make a message; 0: every call goes by itself
        self._sample = (0.0, 0)
        self._digested = 0.0
        self.calls = HeldCalls(self.ledger, Pacer(max(1, processes)), 1 << 30)
        self._next_check = 0.0
        self._noticed = False  # a worker has ended, and `_check` has not looked yet
        self._failing_since = 0.0  # when the first of those starts failed that have failed in a row
        self._next_start = 0.0  # no worker is replaced before
        self._ending: list[Worker] = []  # those that `terminate` has told to end
        self._helper: threading.Thread | None = None
        self._feeders: list[threading.Thread] = []

    # --- workers ---

    def populate(self):
        """Bring the workers up to their number. Raises what starting one raises."""
        with self.lock:
            missing = [slot for slot in range(self.processes) if slot not in self.workers]
            for worker in self.transport.start(missing) if missing else ():
                self.workers[worker.slot] = worker
                self.pool.append(worker.process)
                util.debug("pool worker %d started", worker.slot)

    def abandon(self):
        """Undo a `populate` that has failed half-way."""
        workers = list(self.workers.values())
        self.workers.clear()
        for worker in workers:
            self.transport.forget(worker)
            if worker.process.exitcode is None:
                worker.process.terminate()
        for worker in workers:
            worker.process.join()

    def _repopulate(self):
        if time.monotonic() < self._next_start:
            return
        if self.terminated or self.forced or self.ledger.broken is not None or (self.closing and self.ledger.idle()):
            return
        try:
            self.populate()
        except Exception as error:
            # No more processes to be had just now. The workers that there are carry on; without any, this is a failed
            # start.
            if not self.workers:
                self._start_failed(error)

    def _remove(self, worker):
        self.workers.pop(worker.slot, None)
        self.transport.forget(worker)
        if worker.process in self.pool:
            self.pool.remove(worker.process)

    def _start_failed(self, error, attempts=Starts.LIMIT, killed=False):
        now = time.monotonic()
        if not self.starts.failures:
            self._failing_since = now
        fatal = self.starts.failed(error, attempts)
        if fatal is None or self.ledger.broken is not None:
            return
        if killed and (
            now - self._failing_since < KILLED_PATIENCE or any(worker.ready for worker in self.workers.values())
        ):
            # Somebody kills processes: bad luck that may end. From now on they are replaced at leisure.
            self._next_start = now + SLICE
            return
        util.debug("pool gives up: its workers do not come up")
        self._give_up(fatal)

    def _check(self):
        """Look for dead workers: fail what they had, and replace them. Under the lock, by the driver."""
        self._next_check = time.monotonic() + SLICE
        if self.terminated:
            return
        transport = self.transport
        self.retired = [worker for worker in self.retired if not self._joined(worker)]
        dead = [worker for worker in self.workers.values() if transport.ended(worker)]
        if self._noticed and not dead:
            # What a fork server has to say about its child comes a moment after the child's end.
            time.sleep(0.001)
            self._next_check = 0.0
        self._noticed = False
        if dead:
            self._take_in()  # what they had sent before comes first
        for worker in dead:
            if self.workers.get(worker.slot) is worker:  # or it had said goodbye
                self._bury(worker)
        if self.forced and not self.workers:
            self._told = True
            self._give_up(PoolTerminated("its workers were told to end"))
        if dead or len(self.workers) < self.processes:
            if not self._told or not self.ledger.idle():
                self._repopulate()
        if not transport.local and len(self.workers) > 1:
            self._unblock()

    def _unblock(self):
        """Fetch what a task that takes long holds up: results before it in its message, and tasks behind it.

        Short tasks travel together. If one is not as short as the others, the results of those before it wait in the
        worker's journal, and those behind it for it, even if it waits for one of them itself. The results are read, and
        the tasks are taken back if a worker has nothing to do.
        """
        transport, ledger = self.transport, self.ledger
        idle = fetched = False
        holding = []
        for worker in self.workers.values():
            if transport.waits(worker):
                idle = worker.ready or idle
                continue
            mark = transport.at(worker)
            seen, worker.seen = worker.seen, mark
            if mark is None or mark != seen or mark[1] == 0:
                continue
            parcel = ledger.messages.get(mark[0])
            if isinstance(parcel, Parcel) and mark[1] <= parcel.count:
                holding.append((worker, mark, parcel))
        for worker, mark, parcel in holding:
            seq, started = mark
            take = idle and started < parcel.count
            if not (take or ledger.waits_unsent(parcel, started)) or not transport.freeze(worker):
                continue
            try:
                self._take_in()  # what it has sent comes first
                there = self.workers.get(worker.slot) is worker and transport.at(worker) == mark
                if not there or ledger.messages.get(seq) is not parcel:
                    continue
                if ledger.waits_unsent(parcel, started):
                    ledger.read_ahead(parcel, started, partial(transport.outcomes, worker.slot))
                if take:
                    transport.keep(worker, mark)
                    ledger.take_back(seq, started)
            finally:
                transport.thaw(worker)
                fetched = True
        if fetched:
            self._go_on()

    def _bury(self, worker):
        """A worker has died: fail what it was doing, give back what it had not begun."""
        transport = self.transport
        self._remove(worker)
        worker.process.join()
        death = transport.death(worker)
        lost = transport.lost(worker, self.workers.values())
        if lost is not None:
            seq, started, outcomes = lost
            self.ledger.lost(seq, started, outcomes, death)
        if not worker.ready and not worker.unfit and not self._told and not self.forced:
            error = death(None, "starting (is the main module guarded by __name__ == '__main__'?)")
            self._start_failed(error, killed=(worker.process.exitcode or 0) < 0)

    def _give_up(self, error):
        """Nothing can be finished any more, because of this."""
        self.ledger.give_up(self.fatal(error))
        # What is raised gets a traceback, and that holds on to whatever its frames do: an executor, for one, which then
        # never goes. So what is kept is another.
        self.ledger.broken = self.fatal(error)

    # --- stopping tasks ---

    def limit(self, seconds):
        """Tasks with this time limit will come (0: one that shall stop now). Under the lock."""
        look = min(max(LOOK, seconds / 20), SLICE)
        self.look = look if self.look is None else min(self.look, look)
        self._next_look = 0.0

    def stop_call(self, call):
        """A call that is on its way is not wanted any more: it is stopped if a worker is at it, or as soon as one is.

        Seen to by the driver.
        """
        with self.lock:
            if self.terminated or not self.ledger.messages:
                return
            self.limit(0.0)
            self.want_helper()
            if self._driver not in (None, -1, threading.get_ident()):
                self.transport.poke()

    def tell_waiting(self):
        """Something has happened that those who wait may be waiting for."""
        if self._waiting:
            with self.lock:
                self.news.notify_all()

    def may_wait(self, number):
        """Are there fewer threads than this that wait for news?"""
        return not self.terminated and self._waiting < number

    def _look(self):
        """Stop the tasks that have run for too long, or are not wanted. Under the lock, by the driver."""
        now = time.monotonic()
        self._next_look = now + (self.look or SLICE)
        if self.terminated:
            return
        transport = self.transport
        leftover, self.ledger.leftover = self.ledger.leftover, {}
        for worker in list(self.workers.values()):
            mark = transport.at(worker)
            if mark != worker.mark:
                worker.mark = mark
                worker.since = now
                worker.limit = None
            if mark is None:
                continue
            parcel = self.ledger.messages.get(mark[0])
            if isinstance(parcel, Parcel):
                worker.limit = parcel.job.limit_of(parcel, min(max(mark[1] - 1, 0), parcel.count - 1))
            elif parcel is not None or transport.waits(worker) or mark[0] not in leftover:
                continue
            else:
                # It has sent the outcome, and what the task left behind keeps it busy.
                worker.limit = self.ledger.leftover[mark[0]] = leftover[mark[0]]
            if worker.limit is not None and now - worker.since >= worker.limit:
                self._stop(worker, mark)

    def _stop(self, worker: Any, mark):
        """Kill a worker if it is still where it was seen: its task fails, and no other."""
        transport = self.transport
        if not transport.freeze(worker):
            return  # it has just died by itself
        self._take_in()  # what it has sent comes first
        gone = worker not in self.workers.values()  # it has said goodbye
        rests = mark[0] not in self.ledger.messages and transport.waits(worker)
        if gone or rests or transport.at(worker) != mark:
            transport.thaw(worker)
            return
        pid, limit = worker.process.pid, worker.limit
        util.debug("pool worker %d is stopped: its task has run for %s s", worker.slot, limit)
        worker.verdict = partial(_timeout, limit, pid)
        transport.end(worker)
        self._bury(worker)
        self._repopulate()
        self._go_on()

    def force(self, kill):
        """Tell the workers to end at once (by SIGKILL, or else SIGTERM); none is replaced."""
        with self.lock:
            self.forced = True
            workers = [*self.workers.values(), *self.retired]
        for worker in workers:
            process = worker.process
            try:
                if process.exitcode is None:
                    process.kill() if kill else process.terminate()
            except ProcessLookupError:
                pass
        self.close(reap=True)

    def abandon_later(self):
        """Close this, from the helper: for a finalizer, which may run anywhere, also inside of a method of this."""
        with self.lock:
            self.abandoned = True
            if self._pid == os.getpid() and not self.closing:
                self.want_helper()

    def _joined(self, worker):
        if self.transport.ended(worker):
            worker.process.join()
            return True
        return False

    def keep(self, active):
        """Work is under way: it shall go on even if nobody holds the pool any more."""
        if active:
            _active.add(self)
        else:
            _active.discard(self)

    # --- sending ---

    def call(self, job, handle, args, keywords):
        """Send a single call; raises what pickling it raises.

        Calls go out at once, each by itself, as long as workers can be waiting for them. When many are in the channel
        already, and short, they are held until there are enough for a message or somebody needs them; the helper sees
        to it that none waits for longer than a few milliseconds.
        """
        with self.lock:
            if self._hold and not keywords and wire._atoms(map(type, args)):
                held = self._held
                held.append(HeldCall(job, handle, args))
                if len(held) >= self._hold:
                    self.release()
                elif len(held) == 1:
                    self.want_helper()
                return
            if self._held:
                self.release()
            if keywords:
                message = (wire.head(wire.CALLX, handle.stateless, 0, 0, len(handle.key)), *handle.key, args, keywords)
            else:
                message = (handle.call, *handle.key, *args)
            if self._team is not None:
                self._team.engage(self.processes)
            seq = self.transport.put(message)
            ledger = self.ledger
            ledger.messages[seq] = job
            if not seq % HOLD_EVERY:
                self._consider_holding()
            if self not in _active:
                _active.add(self)
            if self.always_background or ledger.awaiting_callback:
                self.want_helper()

    def _consider_holding(self):
        """Are calls coming so fast, and are they so short, that they should travel together?"""
        before, taken_before = self._sample
        now, taken = time.monotonic(), self.transport.taken()
        self._sample = now, taken
        self._hold = 0
        if self.transport.local or self.always_background or len(self.ledger.messages) < 8 * self.processes:
            return
        seconds = max(now - before, 1e-6)
        if seconds < HOLD_EVERY * HOLD_SECONDS:
            # Workers keep up, or at least take calls at this rate: as many as they run in about a millisecond.
            size = int((taken - taken_before) / seconds / 1000)
            if size >= 8:
                self._hold = min(size, 256)

    def release(self):
        """Send the calls that were held. Under the lock."""
        held = self._held
        if not held:
            return
        self._held = []
        begin = 0
        for end in range(1, len(held) + 1):
            if end == len(held) or held[end].handle is not held[begin].handle:
                self._send(Parcel(self.calls, 0, end - begin, held[begin:end]))
                begin = end
        if self.calls not in self.ledger.feeding:
            self.ledger.feeding.append(self.calls)
        now = time.monotonic()
        cost = self.calls.pacer.seconds_per_item()
        if now - self._sample[0] > len(held) * HOLD_SECONDS or (cost is not None and cost > HOLD_SECONDS):
            self._hold = 0
        self._sample = now, self.transport.taken()

    def submit(self, job, background):
        """Send what there is room for of a new job; `background`: nobody is going to wait for it right away."""
        with self.lock:
            self.release()
            self.ledger.add(job)
            _active.add(self)
            if self._team is not None:
                self._team.engage(self.processes)
            self.feed()
            if (background and job.more()) or self.always_background or self.ledger.awaiting_callback:
                self.want_helper()

    def feed(self):
        """Send parcels as long as there is room. Under the lock."""
        ledger = self.ledger
        while ledger.feeding:
            parcel = ledger.next_parcel()
            if parcel is None or not self._send(parcel):
                return

    def _send(self, parcel):
        """Send one parcel; False if the memory limit forbids it for the moment."""
        ledger = self.ledger
        job = parcel.job
        try:
            try:
                message, inert, count = wire.encode_parcel(parcel, self.transport.local)
            except wire.Refused as refused:
                bad = refused.chunk
                if bad:
                    # What comes before the culprit goes first, as if it had been asked for alone.
                    job.give_back(parcel.rest(bad))
                    job.give_back(Parcel(job, parcel.at, bad, parcel.items[: bad * job.chunk]))
                    return True
                if parcel.count > 1:
                    job.give_back(parcel.rest(1))
                    parcel = Parcel(job, parcel.at, 1, parcel.items[: job.chunk])
                raise refused.error from None
            if count < parcel.count:
                job.give_back(parcel.rest(count))
                parcel = Parcel(job, parcel.at, count, parcel.items[: count * job.chunk])
            ledger.sent(parcel, self.transport.put(message), inert)
            return True
        except self.transport.memory_errors as error:
            if ledger.messages:
                job.give_back(parcel)  # results that come in make room
                return False
            ledger.unsendable(parcel, error)
        except BaseException as error:
            if may_be_the_users(error) and not parcel.interrupted:
                # If it is, the parcel can be sent later; if not, this happens once more.
                parcel.interrupted = True
                job.give_back(parcel)
                raise
            ledger.unsendable(parcel, self._unsent(error))
        return True

    def _unsent(self, error):
        return error if self.transport.as_is else unsent(error)

    # --- receiving ---

    def _digest(self, batch):
        """Take in what has arrived. By the driver, not under the lock: unpickling runs user code."""
        raw = self._raw
        if batch:
            raw.extend(batch)
        if not raw:
            return
        # Kept in `raw` until it is booked: if an interrupt gets in between, the next driver does it again, and booking
        # the same result twice changes nothing.
        events = list(map(self.transport.read, raw))
        with self.lock:
            self._digested = time.monotonic()
            self._book(events)
            del raw[: len(events)]
        if self.ledger.settled:
            self._tell_futures()

    def _tell_futures(self):
        """Hand the outcomes of an executor's calls to their futures; not under the lock, for they run callbacks."""
        settled = self.ledger.settled
        while settled:
            try:
                told = settled[0]
            except IndexError:
                break
            # Taken out afterwards: if an interrupt gets in between, it is done again, which does no harm.
            self._settle(self, *told)
            with self.lock:
                if settled and settled[0] is told:
                    settled.popleft()
        with self.lock:
            self._come_to_rest()
            if self._waiting:
                self.news.notify_all()

    def _take_in(self):
        """Book what has arrived. Under the lock."""
        self._raw.extend(self.transport.collect(0))
        self._digest_locked()

    def _go_on(self):
        """Something was booked aside from the usual way: send what can be sent now, and tell those who wait."""
        if self.ledger.feeding:
            self.feed()
        if self._waiting:
            self.news.notify_all()

    def _digest_locked(self):
        events = list(map(self.transport.read, self._raw))
        self._book(events)
        del self._raw[: len(events)]

    def _book(self, events):
        ledger = self.ledger
        for event in events:
            kind = event[0]
            if kind == ONE:
                ledger.one(event[1], event[2])
            elif kind == PART:
                ledger.part(*event[1:])
            elif kind == FAILED:
                ledger.failed(event[1], event[2])
            elif kind == READY:
                worker = self.workers.get(event[1])
                if worker is not None:
                    worker.ready = True
                self.starts.ready()
            elif kind == UNFIT:
                worker = self.workers.get(event[1])
                if worker is not None and not worker.unfit:
                    worker.unfit = True
                    self._start_failed(event[2], self._attempts)
            elif kind == DAMAGED:
                ledger.give_up(event[1])
            elif kind == DIED:
                self._noticed = True
                self._next_check = 0.0
            elif kind == BYE:
                worker = self.workers.get(event[1])
                if worker is not None and worker.ready:
                    # Its place is free: it takes no message any more.
                    self._remove(worker)
                    self.retired.append(worker)
        self.transport.count(ledger.newly_done())
        if len(self.workers) < self.processes:
            self._repopulate()
        if ledger.feeding:
            self.feed()
        if ledger.callbacks:
            self.want_helper()
        if not ledger.messages:
            self._come_to_rest()
        if self._waiting:
            self.news.notify_all()

    def _come_to_rest(self):
        """If nothing is left to do: let go of what was kept for it. Under the lock."""
        if self.ledger.idle():
            if not self.ledger.leftover:
                self.look = None
            _active.discard(self)
            if self._team is not None:
                self._team.rest()
            if self.closing and not self._told:
                self._tell()

    def _tell(self):
        """No more work will come: the workers may end."""
        self._told = True
        self.transport.stop(self.workers)

    # --- waiting ---

    def wait(self, done, timeout=None):
        """Drive, or wait for the driver, until `done()` is true or so many seconds have passed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        me = threading.get_ident()
        while not done():
            with self.lock:
                if done():
                    return
                if self._driver is not None and self._driver != me:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return
                    self._eager += 1
                    try:
                        self._sleep(left)
                    finally:
                        self._eager -= 1
                    continue
                nested = self._driver == me
                self._driver = me
            try:
                self._drive(done, deadline)
            finally:
                if not nested:
                    with self.lock:
                        self._leave()
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _sleep(self, timeout):
        self._waiting += 1
        try:
            self.news.wait(timeout)
        finally:
            self._waiting -= 1

    def _drive(self, done, deadline):
        collect = self.transport.collect
        if self._raw:
            self._digest(())
        if self.ledger.feeding or self._held:
            with self.lock:
                self.release()
                self.feed()
        while not done():
            left = SLICE
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left <= 0 and self.terminated:
                    return
            if self.look is not None:
                left = min(left, self.look)
            if self.terminated:
                return
            if self._held:
                with self.lock:
                    self.release()
            batch = collect(left)
            if batch:
                self._digest(batch)
            now = time.monotonic()
            if now >= self._next_check:
                with self.lock:
                    self._check()
            if self.look is not None and now >= self._next_look:
                with self.lock:
                    self._look()
            if self.ledger.settled:
                self._tell_futures()
            if not batch and self.ledger.feeding:
                # An input may have given something and be blocked over the next.
                with self.lock:
                    self.feed()
            if deadline is not None and now >= deadline:
                return

    def poll(self):
        """Take in what has arrived, without waiting, unless somebody is doing so already."""
        with self.lock:
            if self._held:
                self.release()
            if self._driver is not None or self.terminated:
                return
            self._driver = threading.get_ident()
        try:
            self._digest(self.transport.collect(0))
            if time.monotonic() >= self._next_check:
                with self.lock:
                    self._check()
        finally:
            with self.lock:
                self._leave()

    def _leave(self):
        """Stop driving. Under the lock."""
        self._driver = None
        if self._waiting or self._helper is not None:
            self.news.notify_all()
        if self.terminated:
            self._close_transport()

    # --- what goes on while nobody waits ---

    def want_helper(self):
        """Make sure that the helper thread runs and knows that there is something to do. Under the lock."""
        if self._helper is None and not self.terminated:
            self._helper = threading.Thread(target=self._help, name="breakeven-pool-helper", daemon=True)
            try:
                self._helper.start()
            except RuntimeError:
                # No more threads while the interpreter shuts down: whoever waits then drives, without callbacks.
                self._helper = None
        else:
            self.news.notify_all()

    def _background_work(self):
        ledger = self.ledger
        if self.terminated:
            return False
        if self._held or self.calls.in_flight or self.calls.returned:
            return True
        if ledger.awaiting_callback or ledger.settled:
            return True
        if self.always_background:
            return bool(ledger.messages) or ledger.unsent()
        return any(isinstance(job, Map) and job.more() for job in ledger.feeding)

    def _help(self):
        ledger = self.ledger
        idle_since = None
        while True:
            job = None
            look = False
            if ledger.settled:
                self._tell_futures()
            if self.abandoned and not self.closing:
                self.close(reap=True)
            with self.lock:
                if ledger.callbacks:
                    job = ledger.callbacks.popleft()
                elif self.terminated:
                    break
                elif not self._background_work():
                    if self._reap and self._told:
                        break
                    now = time.monotonic()
                    idle_since = idle_since or now
                    if now - idle_since > HELPER_IDLE or self.closing:
                        self._helper = None
                        break
                    self.news.wait(HELPER_IDLE)
                    continue
                elif self._driver is not None:
                    self.news.wait(SLICE)
                    continue
                elif self._held or self.calls.in_flight or self.calls.returned:
                    # Calls that were held are sent; and if one of them takes long, the others come back, to be sent
                    # again. Nothing else needs a driver: looking now and then leaves the interpreter to whoever
                    # submits.
                    self.release()
                    self.feed()
                    look = time.monotonic() - self._digested > HELD_LOOK
                    if not look:
                        self.news.wait(HELD_SECONDS)
                        continue
                idle_since = None
            if job is not None:
                self._call_back(job)
            elif look:
                self.poll()
                with self.lock:
                    self._digested = time.monotonic()
            else:
                # Leaves when somebody else wants to drive: he is waiting, and would only be woken by us.
                self.wait(self._helper_may_rest, None)
        if self._reap and not self.terminated:
            self.join()
        with self.lock:
            self.news.notify_all()

    def _helper_may_rest(self):
        return bool(self.ledger.callbacks or self.ledger.settled) or self._eager > 0 or not self._background_work()

    def _call_back(self, job):
        callback = job._callback if job._ok else job._error_callback
        try:
            callback(job._value)
        except BaseException:
            # In the standard pool this ends the thread that handles results, and every later call hangs.
            sys.excepthook(*sys.exc_info())
        finally:
            with self.lock:
                job.called_back()
                self._come_to_rest()
                self.news.notify_all()

    def start_feeder(self, job, iterator):
        """Pull the items of a job in a thread of its own: their iterator may block, or even wait for results."""
        thread = threading.Thread(target=self._pull, args=(job, iterator), name="breakeven-pool-input", daemon=True)
        self._feeders = [feeder for feeder in self._feeders if feeder.is_alive()]
        self._feeders.append(thread)
        thread.start()

    def _pull(self, job, iterator):
        stock = job.stock
        run = job.chunk  # items to pull at a stretch
        while True:
            with self.lock:
                while not (want := job.wants()):
                    if self.terminated or job.length is not None:
                        return
                    self._sleep(None)
                before = job.given()
            run = min(run, want)
            error = None
            began = time.monotonic()
            try:
                stock.extend(islice(iterator, run))
            except Exception as raised:
                # What the input raises is raised where its results are read, as if it had happened there.
                error = raised
            except BaseException as raised:
                error = RuntimeError(f"the input of imap raised {raised!r}")
            took = time.monotonic() - began
            with self.lock:
                if self.terminated or job.length is not None:
                    return
                ended = error is not None or job.given() - before < run
                if ended:
                    job.end_of_input(error)
                self.feed()
                if ended:
                    # Who waits for results may have to learn that there are none.
                    if self._waiting:
                        self.news.notify_all()
                    if self._driver not in (None, -1):
                        self.transport.poke()
                    return
            # Long runs are cheap, but an input that blocks shall not hold back what it has given.
            if took < 0.0005:
                run *= 2
            elif took > 0.002:
                run = job.chunk

    # --- ending ---

    def close(self, reap=False):
        """No more jobs will come. `reap`: nobody will call `join`, so the helper shall wait for the workers' end."""
        with self.lock:
            if self.closing or self.terminated:
                return
            self.release()
            self.closing = True
            self._reap = reap
            if self.ledger.idle():
                self._tell()
            if reap and self.workers:
                self.want_helper()
            self.news.notify_all()

    def join(self):
        """Wait until all jobs are done and the workers have ended."""
        if not self.terminated:
            with self.lock:
                for job in self.ledger.jobs.values():
                    job.unbounded = True
                self.news.notify_all()
            self.wait(self.ledger.idle)
            with self.lock:
                if not self._told:
                    self._tell()
                workers = [*self.workers.values(), *self.retired]
            self.transport.wait_ended(workers)
        # Threads end after the task that they are at. Who has terminated the pool does not want to wait for a long one.
        self.transport.wait_ended(self._ending, GRACE)
        self._ending.clear()
        self._end_threads()
        with self.lock:
            _active.discard(self)
            if self.terminated:
                return
            self.terminated = True
        self._close_transport()

    def terminate(self):
        """End the workers at once; what is not finished fails with `PoolTerminated`."""
        if os.getpid() != self._pid:
            return
        with self.lock:
            if self.terminated:
                return
            self.terminated = True
            held, self._held = self._held, []
            for call in held:
                call.job.fail(PoolTerminated("the pool was terminated before this task had finished"))
            self.ledger.give_up(PoolTerminated("the pool was terminated before this task had finished"))
            while self.ledger.callbacks:
                self.ledger.callbacks.popleft().called_back()
            self._tell_futures()
            self._ending = [*self.workers.values(), *self.retired]
            self.transport.kill(self._ending)
            self.news.notify_all()
            _active.discard(self)
        self._end_threads()
        self._close_transport()

    def _close_transport(self):
        """Close the channels once nobody is inside them."""
        with self.lock:
            if self._driver in (-1, threading.get_ident()):
                return  # done already, or to be done when this thread, which is driving, leaves
            if self._driver is not None:
                self.transport.poke()
                self._waiting += 1
                self.news.wait_for(lambda: self._driver is None, 1.0)
                self._waiting -= 1
            if self._driver is None:
                self._driver = -1  # nobody's: the channels stay unused from now on
                self.transport.close()

    def _end_threads(self):
        me = threading.current_thread()
        helper = self._helper
        # Where the last reference to a pool goes while its results are booked, this thread is in the midst of that, and
        # nobody else can leave before it has.
        inside: bool = self.lock._is_owned()  # type: ignore[attr-defined]
        with self.lock:
            self.news.notify_all()
            if self._driver not in (None, -1, threading.get_ident()):
                self.transport.poke()
        if inside:
            return
        if helper is not None and helper is not me:
            # A callback may be at work there. Who has terminated the pool does not want to wait for one that hangs.
            helper.join(GRACE if self.terminated else None)
        for feeder in self._feeders:
            # One that is inside the user's iterator stays there until that yields; it is a daemon.
            if feeder is not me:
                feeder.join(0.2)
