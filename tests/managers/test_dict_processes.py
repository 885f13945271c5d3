"""Shared dicts, namespaces, values and arrays between processes: what others see, what a death leaves."""

import datetime
import enum
import os

import breakeven
import pytest

from tests.support import kill
from tests.support.shared import in_use, run, wait_for_blocks

np = pytest.importorskip("numpy")

LIMIT = 60


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.fixture
def manager(ctx):
    with ctx.Manager() as manager:
        yield manager


def change(shared, space, value, numbers):
    assert shared["text", 1] == "from the parent"
    shared["child"] = {"array": np.arange(100_000)}
    shared["inner"]["deep"].append(shared)
    space.x += 1
    value.value *= 2
    numbers[0] = 9


def test_as_arguments(ctx, manager):
    shared = manager.dict({("text", 1): "from the parent"}, inner=manager.dict(deep=manager.list()))
    space, value, numbers = manager.Namespace(x=1), manager.Value("d", 1.5), manager.Array("i", [1, 2])
    run(ctx, change, shared, space, value, numbers)
    assert (shared["child"]["array"] == np.arange(100_000)).all()
    shared["inner"]["deep"][0]["the same"] = True
    assert shared["the same"] is True
    assert (space.x, value.value, numbers[:].tolist()) == (2, 3.0, [9, 2])


def through_queue(inbox, outbox):
    things = inbox.get(timeout=LIMIT)
    change(*things)
    outbox.put(things[:1])


def test_in_messages(ctx, manager):
    inbox, outbox = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=through_queue, args=(inbox, outbox))
    process.start()
    shared = manager.dict({("text", 1): "from the parent"}, inner=manager.dict(deep=manager.list()))
    space, value, numbers = manager.Namespace(x=0), manager.Value("i", 4), manager.Array("d", [0])
    inbox.put((shared, space, value, numbers))
    [back] = outbox.get(timeout=LIMIT)
    process.join(LIMIT)
    back["parent"] = 1
    assert shared["parent"] == 1 and value.value == 8


KEYS = [Colour.RED, Colour.BLUE, datetime.date(2024, 1, 1), (Colour.RED, "x"), frozenset("abc")]


def count_keys(shared, others):
    assert hash("breakeven") != others, "an interpreter of its own"
    for key in KEYS:
        shared[key] += 1
        shared.setdefault(key, "is there")
        shared.update({key: shared[key]})
    shared.pop(Colour.BLUE)
    shared[Colour.BLUE] = "again"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_keys_whose_hashes_differ_between_interpreters(method, monkeypatch):
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    ctx = breakeven.get_context(method)
    with ctx.Manager() as manager:
        shared = manager.dict(dict.fromkeys(KEYS, 0))
        for _ in range(2):
            run(ctx, count_keys, shared, hash("breakeven"))
            assert shared.pop(Colour.BLUE) == "again"
            shared[Colour.BLUE] = shared[Colour.RED]
        assert shared.copy() == dict.fromkeys(KEYS, 2) and len(shared) == len(KEYS)


def add_keys(shared, number, count):
    for n in range(count):
        shared[number, n] = n
        shared["last"] = number
        if n % 3 == 0:
            del shared[number, n]


def test_concurrent_changes_lose_nothing(ctx, manager):
    shared = manager.dict()
    processes = [ctx.Process(target=add_keys, args=(shared, n, 500)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT)
        assert process.exitcode == 0
    assert shared.pop("last") in range(3)
    assert shared.copy() == {(number, n): n for number in range(3) for n in range(500) if n % 3}


def hammer(shared, journal, number):
    for i in range(10**9):
        shared[number] = (i, "x" * (i % 3000))
        journal.write(number, i)
        shared[number, i % 20] = "y" * (i % 200)
        shared.update({(number, "a"): i, (number, "b"): i, f"{number}-{i % 30}": i})
        shared.pop((number, i % 7), None)
        if i % 40 == 0:
            shared[Colour.RED] = i


@pytest.mark.kill
def test_killed_inside_operations(tmp_path, seed):
    ctx = breakeven.get_context("fork")
    before = in_use()
    with ctx.Manager() as manager:
        for round in range(6):
            shared = manager.dict()
            journal = kill.Journal(tmp_path / f"journal{round}")
            processes = [ctx.Process(target=hammer, args=(shared, journal, n)) for n in range(3)]
            for process in processes:
                process.start()
            kill.at_random_moments(processes, seed + round, 0.4)
            found = shared.copy()
            assert len(found) == len(shared) and found.keys() == set(shared.keys())
            for number in range(3):
                noted = [i for n, i in journal.read() if n == number]
                i, text = found.get(number, (-1, None))  # killed before it had stored anything
                assert text == ("x" * (i % 3000) if i >= 0 else None), "torn"
                assert i in (len(noted) - 1, len(noted)), "what was acknowledged is there"
                assert found.get((number, "a")) == found.get((number, "b")), "all of an update or nothing"
            shared["works on"] = 1
            assert shared["works on"] == 1
            del shared
        wait_for_blocks(before)


def fill_up(shared):
    stored = 0
    try:
        while True:
            shared[stored] = bytes(1 << 20)
            stored += 1
    except breakeven.MemoryLimitError:
        assert len(shared) == stored
    del shared[0]
    shared[0] = "room again"


def test_a_full_memory_is_an_error_and_leaves_it_as_it_was(python):
    program = (
        "import breakeven\nfrom tests.managers.test_dict_processes import fill_up\n"
        "breakeven.configure(memory_limit=64 << 20)\n"
        "shared = breakeven.Manager().dict()\nfill_up(shared)\nprint(shared[0])"
    )
    done = python("-c", program)
    assert done.out == "room again\n", done.err


def wait_in_dict(ready):
    with breakeven.Manager() as manager:
        shared = manager.dict()
        shared["x"] = 0
        ready.set()
        while True:
            shared["x"] += 1


def test_ctrl_c_ends_work_on_a_dict():
    import signal

    ctx = breakeven.get_context("fork")
    ready = ctx.Event()
    process = ctx.Process(target=wait_in_dict, args=(ready,))
    process.start()
    assert ready.wait(LIMIT)
    os.kill(process.pid, signal.SIGINT)
    process.join(LIMIT)
    assert process.exitcode == 1
