"""My processes write to one result file, so I use a Lock. Since then they take turns, exactly one is busy at any
time, although writing takes no time at all compared with the computation."""

import sys
import tempfile
from multiprocessing import Lock, Process

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
JOBS = 12


def compute(job):
    value = job
    for _ in range(1_000_000 // SHRINK):
        value = value * 1_103_515_245 + 12_345 & 0x7FFFFFFF
    return value


def append(path, job, value):
    with open(path, "a") as file:
        file.write(f"{job} {value}\n")


def work(path, lock, jobs):
    for job in jobs:
        with lock:  # <- here
            append(path, job, compute(job))


def work_then_lock(path, lock, jobs):
    for job in jobs:
        value = compute(job)
        with lock:
            append(path, job, value)


def in_processes(target):
    lock = Lock()
    with tempfile.NamedTemporaryFile() as file:
        processes = [Process(target=target, args=(file.name, lock, range(n, JOBS, 2))) for n in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return sorted(file.read().decode().splitlines())


def asked():
    return in_processes(work)


def fixed():
    return in_processes(work_then_lock)


def serial():
    return sorted([f"{job} {compute(job)}" for job in range(JOBS)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
