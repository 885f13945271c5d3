"""How pools and programs end: Ctrl-C, exits, a parent that is killed. No child, no noise, no hang."""

import os
import signal
import subprocess
import sys
import threading
import time

import breakeven
import pytest

from tests.pools import tasks
from tests.support import kill

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


def wait_gone(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while any(map(kill.is_running, pids)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if kill.is_running(pid)]}"
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
import ctypes, os, signal, sys, threading, time
import breakeven

def say():
    with open(sys.argv[3], "a") as file:
        file.write(f"{os.getpid()}\\n")

def wait(_):
    say()
    time.sleep(600)

def compute(_):
    say()
    while True:
        pass

def hold_the_interpreter(_):
    say()
    ctypes.PyDLL(None).sleep(600)

def with_own_handlers(_):
    for number in range(signal.SIGRTMIN, signal.SIGRTMIN + 5):
        signal.signal(number, signal.SIG_IGN)
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        if number < signal.SIGRTMIN:
            signal.signal(number, signal.SIG_IGN)
    wait(_)

def in_a_program_of_its_own(_):
    say()
    os.execv("/bin/sleep", ["sleep", "600"])

def nested(_):
    say()
    with breakeven.Pool(1) as pool:
        pool.map(compute, [0])

def with_a_daemon(_):
    say()
    breakeven.Process(target=wait, args=(0,), daemon=True).start()
    time.sleep(600)

if __name__ == "__main__":
    method, state = sys.argv[1:3]
    breakeven.set_start_method(method)
    if state in ("nested", "with_a_daemon"):
        executor = breakeven.ProcessPoolExecutor(1)
        executor.submit(globals()[state], 0)
    else:
        pool = breakeven.Pool(2)
        if state == "idle":
            pool.map(len, ["", ""], chunksize=1)
            with open(sys.argv[3], "a") as file:
                file.write("".join(f"{process.pid}\\n" for process in pool._pool))
        else:
            pool.map_async(globals()[state], range(2), chunksize=1)
    # Whatever the parent forks holds its pipes open.
    if not os.fork():
        os.setsid()
        while os.getppid() != 1:
            time.sleep(0.1)
        time.sleep(1)
        os._exit(0)
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "method,state",
    [
        *((method, state) for method in METHODS for state in ("idle", "wait", "compute", "hold_the_interpreter")),
        ("fork", "with_own_handlers"),
        ("fork", "in_a_program_of_its_own"),
        ("fork", "nested"),
        ("spawn", "nested"),
        ("fork", "with_a_daemon"),
    ],
)
def test_workers_end_when_their_parent_is_killed(method, state, tmp_path):
    """Whatever they are doing; here they would go on for ten minutes."""
    path = tmp_path / "pids"
    path.touch()
    process = start(ORPHANS, method, state, path, tmp_path=tmp_path)
    pids = []
    try:
        assert process.stdout.readline() == "up\n", process.stderr.read()
        deadline = time.monotonic() + 60
        while len(pids) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)
            pids = [int(line) for line in path.read_text().splitlines()]
        assert all(map(kill.is_running, pids))
        process.kill()
        process.wait()
        wait_gone(pids)
    finally:
        for pid in filter(kill.is_running, pids):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_workers_outlive_the_thread_that_started_them():
    """The kernel tells them of its end as if it were the parent's."""
    pools = []
    thread = threading.Thread(target=lambda: pools.append(breakeven.get_context("fork").Pool(2)))
    thread.start()
    thread.join()
    [pool] = pools
    pids = [process.pid for process in pool._pool]
    assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]
    time.sleep(0.05)
    assert [process.pid for process in pool._pool] == pids and all(map(kill.is_running, pids))
    pool.terminate()
    pool.join()


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


def test_joining_a_terminated_thread_pool_does_not_wait_for_a_long_task():
    started, go_on = threading.Event(), threading.Event()

    def long_task(_):
        started.set()
        go_on.wait()

    pool = breakeven.ThreadPool(1)
    workers = [worker.process for worker in pool._engine.workers.values()]
    pool.apply_async(long_task, (0,))
    started.wait()
    pool.terminate()
    pool.join()  # would never return
    assert workers[0].is_alive()
    go_on.set()
    workers[0].join()
