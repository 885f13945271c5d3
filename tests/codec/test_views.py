"""Received buffers: one copy in, a view out, freed when the last view dies, in whatever order things go."""

import gc
import os
import queue
import random

import numpy as np
import pytest
from breakeven import _native
from breakeven._native import Channel, arena_statistics, counters, fetch, publish

MB = 1 << 20


def in_use():
    gc.collect()
    return arena_statistics()["in_use"]


def test_a_message_is_copied_once_and_viewed():
    channel = Channel()
    array = np.zeros(MB)
    before = counters()
    channel.put(array)
    received = channel.get()
    after = counters()
    assert after["bytes_copied"] - before["bytes_copied"] == array.nbytes
    assert after["bytes_viewed"] - before["bytes_viewed"] == array.nbytes
    base = received
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    assert isinstance(base, _native.BlockView)
    assert len(base) == array.nbytes


def test_memory_comes_back_when_the_last_view_dies():
    channel = Channel()
    start = in_use()
    channel.put([np.zeros(MB), np.zeros(MB)])
    held = in_use() - start
    assert held >= 16 * MB
    first, second = channel.get()
    assert in_use() - start == held
    part = first[10:20]
    del first
    assert in_use() - start == held  # a part of it still looks into the block
    del second
    assert 8 * MB <= in_use() - start < held
    del part
    assert in_use() == start


def test_memory_comes_back_in_any_order(seed):
    channel = Channel()
    start = in_use()
    rng = random.Random(seed)
    held = []
    for _ in range(300):
        if held and rng.random() < 0.5:
            number, array = held.pop(rng.randrange(len(held)))
            assert (array == number).all()
        else:
            number = rng.random()
            channel.put(np.full(rng.randrange(1, 50_000), number))
            held.append((number, channel.get()))
    held.clear()
    del array
    assert in_use() == start


def test_a_view_outlives_its_channel():
    channel = Channel()
    channel.put(np.arange(100_000.0))
    array = channel.get()
    channel.close()
    del channel
    gc.collect()
    other = Channel()
    for _ in range(10):
        other.put(np.zeros(100_000))
        other.get()
    assert (array == np.arange(100_000.0)).all()


def test_messages_that_nobody_takes_are_freed_with_the_channel():
    start = in_use()
    channel = Channel()
    for _ in range(5):
        channel.put(np.zeros(MB))
    assert in_use() - start >= 40 * MB
    channel.close()
    assert in_use() == start
    channel = Channel()
    channel.put(np.zeros(MB))
    del channel
    assert in_use() == start


def test_errors_leave_no_memory_behind():
    class Refuses:
        def __init__(self):
            self.array = np.zeros(MB)

        def __setstate__(self, state):
            raise ValueError("no")

    channel = Channel()
    start = in_use()
    channel.put(Refuses())
    with pytest.raises(ValueError, match="no"):
        channel.get()
    assert in_use() == start
    full = Channel(maxsize=1)
    full.put(1)
    start = in_use()
    with pytest.raises(queue.Full):
        full.put(np.zeros(MB), timeout=0.01)
    assert in_use() == start


def test_a_full_channel_takes_no_memory_for_what_waits():
    channel = Channel(maxsize=1)
    channel.put(1)
    peak = arena_statistics()["committed"]
    with pytest.raises(queue.Full):
        channel.put(np.zeros(64 * MB), block=False)
    assert arena_statistics()["committed"] == peak


def test_blocks_are_recycled():
    channel = Channel()
    channel.put(np.zeros(4 * MB))
    channel.get()
    fresh = counters()["fresh_blocks"]
    for _ in range(20):
        channel.put(np.zeros(4 * MB))
        channel.get()
    assert counters()["fresh_blocks"] == fresh


def test_views_and_forks():
    """After a fork, what parent and child received before is each one's own; the memory is freed when both are done."""
    channel = Channel()
    start = in_use()
    channel.put(np.zeros(MB))
    array = channel.get()
    to_parent_r, to_parent_w = os.pipe()
    to_child_r, to_child_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            array[0] = 7
            os.write(to_parent_w, b"1")
            os.read(to_child_r, 1)  # the parent has written and dropped its own by now
            os._exit(0 if array[0] == 7 and array[1] == 0 and array.sum() == 7 else 1)
        finally:
            os._exit(2)
    os.read(to_parent_r, 1)
    assert array[0] == 0
    array[1] = 5
    assert array.sum() == 5
    del array
    gc.collect()
    channel.put(np.full(MB, 9.0))  # would land in the same block, were it free
    other = channel.get()
    os.write(to_child_w, b"1")
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (to_parent_r, to_parent_w, to_child_r, to_child_w):
        os.close(fd)
    del other
    _native.reap()
    assert in_use() == start


class TestBlobs:
    def test_a_published_object_is_fetched_afresh(self):
        obj = {"a": [1, 2], "array": np.arange(100_000.0)}
        blob = publish(obj)
        assert blob.nbytes >= obj["array"].nbytes
        key = blob.key
        assert Channel().put(key) == 0  # small and plain
        first, second = fetch(key), fetch(key)
        assert first is not second and first["a"] == [1, 2]
        first["array"][:] = 1
        first["a"].append(3)
        assert (second["array"] == obj["array"]).all()
        assert (fetch(key)["array"] == obj["array"]).all()

    @pytest.mark.parametrize("obj", [5, "text", list(range(100_000)), "x" * 100_000, {1, 2}, lambda x: x])
    def test_any_object(self, obj):
        blob = publish(obj)
        result = fetch(blob.key)
        assert result(3) == 3 if callable(obj) else result == obj

    def test_a_blob_that_is_gone(self):
        start = in_use()
        blob = publish(np.zeros(MB))
        key = blob.key
        array = fetch(key)
        del blob
        gc.collect()
        array[:] = 3  # still there: this view keeps it
        assert fetch(key).sum() == 0
        del array
        gc.collect()
        with pytest.raises(_native.StaleBlob):
            fetch(key)
        with pytest.raises(LookupError):
            fetch((1, 2, 3))
        assert in_use() == start

    def test_an_object_that_cannot_be_pickled(self):
        import threading

        with pytest.raises(TypeError, match=r"obj\[0\]: cannot pickle"):
            publish([threading.Lock()])


def test_the_memory_limit():
    """In a process of its own: the limit is a property of the tree's arena."""
    import subprocess
    import sys

    program = """
import os, threading, time
import numpy as np
import breakeven
from breakeven import _native
from breakeven._native import Channel
MB = 1 << 20
c = Channel()
held = []
try:
    for i in range(1000):
        c.put(np.zeros(MB))
except MemoryError as error:
    assert type(error) is _native.MemoryLimitError, type(error)
    assert "BREAKEVEN_MEMORY_LIMIT" in str(error), str(error)
else:
    raise SystemExit("no limit")
assert 3 <= c.qsize() <= 8, c.qsize()
n = c.qsize()
for _ in range(n): c.get()
c.put(np.zeros(MB))  # works again
c.get()
# a bounded channel waits for its readers
b = Channel(maxsize=100)
def read():
    for _ in range(30):
        time.sleep(0.01)
        b.get()
t = threading.Thread(target=read); t.start()
for _ in range(30): b.put(np.zeros(MB))
t.join()
assert _native.arena_statistics()["peak"] <= 64 * MB
# too large for ever
try: b.put(np.zeros(20 * MB))
except MemoryError: pass
else: raise SystemExit("no limit")
_native.configure(memory_limit=256 * MB)
b.put(np.zeros(20 * MB))
print("fine")
"""
    environment = {**os.environ, "BREAKEVEN_MEMORY_LIMIT": "64M"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "fine\n", done.stderr
