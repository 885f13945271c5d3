"""Pools that are made and dropped: nothing of them is left, whatever they were at, and however they were started."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import gc, os, sys, threading, time, warnings
from multiprocessing import process, util

import breakeven
from breakeven import _native

warnings.simplefilter("ignore", ResourceWarning)


def double(x):
    return 2 * x


def unused(context):
    context.Pool(2)


def used(context):
    assert context.Pool(2).map(double, range(4)) == [0, 2, 4, 6]


def called_back(context):
    assert context.Pool(2).apply_async(double, (1,), callback=lambda value: None).get(60) == 2


def in_a_cycle(context):
    pool = context.Pool(2)
    pool.itself = [pool]
    assert pool.apply(double, (1,)) == 2


def at_work(context):
    context.Pool(2).map_async(double, range(100), chunksize=1)


def in_the_midst_of_an_imap(context):
    assert next(context.Pool(2).imap(double, iter(range(100_000)))) == 0


def closed(context):
    context.Pool(2).close()


def with_a_dead_worker(context):
    pool = context.Pool(2)
    pool._pool[0].kill()
    assert pool.map(double, range(4), chunksize=1) == [0, 2, 4, 6]


def dropped_in_a_child(context):
    pool = context.Pool(2)
    assert pool.apply(double, (1,)) == 2
    child = os.fork()
    if not child:
        del pool
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert pool.apply(double, (2,)) == 4


def held():
    gc.collect()
    statistics = _native.arena_statistics()
    warm = sys.modules.get("breakeven._warm")
    kept = warm.descriptors() if warm else set()  # of the template process, and of the spare ones
    return {
        "descriptors": len(set(map(int, os.listdir("/proc/self/fd"))) - kept),
        "children": len(open(f"/proc/self/task/{os.getpid()}/children").read().split()),
        "threads": threading.active_count(),
        "processes of multiprocessing": len(process._children),
        "finalizers": len(util._finalizer_registry),
        **{name: statistics[name] for name in ("in_use", "channels", "blobs", "participants")},
    }


if __name__ == "__main__":
    method, state, count = sys.argv[1:]
    context = breakeven.get_context(method)
    # What is made once, and stays.
    pool = context.Pool(2)
    assert pool.map(double, range(4)) == [0, 2, 4, 6]
    pool.terminate()
    pool.join()
    del pool
    before = held()
    for _ in range(int(count)):
        globals()[state](context)
    deadline = time.monotonic() + 120
    pause = 0.05
    while True:
        left = {name: now - before[name] for name, now in held().items() if now > before[name]}
        if not left or time.monotonic() > deadline:
            break
        # A pool that was dropped at work ends when that is done, and somebody looks: here, who makes another one.
        used(context)
        time.sleep(pause)
        pause = min(2 * pause, 5)  # that one takes its time to end, too
    print(left)
"""

STATES = [
    "unused",
    "used",
    "called_back",
    "in_a_cycle",
    "at_work",
    "in_the_midst_of_an_imap",
    "closed",
    "with_a_dead_worker",
    "dropped_in_a_child",
]


def left(tmp_path, method, state, count):
    path = Path(tmp_path) / "program.py"
    path.write_text(PROGRAM)
    command = [sys.executable, str(path), method, state, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("state", STATES)
def test_dropped_forked_pools_leave_nothing(state, tmp_path):
    assert left(tmp_path, "fork", state, 15) == "{}"


@pytest.mark.parametrize("state", ["unused", "used", "at_work", "with_a_dead_worker"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_dropped_pools_of_other_start_methods_leave_nothing(method, state, tmp_path):
    assert left(tmp_path, method, state, 3) == "{}"


def test_more_workers_than_there_are_places_for_processes(tmp_path):
    """One after the other, 1,040 of them; 1,024 processes can use one tree's memory at a time."""
    assert left(tmp_path, "fork", "used", 520) == "{}"
