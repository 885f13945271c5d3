"""The binding of the planner: commands and events as docs/design/map.md has them. crates/plan tests what it decides."""

import _thread
import threading
import time

import breakeven
import pytest
from breakeven._native import Charges, Planner


def commands(planner, cost, helpers=True):
    """Drive a planner with items of `cost` seconds on an imagined clock; returns the commands."""
    now, given, queue = 0.0, [], []
    while True:
        command = planner.next(now)
        given.append(command)
        assert len(given) < 100_000
        what, *rest = command
        if what == "here":
            now += rest[0] * cost
            planner.ran_here(rest[0], rest[0] * cost, rest[0] * cost)
        elif what == "start":
            for _ in range(rest[1]):
                if helpers:
                    planner.helper_up(rest[0], now)
                else:
                    planner.helper_gone(rest[0])
        elif what == "send":
            queue.append(rest)
            planner.sent(*rest, 100, 1e-5)
        elif what == "take":
            planner.took_back(*(queue.pop(0) if queue else (rest[0], 0)))
        elif what == "wait":
            kind, items = queue.pop(0)
            now += items * cost
            planner.ran(kind, items, items * cost, items * cost, 100, 1e-6)
        elif what == "done":
            return given


def test_no_items_are_done_at_once():
    assert commands(Planner(0), 1.0) == [("done",)]


def test_the_serial_loop_is_batches_that_add_up():
    given = commands(Planner(10_000, kinds=()), 1e-6)
    assert {command[0] for command in given} == {"here", "done"}
    assert sum(command[1] for command in given[:-1]) == 10_000
    assert given[0] == ("here", 1)


def test_helpers_are_started_where_they_pay_and_not_where_they_do_not():
    assert ("start", "warm", 3) in commands(Planner(1000, cores=4, kinds=["warm"]), 1e-3)
    assert not any(command[0] == "start" for command in commands(Planner(100, cores=4, kinds=["warm"]), 1e-6))


def test_helpers_that_never_come_up_are_not_ordered_for_ever():
    given = commands(Planner(1000, cores=4, kinds=["warm", "fork"]), 1e-3, helpers=False)
    assert sum(command[0] == "start" for command in given) < 20


def test_a_planner_that_must_starts_without_looking():
    given = commands(Planner(100, cores=2, kinds=["fork"], here=False, must=True, workers=2), 1e-3)
    assert given[0] == ("start", "fork", 2)
    assert not any(command[0] == "here" for command in given)


def test_chunks_are_as_large_as_somebody_insists():
    given = commands(Planner(100, cores=2, kinds=["warm"], here=False, must=True, chunksize=7), 1e-3)
    sizes = [command[2] for command in given if command[0] == "send"]
    assert sizes == [7] * 14 + [2]


def test_plan_and_estimate_tell_what_was_measured():
    planner = Planner(1000, cores=2, kinds=["warm"])
    assert planner.estimate()["seconds"] is None
    commands(planner, 1e-3)
    assert planner.estimate()["seconds"] == pytest.approx(1e-3)
    plan = planner.plan()
    assert plan["items"] == 1000 == sum(plan["ran"].values())
    assert [row["strategy"] for row in plan["candidates"]] == ["serial", "warm"]
    assert plan["decisions"][0]["strategy"] == "warm"
    assert Planner(1000, kinds=["warm"], prior=planner.estimate()).estimate()["seconds"] == pytest.approx(1e-3)


def test_the_probe_ends_when_it_is_told_to_and_leaves_no_thread():
    planner = Planner(10)
    ended = _thread.allocate_lock()
    ended.acquire()

    def probe():
        planner.probe()
        ended.release()

    _thread.start_new_thread(probe, ())
    planner.close()
    assert ended.acquire(timeout=10)


def test_a_probe_ends_by_itself():
    planner = Planner(10)
    ended = _thread.allocate_lock()
    ended.acquire()

    def probe():
        planner.probe()
        ended.release()

    _thread.start_new_thread(probe, ())
    assert ended.acquire(timeout=10)
    planner.close()
    time.sleep(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": 0}, "workers"),
        ({"chunksize": 0}, "chunksize"),
        ({"kinds": ["fibres"]}, "fibres"),
        ({"here": False, "kinds": []}, "somebody has to run"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Planner(10, **arguments)


def test_charges_are_checked():
    assert Charges(warm=1.0).as_dict()["warm"] == 1.0
    assert Charges().replace(warm=2.0).as_dict()["warm"] == 2.0
    with pytest.raises(ValueError, match="warm"):
        Charges(warm=-1.0)
    with pytest.raises(ValueError, match="byte"):
        Charges(byte=float("nan"))
    with pytest.raises(TypeError, match="lunch"):
        Charges(lunch=1.0)


def test_few_long_items_do_not_wait_for_the_first_one():
    # The loop would be stuck in the first item.
    event = threading.Event()

    def wait_for_the_others(x):
        if x == 0:
            return event.wait(30)
        event.set()
        return True

    assert breakeven.map(wait_for_the_others, range(5), backend="threads") == [True] * 5
    event.clear()
    assert breakeven.map(wait_for_the_others, range(5)) == [True] * 5
    assert breakeven.map(wait_for_the_others, []) == []


def test_what_the_first_item_raises_while_others_have_helpers_arrives():
    event = threading.Event()

    def fails(x):
        if x == 0:
            assert event.wait(30)
            raise LookupError(x)
        event.set()

    with pytest.raises(LookupError):
        breakeven.map(fails, range(5))
