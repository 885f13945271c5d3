"""What a pool has been asked for, what is on its way to workers, and what came back: bookkeeping without I/O.

Nothing here reads a clock, starts a process or touches a channel. The driver (`_pool_engine`) asks the `Ledger` what to
send, tells it what was sent, hands it what arrived and who died; everything that follows from that is decided here, and
can therefore be tested with plain calls.

Words:

- A *job* is one call of the API: one `apply_async`, one `map`, one `imap`.
- A *chunk* is the unit that the user sees: an exception ends its chunk and no other (`chunksize`).
- A *parcel* is what travels in one message: one chunk, or several when they are small. Messages have sequence numbers
  (`seq`), given by the channel; `Ledger.messages` says what each outstanding one stands for.
"""

from __future__ import annotations

import itertools
from collections import deque
from itertools import repeat

from ._native import ChunkPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Call", "CallStream", "HeldCall", "HeldCalls", "IMap", "Ledger", "Map", "Pacer", "Parcel", "Starts"]

# What a parcel costs beside its chunks, over both processes.
DISPATCH_SECONDS = 20e-6

# How long a parcel of several chunks should take: long enough that its dispatch is about one per cent, short enough
# that nobody notices results that come back together.
PARCEL_SECONDS = 0.002
LARGEST_PARCEL = 1 << 16

# Results that imap may hold for a consumer who is slower than the workers.
AHEAD = 4096

_job_numbers = itertools.count()


class Parcel:
    """Consecutive chunks of one job that travel in one message."""

    __slots__ = ("at", "count", "done", "inert", "interrupted", "items", "job")

    def __init__(self, job, at, count, items):
        self.job = job
        self.at = at  # index of the first item within the job
        self.count = count  # chunks
        self.items = items  # kept until the results are in: what was not started can be sent again
        self.done = 0  # chunks whose results have arrived; workers send them in order
        self.inert = False  # decoding the message runs no user code, so a death before the first chunk harmed none
        self.interrupted = False  # encoding it was broken off once by KeyboardInterrupt

    def rest(self, start):
        """The chunks from `start` on as a parcel of their own."""
        skip = start * self.job.chunk
        return Parcel(self.job, self.at + skip, self.count - start, self.items[skip:])

    def item_index(self, chunk):
        """Index within the job of the first item of a chunk of this parcel; None where items have no index."""
        return self.job.index_of(self, chunk)


class Call:
    """One function call, and what all jobs have in common: an outcome that is settled once."""

    __slots__ = (
        "__weakref__",
        "_callback",
        "_done",
        "_error_callback",
        "_ledger",
        "_ok",
        "_pool",
        "_value",
        "handle",
        "number",
    )

    def __init__(self, ledger, callback=None, error_callback=None):
        self._ledger = ledger
        self._callback = callback
        self._error_callback = error_callback
        if callback is not None or error_callback is not None:
            ledger.awaiting_callback += 1
        self._done = False
        self._ok = True
        self._value: Any = None
        self._pool: Any = None
        self.handle = None  # keeps the published function alive
        self.number = None

    def succeed(self, value):
        """The call's result has arrived."""
        self._value = value
        self.settle()

    def fail(self, error):
        """The call has failed."""
        self._ok = False
        self._value = error
        self.settle()

    def settle(self):
        """The outcome is known: ready at once, or as soon as the callback has run."""
        self.handle = None
        if (self._callback if self._ok else self._error_callback) is not None:
            self._ledger.callbacks.append(self)
        elif self._callback is None and self._error_callback is None:
            self._done = True
            self._pool = None
        else:
            self.called_back()

    def called_back(self):
        """The callback has run, or the outcome is not the one that it was for."""
        self._ledger.awaiting_callback -= 1
        self._callback = self._error_callback = None
        self._done = True
        self._pool = None


class Map(Call):
    """Many calls whose results make one list; ready when all chunks are back, failed with the first error to arrive."""

    __slots__ = ("chunk", "in_flight", "left", "pacer", "plan", "returned", "source", "upto", "window")

    def __init__(self, ledger, callback=None, error_callback=None):
        Call.__init__(self, ledger, callback, error_callback)
        self.prepare()

    def prepare(self):
        """Until `start`: a job without items."""
        self.source: Any = ()
        self.returned = deque()
        self.chunk: Any = None
        self.plan: Any = None
        self.pacer: Any = None
        self.window: int | None = None
        self.upto = self.left = self.in_flight = 0

    def start(self, source, chunk, plan, pacer, window):
        """
        Args:
            source: a sequence of the items.
            chunk: items of a chunk; None if the chunks are ours to choose.
            plan: iterator of chunk sizes, used when `chunk` is None.
            pacer: decides how many chunks travel together; None sends each alone.
            window: how many parcels may be on their way at a time; None means all.
        """
        self.source = source
        self.chunk = chunk
        self.plan = plan
        self.pacer = pacer
        self.window = window
        self.left = len(source)
        self._value = [None] * len(source)

    def index_of(self, parcel, chunk):
        return parcel.at + chunk * (self.chunk or 0)

    def limit_of(self, parcel, chunk):
        """How many seconds this chunk may run; None if there is no limit."""
        return None

    def more(self):
        """Is there anything that has not been sent?"""
        return bool(self.returned) or self.upto < len(self.source)

    def room(self):
        """May another parcel be sent now?"""
        return self.window is None or self.in_flight < self.window

    def take(self):
        """The next parcel to send, or None."""
        if self.returned:
            return self.returned.popleft()
        at = self.upto
        if at >= len(self.source):
            return None
        chunk = self.chunk
        if chunk is None:
            size = next(self.plan)
            count = 1
        else:
            count = 1 if self.pacer is None else self.pacer.next_chunk()
            size = count * chunk
        items = self.source[at : at + size]
        self.upto = at + len(items)
        if chunk is not None and len(items) < size:
            count = -(-len(items) // chunk)
        return Parcel(self, at, count, items)

    def give_back(self, parcel):
        """These chunks were not run: they go first next time."""
        self.returned.appendleft(parcel)
        if self.pacer is not None:
            self.pacer.give_back(parcel.count)

    def deliver(self, parcel, start, stop, values, errors):
        """Results of the chunks `start` to `stop` of a parcel.

        Args:
            values: their results in one flat list, with anything at the places of a chunk that failed.
            errors: pairs of (chunk within the parcel, exception), or None.
        """
        chunk = self.chunk
        if chunk is None:
            at, size = parcel.at, len(parcel.items)
        else:
            at = parcel.at + start * chunk
            size = min((stop - start) * chunk, len(parcel.items) - start * chunk)
        if errors and self._ok:
            self._ok = False
            self._value = errors[0][1]
        elif self._ok:
            self._value[at : at + size] = values
        self.left -= size
        if self.left <= 0:
            self.source = ()
            self.returned.clear()
            self.settle()


class IMap:
    """Many calls whose results are taken one after another, in order or as they come.

    What arrives is kept in `segments`: lists of values and single exceptions. The consumer takes segments from the left
    without a lock; everything else is under the driver's.
    """

    def __init__(self, ledger, ordered):
        self._ledger = ledger
        self.ordered = ordered
        self.segments = deque()
        self.waiting = {}  # ordered only: item index -> (items, segments) that came before their turn
        self.turn = 0  # ordered only: index of the item that comes next
        self.arrived = 0  # items whose outcome is in `segments` or was there
        self.consumed = 0
        self.length: Any = None  # items altogether, once the input has ended
        self.handle = None
        self._pool = None
        self.upto = 0
        self.in_flight = 0
        self.returned = deque()
        self.source: Any = ()
        self.stock: Any = None
        self.number: int | None = None
        self.unbounded = False

    def start(self, source, chunk, pacer, window):
        """As `Map.start`; `source` None means that the items come by and by, into `stock`, until `end_of_input`."""
        self.chunk = chunk
        self.pacer = pacer
        self.window = window
        if source is None:
            # Filled by the input's thread without a lock, item by item: what is there can be sent even while the input
            # blocks over the next.
            self.stock = deque()
        else:
            self.source = source
            self.length = len(source)

    # --- input ---

    def wants(self):
        """How many more items the input should give now (where they come by and by)."""
        if self.length is not None or not self.has_room_ahead():
            return 0
        target = self.chunk * (self.pacer.peek() if self.pacer else 1)
        # Two parcels in stock keep the workers busy while the input produces the next.
        return target if len(self.stock) < 2 * target else 0

    def given(self):
        """How many items the input has given so far."""
        return self.upto + len(self.stock)

    def end_of_input(self, error=None):
        """No more items will come; `error` is what the input raised at its end."""
        if error is not None:
            # The chunk that the input broke off is not run.
            for _ in range(self.given() % self.chunk):
                self.stock.pop()
        self.length = self.given()
        if error is not None:
            self.length += 1
            self._arrive(self.length - 1, 1, [error])
        self.check_end()

    def index_of(self, parcel, chunk):
        return parcel.at + chunk * self.chunk

    def more(self):
        if self.returned:
            return True
        if self.stock is None:
            return self.upto < self.length
        return len(self.stock) >= (self.chunk if self.length is None else 1)

    def has_room_ahead(self):
        return self.unbounded or self.upto - self.consumed < max(AHEAD, 4 * (self.window or 1) * self.chunk)

    def room(self):
        return self.in_flight < self.window and (bool(self.returned) or self.has_room_ahead())

    def take(self):
        if self.returned:
            return self.returned.popleft()
        at = self.upto
        chunk = self.chunk
        if not self.more():
            return None
        size = chunk * (self.pacer.next_chunk() if self.pacer else 1)
        if self.stock is None:
            items = self.source[at : at + size]
        else:
            size = min(size, len(self.stock))
            if self.length is None:
                size -= size % chunk
            items = list(map(deque.popleft, repeat(self.stock, size)))
        self.upto = at + len(items)
        return Parcel(self, at, -(-len(items) // chunk), items)

    def give_back(self, parcel):
        self.returned.appendleft(parcel)
        if self.pacer is not None:
            self.pacer.give_back(parcel.count)

    # --- output ---

    def deliver(self, parcel, start, stop, values, errors):
        chunk = self.chunk
        at = parcel.at + start * chunk
        size = min((stop - start) * chunk, len(parcel.items) - start * chunk)
        if not errors:
            segments = [values]
        else:
            segments = []
            begin = 0
            for index, error in errors:
                end = (index - start) * chunk
                if end > begin:
                    segments.append(values[begin:end])
                segments.append(error)
                begin = end + chunk
            if begin < size:
                segments.append(values[begin:size])
        self._arrive(at, size, segments)
        self.check_end()

    def _arrive(self, at, size, segments):
        if not self.ordered:
            self.segments.extend(segments)
            self.arrived += size
            return
        if at != self.turn:
            self.waiting[at] = (size, segments)
            return
        while True:
            self.segments.extend(segments)
            self.arrived += size
            self.turn = at = self.turn + size
            early = self.waiting.pop(at, None)
            if early is None:
                return
            size, segments = early

    def check_end(self):
        if self.complete():
            self._ledger.jobs.pop(self.number, None)
            self.source = ()
            if self.stock:
                self.stock.clear()
            self.handle = None
            self._pool = None

    def complete(self):
        """All outcomes have arrived (they may not have been consumed)."""
        return self.length is not None and self.arrived >= self.length

    limit = None  # seconds that a chunk may take

    def limit_of(self, parcel, chunk):
        return self.limit

    def cut(self, error):
        """What is in no worker's hands is not run; its consumer gets this error instead."""
        if self.complete():
            return
        returned, self.returned = self.returned, deque()
        for parcel in returned:
            self._arrive(parcel.at, len(parcel.items), [error])
        if self.length is None or self.upto < self.length:
            self.source = ()
            self.stock = None
            self.length = self.upto + 1
            self._arrive(self.upto, 1, [error])
            self.upto += 1
        self.check_end()

    def cancel(self):
        """What has not been sent is not run; the results of the rest are of no interest."""
        with_sent = self.upto
        if self.complete():
            return
        self.source = ()
        self.stock = None
        self.length = with_sent - sum(len(parcel.items) for parcel in self.returned)
        self.returned.clear()
        self.ordered = False
        self.arrived += sum(size for size, _ in self.waiting.values())
        self.waiting.clear()
        self.check_end()

    def fail(self, error):
        """The whole job ends here: what has not arrived will not, and the consumer gets this error next."""
        if self.complete():
            return
        self.waiting.clear()
        self.returned.clear()
        self.source = ()
        self.stock = None
        self.segments.append(error)
        self.arrived = self.length = self.upto
        self.check_end()


class CallStream:
    """The calls of an executor: an endless job whose items are calls waiting for a worker.

    Each item is an object with `handle`, `args`, `keywords`, `limit` (seconds or None), and the methods `begin()`
    (False if it was cancelled), `unwanted()` (was it cancelled since?) and `describe()`.
    """

    handle = None  # each call has its own
    number = None  # it is never complete, so the ledger does not count it among the jobs

    def __init__(self, ledger, pacer, window):
        self._ledger = ledger
        self.pacer = pacer
        self.window = window
        self.chunk = 1
        self.in_flight = 0
        self.returned = deque()
        self.pending = deque()

    def index_of(self, parcel, chunk):
        return parcel.items[chunk].describe()

    def limit_of(self, parcel, chunk):
        """How many seconds this chunk may run; None if there is no limit."""
        call = parcel.items[chunk]
        return 0.0 if call.unwanted() else call.limit

    def more(self):
        return bool(self.returned) or bool(self.pending)

    def room(self):
        return self.in_flight < self.window

    def take(self):
        while self.returned:
            parcel = self.returned.popleft()
            items = [call for call in parcel.items if not call.unwanted()]
            if len(items) == len(parcel.items):
                return parcel
            if items:
                return Parcel(self, 0, len(items), items)
        pending = self.pending
        items = []
        handle = None
        wanted = self.pacer.next_chunk() if pending else 0
        while pending and len(items) < wanted:
            # Calls travel together as long as they call the same function.
            if handle is not None and pending[0].handle is not handle:
                break
            call = pending.popleft()
            if call.begin():
                handle = call.handle
                items.append(call)
        return Parcel(self, 0, len(items), items) if items else None

    def give_back(self, parcel):
        self.returned.appendleft(parcel)

    def deliver(self, parcel, start, stop, values, errors):
        # Not told to the calls here: their futures run callbacks, which must not happen under the driver's lock.
        self._ledger.settled.append((parcel.items[start:stop], values, {i - start: e for i, e in errors or ()}))

    def fail(self, error):
        """All calls that have not been sent fail with this."""
        returned = [call for parcel in self.returned for call in parcel.items]
        self.returned.clear()
        calls = returned + [call for call in self.withdraw() if call.begin()]
        if calls:
            self._ledger.settled.append((calls, (), dict.fromkeys(range(len(calls)), error)))

    def withdraw(self):
        """Take back all calls that are in no worker's hands, and return them."""
        calls = []
        while self.returned:
            calls.extend(self.returned.popleft().items)
        calls.extend(self.pending)
        self.pending.clear()
        return calls


class HeldCall:
    """A call of a pool that waits for company; see `HeldCalls`."""

    __slots__ = ("args", "handle", "job")

    keywords = None

    limit = None

    def __init__(self, job, handle, args):
        self.job = job
        self.handle = handle
        self.args = args

    def unwanted(self):
        return False

    def describe(self):
        return None


class HeldCalls(CallStream):
    """Single calls of a pool that travel together, because there are more of them than workers can take one by one."""

    def deliver(self, parcel, start, stop, values, errors):
        failed = dict(errors) if errors else ()
        for index in range(start, stop):
            job = parcel.items[index].job
            if index in failed:
                job.fail(failed[index])
            else:
                job.succeed(values[index - start])

    def fail(self, error):
        while self.returned:
            for call in self.returned.popleft().items:
                call.job.fail(error)


def Pacer(workers, total=None, largest=LARGEST_PARCEL):
    """The planner that decides how many chunks travel together, from what they have been measured to cost.

    Args:
        workers: how many compete for them.
        total: how many chunks there are; None if that is not known.
        largest: no parcel has more.
    """
    return ChunkPolicy(total, workers, dispatch_seconds=DISPATCH_SECONDS, max_seconds=PARCEL_SECONDS, max_items=largest)


class Starts:
    """Whether workers come up at all: three in a row that did not, and the pool gives up."""

    LIMIT = 3

    def __init__(self):
        self.failures = 0
        self.error = None

    def ready(self):
        """A worker has come up."""
        self.failures = 0

    def failed(self, error, limit=LIMIT):
        """A worker has not; returns the error to give up with (after `limit` in a row), or None."""
        self.failures += 1
        self.error = error
        return error if self.failures >= limit else None


class Ledger:
    """The open jobs of a pool, and the messages that are on their way."""

    def __init__(self):
        self.messages = {}  # seq -> Call or Parcel
        self.jobs = {}  # number -> Map, IMap or CallStream that is not complete
        self.feeding = deque()  # jobs that may have something to send
        self.settled = deque()  # of a stream: (calls, their values, {index: error}) that have not been told
        # Time limits of messages whose outcome has arrived: what they have left behind may still keep a worker busy.
        self.leftover = {}
        self.callbacks = deque()  # settled jobs whose callback has not run
        self.awaiting_callback = 0  # jobs with callbacks that have not run
        self.broken = None  # the error that ended this pool
        self.tasks = 0  # calls whose outcome has arrived and has not been counted yet, see `newly_done`

    def newly_done(self):
        """How many calls have had their outcome since this was last asked."""
        tasks, self.tasks = self.tasks, 0
        return tasks

    def idle(self):
        """Nothing is on its way and nothing is waiting to be."""
        return not (self.messages or self.jobs or self.callbacks or self.settled or self.unsent())

    def add(self, job):
        """A new job with something to send."""
        job.number = next(_job_numbers)
        self.jobs[job.number] = job
        self.feeding.append(job)

    def next_parcel(self):
        """The parcel to send next, or None when every job has enough on its way (or nothing left)."""
        feeding = self.feeding
        for _ in range(len(feeding)):
            job = feeding[0]
            if job.more() and job.room():
                parcel = job.take()
                if parcel is not None:
                    return parcel
            if job.number is not None and job.number not in self.jobs:
                feeding.popleft()
            else:
                feeding.rotate(-1)
        return None

    def unsent(self):
        """Is anything waiting that no message carries yet?"""
        return any(job.more() for job in self.feeding)

    def sent(self, parcel, seq, inert):
        """A parcel has become a message. `inert`: decoding it runs no user code."""
        parcel.inert = inert
        parcel.job.in_flight += 1
        self.messages[seq] = parcel

    def unsendable(self, parcel, error):
        """A parcel could not be encoded: its chunks fail."""
        failed = [(index, error) for index in range(parcel.done, parcel.count)]
        self._deliver(parcel, parcel.done, parcel.count, self._blank(parcel), failed)

    # --- what arrives ---

    def one(self, seq, value):
        """The result of a single call, or the list of results of a single chunk."""
        entry = self.messages.pop(seq, None)
        if entry is None:
            return  # of a job that was given up
        if type(entry) is Parcel:
            entry.job.in_flight -= 1
            self._deliver(entry, 0, 1, value, None)
        else:
            self.tasks += 1
            entry.succeed(value)

    def failed(self, seq, error):
        """All of a message that has not been delivered has failed with this."""
        entry = self.messages.pop(seq, None)
        if entry is None:
            return
        if isinstance(entry, Parcel):
            entry.job.in_flight -= 1
            self.unsendable(entry, error)
        else:
            self.tasks += 1
            entry.fail(error)

    def part(self, seq, start, stop, seconds, values, errors, more):
        """Results of some chunks of a parcel.

        Args:
            more: 0 if these are the last, 1 if the worker goes on, 2 if it gives the rest back unstarted.
        """
        parcel = self.messages.get(seq)
        if parcel is None:
            return  # of a job that was given up
        job = parcel.job
        if start < parcel.done:
            # The first of them have been read from the journal, which is done for chunks of one item only.
            values = values[parcel.done - start :]
            errors = [(index, error) for index, error in errors or () if index >= parcel.done]
            start = parcel.done
        if job.pacer is not None and stop > start:
            job.pacer.observe(stop - start, seconds)
        parcel.done = stop
        if more != 1:
            del self.messages[seq]
            limit = job.limit_of(parcel, max(stop, 1) - 1)
            if limit is not None:
                self.leftover[seq] = limit
            job.in_flight -= 1
            if more == 2 and stop < parcel.count:
                job.give_back(parcel.rest(stop))
        if stop > start:
            self._deliver(parcel, start, stop, values, errors)

    def take_back(self, seq, kept):
        """The chunks of a message from `kept` on will not be started by the worker that has it: they are sent again."""
        parcel = self.messages[seq]
        rest = parcel.rest(kept)
        parcel.count = kept
        parcel.job.give_back(rest)

    def waits_unsent(self, parcel, started):
        """Has a worker that has started so many chunks of this finished some whose results it has not sent?"""
        return parcel.job.chunk == 1 and parcel.done < started - 1

    def read_ahead(self, parcel, started, outcomes):
        """The results that a worker has not sent, from its journal (see `lost`). It will send them all the same."""
        self._deliver_outcomes(parcel, started - 1, outcomes)
        parcel.done = started - 1

    def lost(self, seq, started, outcomes, error_for):
        """The worker that had taken this message has died.

        Exactly once: the chunk that was running fails; those before it have left their outcomes behind; those after it
        are sent again.

        Args:
            seq: the message.
            started: how many chunks of it the worker had started; None if it had not begun the message.
            outcomes: called with a number of chunks, gives (values, error) of each of the first that the worker had
                finished but not sent; one of the two is None.
            error_for: called with the item index of the chunk that fails.
        """
        entry = self.messages.pop(seq, None)
        if entry is None:
            return
        if not isinstance(entry, Parcel):
            entry.fail(error_for(None))
            return
        parcel = entry
        job = parcel.job
        job.in_flight -= 1
        if started is None and not parcel.inert:
            # Decoding its arguments has killed the worker: that is its work, too.
            failed = [(index, error_for(parcel.item_index(index))) for index in range(parcel.done, parcel.count)]
            self._deliver(parcel, parcel.done, parcel.count, self._blank(parcel), failed)
            return
        running = max((started or 0) - 1, parcel.done)
        self._deliver_outcomes(parcel, running, outcomes)
        after = running
        # Between two chunks, all that were started having been sent, none was running.
        if started is not None and parcel.done < started and running < parcel.count:
            self._deliver(
                parcel, running, running + 1, self._blank(parcel), [(running, error_for(parcel.item_index(running)))]
            )
            after = running + 1
        if after < parcel.count:
            job.give_back(parcel.rest(after))

    def _deliver_outcomes(self, parcel, stop, outcomes):
        if parcel.done < stop:
            for index, (values, error) in enumerate(outcomes(stop - parcel.done), parcel.done):
                if error is None:
                    self._deliver(parcel, index, index + 1, values, None)
                else:
                    self._deliver(parcel, index, index + 1, self._blank(parcel), [(index, error)])

    def give_up(self, error):
        """No job can be finished any more: all of them fail with this."""
        self.broken = error
        messages, self.messages = self.messages, {}
        for entry in messages.values():
            if not isinstance(entry, Parcel):
                entry.fail(error)
            elif isinstance(entry.job, HeldCalls):
                for call in entry.items[entry.done :]:
                    call.job.fail(error)
            elif isinstance(entry.job, CallStream):
                calls = entry.items[entry.done :]
                self.settled.append((calls, (), dict.fromkeys(range(len(calls)), error)))
        for job in list(self.jobs.values()):
            if isinstance(job, Map):
                job.left = 0
                job.source = ()
                job.returned.clear()
                job.fail(error)
            else:
                job.fail(error)
        self.jobs.clear()
        streams = [job for job in self.feeding if isinstance(job, CallStream)]
        for stream in streams:
            stream.fail(error)
        self.feeding = deque(streams)

    def _deliver(self, parcel, start, stop, values, errors):
        job = parcel.job
        chunk = job.chunk or len(parcel.items)  # without a size of its own, a parcel is one chunk
        self.tasks += min(stop * chunk, len(parcel.items)) - start * chunk
        job.deliver(parcel, start, stop, values, errors)
        if isinstance(job, Map) and job.left <= 0:
            self.jobs.pop(job.number, None)

    @staticmethod
    def _blank(parcel):
        return [None] * len(parcel.items)
