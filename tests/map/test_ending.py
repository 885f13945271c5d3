"""However a map ends, its helpers do not stay in the way; killed ones cost their items and nothing else."""

import os
import random
import signal
import subprocess
import sys
import time

import breakeven
import pytest
from breakeven import TaskError, _map_engine
from breakeven._map_work import Call, Sequence

from tests.map import functions


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids, patience=30):
    deadline = time.monotonic() + patience
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.02)


LONG = """
import os, sys, time
import breakeven

def item(x):
    print(os.getpid(), flush=True)
    for _ in range(6000):
        time.sleep(0.1)  # a signal that comes just before a sleep does not end it

if __name__ == "__main__":
    items = {items}
    list(breakeven.{call}(item, items, backend={backend!r}, workers=2))
"""


@pytest.mark.parametrize("call", ["map", "imap"])
@pytest.mark.parametrize("backend", ["auto", "serial", "threads", "processes"])
def test_ctrl_c_ends_everything_with_one_traceback(call, backend, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(LONG.format(items="range(4)", call=call, backend=backend))
    with subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        try:
            pids = {int(program.stdout.readline())}
            os.killpg(program.pid, signal.SIGINT)
            out, err = program.communicate(timeout=60)
        finally:
            program.kill()
    pids |= set(map(int, out.split()))
    assert program.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")
    wait_until_gone(pids)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("end", ["", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_helpers_end_with_the_program(method, end, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(f"""
import os
import breakeven

def pid(_):
    return os.getpid()

if __name__ == "__main__":
    breakeven.set_start_method({method!r})
    print(*set(breakeven.map(pid, range(50), backend="processes", workers=2)), flush=True)
    {end}
""")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=60)
    pids = list(map(int, done.stdout.split()))
    assert pids
    assert done.stderr == ""
    wait_until_gone(pids)


def dies_for_some(argument):
    index, victims = argument
    if index in victims:
        os.kill(os.getpid(), signal.SIGKILL)
    return index


@pytest.mark.matrix
@pytest.mark.parametrize("round", range(6))
@pytest.mark.parametrize("call", [breakeven.map, breakeven.imap])
def test_killed_helpers_at_random_items(call, round, seed):
    chance = random.Random(seed + round)
    victims = frozenset(chance.sample(range(300), 5))
    items = [(index, victims) for index in range(300)]
    chunksize = chance.choice([None, 1, 10])
    got = list(call(dies_for_some, items, backend="processes", return_exceptions=True, chunksize=chunksize))
    lost = {index for index, value in enumerate(got) if isinstance(value, breakeven.WorkerDied)}
    assert victims <= lost
    assert [index for index in range(300) if index not in lost] == [value for value in got if type(value) is int]
    if chunksize == 1:
        assert lost == victims


@pytest.mark.matrix
@pytest.mark.parametrize("round", range(4))
def test_helpers_killed_from_outside(round, seed, tmp_path):
    """Whichever instruction a helper is at when it dies, every other result arrives."""
    chance = random.Random(seed + round)
    delay = chance.uniform(0, 0.05)
    started = tmp_path / "pids"
    started.mkdir()
    killer = os.fork()
    if not killer:
        # Kills the first helper that shows itself.
        try:
            while not (names := os.listdir(started)):
                time.sleep(0.0005)
            time.sleep(delay)
            os.kill(int(names[0]), signal.SIGKILL)
        finally:
            os._exit(0)
    items = [(str(started), index) for index in range(400)]
    got = breakeven.map(shows_itself, items, backend="processes", return_exceptions=True)
    os.waitpid(killer, 0)
    lost = [index for index, value in enumerate(got) if isinstance(value, breakeven.WorkerDied)]
    assert [index for index in range(400) if index not in lost] == [value for value in got if type(value) is int]
    assert breakeven.map(functions.square, range(50), backend="processes") == [n * n for n in range(50)]


def shows_itself(argument):
    directory, index = argument
    path = os.path.join(directory, str(os.getpid()))
    if not os.path.exists(path):
        open(path, "w").close()
    time.sleep(0.0003)
    return index


class WaitsForNothing:
    """A planner that has lost count of what helpers have."""

    def next(self, now):
        return ("wait", None)

    def close(self):
        pass


def test_a_map_that_nobody_works_at_is_an_error_and_no_hang(monkeypatch):
    monkeypatch.setattr(_map_engine, "VAIN", 3)
    run = _map_engine.Run(Call(functions.square, False), Sequence([[1, 2]], False), WaitsForNothing(), None)
    with pytest.raises(TaskError, match="no helper has any of its items"):
        run.to_the_end()
