"""The contract of multiprocessing's queues, kept by ours; within one process."""

import gc
import itertools
import os
import pickle
import queue as std
import select
import signal
import threading
import time
from multiprocessing.connection import wait

import breakeven
import breakeven.queues
import pytest

from tests.support import faults

KINDS = ("Queue", "JoinableQueue", "SimpleQueue")


@pytest.fixture(params=KINDS)
def any_queue(request):
    queue = getattr(breakeven, request.param)()
    yield queue
    queue.close()


@pytest.fixture(params=KINDS[:2])
def queue(request):
    queue = getattr(breakeven, request.param)()
    yield queue
    queue.close()


def test_put_returns_nothing_and_get_the_object(any_queue):
    assert any_queue.put(1) is None
    assert any_queue.get() == 1


def test_first_in_first_out(any_queue):
    for i in range(1000):
        any_queue.put(i)
    assert [any_queue.get() for _ in range(1000)] == list(range(1000))


@pytest.mark.parametrize(
    "obj",
    [
        None,
        True,
        0,
        -(2**63),
        2**200,
        1.5,
        float("inf"),
        "",
        "text",
        "ü" * 300,
        "\udc80",
        b"",
        b"x" * 300_000,
        bytearray(b"abc"),
        (),
        (1, "a", None, (2.0, b"b")),
        [],
        list(range(10_000)),
        [1.5] * 10_000,
        [1, "a", None],
        {"a": [1, {2: 3}]},
        {1, 2},
        range(0, 10**9, 7),
        ValueError("an exception"),
        1 + 2j,
        Ellipsis,
    ],
    ids=lambda obj: repr(obj)[:30],
)
def test_objects_arrive_equal(any_queue, obj):
    any_queue.put(obj)
    got = any_queue.get()
    assert type(got) is type(obj)
    assert repr(got) == repr(obj)


def test_the_receiver_holds_its_own(any_queue):
    sent = [1, [2]]
    any_queue.put(sent)
    sent[1].append(3)
    got = any_queue.get()
    assert got == [1, [2]]
    any_queue.put(got)
    got.clear()
    assert any_queue.get() == [1, [2]]


def test_unbounded_put_never_waits(any_queue):
    block = b"x" * 1_000_000
    for _ in range(100):
        any_queue.put(block)
    for _ in range(100):
        assert any_queue.get() == block


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("maxsize", [1, 3, 100])
def test_bounded(kind, maxsize):
    queue = getattr(breakeven, kind)(maxsize)
    for i in range(maxsize):
        assert not queue.full()
        queue.put(i)
    assert queue.full()
    assert queue.qsize() == maxsize
    for put in (
        lambda: queue.put("more", False),
        lambda: queue.put("more", block=False, timeout=5),
        lambda: queue.put_nowait("more"),
        lambda: queue.put("more", True, 0.01),
        lambda: queue.put("more", timeout=0),
        lambda: queue.put("more", timeout=-1),
    ):
        with pytest.raises(std.Full):
            put()
    assert queue.get() == 0
    queue.put("more")
    assert [queue.get() for _ in range(maxsize)] == [*range(1, maxsize), "more"]
    queue.close()


@pytest.mark.parametrize("maxsize", [0, -1])
def test_without_limit(maxsize):
    queue = breakeven.Queue(maxsize)
    for i in range(10_000):
        queue.put_nowait(i)
    assert not queue.full()
    assert queue.qsize() == 10_000
    queue.close()


def test_empty(queue):
    for get in (
        lambda: queue.get(False),
        lambda: queue.get(block=False, timeout=5),
        lambda: queue.get_nowait(),
        lambda: queue.get(True, 0.01),
        lambda: queue.get(timeout=0),
        lambda: queue.get(timeout=-1),
        lambda: queue.get_many(block=False),
    ):
        with pytest.raises(std.Empty):
            get()
    assert queue.empty()
    queue.put(None)
    assert not queue.empty()
    assert queue.get_nowait() is None
    assert queue.empty()


def test_timeout_is_kept(queue):
    start = time.monotonic()
    with pytest.raises(std.Empty):
        queue.get(timeout=0.2)
    assert time.monotonic() - start >= 0.19


def test_a_bad_timeout_is_a_type_error(queue):
    with pytest.raises(TypeError):
        queue.get(timeout="soon")


def test_empty_is_never_true_after_a_put(any_queue):
    for _ in range(2000):
        any_queue.put(0)
        assert not any_queue.empty()
        any_queue.get()


@pytest.mark.parametrize("kind", KINDS[:2])
def test_closed(kind):
    queue = getattr(breakeven, kind)(5)
    queue.put(1)
    with pytest.raises(AssertionError, match="not closed"):
        queue.join_thread()
    queue.close()
    queue.close()
    for use in (
        lambda: queue.put(1),
        lambda: queue.put_nowait(1),
        lambda: queue.get(),
        lambda: queue.get_nowait(),
        lambda: queue.put_many([1]),
        lambda: queue.get_many(),
        lambda: queue.statistics(),
    ):
        with pytest.raises(ValueError, match="is closed"):
            use()
    assert queue.qsize() == 1
    with pytest.raises(OSError, match="is closed"):
        queue.empty()
    queue.join_thread()
    queue.cancel_join_thread()
    assert queue._reader.closed
    assert queue._writer.closed


def test_closed_without_having_been_used():
    queue = breakeven.Queue()
    queue.close()
    assert queue.empty()


def test_simple_queue_closed():
    queue = breakeven.SimpleQueue()
    queue.close()
    queue.close()
    for use in (lambda: queue.put(1), queue.get, queue.empty):
        with pytest.raises(OSError, match="is closed"):
            use()
    assert queue._reader.closed
    assert queue._writer.closed


def test_closing_wakes_a_thread_that_waits():
    queue = breakeven.Queue()
    raised = []

    def take():
        try:
            queue.get()
        except ValueError as error:
            raised.append(str(error))

    thread = threading.Thread(target=take)
    thread.start()
    while not queue.statistics()["waits"]:
        time.sleep(0.001)
    queue.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "is closed" in raised[0]


def test_pickling_is_for_spawning_only(any_queue):
    with pytest.raises(RuntimeError, match=r"should only be shared between processes\s+through inheritance"):
        pickle.dumps(any_queue)
    other = breakeven.SimpleQueue()
    with pytest.raises(RuntimeError, match="through inheritance"):
        other.put(any_queue)
    other.close()


def test_unpicklable_raises_at_put_and_names_the_culprit(any_queue):
    with pytest.raises(Exception, match="callbacks") as caught:
        any_queue.put({"job": [faults.Unpicklable()]})
    assert "lock" in str(caught.value)
    any_queue.put("next")
    assert any_queue.get() == "next"
    assert any_queue.empty()


def test_an_error_while_pickling_is_raised_as_it_is(any_queue):
    with pytest.raises(AttributeError, match="refuses"):
        any_queue.put(faults.ErrorAtPickle())
    assert any_queue.empty()


def test_an_error_while_unpickling_loses_that_message_only(any_queue):
    any_queue.put(faults.ErrorAtUnpickle())
    any_queue.put("next")
    with pytest.raises(RuntimeError, match="refuses"):
        any_queue.get()
    assert any_queue.get() == "next"


def test_unpicklable_takes_no_place():
    queue = breakeven.Queue(1)
    for _ in range(3):
        with pytest.raises(AttributeError):
            queue.put(faults.ErrorAtPickle())
    queue.put(1)
    assert queue.qsize() == 1
    queue.close()


def test_overridden_hook_gets_what_cannot_be_pickled():
    class Collecting(breakeven.queues.Queue):
        collected = []

        def _on_queue_feeder_error(self, e, obj):
            self.collected.append((e, obj))

    queue = Collecting(2)
    bad = faults.ErrorAtPickle()
    queue.put(bad)
    queue.put(1)
    assert queue.get() == 1
    ((error, obj),) = Collecting.collected
    assert isinstance(error, AttributeError)
    assert obj is bad
    queue.close()


def test_derived_class_overrides_are_used():
    class Doubling(breakeven.queues.Queue):
        def put(self, obj, block=True, timeout=None):
            super().put(obj * 2, block, timeout)

        def get(self, block=True, timeout=None):
            return super().get(block, timeout) + 1

    queue = Doubling()
    queue.put_nowait(4)
    assert queue.get_nowait() == 9
    queue.close()


def test_put_many_and_get_many(queue):
    assert queue.put_many(range(100)) == 100
    assert queue.get_many(10) == list(range(10))
    assert queue.get_many(max_messages_to_get=5) == list(range(10, 15))  # faster-fifo's name for it
    assert queue.get_many() == list(range(15, 100))
    assert queue.put_many([]) == 0
    assert queue.put_many(iter(["a", {"b": 1}])) == 2
    assert queue.get_many(max_items=5, timeout=1) == ["a", {"b": 1}]
    with pytest.raises(std.Empty):
        queue.get_many(timeout=0.01)


def test_put_many_on_a_full_queue_says_how_far_it_got():
    queue = breakeven.Queue(3)
    with pytest.raises(std.Full) as caught:
        queue.put_many(range(5), block=False)
    assert caught.value.put == 3
    assert queue.get_many() == [0, 1, 2]
    queue.close()


def test_put_many_waits_for_room():
    queue = breakeven.Queue(3)
    got = []
    thread = threading.Thread(target=lambda: got.extend(queue.get() for _ in range(1000)))
    thread.start()
    assert queue.put_many(range(1000)) == 1000
    thread.join()
    assert got == list(range(1000))
    queue.close()


def test_statistics(queue):
    queue.put_many(range(5))
    queue.get()
    statistics = queue.statistics()
    assert statistics["puts"] == 5
    assert statistics["gets"] == 1
    assert statistics["qsize"] == 4


def test_the_reading_end_can_be_waited_for(any_queue):
    reader = any_queue._reader
    assert any_queue._reader is reader
    assert wait([reader], 0) == []
    assert not reader.poll()
    any_queue.put(1)
    any_queue.put(2)
    assert wait([reader], 10) == [reader]
    assert select.select([reader], [], [], 0)[0] == [reader]
    assert reader.poll()
    assert any_queue.get() == 1
    assert wait([reader], 10) == [reader]
    assert reader.recv() == 2
    assert wait([reader], 0) == []
    assert any_queue.empty()


def test_the_reading_end_becomes_ready_while_waited_for(any_queue):
    timer = threading.Timer(0.05, any_queue.put, ("x",))
    timer.start()
    assert wait([any_queue._reader], 30) == [any_queue._reader]
    assert any_queue.get() == "x"
    timer.join()


def test_the_writing_end(any_queue):
    any_queue._writer.send({"a": 1})
    assert any_queue.get() == {"a": 1}


def test_threads_share_a_queue():
    queue, total = breakeven.Queue(10), 20_000
    got = [[] for _ in range(3)]

    def produce(start):
        for i in range(start, total, 3):
            queue.put(i)

    def consume(mine):
        for item in iter(queue.get, None):
            mine.append(item)

    producers = [threading.Thread(target=produce, args=(i,)) for i in range(3)]
    consumers = [threading.Thread(target=consume, args=(mine,)) for mine in got]
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join()
    queue.put_many([None] * 3)
    for thread in consumers:
        thread.join()
    assert sorted(itertools.chain(*got)) == list(range(total))
    for mine in got:
        for first in range(3):  # in order, for each producer
            of_one = [i for i in mine if i % 3 == first]
            assert of_one == sorted(of_one)
    queue.close()


def test_waiting_lets_other_threads_run(queue):
    ran = threading.Event()
    timer = threading.Timer(0.02, lambda: (ran.set(), queue.put(1)))
    timer.start()
    assert queue.get(timeout=30) == 1
    assert ran.is_set()
    timer.join()


def test_signal_handlers_run_while_waiting(queue):
    class Alarm(Exception):
        pass

    def raise_alarm(*_):
        raise Alarm

    old = signal.signal(signal.SIGALRM, raise_alarm)
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            queue.get(timeout=60)
        full = breakeven.Queue(1)
        full.put(1)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            full.put(2, timeout=60)
        assert full.get() == 1
        assert full.empty()
        full.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, old)


def test_interrupt_while_waiting(queue):
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        queue.get(timeout=60)
    timer.join()
    queue.put(1)
    assert queue.get() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_dropping_a_queue_frees_its_messages(kind):
    from breakeven import _native

    def fill():
        queue = getattr(breakeven, kind)()
        assert not queue._reader.poll()
        for _ in range(10):
            queue.put(b"x" * 1_000_000)
        assert _native.arena_statistics()["in_use"] >= before + 10_000_000

    before = _native.arena_statistics()["in_use"]
    gc.collect()
    gc.disable()  # a queue is not to wait for the garbage collector
    try:
        fill()
    finally:
        gc.enable()
    assert _native.arena_statistics()["in_use"] <= before


def test_generic_alias():
    assert breakeven.queues.Queue[int].__origin__ is breakeven.queues.Queue
    assert breakeven.queues.SimpleQueue[int].__origin__ is breakeven.queues.SimpleQueue


class TestJoinable:
    def test_join_waits_for_task_done(self):
        queue = breakeven.JoinableQueue()
        queue.join()
        for i in range(3):
            queue.put(i)
        done = threading.Event()
        thread = threading.Thread(target=lambda: (queue.join(), done.set()))
        thread.start()
        for i in range(3):
            assert not done.wait(0.02)
            assert queue.get() == i
            queue.task_done()
        thread.join(10)
        assert done.is_set()
        queue.close()

    def test_too_many(self):
        queue = breakeven.JoinableQueue()
        with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
            queue.task_done()
        queue.put_many([1, 2])
        queue.get_many()
        queue.task_done()
        queue.task_done()
        with pytest.raises(ValueError, match="too many times"):
            queue.task_done()
        queue.close()

    def test_what_was_not_put_is_not_waited_for(self):
        queue = breakeven.JoinableQueue(1)
        with pytest.raises(AttributeError):
            queue.put(faults.ErrorAtPickle())
        queue.join()
        queue.put(1)
        with pytest.raises(std.Full):
            queue.put(2, False)
        with pytest.raises(std.Full):
            queue.put_many([2, 3], False)
        queue.get()
        queue.task_done()
        queue.join()
        queue.close()
