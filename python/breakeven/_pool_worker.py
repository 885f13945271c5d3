"""The loop of a pool's worker, process or thread.

It takes a message, runs what it says, and sends the outcome; nothing that a task does ends it but the end of the
process. What the parent must know if that happens lies in shared memory (`Cells`) before the task starts.
"""

from __future__ import annotations

import io
import marshal
import mmap
import os
import pickle
import queue
import signal
import sys
import threading
import time
from itertools import islice, starmap
from multiprocessing import context, current_process, parent_process, reduction, util

from . import _blas
from . import _pool_errors as errors
from ._launch import SharedFd
from ._native import end_with_parent
from ._pool_wire import (
    ATOMS,
    BATCH,
    BYE,
    CALL,
    CALLX,
    FAILED,
    ONE,
    PART,
    READY,
    SEALED,
    UNFIT,
    _atoms,
    dumps,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# A worker that has been at a parcel for longer than this hands over what it has, and gives the rest back if others
# idle.
BUDGET_SECONDS = 0.005

# How often an idle worker looks whether its parent is still there.
ORPHAN_SECONDS = 0.5

# How long a worker waits for room when the memory limit keeps its result from being sent.
MEMORY_PATIENCE = 10.0


class Cells:
    """Shared memory in which each worker says what it has begun, and keeps the results that it has not sent.

    One row a worker, of `ROW` bytes:

        word 0     message << 24 | chunks of it that have been started
        word 1     largest resident memory so far, in KiB (where the kernel's own account is not to be had)
        word 2     form of the journal: 0 marshalled records, 1 ints, 2 floats; changes only while the journal is empty
        word 3     written by the parent, see `keep`: message << 24 | chunks of it that this worker keeps
        byte 64..  journal: the outcomes of the message's chunks since the last that were sent, one after another

    Word 0 is the one that counts: it is written with one aligned store, so a worker killed at any instruction leaves
    the old value or the new one; and "k chunks started" is written after the outcomes of the k-1 before are in the
    journal. So a death costs the chunk that was running, and none that had finished.
    """

    ROW = 64 * 1024
    WORDS = ROW // 8
    JOURNAL = 64

    def __init__(self, rows, inherited):
        """`inherited`: the workers will be forks of this process, so no file descriptor is needed."""
        size = rows * self.ROW
        if inherited:
            memory = mmap.mmap(-1, size)
            self._fd: Any = None
        else:
            self._fd = os.memfd_create("breakeven-pool", os.MFD_CLOEXEC)
            os.ftruncate(self._fd, size)
            memory = mmap.mmap(self._fd, size)
        self.words = memoryview(memory).cast("q")
        self._memory = memory

    def __reduce__(self) -> Any:
        context.assert_spawning(self)
        return _attach_cells, (reduction.DupFd(self._fd), len(self._memory))

    def close(self):
        """Unmap; the object is of no use afterwards."""
        self.words.release()
        self._memory.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def clear(self, row):
        self.words[row * self.WORDS] = -1
        self.words[row * self.WORDS + 1] = 0
        self.words[row * self.WORDS + 3] = -1

    def started(self, row, seq):
        """How many chunks of this message the worker had started; None if it had not come to it."""
        word = self.words[row * self.WORDS]
        if word < 0 or word >> 24 != seq & 0x7FFFFFFFFF:
            return None
        return word & 0xFFFFFF

    def keep(self, row, seq, chunks):
        """Take back all but the first `chunks` chunks of this message.

        The worker must stand still meanwhile, at the last of them: it writes that it starts a chunk and then looks
        here, so wherever it goes on, it sees this before it runs another.
        """
        self.words[row * self.WORDS + 3] = (seq & 0x7FFFFFFFFF) << 24 | chunks

    def peak(self, row):
        """Bytes, or None."""
        return self.words[row * self.WORDS + 1] * 1024 or None

    def journal(self, row):
        """The memory of a worker's journal."""
        start = row * self.ROW
        return memoryview(self._memory)[start + self.JOURNAL : start + self.ROW]

    def outcomes(self, row, count):
        """The first `count` outcomes in a dead worker's journal, as `_journal_entry` made them."""
        form = self.words[row * self.WORDS + 2]
        with self.journal(row) as memory:
            if form:
                return [(value, False) for value in memory.cast("q" if form == 1 else "d")[:count].tolist()]
            source = io.BytesIO(memory)
        return [marshal.load(source) for _ in range(count)]


def _attach_cells(handle, size):
    fd = handle.detach()
    cells = Cells.__new__(Cells)
    cells._fd = None
    cells._memory = mmap.mmap(fd, size)
    os.close(fd)
    cells.words = memoryview(cells._memory).cast("q")
    return cells


class ChannelEnd:
    """A channel on its way to a worker: inherited as it is by a fork, by its descriptors otherwise."""

    def __init__(self, channel):
        self.channel = channel

    def __reduce__(self):
        context.assert_spawning(self)
        arena, number, event = self.channel.handle()
        return _attach_channel, (SharedFd.for_child(arena), number, SharedFd.for_child(event))


def _attach_channel(arena, number, event):
    from ._native import Channel

    return ChannelEnd(Channel.attach(arena.take(), number, event.take()))


class Setup:
    """All that a worker process gets from its parent."""

    __slots__ = (
        "as_is",
        "cells",
        "initargs",
        "initializer",
        "limit",
        "max_tasks",
        "parent",
        "results",
        "slot",
        "tasks",
    )

    def __init__(self, **values):
        for name, value in values.items():
            setattr(self, name, value)

    def __reduce__(self):
        return _rebuild_setup, ({name: getattr(self, name) for name in self.__slots__},)


def _rebuild_setup(values):
    return Setup(**values)


class _Interrupts:
    """SIGINT in a worker: a KeyboardInterrupt inside a task, nothing in between.

    Ctrl-C goes to every process of the terminal's group. A worker that is waiting has nothing to interrupt, and its
    traceback would only bury the parent's. In a task it must arrive, since tasks may catch it. A handler that the
    program has set itself is left alone.
    """

    def __init__(self):
        self.in_task = False

    def install(self):
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            signal.signal(signal.SIGINT, self._handle)

    def _handle(self, signum, frame):
        if self.in_task:
            raise KeyboardInterrupt


class _Lifeline:
    """Whether the parent is still there, whichever way it went."""

    def __init__(self, parent):
        self._parent = parent
        # The parent of a forkserver's child is the server: there only the pipe tells.
        self._direct = os.getppid() == parent
        self._next = 0.0

    def watch(self):
        """End with the parent, also in the middle of a task that does not return to the interpreter.

        Where that cannot be had (the program has taken all signals), `held` is what remains.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        parent = parent_process()
        try:
            end_with_parent(self._parent, None if parent is None else parent.sentinel)
        except (OSError, ValueError) as error:
            util.debug("this worker cannot be told of its parent's end: %s", error)
        # What this worker starts as its daemons goes with it, too; the standard library ends those of a process that
        # comes to its own end only.
        util.register_after_fork(self, _Lifeline._in_child)

    def _in_child(self):
        process: Any = current_process()
        if process.daemon:
            try:
                end_with_parent(process._parent_pid)
            except ValueError:
                os._exit(1)  # the worker has gone already
            except OSError:
                pass

    def held(self):
        """Cheap enough for every message where the kernel knows the parent."""
        if self._direct:
            return os.getppid() == self._parent
        now = time.monotonic()
        if now < self._next:
            return True
        self._next = now + ORPHAN_SECONDS
        parent = parent_process()
        return parent is None or parent.is_alive()


class _ProcessPort:
    """How a worker process reaches its pool."""

    copying = True

    def __init__(self, setup):
        from . import _native

        self._fetch = _native.fetch
        self._tasks = setup.tasks.channel
        self._results = setup.results.channel
        self._slot = setup.slot
        self.words = setup.cells.words
        self.row = setup.slot * Cells.WORDS
        self.journal = setup.cells.journal(setup.slot)
        self.ints = self.journal.cast("q")
        self.floats = self.journal.cast("d")
        self.journal_size = len(self.journal)
        # An executor's worker: exceptions go back as they are, those of unpickling a task marked as such.
        self._as_is = self.apart = setup.as_is
        self._functions = {}
        self.lifeline = _Lifeline(setup.parent)
        self._next_peak = 0.0
        self._last = None
        self._memory_error = _native.MemoryLimitError
        self.idle_others = self._tasks.empty
        self._tasks.set_claim_slot(setup.slot)
        self._get = self._tasks.get_lazily
        self.lazy = _native.Items
        self._claim = self._tasks.claim
        self.interrupts = _Interrupts()

    def next(self):
        """The next message as (seq, message), or None to end."""
        # Idle from here on; who was still busy with what a task has left behind has not come here.
        self.words[self.row] = -1
        while True:
            if not self.lifeline.held():
                return None
            try:
                message = self._get(True, ORPHAN_SECONDS)
            except queue.Empty:
                continue
            except BaseException as error:
                seq = self._claim(self._slot)
                if seq is None or seq == self._last:
                    raise  # no message was taken: the channel itself is gone
                self._last = seq
                self._put((FAILED, seq, self.pack(error, unread=self._as_is)))
                continue
            if message is None:
                return None
            self._last = seq = self._claim(self._slot)
            return seq, message

    def function(self, key, stateless):
        """The function behind a key; only functions without state of their own are kept."""
        function = self._functions.get(key)
        if function is None:
            function = self._fetch(key)
            if stateless:
                if len(self._functions) > 256:
                    self._functions.clear()
                self._functions[key] = function
        return function

    def begin(self, seq, chunks):
        """Say that so many chunks of this message have been started, this one included."""
        self.words[self.row] = (seq & 0x7FFFFFFFFF) << 24 | chunks

    def note_memory(self, now):
        """Record the memory peak now and then, for the report if this process dies."""
        if now >= self._next_peak:
            self._next_peak = now + 0.05
            import resource  # not before the first result is on its way

            self.words[self.row + 1] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def _put(self, message, put=None):
        if put is None:
            put = self._results.put
        patience = time.monotonic() + MEMORY_PATIENCE
        while True:
            try:
                return put(message)
            except self._memory_error:
                # Others' results may still be waiting for the parent: there will be room when it has read them.
                if time.monotonic() > patience or not self.lifeline.held():
                    raise
                time.sleep(0.02)

    def one(self, seq, value):
        """Send the result of a call or of a single chunk."""
        try:
            if self._put((ONE, seq, value), self._results.put_plain) is None:
                kind = type(value)
                if kind in ATOMS or ((kind is list or kind is tuple) and _atoms(map(type, value))):
                    self._put((ONE, seq, value))
                else:
                    buffers = []
                    data = dumps(value, buffers)
                    self._put((SEALED, seq, data, buffers or None))
        except BaseException as error:
            self._put((FAILED, seq, self.pack(self.encoding_error(error, value), trace=self._as_is)))

    def encoding_error(self, error, value):
        """What the caller sees of a result that cannot be pickled: pools have an exception of their own for it."""
        return error if self._as_is else errors.encoding_error(error, value)

    def failed(self, seq, error):
        self._put((FAILED, seq, self.pack(error)))

    def pack(self, error, trace=True, unread=False):
        packed = errors.pack_error(error, dumps, as_is=self._as_is, unread=unread)
        return packed if trace else (packed[0], None, *packed[2:])

    def part(self, seq, start, stop, seconds, sealed, values, failed, more):
        try:
            self._put((PART, seq, start, stop, seconds, sealed, values, failed or None, more))
        except Exception as error:
            # Only for want of memory: everything in it is plain by now.
            packed = self.pack(errors.encoding_error(error, f"results of {stop - start} chunks"), trace=False)
            failed = [(index, packed) for index in range(start, stop)]
            self._put((PART, seq, start, stop, seconds, False, [None] * len(values), failed, more))

    def say(self, *message):
        self._put(message)

    def seal(self, values):
        """One chunk's results as a pickle of their own; raises what the parent shall see."""
        try:
            return (dumps(values), len(values))
        except BaseException as error:
            raise self.encoding_error(error, values[0] if len(values) == 1 else values) from None


def process_main(setup):
    """What a worker process runs."""
    _blas.limit_worker(setup.limit)
    port = _ProcessPort(setup)
    port.interrupts.install()
    port.lifeline.watch()
    util.debug("pool worker %d begins", setup.slot)
    try:
        serve(port, setup.slot, setup.initializer, setup.initargs, setup.max_tasks)
    except _Quiet:
        # The parent has been told, and reports it where the user looks.
        sys.exit(1)
    util.debug("pool worker %d ends", setup.slot)


# For the template, which tells by this what it has to end when its owner goes.
process_main._ends_with_parent = True  # type: ignore[attr-defined]


class _Quiet(Exception):
    """Ends a worker whose parent knows why."""


dumps_plain = marshal.dumps


def serve(port, slot, initializer, initargs, max_tasks):
    """Run tasks until told to stop, or until `max_tasks` chunks are done."""
    if initializer is not None:
        try:
            port.interrupts.in_task = True
            initializer(*initargs)
            port.interrupts.in_task = False
        except BaseException as error:
            port.interrupts.in_task = False
            if port.apart:
                # An executor's contract.
                import logging

                logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            port.say(UNFIT, slot, port.pack(error))
            raise _Quiet from None
    port.say(READY, slot, os.getpid())
    completed = 0
    while max_tasks is None or completed < max_tasks:
        taken = port.next()
        if taken is None:
            return
        completed += _run(port, *taken)
        taken = None  # nothing of a task may outlive it: not its arguments, not its result
    port.say(BYE, slot)


def _run(port, seq, message):
    """One message; returns how many chunks it counts for."""
    interrupts = port.interrupts
    start = message[0]
    kind = start & 7
    stateless = start >> 3 & 1
    keys = (start >> 7 & 15) + 1
    if kind == BATCH:
        star, sealed, size = start >> 4 & 3, start >> 6 & 1, start >> 11
        if type(message[keys]) is port.lazy:
            # Chunks are looked up by their place.
            message = (*message[:keys], list(message[keys]))
        return _run_batch(port, seq, message[1:keys], stateless, star, sealed, size, message[keys])
    port.begin(seq, 1)
    try:
        interrupts.in_task = True
        function = port.function(message[1:keys], stateless)
        if kind == CALL:
            value = function(*message[keys:])
        elif kind == CALLX:
            value = function(*message[keys], **message[keys + 1])
        elif start >> 4 & 3:
            value = list(starmap(function, message[keys]))
        else:
            value = list(map(function, message[keys]))
        interrupts.in_task = False
    except BaseException as error:
        interrupts.in_task = False
        port.failed(seq, error)
        if port.copying:
            # The traceback holds this frame, and with it the message: break the circle here, not at a later collection.
            error.__traceback__ = None
    else:
        port.one(seq, value)
    port.note_memory(time.monotonic())
    return 1


def _run_batch(port, seq, key, stateless, star, sealed, size, items):
    """Several chunks, each with its own outcome."""
    interrupts = port.interrupts
    clock = time.perf_counter
    copying = port.copying
    count = len(items) if sealed else -(-len(items) // size)
    single = size == 1
    function = None
    first = 0  # of the part that has not been sent
    values: list[Any] = []
    failed: list[Any] = []
    pickled = False  # does `values` hold pickles, one a chunk?
    words, row = port.words, port.row
    base = (seq & 0x7FFFFFFFFF) << 24
    journal = port.journal
    journal_size = port.journal_size
    written = 0  # bytes in the journal; in the fast form, numbers
    # The fast form: single items whose results are all int, or all float; the journal is then an array of numbers.
    kind: type | None = None
    numbers: Any = None
    fast = copying and single and not sealed and stateless and star < 2
    since = clock()
    index = 0
    while index < count:
        words[row] = base + index + 1
        if words[row + 3] == base + index:
            # This chunk and those after it are no longer ours.
            port.part(seq, first, index, clock() - since, pickled, values, failed, 2)
            port.note_memory(time.monotonic())
            return index
        full = known = unread = False
        try:
            interrupts.in_task = True
            if function is None or not stateless:
                function = port.function(key, stateless)
            if kind is not None:
                until = since + BUDGET_SECONDS
                append = values.append
                room = Cells.WORDS - Cells.JOURNAL // 8 - 1
                call = map if star == 0 else starmap
                for value in call(function, islice(items, index, None)):
                    if type(value) is not kind:
                        known = True  # has been run: the slow form goes on from here
                        break
                    try:
                        numbers[written] = value
                    except (ValueError, OverflowError):  # an int of more than 64 bits
                        known = True
                        break
                    append(value)
                    written += 1
                    index += 1
                    if written == room or clock() > until:
                        break
                    words[row] = base + index + 1
                    if words[row + 3] == base + index:
                        break
                interrupts.in_task = False
                if not known:
                    if index < count:
                        more = 2 if written < room and port.idle_others() else 1
                        now = clock()
                        port.part(seq, first, index, now - since, False, values, failed, more)
                        if more == 2:
                            port.note_memory(time.monotonic())
                            return index
                        first, values, failed, written, since = index, [], [], 0, now
                    continue
            if not known:
                if sealed:
                    try:
                        chunk = pickle.loads(items[index])
                    except BaseException:
                        unread = port.apart
                        raise
                elif single:
                    chunk = (items[index],)
                else:
                    chunk = items[index * size : (index + 1) * size]
                if star == 0:
                    value = function(chunk[0]) if single else list(map(function, chunk))
                elif star == 1:
                    value = function(*chunk[0]) if single else list(starmap(function, chunk))
                else:
                    value = function(*chunk[0][0], **chunk[0][1])
            interrupts.in_task = False
            if kind is not None:
                # No longer one kind of number only, so the journal changes its form: it has to be empty.
                port.part(seq, first, index, clock() - since, False, values, failed, 1)
                first, values, failed, since, written = index, [], [], clock(), 0
                kind, fast = None, False
                words[row + 2] = 0
            elif fast and not values and not failed and (type(value) is float or (type(value) is int and _fits(value))):
                kind = type(value)
                form, view = _NUMBERS[kind]
                numbers = getattr(port, view)
                words[row + 2] = form
                numbers[0] = value
                values.append(value)
                written = 1
                index += 1
                continue
            if copying:
                # Results must not share objects with those of other chunks, nor change under later tasks.
                if single:
                    safe = type(value) in ATOMS or (type(value) is tuple and _atoms(map(type, value)))
                else:
                    safe = _atoms(map(type, value))
                if not safe and not pickled:
                    if values:
                        # The result of this chunk is still being worked on, so it counts as running.
                        port.part(seq, first, index, clock() - since, False, values, failed, 1)
                        first, values, failed, since, written = index, [], [], clock(), 0
                    pickled = True
                if pickled:
                    value = port.seal([value] if single else value)
                if not written:
                    words[row + 2] = 0
                record = dumps_plain((value, pickled))
            if single or pickled:
                values.append(value)
            else:
                values.extend(value)
            value = None
        except BaseException as error:
            interrupts.in_task = False
            if kind is not None:
                # An interrupt may have come between the lines of the fast form.
                del values[index - first :]
                if values:
                    port.part(seq, first, index, clock() - since, False, values, failed, 1)
                    first, values, failed, since = index, [], [], clock()
                kind, fast, written = None, False, 0
            packed = port.pack(error, trace=not isinstance(error, errors.MaybeEncodingError), unread=unread)
            failed.append((index, packed))
            if copying:
                error.__traceback__ = None
                if not written:
                    words[row + 2] = 0
                record = dumps_plain((packed, None))
            # The length of a chunk that did not unpickle is not known; the parent does not look at these places.
            length = 1 if single or sealed else min(size, len(items) - index * size)
            if pickled:
                values.append((None, length))
            else:
                values.extend([None] * length)
        index += 1
        if copying:
            end = written + len(record)
            if end <= journal_size:
                journal[written:end] = record
                written = end
            else:
                full = True
        now = clock()
        if (full or now - since > BUDGET_SECONDS) and index < count:
            more = 2 if port.idle_others() else 1
            port.part(seq, first, index, now - since, pickled, values, failed, more)
            if more == 2:
                port.note_memory(time.monotonic())
                return index
            first, values, failed, since, written = index, [], [], clock(), 0
    if not full:
        words[row] = base + count + 1  # nothing is running any more, and all outcomes are in the journal
    port.part(seq, first, count, clock() - since, pickled, values, failed, 0)
    port.note_memory(time.monotonic())
    return count


def _fits(number):
    return -(1 << 63) <= number < 1 << 63


# Results whose journal is an array of numbers: the form's code in word 2, and the port's view of it.
_NUMBERS = {int: (1, "ints"), float: (2, "floats")}


class ThreadPort:
    """How a worker thread reaches its pool: objects are handed over as they are."""

    copying = False
    # A thread does not die alone, and its messages have one chunk, so nothing reads these.
    words, row = [0, 0, 0, -1], 0
    journal = None
    journal_size = 0
    apart = False
    lazy = None

    def __init__(self, tasks, results, team, as_is=False):
        self._tasks = tasks
        self._results = results
        self._team = team
        self._as_is = as_is
        self.interrupts = self  # signals go to the main thread
        self.in_task = False
        self.busy = False
        self.idle_others = tasks.empty

    def next(self):
        self.busy = False
        taken = self._tasks.get()
        self.busy = True
        self._team.limit_thread()
        return taken

    def function(self, key, stateless):
        return key[0]

    def begin(self, seq, chunks):
        pass

    def note_memory(self, now):
        pass

    def one(self, seq, value):
        self._results.put((ONE, seq, value))

    def failed(self, seq, error):
        self._results.put((FAILED, seq, self.pack(error)))

    def pack(self, error, trace=True, unread=False):
        if isinstance(error, Exception) or self._as_is:
            return error
        said = errors.TaskAborted(f"the task raised {error!r}, which ends only the task here", error)
        said.__cause__ = error
        return said

    def part(self, seq, start, stop, seconds, sealed, values, failed, more):
        self._results.put((PART, seq, start, stop, seconds, values, failed, more))

    def say(self, *message):
        self._results.put(message)


def thread_main(port, slot, initializer, initargs):
    """What a worker thread runs."""
    try:
        serve(port, slot, initializer, initargs, None)
    except _Quiet:
        pass
