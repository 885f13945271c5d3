"""Shared lists between processes: how proxies travel, what others see, what a death leaves."""

import os
import random

import breakeven
import pytest
from breakeven.managers import ListProxy

from tests.support import kill
from tests.support.shared import in_use, run, wait_for_blocks

np = pytest.importorskip("numpy")

LIMIT = 60


@pytest.fixture
def manager(ctx):
    with ctx.Manager() as manager:
        yield manager


def change(shared, nested):
    assert list(shared) == [1, "two"]
    shared[0] += 10
    shared.append(os.getpid())
    shared.append({"array": np.arange(100_000)})
    assert nested[0] is not nested
    nested[0].append("from the child")
    nested.append(shared)


def test_as_arguments(ctx, manager):
    shared = manager.list([1, "two"])
    nested = manager.list([manager.list()])
    run(ctx, change, shared, nested)
    assert shared[0] == 11 and shared[2] != os.getpid()
    assert (shared[3]["array"] == np.arange(100_000)).all()
    assert nested[0]._getvalue() == ["from the child"]
    nested[1].append("the same list")
    assert shared[-1] == "the same list"


def through_queue(inbox, outbox):
    shared = inbox.get(timeout=LIMIT)
    shared.append("child")
    outbox.put([shared])


def test_in_messages(ctx, manager):
    inbox, outbox = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=through_queue, args=(inbox, outbox))
    process.start()
    shared = manager.list(["parent"])
    inbox.put(shared)
    [back] = outbox.get(timeout=LIMIT)
    process.join(LIMIT)
    back.append("parent again")
    assert shared._getvalue() == ["parent", "child", "parent again"]


def through_pipe(end):
    shared = end.recv()
    shared.append("child")
    end.send(shared)


def test_over_a_pipe_of_the_standard_library(ctx, manager):
    ours, theirs = ctx.Pipe()
    process = ctx.Process(target=through_pipe, args=(theirs,))
    process.start()
    shared = manager.list()
    ours.send(shared)
    assert ours.recv()._getvalue() == ["child"]
    process.join(LIMIT)


def add(arguments):
    shared, value = arguments
    shared.append(value)
    return shared


def test_in_a_pool(ctx, manager):
    shared = manager.list()
    with ctx.Pool(2) as pool:
        results = pool.map(add, [(shared, i) for i in range(50)])
    assert sorted(shared) == list(range(50))
    assert all(isinstance(result, ListProxy) and len(result) == 50 for result in results)


def append_many(shared, number, count):
    for i in range(count):
        shared.append((number, i))


def test_concurrent_appends_lose_nothing(ctx, manager):
    shared = manager.list()
    processes = [ctx.Process(target=append_many, args=(shared, number, 2000)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT)
    got = shared._getvalue()
    assert sorted(got) == [(number, i) for number in range(4) for i in range(2000)]
    for number in range(4):
        assert [i for n, i in got if n == number] == list(range(2000))


def churn(shared, seed, rounds):
    chance = random.Random(seed)
    for _ in range(rounds):
        value = shared.pop(chance.choice([0, -1]))  # there is always one: each process takes and gives back
        shared.insert(chance.randint(0, 10), value)
        if chance.random() < 0.1:
            shared.sort()
        if chance.random() < 0.1:
            shared.reverse()
        if chance.random() < 0.1:
            shared.append("x")
            while True:
                try:
                    shared.remove("x")
                except ValueError:
                    continue  # another process has it between its pop and its insert
                break


def test_concurrent_changes_of_all_kinds(ctx):
    ctx = breakeven.get_context("fork")
    with ctx.Manager() as manager:
        start = [str(i) * 20 for i in range(20)]
        shared = manager.list(start)
        processes = [ctx.Process(target=churn, args=(shared, seed, 500)) for seed in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(LIMIT)
            assert process.exitcode == 0
        assert sorted(shared) == sorted(start)


def test_large_elements_are_everyones_own(manager):
    array = np.ones(200_000)
    shared = manager.list([array])
    array[:] = 2
    first, second = shared[0], shared[0]
    assert (first == 1).all() and first.flags.writeable
    first[:] = 3
    assert (second == 1).all() and (shared[0] == 1).all()
    taken = shared.pop()
    taken[:] = 4
    assert (taken == 4).all() and len(shared) == 0


def make_and_drop(manager):
    shared = manager.list([1, "x" * 5000, np.zeros(50_000)])
    nested = manager.list([shared, manager.list([2])])
    shared.append(nested)  # in a circle
    return nested


def test_nothing_is_left(manager):
    before = in_use()
    for _ in range(10):
        manager.list(["x" * 5000])
    assert in_use() == before
    nested = make_and_drop(manager)
    assert nested[1][0] == 2 and nested[0][0] == 1
    del nested
    manager.shutdown()
    wait_for_blocks(before)


def wait_for_word(inbox):
    inbox.get()


def test_children_do_not_inherit_what_keeps_nested_lists():
    ctx = breakeven.get_context("fork")
    manager = ctx.Manager()
    inbox = ctx.SimpleQueue()
    outer = manager.list([manager.list([i]) for i in range(5)])
    process = ctx.Process(target=wait_for_word, args=(inbox,))
    process.start()
    with_nested = in_use()
    assert outer[4][0] == 4
    manager.shutdown()
    wait_for_blocks(with_nested - 10)  # five lists of two blocks; the child still holds the outer one
    inbox.put("end")
    process.join(LIMIT)


def use_and_end(shared):
    shared[0] = np.ones(10_000)
    shared.append(shared[0])
    if shared[-1][0] == 1:
        os._exit(0)


def test_children_that_end_without_farewell_leave_nothing(ctx, manager):
    before = in_use()
    shared = manager.list([0])
    for _ in range(3):
        run(ctx, use_and_end, shared)
    assert (shared[-1] == 1).all() and len(shared) == 4
    del shared
    wait_for_blocks(before)


def hammer(shared, journal, number):
    for i in range(10**9):
        value = [number, i, "x" * (i % 3000)]
        shared.append(value)
        journal.write(number, i)
        shared[0] = (number, "y" * (i % 50))
        if i % 7 == 0:
            shared.insert(1, value)
            shared.pop(1)
        if i % 50 == 0:
            shared[1:] = [item for item in shared[1:] if item[0] != number][-50:] + [value]
            journal.write(-1, i)


@pytest.mark.kill
def test_killed_inside_operations(tmp_path, seed):
    ctx = breakeven.get_context("fork")
    before = in_use()
    with ctx.Manager() as manager:
        for round in range(8):
            shared = manager.list([None])
            journal = kill.Journal(tmp_path / f"journal{round}")
            processes = [ctx.Process(target=hammer, args=(shared, journal, n)) for n in range(3)]
            for process in processes:
                process.start()
            kill.at_random_moments(processes, seed + round, 0.4)
            for item in shared[1:]:
                number, i, text = item
                assert text == "x" * (i % 3000), "torn"
            shared.append([9, 9, "works on"])
            assert shared[-1][2] == "works on"
            del shared
            wait_for_blocks(before)


def append_numbers(shared, journal, number):
    for i in range(10**9):
        shared.append((number, i))
        journal.write(number, i)


@pytest.mark.kill
def test_what_was_appended_before_a_kill_is_there(tmp_path, seed):
    ctx = breakeven.get_context("fork")
    with ctx.Manager() as manager:
        shared = manager.list()
        journal = kill.Journal(tmp_path / "journal")
        processes = [ctx.Process(target=append_numbers, args=(shared, journal, n)) for n in range(3)]
        for process in processes:
            process.start()
        kill.at_random_moments(processes, seed, 0.5)
        got = shared._getvalue()
        for number in range(3):
            mine = [i for n, i in got if n == number]
            noted = [i for n, i in journal.read() if n == number]
            assert mine == list(range(len(mine)))
            assert len(noted) <= len(mine) <= len(noted) + 1
