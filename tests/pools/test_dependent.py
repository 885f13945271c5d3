"""Short tasks travel together. One that is not short, and waits for one behind it in its message, still ends: what is
behind it is given to a worker that has nothing to do."""

from __future__ import annotations

import time
from pathlib import Path

import breakeven
import pytest

PAIRS = 1
LIMIT = 60


def step(work):
    """Nothing; or wait for a file; or make it."""
    if work is not None:
        role, path = work
        if role == "wait":
            deadline = time.monotonic() + LIMIT
            while not Path(path).exists():
                if time.monotonic() > deadline:
                    return "nobody made it"
                time.sleep(0.005)
        else:
            with open(path, "a") as file:
                file.write("once\n")
    return work


@pytest.fixture
def works(tmp_path):
    """So many tasks without work that they travel together when two come of which one waits for the other."""
    pairs = [[("wait", str(tmp_path / str(i))), ("make", str(tmp_path / str(i)))] for i in range(PAIRS)]
    idle = [None] * 3000
    return [*idle, *(work for pair in pairs for work in [*pair, *[None] * 50])]


def check(results, works, tmp_path):
    assert results == works
    # Taken back is not done twice.
    assert [(tmp_path / str(i)).read_text() for i in range(PAIRS)] == ["once\n"] * PAIRS


def test_executor_submit(works, tmp_path):
    with breakeven.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(step, work) for work in works]
        check([future.result(LIMIT) for future in futures], works, tmp_path)


def test_imap(works, tmp_path):
    with breakeven.Pool(2) as pool:
        check(list(pool.imap(step, works)), works, tmp_path)


def test_imap_unordered(works, tmp_path):
    with breakeven.Pool(2) as pool:
        results = list(pool.imap_unordered(step, works))
        key = lambda work: (work is not None, work)
        check(sorted(results, key=key), sorted(works, key=key), tmp_path)


def test_apply_async(works, tmp_path):
    with breakeven.Pool(2) as pool:
        handles = [pool.apply_async(step, (work,)) for work in works]
        check([handle.get(LIMIT) for handle in handles], works, tmp_path)


def test_map_with_chunks_of_one(works, tmp_path):
    with breakeven.Pool(2) as pool:
        check(pool.map(step, works, chunksize=1), works, tmp_path)


def number(work):
    """As `step`, with results that are all of one kind, which the worker writes down in another way."""
    step(work)
    return 7


def test_results_that_are_numbers(works, tmp_path):
    with breakeven.Pool(2) as pool:
        assert list(pool.imap(number, works)) == [7] * len(works)
    check(works, works, tmp_path)


def test_a_long_task_does_not_hold_up_the_others_of_its_message(tmp_path):
    """The others are done while it still runs, though all of them were sent as one message."""
    path = str(tmp_path / "end")
    with breakeven.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(step, None) for _ in range(3000)]
        long = executor.submit(step, ("wait", path))
        futures += [executor.submit(step, None) for _ in range(3000)]
        assert [future.result(LIMIT) for future in futures] == [None] * 6000
        assert not long.done()
        executor.submit(step, ("make", path))
        assert long.result(LIMIT) == ("wait", path)
