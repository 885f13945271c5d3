"""A hundred tasks that only wait, each in a process of its own, answering over one queue.

Fault it shows: processes for work that sleeps. Waiting needs no second core, yet every task pays
for a process, and every process for a queue with a feeder thread, a pipe and a lock. It still beats
the loop (the waits overlap); threads or asyncio would beat both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.queues
import time


def fetch(task: int, delay: float) -> int:
    """Stand in for a request that takes `delay` seconds; the answer depends on the task alone."""
    time.sleep(delay)
    return task * 7 + 1


def fetch_into(answers: multiprocessing.queues.Queue[tuple[int, int]], task: int, delay: float) -> None:
    answers.put((task, fetch(task, delay)))


def checksum(answers: dict[int, int]) -> int:
    """Fold the answers into one number that depends on which task gave which."""
    return sum((task + 1) * answer for task, answer in answers.items())


def run_serial(tasks: int, delay: float) -> int:
    return checksum({task: fetch(task, delay) for task in range(tasks)})


def run_parallel(tasks: int, delay: float) -> int:
    answers: multiprocessing.queues.Queue[tuple[int, int]] = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=fetch_into, args=(answers, task, delay)) for task in range(tasks)]
    for process in processes:
        process.start()
    # Collect before joining: a process does not end while its feeder thread still holds an answer.
    collected = dict(answers.get() for _ in processes)
    for process in processes:
        process.join()
    return checksum(collected)


def main() -> None:
    parser = argparse.ArgumentParser(description="Waiting tasks: a loop against a process each.")
    parser.add_argument("--mode", choices=["serial", "parallel"], default="parallel")
    parser.add_argument("--tasks", type=int, default=100, help="how many tasks (default: %(default)s)")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds a task waits (default: %(default)s)")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    args = parser.parse_args()
    if args.start_method:
        multiprocessing.set_start_method(args.start_method)

    started = time.perf_counter()
    run = run_serial if args.mode == "serial" else run_parallel
    result = run(args.tasks, args.delay)
    seconds = time.perf_counter() - started
    print(json.dumps({"example": "io_tasks", "mode": args.mode, "seconds": seconds, "result": result}))


if __name__ == "__main__":
    main()
