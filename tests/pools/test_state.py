"""The pool's bookkeeping, without processes: events in, decisions out."""

import pytest
from breakeven._pool_state import AHEAD, PARCEL_SECONDS, Call, CallStream, IMap, Ledger, Map, Pacer, Parcel, Starts


class Sender:
    """Sends all that the ledger wants to send, as the driver does; messages are numbered from 0."""

    def __init__(self):
        self.ledger = Ledger()
        self.sent = []

    def feed(self):
        while (parcel := self.ledger.next_parcel()) is not None:
            self.ledger.sent(parcel, len(self.sent), inert=True)
            self.sent.append(parcel)

    def map(self, items, chunk=1, pacer=None, window=None, plan=None):
        job = Map(self.ledger)
        job.start(items, chunk, plan, pacer, window)
        self.ledger.add(job)
        self.feed()
        return job

    def imap(self, source, chunk=1, ordered=True, pacer=None, window=4):
        job = IMap(self.ledger, ordered)
        job.start(source, chunk, pacer or Pacer(2), window)
        self.ledger.add(job)
        self.feed()
        return job

    def answer(self, seq, start=0, stop=None, errors=None, more=0, seconds=0.0):
        parcel = self.sent[seq]
        stop = parcel.count if stop is None else stop
        chunk = parcel.job.chunk or len(parcel.items)
        values = [item * 10 for item in parcel.items[start * chunk : stop * chunk]]
        self.ledger.part(seq, start, stop, seconds, values, errors, more)


class Always:
    """A planner that always says the same."""

    def __init__(self, size):
        self.size = size

    def peek(self):
        return self.size

    next_chunk = peek

    def observe(self, items, seconds):
        pass

    def give_back(self, items):
        pass


@pytest.fixture
def sender():
    return Sender()


def nothing_recorded(count):
    raise AssertionError(f"asked for {count} outcomes")


def values(job):
    return [value for segment in job.segments for value in (segment if isinstance(segment, list) else [segment])]


def test_map_in_any_order(sender):
    job = sender.map([1, 2, 3, 4, 5], chunk=2)
    assert [parcel.items for parcel in sender.sent] == [[1, 2], [3, 4], [5]]
    for seq in (2, 0, 1):
        assert not job._done
        sender.answer(seq)
    assert job._done and job._ok and job._value == [10, 20, 30, 40, 50]
    assert sender.ledger.idle()


def test_map_by_plan(sender):
    job = sender.map(range(10), chunk=None, plan=iter([4, 4, 4]))
    assert [len(parcel.items) for parcel in sender.sent] == [4, 4, 2]
    for seq, parcel in enumerate(sender.sent):
        sender.ledger.one(seq, [x * 10 for x in parcel.items])
    assert job._value == [x * 10 for x in range(10)]


def test_map_waits_for_all_chunks_and_has_the_first_error(sender):
    job = sender.map([1, 2, 3])
    first, second = ValueError(1), ValueError(2)
    sender.answer(1, errors=[(0, first)])
    sender.answer(0, errors=[(0, second)])
    assert not job._done
    sender.answer(2)
    assert job._done and not job._ok and job._value is first


def test_a_result_counts_once(sender):
    job = sender.map([1, 2])
    sender.answer(0)
    sender.answer(0)
    assert not job._done and job.left == 1


def test_parts_of_a_parcel_count_once(sender):
    pacer = Always(4)
    job = sender.map([1, 2, 3, 4], pacer=pacer)
    sender.answer(0, 0, 2, more=1)
    sender.answer(0, 0, 2, more=1)
    assert job.left == 2
    sender.answer(0, 2, 4)
    assert job._value == [10, 20, 30, 40]


def test_what_is_given_back_goes_first(sender):
    pacer = Always(3)
    job = sender.map([1, 2, 3, 4, 5, 6], pacer=pacer, window=1)
    assert [parcel.items for parcel in sender.sent] == [[1, 2, 3]]
    sender.answer(0, 0, 1, more=2)
    sender.feed()
    assert sender.sent[1].items == [2, 3] and sender.sent[1].at == 1
    sender.answer(1)
    sender.feed()
    sender.answer(2)
    assert job._value == [10, 20, 30, 40, 50, 60]


def test_window_bounds_what_is_under_way(sender):
    sender.map(list(range(100)), pacer=Pacer(2), window=3)
    assert len(sender.sent) == 3
    sender.answer(1)
    sender.feed()
    assert len(sender.sent) == 4


def test_death_before_the_start_loses_nothing(sender):
    job = sender.map([1, 2])
    sender.ledger.lost(0, None, nothing_recorded, pytest.fail)
    sender.feed()
    assert sender.sent[2].items == [1]
    sender.answer(2)
    sender.answer(1)
    assert job._value == [10, 20]


def test_death_while_decoding_fails_all_of_it(sender):
    job = sender.map([1, 2], chunk=2)
    sender.sent[0].inert = False
    sender.ledger.lost(0, None, nothing_recorded, lambda task: RuntimeError(task))
    assert job._done and not job._ok and job._value.args == (0,)


def test_death_costs_the_running_chunk_only(sender):
    pacer = Always(5)
    job = sender.imap([1, 2, 3, 4, 5], pacer=pacer)
    sender.answer(0, 0, 1, more=1)
    # Of five chunks, the first has been sent, the second and third are in the journal, the fourth was running.
    recorded = [([20], None), (None, ValueError(3))]
    sender.ledger.lost(0, 4, lambda count: recorded[:count], lambda task: RuntimeError(task))
    sender.feed()
    assert sender.sent[1].items == [5]
    sender.answer(1)
    got = values(job)
    assert got[:2] == [10, 20] and got[2].args == (3,) and got[3].args == (3,) and got[4] == 50
    assert isinstance(got[3], RuntimeError) and job.complete()


def test_death_between_two_chunks_loses_nothing(sender):
    """The first was sent, and the second not begun."""
    pacer = Always(3)
    job = sender.imap([1, 2, 3], pacer=pacer)
    sender.answer(0, 0, 1, more=1)
    sender.ledger.lost(0, 1, nothing_recorded, pytest.fail)
    sender.feed()
    assert sender.sent[1].items == [2, 3]
    sender.answer(1)
    assert values(job) == [10, 20, 30] and job.complete()


def test_death_with_all_chunks_finished_loses_nothing(sender):
    pacer = Always(2)
    job = sender.imap([1, 2], pacer=pacer)
    sender.ledger.lost(0, 3, lambda count: [([10], None), ([20], None)][:count], pytest.fail)
    assert values(job) == [10, 20] and job.complete()


def test_death_of_a_call(sender):
    call = Call(sender.ledger)
    sender.ledger.messages[7] = call
    sender.ledger.lost(7, 1, nothing_recorded, lambda task: RuntimeError(task))
    assert call._done and call._value.args == (None,)
    sender.ledger.lost(7, 1, nothing_recorded, pytest.fail)  # its result had arrived: nothing is lost


def test_imap_in_order(sender):
    job = sender.imap([1, 2, 3])
    sender.answer(2)
    sender.answer(1, errors=[(0, ValueError(2))])
    assert not job.segments
    sender.answer(0)
    got = values(job)
    assert got[0] == 10 and got[1].args == (2,) and got[2] == 30 and job.complete()


def test_imap_unordered(sender):
    job = sender.imap([1, 2, 3], ordered=False)
    for seq in (2, 0, 1):
        sender.answer(seq)
    assert values(job) == [30, 10, 20]


def test_imap_error_within_a_parcel_of_larger_chunks(sender):
    pacer = Always(3)
    job = sender.imap([1, 2, 3, 4, 5], chunk=2, pacer=pacer)
    assert sender.sent[0].count == 3
    sender.answer(0, errors=[(1, ValueError("second chunk"))])
    got = values(job)
    assert got[:2] == [10, 20] and isinstance(got[2], ValueError) and got[3:] == [50] and job.complete()


def test_imap_does_not_run_away_from_its_consumer(sender):
    pacer = Always(1000)
    job = sender.imap(range(100_000), pacer=pacer, window=4)
    seq = 0
    while seq < len(sender.sent):
        sender.answer(seq)
        seq += 1
        sender.feed()
    assert job.arrived < 3 * AHEAD
    job.consumed = job.arrived
    sender.feed()
    assert len(sender.sent) > seq


def test_imap_input_by_and_by(sender):
    job = sender.imap(None, window=8)
    assert job.wants() == 1
    job.stock.append(1)
    sender.feed()
    job.stock.append(2)
    job.end_of_input(ValueError("the input broke"))
    sender.feed()
    assert job.wants() == 0
    sender.answer(1)
    sender.answer(0)
    got = values(job)
    assert got[:2] == [10, 20] and got[2].args == ("the input broke",) and job.complete()


def test_imap_drops_the_chunk_that_its_input_breaks_off(sender):
    job = sender.imap(None, chunk=2)
    job.stock.extend([1, 2, 3])
    sender.feed()
    assert [parcel.items for parcel in sender.sent] == [[1, 2]]
    job.end_of_input(ValueError("the input broke"))
    sender.feed()
    sender.answer(0)
    got = values(job)
    assert got[:2] == [10, 20] and isinstance(got[2], ValueError) and job.complete() and len(sender.sent) == 1


def test_empty_input(sender):
    job = sender.imap(None)
    job.end_of_input()
    assert job.complete()
    assert sender.ledger.idle()


def test_callbacks_come_before_readiness(sender):
    calls = []
    call = Call(sender.ledger, callback=calls.append)
    sender.ledger.messages[0] = call
    sender.ledger.one(0, "value")
    assert list(sender.ledger.callbacks) == [call] and not call._done and not sender.ledger.idle()
    sender.ledger.callbacks.popleft().called_back()
    assert call._done and sender.ledger.idle() and sender.ledger.awaiting_callback == 0


def test_a_callback_for_the_other_outcome_is_not_awaited(sender):
    call = Call(sender.ledger, error_callback=pytest.fail)
    sender.ledger.messages[0] = call
    sender.ledger.one(0, "value")
    assert call._done and not sender.ledger.callbacks and sender.ledger.awaiting_callback == 0


def test_giving_up_fails_everything(sender):
    error = RuntimeError("no workers")
    call = Call(sender.ledger)
    jobs = [sender.map([1, 2, 3], pacer=Pacer(1), window=1), sender.imap([1, 2])]
    sender.ledger.messages[100] = call
    sender.ledger.give_up(error)
    assert call._value is error and jobs[0]._value is error and values(jobs[1]) == [error]
    assert sender.ledger.idle() and sender.ledger.broken is error
    sender.answer(0)  # too late, and nobody minds


class Task:
    def __init__(self, handle, cancelled=False):
        self.handle, self.cancelled, self.args, self.keywords = handle, cancelled, (), {}

    limit = None

    def unwanted(self):
        return False

    def begin(self):
        return not self.cancelled


def test_stream_sends_calls_of_one_function_together(sender):
    pacer = Always(10)
    stream = CallStream(sender.ledger, pacer, window=10)
    sender.ledger.feeding.append(stream)
    first = [Task("f"), Task("f"), Task("g"), Task("g", cancelled=True), Task("g"), Task("f")]
    stream.pending.extend(first)
    sender.feed()
    assert [parcel.items for parcel in sender.sent] == [first[:2], [first[2], first[4]], first[5:]]
    sender.ledger.part(0, 0, 2, 0.0, ["a", None], [(1, KeyError())], 0)
    calls, got, errors = sender.ledger.settled.popleft()
    assert calls == first[:2] and got[0] == "a" and list(errors) == [1]
    stream.pending.append(Task("h"))
    sender.feed()
    assert len(sender.sent) == 4  # the stream goes on


def test_pacer_aims_at_a_duration():
    pacer = Pacer(2)
    assert pacer.next_chunk() == 1
    for _ in range(100):
        size = pacer.next_chunk()
        pacer.observe(size, size * PARCEL_SECONDS / 100)
    assert 50 <= pacer.peek() <= 100


def test_pacer_believes_bad_news_at_once():
    pacer = Pacer(2)
    for _ in range(100):
        size = pacer.next_chunk()
        pacer.observe(size, size * 1e-7)
    assert pacer.peek() > 1000
    pacer.observe(1, 1.0)
    assert pacer.peek() == 1


def test_pacer_gives_out_what_there_is_and_what_came_back():
    pacer = Pacer(2, total=100)
    sizes = []
    while size := pacer.next_chunk():
        sizes.append(size)
        pacer.observe(size, size * 1e-7)
    assert sum(sizes) == 100 and max(sizes) <= 50
    pacer.give_back(10)
    assert pacer.remaining() == 10 and pacer.next_chunk() > 0


def test_pacer_of_workers_that_are_replaced_gives_one_at_a_time():
    pacer = Pacer(2, largest=1)
    for _ in range(100):
        pacer.observe(pacer.next_chunk(), 1e-7)
    assert pacer.peek() == 1


def test_starts_give_up_after_three_in_a_row():
    starts = Starts()
    errors = [ValueError(i) for i in range(5)]
    assert starts.failed(errors[0]) is None and starts.failed(errors[1]) is None
    starts.ready()
    assert starts.failed(errors[2]) is None and starts.failed(errors[3]) is None
    assert starts.failed(errors[4]) is errors[4]


def test_unsendable_parcel_fails_its_chunks(sender):
    job = Map(sender.ledger)
    job.start([1, 2, 3, 4], 2, None, Pacer(1), 4)
    sender.ledger.add(job)
    parcel = sender.ledger.next_parcel()
    sender.ledger.unsendable(parcel, TypeError("no pickle"))
    sender.feed()
    sender.answer(0)
    assert job._done and isinstance(job._value, TypeError)


def test_rest_of_a_parcel_keeps_its_place(sender):
    job = Map(sender.ledger)
    job.start(list(range(10)), 3, None, None, None)
    rest = Parcel(job, 0, 4, list(range(10))).rest(2)
    assert rest.at == 6 and rest.count == 2 and rest.items == [6, 7, 8, 9]
    assert job.index_of(rest, 1) == 9
