"""Helpers of a map that are processes: forked at the call, or warm.

Both run the same loop and are reached by the same two channels, `tasks`, for which they compete, and `results`. One
that was forked at the call has the map's function and items already: a chunk is two numbers. To all others the items of
a chunk are sent as a pickle, and the function is published once.

Task messages:   (map, key, sealed, start, count, pickle or items, buffers)     key: of the call; None: inherited
Result messages: (RAN, message, wall, cpu, values)            (SEALED, message, wall, cpu, pickle, buffers, caught)
                 (ENDED, message, wall, cpu, index, packed exception)
                 (UNREAD, message, packed exception)  (READY, slot, pid)  (UNFIT, slot, packed exception)

A message is named by its number in the task channel, which a helper learns from its claim, and whoever looks for what
died with a helper, too. The caller has a claim slot of its own, since it takes chunks back.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
from multiprocessing import util

from . import _blas, _pickling
from . import _pool_errors as errors
from . import _pool_wire as wire
from ._map_fresh import Snapshot
from ._map_teams import Team
from ._pool_engine import ProcessTransport, Worker
from ._pool_worker import _ProcessPort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ._map_work import Call

RAN, SEALED, ENDED, UNREAD, READY, UNFIT = range(6)

# A helper that nobody has given anything to do for so many seconds ends.
IDLE_SECONDS = float(os.environ.get("BREAKEVEN_WARM_IDLE") or 300)

# Helpers that were forked from a process of more resident memory are not kept: what the program frees, they would hold.
KEEP_BYTES = 512 << 20

# In chunks of so few items, or of items that take so many seconds, a helper says which item it is at; in others, whose
# items would take noticeably longer for it, that it is at all of them.
FEW, LONG = 16, 2e-5

# The job of the map that is just forking its helpers: (number, call, source).
_inherited: Any = None

# In a helper: how many helpers share the cores with it, itself and the caller included. 0 elsewhere.
sharing = 0


# --- in the helper --------------------------------------------------------------------------------------------------


class _Port(_ProcessPort):
    """How a helper reaches its map."""

    def take(self) -> Any:
        """The next message as (number, message); None to end."""
        self.words[self.row] = -1
        idle_since = time.monotonic()
        while True:
            if not self.lifeline.held() or time.monotonic() - idle_since > IDLE_SECONDS:
                return None
            try:
                message = self._get(True, 0.5)
            except queue.Empty:
                continue
            if message is None:
                return None
            return self._claim(self._slot), message

    def seal(self, values: Any, buffers: Any = None) -> Any:
        """A pickle of values; what pickle cannot name goes by value, if cloudpickle is there."""
        return seal(values, buffers)


def seal(values: Any, buffers: Any = None) -> bytes:
    """A pickle of values by name, or by value where pickle has no name and cloudpickle is there; raises why not."""
    try:
        return wire.dumps(values, buffers)
    except Exception:
        if errors.may_be_the_users(sys.exc_info()[1]):
            raise
        try:
            import cloudpickle
        except ImportError:
            cloudpickle = None
        if cloudpickle is not None:
            try:
                data: bytes = cloudpickle.dumps(values)
            except Exception:
                pass
            else:
                if buffers:
                    buffers.clear()
                return data
        raise


def helper_main(setup: Any) -> None:
    """What a helper process runs."""
    global sharing, _inherited
    from . import _map_threads

    _map_threads.local.__dict__.clear()
    sharing = setup.max_tasks
    _blas.limit_worker(setup.limit)
    port = _Port(setup)
    port.interrupts.install()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))  # see `ProcessTeam._start`
    port.lifeline.watch()
    if setup.initializer is not None:
        try:
            port.interrupts.in_task = True
            setup.initializer(*setup.initargs)
        except BaseException as error:
            port.interrupts.in_task = False
            port.say(UNFIT, setup.slot, port.pack(error))
            sys.exit(1)
        port.interrupts.in_task = False
    port.say(READY, setup.slot, os.getpid())
    known: Any = (None, None, 0.0)
    while True:
        taken = port.take()
        if taken is None:
            return
        known = _run(port, known, *taken)
        taken = None


# As a pool's worker: for the template.
helper_main._ends_with_parent = True  # type: ignore[attr-defined]


class _Counted:
    """An iterator that says in shared memory how many items of the message have been begun."""

    def __init__(self, port: Any, number: int, items: Any) -> None:
        self._items = items
        self._words = port.words
        self._row = port.row
        self._word = (number & 0x7FFFFFFFFF) << 24

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        self._word += 1
        self._words[self._row] = self._word
        return item

    def __length_hint__(self) -> int:
        hint: int = self._items.__length_hint__()
        return hint


def _run(port: Any, known: Any, number: int, message: Any) -> Any:
    """One message."""
    _, key, sealed, start, count, data, buffers = message
    interrupts = port.interrupts
    port.begin(number, 0)
    unread = True
    clock, used = time.perf_counter, time.thread_time
    began = clock()
    cpu = used()
    try:
        interrupts.in_task = True
        if key is None:
            _, call, source = _inherited
            items = source.batch(start, start + count)
        else:
            if known[0] != key:
                pickled, parts = port._fetch(key)
                known = (key, pickle.loads(pickled, buffers=parts), 0.0)
            call = known[1]
            items = pickle.loads(data, buffers=buffers or ()) if sealed else data
        unread = False
        began = clock()
        cpu = used()
        if count <= FEW or known[2] > LONG:
            values, caught, ended = call.run(_Counted(port, number, iter(items)))
        else:
            port.begin(number, count)
            values, caught, ended = call.run(iter(items))
        interrupts.in_task = False
    except BaseException as error:
        interrupts.in_task = False
        packed = port.pack(error, unread=unread)
        if unread:
            port.say(UNREAD, number, packed)
        else:  # an interrupt between two items
            port.say(ENDED, number, clock() - began, used() - cpu, 0, packed)
        error.__traceback__ = None
        return known
    wall, cpu = clock() - began, used() - cpu
    known = (known[0], known[1], wall / max(1, count))
    if ended is not None:
        index, raised = ended
        packed = errors.pack_error(raised, seal, skip=1, as_is=True)
        port.say(ENDED, number, wall, cpu, index, packed)
        raised.__traceback__ = None
        return known
    if not caught:
        try:
            if port._put((RAN, number, wall, cpu, values), port._results.put_plain) is not None:
                port.note_memory(time.monotonic())
                return known
        except BaseException as error:
            packed = port.pack(errors.encoding_error(error, values), trace=False)
            port.say(ENDED, number, wall, cpu, 0, packed)
            return known
    noted = []
    for index, raised in caught:
        noted.append((index, errors.pack_error(raised, seal, skip=1, as_is=True)))
        raised.__traceback__ = None
    apart: list[Any] = []
    try:
        data = port.seal(values, apart)
        port._put((SEALED, number, wall, cpu, data, apart or None, noted or None))
    except BaseException as error:
        index = _guilty(values)
        packed = port.pack(errors.encoding_error(error, values[index] if values else values), trace=False)
        port.say(ENDED, number, wall, cpu, index, packed)
    port.note_memory(time.monotonic())
    return known


def _guilty(values: Any) -> int:
    """The place of the first value that cannot be sent; 0 if it is not one alone."""
    if len(values) > 1:
        for index, value in enumerate(values):
            try:
                seal(value)
            except BaseException:
                return index
    return 0


# --- in the caller --------------------------------------------------------------------------------------------------


class _Transport(ProcessTransport):
    """Channels to and from helpers, and their starting and ending."""

    main = staticmethod(helper_main)

    def __init__(self, context: Any, slots: int, settings: Any) -> None:
        super().__init__(context, _make, slots, settings=settings, prefix="MapHelper", as_is=True)
        # One more slot for the caller.
        self.tasks.close()
        self.tasks = self._native.Channel(0, claim_slots=slots + 1)
        self.tasks.set_claim_slot(slots)
        self.put = self.tasks.put
        self.taken = self.tasks.taken


def _make(context: Any, target: Any, args: Any) -> Any:
    return context.Process(target=helper_main, args=args)


class ProcessTeam(Team):
    """Helper processes.

    Args:
        kind: "fork", to be forked from this process when they are started, or "warm".
        context: the multiprocessing context that makes them.
        slots: how many there may be at most.
    """

    def __init__(self, kind: str, context: Any, slots: int, initializer: Any = None, initargs: Any = ()) -> None:
        self.kind = kind
        self.slots = slots
        self.pid = os.getpid()
        self._transport: Any = _Transport(context, slots, (initializer, initargs, slots + 1))
        self._workers: dict[int, Worker] = {}
        self._chunks: dict[int, tuple[int, int, Any]] = {}  # message -> (start, count, items)
        self._call: Any = None
        self._source: Any = None
        self._handle: Any = None
        self._number = 0
        self._inherits = False
        self._late: list[Any] = []
        self._spare = 0
        self._ups = 0
        self._closed = False
        self.method = context.get_start_method()
        self._snapshot: Any = None  # of the program's modules, when helpers were forked
        self.keepable = initializer is None

    @property
    def outstanding(self) -> int:  # type: ignore[override]
        return len(self._chunks)

    def size(self) -> int:
        return len(self._workers)

    def awaited(self) -> bool:
        return self._ups > 0 or any(not worker.ready for worker in self._workers.values())

    def idle(self) -> int:
        return sum(worker.ready for worker in self._workers.values())

    def begin(self, kind: str, call: Call, source: Any, inherits: bool) -> None:
        """A map begins. `inherits`: helpers that are started from now on are forks, and get no items by message."""
        self._number += 1
        self._call = call
        self._source = source
        self._inherits = inherits
        self._handle = None
        self.kind = kind
        self._check_idle()
        self._spare = self.idle()  # ready, and not yet ordered by this map

    def suits(self, method: str, slots: int, function: Any) -> bool:
        """Can these helpers serve another map, of this function?"""
        if self.pid != os.getpid() or self.method != method or self.slots < slots or self._closed:
            return False
        return self._snapshot is None or self._snapshot.still_holds(function)

    def _check_idle(self) -> None:
        for worker in list(self._workers.values()):
            if self._transport.ended(worker):
                self._remove(worker)

    def start(self, count: int) -> int:
        ready = min(count, self._spare)
        self._spare -= ready
        self._ups += ready
        return ready + self._start(count - ready)

    def _start(self, count: int) -> int:
        global _inherited
        free = [slot for slot in range(self.slots) if slot not in self._workers][:count]
        started = 0
        if self.method == "fork" and free and self.keepable:
            if self._workers:
                self.keepable = False  # forks of different moments
            elif _resident() < KEEP_BYTES:
                self._snapshot = Snapshot()
            else:
                self.keepable = False
        if self._inherits:
            _inherited = (self._number, self._call, self._source)
        # Ctrl-C waits until a helper can deal with it: in the middle of its beginning it would only leave a traceback.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        try:
            for worker in self._transport.start(free):
                self._workers[worker.slot] = worker
                _hide(worker.process)
                started += 1
        except Exception as error:
            util.debug("a helper cannot be started: %r", error)
        finally:
            _inherited = None
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return started

    def send(self, start: int, items: Any, count: int) -> int:
        put = self._transport.put
        if items is None:
            number = put((self._number, None, 0, start, count, None, None))
            self._chunks[number] = (start, count, None)
            return 0
        if self._handle is None:
            self._handle = _Published(self._transport._native.publish, self._call)
        key = self._handle.key
        if type(items) is range or wire.plain(items):
            payload: Any = items
            if type(items) is list:
                payload = self._transport.sequence(items)
            number = put((self._number, key, 0, start, count, payload, None))
            nbytes = 16 * count
        else:
            buffers: list[Any] = []
            data = seal(items, buffers)
            number = put((self._number, key, 1, start, count, data, buffers or None))
            nbytes = len(data) + sum(buffer.raw().nbytes for buffer in buffers)
        self._chunks[number] = (start, count, items)
        return nbytes

    def take(self) -> tuple[Any, ...] | None:
        tasks = self._transport.tasks
        try:
            tasks.get_lazily(False)
        except queue.Empty:
            return None
        return self._chunks.pop(tasks.claim(self.slots))

    def poll(self, timeout: float) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        late, self._late = self._late, []
        found.extend([("up",)] * self._ups)
        self._ups = 0
        if late or found:
            timeout = 0
        for message in [*late, *self._transport.collect(timeout)]:
            self._digest(message, found)
        if not found and timeout > 0:
            self._bury(found)
        return found

    def look(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        self._bury(found)
        return found

    def _digest(self, message: Any, found: list[tuple[Any, ...]]) -> None:
        kind = message[0]
        if kind == RAN:
            _, number, wall, cpu, values = message
            chunk = self._chunks.pop(number, None)
            if chunk is not None:
                found.append(("ran", chunk[0], values, [], None, wall, cpu, 16 * len(values)))
        elif kind == SEALED:
            _, number, wall, cpu, data, buffers, noted = message
            chunk = self._chunks.pop(number, None)
            if chunk is None:
                return
            caught = [(index, errors.unpack_error(packed)) for index, packed in noted or ()]
            nbytes = len(data) + sum(map(len, buffers or ()))
            try:
                values = wire.loads(data, buffers or ())
            except errors.UnreadableError as error:
                found.append(("ran", chunk[0], None, [], (0, error), wall, cpu, nbytes))
                return
            found.append(("ran", chunk[0], values, caught, None, wall, cpu, nbytes))
        elif kind == ENDED:
            _, number, wall, cpu, index, packed = message
            chunk = self._chunks.pop(number, None)
            if chunk is not None:
                found.append(("ran", chunk[0], None, [], (index, errors.unpack_error(packed)), wall, cpu, 0))
        elif kind == UNREAD:
            chunk = self._chunks.pop(message[1], None)
            if chunk is not None:
                found.append(("unread", chunk[0], errors.unpack_error(message[2])))
        elif kind == READY:
            worker = self._workers.get(message[1])
            if worker is not None and not worker.ready:
                worker.ready = True
                found.append(("up",))
        elif kind == UNFIT:
            found.append(("unfit", errors.unpack_error(message[2])))
        elif kind == wire.DAMAGED:
            raise message[1]

    def _bury(self, found: list[tuple[Any, ...]]) -> None:
        transport = self._transport
        dead = [worker for worker in self._workers.values() if transport.ended(worker)]
        if not dead:
            return
        for message in transport.collect(0):  # what they had sent before comes first
            self._digest(message, found)
        for worker in dead:
            others = [other for other in self._workers.values() if other is not worker]
            lost = transport.lost(worker, [*others, _CALLER(self.slots)])
            death = transport.death(worker)
            self._remove(worker)
            if lost is not None and lost[0] in self._chunks:
                start, count, _ = self._chunks.pop(lost[0])
                if not lost[1]:
                    found.append(("unbegun", start))
                else:
                    found.append(("lost", start, min(lost[1], count), death))
            found.append(("gone", worker.ready, death))

    def _remove(self, worker: Worker) -> None:
        self._workers.pop(worker.slot, None)
        self._transport.forget(worker)
        worker.process.join()
        self._transport.tasks.clear_claim(worker.slot)

    def finish(self) -> None:
        # Kept for the next one.
        if self._chunks:
            self.abort()
            return
        self._call = self._source = self._handle = None
        give_back(self)

    def abort(self) -> None:
        # Those that are in the middle of a chunk are killed, the others kept.
        try:
            self._break_off()
        except BaseException:
            self.kill()
            raise
        if self.keepable:
            give_back(self)
        else:
            self.kill()

    def _break_off(self) -> None:
        self._call = self._source = self._handle = None
        while self.take() is not None:
            pass
        if self._chunks:
            # Those that are nearly done may live.
            deadline = time.monotonic() + 0.02
            while self._chunks and (left := deadline - time.monotonic()) > 0:
                for message in self._transport.collect(left):
                    if message[0] in (RAN, SEALED, ENDED, UNREAD):
                        self._chunks.pop(message[1], None)
                    elif message[0] == READY:
                        self._late.append(message)
        if self._chunks:
            self.kill()

    def kill(self) -> None:
        """End the helpers at once."""
        self._chunks.clear()
        if self.pid != os.getpid() or self._closed:
            return
        workers = list(self._workers.values())
        for worker in workers:
            try:
                worker.process.kill()
            except (OSError, AttributeError):
                pass
        for worker in workers:
            worker.process.join()
            self._transport.forget(worker)
        self._workers.clear()
        self.close()

    def end(self) -> None:
        """End idle helpers, and wait until they have ended."""
        if os.getpid() != self.pid:
            return
        self._transport.stop(self._workers)
        deadline = time.monotonic() + 1.0
        for worker in list(self._workers.values()):
            if not self._transport._ends_within(worker, max(0.0, deadline - time.monotonic())):
                worker.process.kill()
            worker.process.join()
            self._transport.forget(worker)
        self._workers.clear()
        self.close()

    def close(self) -> None:
        """Give the channels back."""
        self.keepable = False
        if not self._closed:
            self._closed = True
            self._transport.close()


def _resident() -> int:
    """Bytes of resident memory of this process."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _CALLER:
    """Stands for the caller where workers are compared by their claim."""

    def __init__(self, slot: int) -> None:
        self.slot = slot


class _Published:
    """The call of a map, published to helpers: each gets it once.

    By value if its function is in `__main__`, if cloudpickle is there: a helper that was not forked from here has its
    own `__main__`, and one that was forked may have been so before the function was defined.
    """

    def __init__(self, publish: Any, call: Any) -> None:
        buffers: list[Any] = []
        data = seal(call, buffers)
        if _pickling.names_main(data):
            try:
                import cloudpickle
            except ImportError:
                pass
            else:
                buffers = []
                data = cloudpickle.dumps(call, protocol=5, buffer_callback=buffers.append)
        self.blob = publish((data, buffers))
        self.key = tuple(self.blob.key)
        self.nbytes = self.blob.nbytes


def _hide(process: Any) -> None:
    """Helpers are none of the program's children: `active_children()` does not show them, and nobody joins them."""
    from multiprocessing import process as module

    module._children.discard(process)  # type: ignore[attr-defined]


# --- helpers that are kept ------------------------------------------------------------------------------------------

_kept: ProcessTeam | None = None
_lock = threading.Lock()
_exit: Any = None


def waiting(method: str, slots: int, function: Any) -> int:
    """How many helpers an earlier map has left that would run this function as this process does."""
    team = _kept
    if team is None or not team.suits(method, slots, function):
        return 0
    return team.idle()


def borrow(method: str, slots: int, function: Any) -> ProcessTeam | None:
    """The helpers that an earlier map has left, if nobody else has them and they are what is asked for.

    `ProcessTeam.finish` gives them back.
    """
    global _kept
    with _lock:
        team = _kept
        if team is None or not team.suits(method, slots, function):
            return None
        _kept = None
    return team


def give_back(team: ProcessTeam) -> None:
    """Keep helpers for later maps."""
    global _kept, _exit
    if not team.keepable or not team._workers:
        team.kill()
        return
    with _lock:
        other, _kept = _kept, team
        if _exit is None or _exit[0] != os.getpid():
            _exit = (os.getpid(), util.Finalize(None, end_all, exitpriority=15))
    if other is not None and other.pid == os.getpid():
        other.end()


def end_all() -> None:
    """End the helpers that are kept."""
    global _kept
    with _lock:
        team, _kept = _kept, None
    if team is not None:
        team.end()


def _after_fork() -> None:
    global _lock, _kept
    _lock = threading.Lock()
    _kept = None


os.register_at_fork(after_in_child=_after_fork)


def processes_of(workers: Iterable[Worker]) -> list[int]:
    """Their process ids."""
    return [worker.process.pid for worker in workers]
