"""SIGKILL at random moments: no hang, no message of a living process lost or doubled, all memory accounted for."""

import collections
import gc
import os
import queue as std
import random
import time

import breakeven
import pytest
from breakeven import _native

from tests.support import kill

pytestmark = pytest.mark.kill

LIMIT = 60
PAYLOADS = {
    "inline": lambda i: None,
    "block": lambda i: b"x" * (100_000 + i % 1000),
    "pickled": lambda i: {"payload": [i] * 50, "text": str(i) * 20},
}


def check(i, payload, kind):
    expected = PAYLOADS[kind](i)
    if payload != expected:
        raise AssertionError(f"message {i} arrived torn")


def produce(queue, journal, number, count, kind):
    for i in range(count):
        queue.put((number, i, PAYLOADS[kind](i)))
        journal.write(number, i)


def consume(queue, journal, kind):
    while True:
        message = queue.get()
        if message is None:
            return
        number, i, payload = message
        check(i, payload, kind)
        journal.write(number, i)


def in_use():
    _native.reap()
    return _native.arena_statistics()["in_use"]


def wait_for_memory(before):
    deadline = time.monotonic() + 10
    gc.collect()
    while (now := in_use()) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert now <= before, f"{now - before} bytes of the arena are not accounted for: {_native.arena_statistics()}"


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize("maxsize", [0, 4])
def test_killed_producers_and_consumers(method, kind, maxsize, seed, tmp_path):
    chance = random.Random(f"{seed} {method} {kind} {maxsize}")
    ctx = breakeven.get_context(method)
    before = in_use()
    rounds = 6 if method == "fork" else 2
    for round_ in range(rounds):
        queue = ctx.Queue(maxsize)
        here = tmp_path / str(round_)
        here.mkdir()
        sent = [kill.Journal(here / f"sent{n}") for n in range(4)]
        received = [kill.Journal(here / f"received{n}") for n in range(4)]
        count = 400
        # producers 0 and 1 live, 2 and 3 are killed; so are consumers 2 and 3
        producers = [
            ctx.Process(target=produce, args=(queue, sent[n], n, count if n < 2 else 10**9, kind)) for n in range(4)
        ]
        consumers = [ctx.Process(target=consume, args=(queue, received[n], kind)) for n in range(4)]
        for process in producers + consumers:
            process.start()
        kill.at_random_moments(producers[2:] + consumers[2:], chance.random(), within=0.3 if method == "fork" else 0.8)
        for process in producers[:2]:
            process.join(LIMIT)
            assert process.exitcode == 0, "a living producer hangs"
        for _ in consumers[:2]:
            queue.put(None, timeout=LIMIT)
        for process in consumers[:2]:
            process.join(LIMIT)
            assert process.exitcode == 0, "a living consumer hangs, or got a torn message"
        with pytest.raises(std.Empty):
            queue.get(False)

        got = collections.Counter(pair for journal in received for pair in journal.read())
        assert [pair for pair, times in got.items() if times > 1] == [], "doubled"
        lost = []
        for n in range(4):
            # What was put: all of a living producer's; of a killed one's what it noted, and at most one more.
            noted = [i for _, i in sent[n].read()]
            assert noted == list(range(len(noted)))
            arrived = {i for m, i in got if m == n}
            lost += [(n, i) for i in noted if i not in arrived]
            assert arrived <= set(range(len(noted) + 1))
        # A consumer that is killed takes along what it had in its hands: one message each.
        assert len(lost) <= 2, f"lost: {lost}"
        queue.close()
    wait_for_memory(before)


def put_for_ever(queue, kind):
    for i in range(10**9):
        queue.put((0, i, PAYLOADS[kind](i)))


def get_for_ever(queue):
    while True:
        queue.get()


@pytest.mark.parametrize("kind", PAYLOADS)
def test_many_kills_at_one_queue(kind, seed):
    """One queue outlives a hundred processes killed inside it."""
    chance = random.Random(f"{seed} {kind}")
    ctx = breakeven.get_context("fork")
    before = in_use()
    queue = ctx.Queue(3)
    for _ in range(25):
        processes = [ctx.Process(target=put_for_ever, args=(queue, kind)) for _ in range(2)]
        processes += [ctx.Process(target=get_for_ever, args=(queue,)) for _ in range(2)]
        for process in processes:
            process.start()
        kill.at_random_moments(processes, chance.random(), within=0.02)
        # what is left is whole, and there is room for the next
        while True:
            try:
                _, i, payload = queue.get(False)
            except std.Empty:
                break
            check(i, payload, kind)
        queue.put((0, 0, PAYLOADS[kind](0)), timeout=LIMIT)
        assert queue.get(timeout=LIMIT) == (0, 0, PAYLOADS[kind](0))
        assert queue.qsize() == 0
    queue.close()
    wait_for_memory(before)


def hold_views(queue, ready):
    held = []
    for _ in range(3):
        held.append(queue.get())
    ready.put(os.getpid())
    time.sleep(LIMIT)


def test_memory_of_a_killed_receiver_comes_back(ctx):
    numpy = pytest.importorskip("numpy")
    before = in_use()
    queue, ready = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=hold_views, args=(queue, ready))
    process.start()
    for _ in range(3):
        queue.put(numpy.zeros(1_000_000))
    ready.get(timeout=LIMIT)
    process.kill()
    process.join()
    queue.close()
    ready.close()
    wait_for_memory(before)
