"""The channel as Python sees it: order, bounds, deadlines, batches, closing, signals, and other processes."""

import itertools
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from breakeven import _native
from breakeven._native import Channel

from tests.codec import things


def test_sequence_numbers_and_order():
    channel = Channel()
    assert [channel.put(x) for x in "abc"] == [0, 1, 2]
    assert (channel.qsize(), channel.empty(), channel.full(), channel.maxsize) == (3, False, False, 0)
    assert channel.taken() == 0
    assert [channel.get() for _ in range(3)] == ["a", "b", "c"]
    assert channel.taken() == 3
    with pytest.raises(queue.Empty):
        channel.get(block=False)
    with pytest.raises(queue.Empty):
        channel.get(timeout=0.01)
    with pytest.raises(queue.Empty):
        channel.get(timeout=-1)


def test_a_bounded_channel():
    channel = Channel(2)
    channel.put(1)
    channel.put({2})
    assert channel.full() and channel.maxsize == 2
    for obj in (3, "three", {3}, np.zeros(100_000)):
        with pytest.raises(queue.Full):
            channel.put(obj, block=False)
        with pytest.raises(queue.Full):
            channel.put(obj, timeout=0.01)
    assert channel.get() == 1
    channel.put(3)
    assert [channel.get(), channel.get()] == [{2}, 3]
    assert Channel(-1).maxsize == Channel(0).maxsize == 0


def test_arguments():
    channel = Channel()
    channel.put(1, True, None)
    assert channel.get(True, None) == 1
    channel.put(obj=1, block=True, timeout=5)
    assert channel.get(block=True, timeout=5) == 1
    for wrong in ("1", [], float("nan")):
        with pytest.raises((TypeError, ValueError)):
            channel.get(timeout=wrong)
    channel.put(1)
    assert channel.get(timeout=1e300) == 1
    with pytest.raises((TypeError, OverflowError)):
        Channel("5")


def test_an_unbounded_channel_never_blocks():
    channel = Channel()
    for i in range(200_000):
        channel.put(i, block=False)
    for _ in range(300):
        channel.put(bytes(100_000), block=False)
    assert channel.qsize() == 200_300
    assert all(channel.get() == i for i in range(200_000))
    channel.close()


def test_a_get_waits_for_a_put_and_a_put_for_a_get():
    channel = Channel(1)
    result = []
    reader = threading.Thread(target=lambda: result.extend(channel.get(timeout=20) for _ in range(50)))
    reader.start()
    for i in range(50):
        channel.put(i, timeout=20)
    reader.join()
    assert result == list(range(50))


class TestBatches:
    @pytest.mark.parametrize("make", [list, tuple, iter, lambda items: (x for x in items)])
    def test_put_many(self, make):
        channel = Channel()
        items = [1, "two", 3.0, {4}, b"5" * 100_000, None, [6], np.arange(5)] * 100
        assert channel.put_many(make(items)) == 800
        received = channel.get_many()
        assert len(received) == 800
        assert received[:7] == items[:7]
        assert received[-8:-1] == items[-8:-1]

    def test_long_batches(self):
        channel = Channel()
        assert channel.put_many(range(100_000)) == 100_000
        assert channel.get_many(10) == list(range(10))
        assert channel.get_many() == list(range(10, 100_000))
        assert channel.put_many([]) == 0
        assert channel.get_many(0) == []

    def test_empty(self):
        channel = Channel()
        with pytest.raises(queue.Empty):
            channel.get_many(block=False)
        with pytest.raises(queue.Empty):
            channel.get_many(5, timeout=0.01)

    def test_full(self):
        channel = Channel(5)
        with pytest.raises(queue.Full) as caught:
            channel.put_many(range(10), block=False)
        assert caught.value.put == 5
        assert channel.get_many() == list(range(5))
        with pytest.raises(queue.Full) as caught:
            channel.put_many([{i} for i in range(10)], timeout=0.01)
        assert caught.value.put == 5

    def test_a_bounded_channel_is_filled_as_it_is_read(self):
        channel = Channel(7)
        thread = threading.Thread(target=channel.put_many, args=(range(1000),))
        thread.start()
        received = []
        while len(received) < 1000:
            received += channel.get_many(timeout=20)
        thread.join()
        assert received == list(range(1000))

    def test_an_item_that_cannot_be_pickled(self):
        channel = Channel()
        with pytest.raises(TypeError) as caught:
            channel.put_many([1, 2, things.Lock(), 4])
        assert caught.value.put == 2
        assert channel.get_many() == [1, 2]

    def test_an_iterator_that_fails(self):
        channel = Channel()

        def items():
            yield 1
            raise KeyError("mine")

        with pytest.raises(KeyError) as caught:
            channel.put_many(items())
        assert caught.value.put == 1
        assert channel.get() == 1
        with pytest.raises(TypeError):
            channel.put_many(5)

    def test_an_item_that_cannot_be_unpickled(self):
        channel = Channel()
        channel.put_many([1, things.RaisesInSetstate(), 3])
        with pytest.raises(RuntimeError) as caught:
            channel.get_many()
        assert caught.value.received == [1, 3]


class TestErrorHook:
    def test_an_object_that_cannot_be_encoded_goes_to_the_hook(self):
        channel = Channel()
        calls = []
        channel.set_error_hook(lambda error, obj: calls.append((error, obj)))
        lock = things.Lock()
        assert channel.send(1) is None
        assert channel.send(lock) is None
        assert channel.put_many([2, lock, [3]]) == 2
        assert channel.get_many() == [1, 2, [3]]
        assert [obj for _, obj in calls] == [lock, lock]
        assert all(type(error) is TypeError for error, _ in calls)
        own = AttributeError("own")
        channel.send(things.RaisesInReduce(own))
        assert type(calls[2][0]) is AttributeError
        with pytest.raises(TypeError):
            channel.put(lock)
        channel.set_error_hook(None)
        with pytest.raises(TypeError):
            channel.send(lock)

    def test_what_is_not_the_objects_fault_is_raised(self):
        channel = Channel(1)
        channel.set_error_hook(lambda error, obj: pytest.fail("called"))
        with pytest.raises(KeyboardInterrupt):
            channel.send(things.RaisesInReduce(KeyboardInterrupt()))
        channel.send(1)
        for obj in (2, {2}, np.zeros(100_000)):
            with pytest.raises(queue.Full):
                channel.send(obj, False)
        assert channel.puts() == 1
        channel.close()
        with pytest.raises(ValueError, match="is closed"):
            channel.send({1})

    def test_an_error_in_the_hook(self):
        channel = Channel()

        def hook(error, obj):
            raise KeyError("mine") from error

        channel.set_error_hook(hook)
        with pytest.raises(KeyError, match="mine"):
            channel.send(things.Lock())

    def test_a_hook_that_refers_back_is_collected(self):
        import gc
        import weakref

        class Owner:
            def __init__(self):
                self.channel = Channel()
                self.channel.set_error_hook(self.hook)

            def hook(self, error, obj):
                pass

        owner = Owner()
        refs = weakref.ref(owner), weakref.ref(owner.channel)
        del owner
        gc.collect()
        assert [ref() for ref in refs] == [None, None]


class TestBytes:
    @pytest.mark.parametrize("size", [0, 1, 1024, 1025, 1_000_000])
    def test_bytes(self, size):
        channel = Channel()
        for data in (b"x" * size, bytearray(b"x" * size), memoryview(b"x" * size)):
            channel.put_bytes(data)
            assert channel.get_bytes() == b"x" * size
            channel.put_bytes(data)
            assert channel.get() == b"x" * size

    def test_others(self):
        channel = Channel()
        with pytest.raises(TypeError):
            channel.put_bytes("text")
        with pytest.raises(BufferError):
            channel.put_bytes(memoryview(b"abcd")[::2])
        channel.put("text")
        with pytest.raises(TypeError):
            channel.get_bytes()


class TestClose:
    def test_after_close(self):
        channel = Channel()
        channel.put(1)
        assert not channel.closed
        channel.close()
        channel.close()
        assert channel.closed and "closed" in repr(channel)
        for use in (
            lambda: channel.put(1),
            lambda: channel.put({1}),
            channel.get,
            channel.qsize,
            channel.empty,
            channel.full,
            channel.fileno,
            channel.handle,
            channel.get_many,
            channel.statistics,
            lambda: channel.put_many([1]),
            lambda: channel.put_bytes(b""),
        ):
            with pytest.raises(ValueError, match="is closed"):
                use()

    @pytest.mark.parametrize(
        "waiter", [lambda c: c.get(), lambda c: c.get_many(), lambda c: c.put(1), lambda c: c.put({1})]
    )
    def test_who_waits_is_told(self, waiter):
        channel = Channel(1)
        if waiter.__code__.co_names[0] == "put":
            channel.put(0)
        caught = []

        def wait():
            try:
                waiter(channel)
            except ValueError as error:
                caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while channel.statistics()["waits"] == 0:
            time.sleep(0.001)
        channel.close()
        thread.join(20)
        assert not thread.is_alive() and len(caught) == 1


def test_claims():
    channel = Channel(claim_slots=2)
    channel.put_many("abcd")
    assert channel.claim(0) is None
    channel.set_claim_slot(1)
    channel.get()
    channel.get()
    assert channel.claim(1) == 1 and channel.claim(0) is None
    channel.clear_claim(1)
    assert channel.claim(1) is None
    with pytest.raises(ValueError):
        channel.set_claim_slot(2)


def test_statistics():
    channel = Channel(3)
    channel.put(1)
    channel.put(2)
    channel.get()
    figures = channel.statistics()
    assert {k: figures[k] for k in ("puts", "gets", "qsize", "maxsize", "rings")} == {
        "puts": 2, "gets": 1, "qsize": 1, "maxsize": 3, "rings": 1,
    }  # fmt: skip


def test_the_descriptor_is_readable_while_there_are_messages():
    channel = Channel()
    channel.put(0)
    fd = channel.fileno()
    assert channel.fileno() == fd
    readable = lambda: bool(select.select([fd], [], [], 0)[0])
    assert readable()
    channel.put(1)
    channel.get()
    assert readable()
    channel.get()
    assert not readable()
    channel.put_many([1, 2])
    assert readable()
    channel.get_many()
    assert not readable()


def test_counters():
    before = _native.counters()
    channel = Channel()
    channel.put(1)
    _native.count("tasks", 5)
    after = _native.counters()
    assert after["messages"] - before["messages"] == 1
    assert after["tasks"] - before["tasks"] == 5
    with pytest.raises(KeyError):
        _native.count("unknown")
    assert _native.build_info()["version"] == _native.__version__


def test_a_signal_ends_a_wait():
    """Each wait of the main thread, in a process of its own: the handler's exception comes out, soon."""
    program = """
import queue, signal, sys, threading, time, os
from breakeven._native import Channel
class Stop(Exception): pass
def handler(*_): raise Stop
signal.signal(signal.SIGALRM, handler)
empty, full = Channel(), Channel(1)
full.put(1)
for wait in (
    empty.get, empty.get_many, empty.get_bytes,
    lambda: full.put(2), lambda: full.put({2}), lambda: full.put_many([2]), lambda: full.put_many(range(2000)),
):
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    started = time.monotonic()
    try: wait()
    except Stop: pass
    else: raise SystemExit("no exception")
    print(time.monotonic() - started < 10)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n" * 7, done.stderr


def test_a_signal_ends_a_long_put_many():
    program = """
import signal
from breakeven._native import Channel
class Stop(Exception): pass
def handler(*_): raise Stop
signal.signal(signal.SIGALRM, handler)
channel = Channel()
signal.setitimer(signal.ITIMER_REAL, 0.05)
try: channel.put_many(range(10**12))
except Stop as stop: print(stop.put == channel.qsize() > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True\n", done.stderr


def test_other_threads_run_while_one_waits():
    channel = Channel()
    thread = threading.Thread(target=channel.get)
    thread.start()
    while channel.statistics()["waits"] == 0:  # runs at all only if the waiter has let go of the interpreter
        time.sleep(0.001)
    channel.put(1)
    thread.join()


def test_concurrent_producers_and_consumers():
    channel = Channel(50)
    received = [[] for _ in range(3)]

    def consume(mine):
        while (item := channel.get(timeout=20)) is not None:
            mine.append(item)

    consumers = [threading.Thread(target=consume, args=(mine,)) for mine in received]
    producers = [threading.Thread(target=lambda n=n: [channel.put((n, i)) for i in range(2000)]) for n in range(3)]
    for thread in consumers + producers:
        thread.start()
    for thread in producers:
        thread.join()
    for _ in consumers:
        channel.put(None)
    for thread in consumers:
        thread.join()
    for mine in received:
        for n in range(3):
            numbers = [i for producer, i in mine if producer == n]
            assert numbers == sorted(numbers)
    assert sorted(itertools.chain(*received)) == [(n, i) for n in range(3) for i in range(2000)]


OBJECTS = [1, "text", (1, 2.5), list(range(1000)), {1, 2}, b"x" * 100_000, {"a": [None]}]


def test_a_forked_child():
    request, reply = Channel(), Channel()
    pid = os.fork()
    if pid == 0:
        try:
            while (obj := request.get(timeout=20)) is not None:
                if isinstance(obj, np.ndarray):
                    obj *= 2
                reply.put(obj)
            os._exit(0)
        finally:
            os._exit(1)
    for obj in OBJECTS:
        request.put(obj)
        assert reply.get(timeout=20) == obj
    for size in (10, 10_000, 1_000_000):
        array = np.arange(float(size))
        request.put(array)
        assert (reply.get(timeout=20) == array * 2).all()
    request.put(None)
    assert os.waitpid(pid, 0)[1] == 0
    _native.reap()


def test_an_unrelated_process():
    """As spawn does it: the descriptors are handed down, nothing is inherited in memory."""
    request, reply = Channel(), Channel(2)
    handles = [request.handle(), reply.handle()]
    fds = [fd for arena, _, event in handles for fd in (arena, event)]
    program = """
import os, sys
import numpy as np
from breakeven._native import Channel, arena_statistics
request, reply = [Channel.attach(os.dup(a), n, e) for a, n, e in eval(sys.argv[1])]
assert reply.maxsize == 2
while (obj := request.get(timeout=20)) is not None:
    reply.put(obj)
own = Channel()
own.put(1)
assert arena_statistics()["arenas"] == 1
"""
    child = subprocess.Popen([sys.executable, "-c", program, repr(handles)], pass_fds=fds)
    for obj in OBJECTS:
        request.put(obj)
        assert reply.get(timeout=20) == obj
    array = np.arange(300_000.0)
    request.put(array)
    received = reply.get(timeout=20)
    assert (received == array).all()
    received[:] = 0
    request.put(None)
    assert child.wait(20) == 0
    _native.reap()


def test_attach_refuses_what_is_no_arena():
    read, write = os.pipe()
    os.close(write)
    with pytest.raises((ValueError, OSError)):
        Channel.attach(read, 1, -1)  # takes the descriptor, also when it fails
    with pytest.raises(ValueError):
        Channel.attach(-1, 1, -1)


@pytest.mark.kill
def test_a_receiver_killed_with_arrays_leaves_no_memory(seed):
    start = _native.arena_statistics()["in_use"]
    for _ in range(5):
        channel = Channel()
        ready, done = os.pipe()
        pid = os.fork()
        if pid == 0:
            held = []
            os.write(done, b"1")
            while True:
                held.append(channel.get())
                if len(held) == 20:
                    os.write(done, b"2")
        os.read(ready, 1)
        for i in range(30):
            channel.put(np.full(20_000, i))
        os.read(ready, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(done)
        rest = []
        while True:
            try:
                rest.append(int(channel.get(timeout=0.2)[0]))
            except queue.Empty:
                break
        assert rest == sorted(rest) and all(20 <= i < 30 for i in rest)
        channel.close()
        _native.reap()
    assert _native.arena_statistics()["in_use"] == start


def test_chunk_policy():
    assert sum(_native.static_chunks(1000, 3)) == 1000
    assert max(_native.static_chunks(1000, 3, at_most=7)) <= 7
    policy = _native.ChunkPolicy(100, 2, max_seconds=0.1)
    given = 0
    while chunk := policy.next_chunk():
        given += chunk
        policy.observe(chunk, 0.001 * chunk)
        policy.observe_bytes(chunk, 100)
    assert given == 100 and policy.remaining() == 0
    assert _native.ChunkPolicy(None, 2).remaining() is None
    with pytest.raises(ValueError):
        _native.ChunkPolicy(1, 0)
    with pytest.raises(ValueError):
        _native.ChunkPolicy(1, 1, max_seconds=-1.0)
