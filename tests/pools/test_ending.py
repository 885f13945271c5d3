"""How pools and programs end: Ctrl-C, exits, a parent that is killed. No child, no noise, no hang."""

import os
import signal
import subprocess
import sys
import time

import breakeven
import pytest

from tests.pools import tasks

METHODS = ["fork", "spawn", "forkserver"]


def start(script, *arguments, tmp_path, group=False):
    path = tmp_path / "program.py"
    path.write_text(script)
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=group,
    )


def wait_for(path, seconds=30):
    deadline = time.monotonic() + seconds
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.005)


def alive(pid):
    """Does this process exist, other than as a zombie?"""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_gone(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.01)


INTERRUPTED = """
import os, sys, time
import breakeven

def task(args):
    path, seconds = args
    open(path, "w").write(str(os.getpid()))
    time.sleep(seconds)

def busy(args):
    path, _ = args
    open(path, "w").write(str(os.getpid()))
    while True:
        pass

if __name__ == "__main__":
    method, form, folder, function = sys.argv[1:]
    with breakeven.get_context(method).Pool(2) as pool:
        items = [(f"{folder}/{i}", 60) for i in range(8)]
        function = {"task": task, "busy": busy}[function]
        if form == "map":
            pool.map(function, items, chunksize=1)
        elif form == "imap":
            list(pool.imap(function, items))
        elif form == "apply":
            pool.apply_async(function, (items[0],))
            pool.apply_async(function, (items[1],)).get()
        elif form == "callback":
            pool.apply_async(function, (items[0],), callback=print)
            pool.apply_async(function, (items[1],), callback=print).get()
"""


@pytest.mark.parametrize(
    "method,form,function",
    [
        ("fork", "map", "task"),
        ("fork", "map", "busy"),
        ("fork", "imap", "task"),
        ("fork", "apply", "task"),
        ("fork", "callback", "task"),
        ("spawn", "map", "task"),
        ("forkserver", "map", "task"),
    ],
)
def test_interrupt(method, form, function, tmp_path):
    """Ctrl-C reaches the whole foreground group; one traceback, and nothing is left."""
    process = start(INTERRUPTED, method, form, tmp_path, function, tmp_path=tmp_path, group=True)
    first, second = tmp_path / "0", tmp_path / "1"
    wait_for(first)
    wait_for(second)
    workers = [int(first.read_text()), int(second.read_text())]
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)
    took = time.monotonic() - began
    assert error.count("Traceback") == 1 and error.rstrip().endswith("KeyboardInterrupt"), error
    assert process.returncode == -signal.SIGINT
    wait_gone(workers, 5)
    print(f"ended after {took:.3f} s")


def test_interrupt_of_an_idle_pool_does_no_harm():
    with breakeven.get_context("fork").Pool(2) as pool:
        pids = [process.pid for process in pool._pool]
        pool.map(tasks.nap, [0.05] * 4, chunksize=1)
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        time.sleep(0.1)
        assert [process.pid for process in pool._pool] == pids
        assert pool.map(tasks.square, [1, 2]) == [1, 4]
    pool.join()


def test_interrupt_reaches_a_task(tmp_path):
    with breakeven.get_context("fork").Pool(1) as pool:
        result = pool.apply_async(tasks.catches_interrupt, (str(tmp_path / "ready"),))
        wait_for(tmp_path / "ready")
        os.kill(pool._pool[0].pid, signal.SIGINT)
        assert result.get(timeout=60) == "interrupted"
    pool.join()


ORPHANS = """
import os, sys, time
import breakeven

def pid(_):
    time.sleep(0.2)
    return os.getpid()

def work(x):
    time.sleep(0.01)

if __name__ == "__main__":
    pool = breakeven.get_context(sys.argv[1]).Pool(2)
    pids = set(pool.map(pid, range(4), chunksize=1))
    if sys.argv[2] == "busy":
        pool.map_async(work, range(100000))
    print(*pids, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("method", METHODS)
def test_workers_end_when_their_parent_is_killed(method, state, tmp_path):
    process = start(ORPHANS, method, state, tmp_path=tmp_path)
    workers = list(map(int, process.stdout.readline().split()))
    assert workers and all(map(alive, workers))
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()
    # One that is busy ends when its chunk is done.
    wait_gone(workers, 10)


EXITS = """
import os, sys, time
import breakeven

def task(x):
    return x

def slow(x):
    time.sleep(60)

if __name__ == "__main__":
    method, how = sys.argv[1:]
    pool = breakeven.get_context(method).Pool(2)
    assert pool.map(task, range(10)) == list(range(10))
    if how == "idle":
        pass
    elif how == "busy":
        pool.map_async(slow, range(10), chunksize=1)
    elif how == "callback":
        pool.apply_async(slow, (1,), callback=print)
    elif how == "imap":
        iterator = pool.imap(task, iter(range(10**9)))
        next(iterator)
    elif how == "closed":
        pool.close()
    elif how == "exit":
        sys.exit(5)
    print(*(process.pid for process in pool._pool), flush=True)
"""


@pytest.mark.parametrize(
    "method,how",
    [("fork", how) for how in ("idle", "busy", "callback", "imap", "closed", "exit")]
    + [("spawn", "busy"), ("forkserver", "busy"), ("spawn", "imap"), ("forkserver", "idle")],
)
def test_exit_without_ending_the_pool(method, how, tmp_path):
    process = start(EXITS, method, how, tmp_path=tmp_path)
    out, error = process.communicate(timeout=30)
    assert process.returncode == (5 if how == "exit" else 0), error
    assert "Traceback" not in error
    wait_gone(list(map(int, out.split())), 5)


UNGUARDED = """
import breakeven

def task(x):
    return x

pool = breakeven.get_context("spawn").Pool(2)
pool.map(task, range(10))
"""


def test_unguarded_main_module_does_not_hang(tmp_path):
    """The standard pool starts workers for ever."""
    process = start(UNGUARDED, tmp_path=tmp_path)
    _, error = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "__main__" in error


def test_terminate_from_a_signal_handler(tmp_path):
    script = """
import os, signal, sys, time
import breakeven

def nap(path):
    open(path, "w").write("x")
    time.sleep(60)

if __name__ == "__main__":
    pool = breakeven.get_context("fork").Pool(2)
    def ended(signum, frame):
        pool.terminate()
        pool.join()
        sys.exit(9)
    signal.signal(signal.SIGTERM, ended)
    pool.map(nap, [sys.argv[1]] * 4, chunksize=1)
"""
    ready = tmp_path / "ready"
    process = start(script, ready, tmp_path=tmp_path)
    wait_for(ready)
    process.terminate()
    _, error = process.communicate(timeout=30)
    assert process.returncode == 9, error
    assert "Traceback" not in error
