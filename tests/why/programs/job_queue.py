"""The pattern from the documentation: a job queue, a result queue, four workers that loop over get() and put(). It
manages a fraction of the small jobs that a for loop does. Is my queue broken, or is it the locks?"""

import sys
from multiprocessing import Process, SimpleQueue

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
WORKERS = 4
JOBS = 100_000 // SHRINK
BATCH = 500


def work(number):
    return number * number % 997


def worker(jobs, results):
    while (number := jobs.get()) is not None:  # <- here
        results.put(work(number))  # <- here


def feed(jobs, numbers):
    for number in numbers:
        jobs.put(number)
    for _ in range(WORKERS):
        jobs.put(None)


def asked():
    jobs, results = SimpleQueue(), SimpleQueue()
    processes = [Process(target=worker, args=(jobs, results)) for _ in range(WORKERS)]
    processes.append(Process(target=feed, args=(jobs, range(JOBS))))
    for process in processes:
        process.start()
    total = sum([results.get() for _ in range(JOBS)])  # <- here
    for process in processes:
        process.join()
    return total


def batch_worker(jobs, results):
    while (numbers := jobs.get()) is not None:
        results.put([work(number) for number in numbers])


def fixed():
    jobs, results = SimpleQueue(), SimpleQueue()
    batches = [range(first, min(first + BATCH, JOBS)) for first in range(0, JOBS, BATCH)]
    processes = [Process(target=batch_worker, args=(jobs, results)) for _ in range(WORKERS)]
    processes.append(Process(target=feed, args=(jobs, batches)))
    for process in processes:
        process.start()
    total = sum([sum(results.get()) for _ in batches])
    for process in processes:
        process.join()
    return total


def serial():
    return sum([work(number) for number in range(JOBS)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
