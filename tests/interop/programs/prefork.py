"""A server that forks its workers itself, with os.fork, and reaps every child in a SIGCHLD handler; then a pool."""

import multiprocessing as mp
import os
import signal
import sys
import time

here, stop, served = mp.Queue(), mp.Event(), mp.Value("i", 0)
reaped = {}


def serve():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while not stop.is_set():
        with served.get_lock():
            served.value += 1
        here.put(os.getpid())
        time.sleep(0.005)


def reap(number, frame):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        reaped[pid] = status


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, reap)
    pids = set()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            serve()
            os._exit(0)
        pids.add(pid)
    seen = set()
    while seen != pids:
        seen.add(here.get(timeout=60))
    victim = min(pids)
    os.kill(victim, signal.SIGTERM)
    wait_until(lambda: victim in reaped)
    assert os.waitstatus_to_exitcode(reaped[victim]) == 0
    for _ in range(5):
        here.get(timeout=60)
    stop.set()
    wait_until(lambda: set(reaped) == pids)
    assert set(map(os.waitstatus_to_exitcode, reaped.values())) == {0} and served.value >= 3
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with mp.Pool(2) as pool:
        assert pool.map(abs, range(-3, 0)) == [3, 2, 1]
    print("done")
