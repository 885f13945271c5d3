"""Comparing all pairs of 5,000 strings with two Processes: the first takes the upper half of the rows and the
second the lower half. I expected a factor of 2 and get 1.3. Both have the same number of rows."""

import sys
from multiprocessing import Process, Queue

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
ROWS = 5_000 // SHRINK


def compare(a, b):
    return (a * 7919 ^ b * 104_729) % 101 < 3


def count(results, rows):
    # Each pair once: row n has n of them.
    results.put(sum([compare(a, b) for a in rows for b in range(a)]))


def in_processes(parts):
    results = Queue()
    processes = [Process(target=count, args=(results, part)) for part in parts]
    for process in processes:
        process.start()  # <- here
    total = sum([results.get() for _ in processes])
    for process in processes:
        process.join()  # <- here
    return total


def asked():
    return in_processes([range(ROWS // 2), range(ROWS // 2, ROWS)])


def fixed():
    return in_processes([range(0, ROWS, 2), range(1, ROWS, 2)])


def serial():
    return sum([compare(a, b) for a in range(ROWS) for b in range(a)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
