"""With fork the children see the parent's data without copying, I thought. My rows are 300 MB, the children only
read them (each looks for another customer), and still each process grows to the size of the parent, and a look
through the rows takes far longer in a child than in the parent."""

import sys
from multiprocessing import Process, Queue

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
ROWS = 300_000 // SHRINK
WIDTH = 1_000
CUSTOMERS = 8

rows = []


def row(number):
    return b"%08d" % (number % 1009) * (WIDTH // 8)


def find(results, customer):
    key = b"%08d" % customer
    results.put(sum([line.startswith(key) for line in rows]))  # <- here


def find_in_one(results, customer):
    key, found = b"%08d" % customer, 0
    for first in range(0, len(rows), WIDTH):
        found += rows.startswith(key, first)
    results.put(found)


def in_processes(target):
    """As many at a time as there are cores."""
    results, total = Queue(), 0
    for first in range(0, CUSTOMERS, 2):
        processes = [Process(target=target, args=(results, first + n)) for n in range(2)]
        for process in processes:
            process.start()  # <- here
        total += sum([results.get() for _ in processes])
        for process in processes:
            process.join()
    return total


def asked():
    rows.extend(map(row, range(ROWS)))
    return in_processes(find)


def fixed():
    global rows
    rows = b"".join(map(row, range(ROWS)))  # one object instead of 300,000: one count of references
    return in_processes(find_in_one)


def serial():
    rows.extend(map(row, range(ROWS)))
    return sum([line.startswith(b"%08d" % customer) for customer in range(CUSTOMERS) for line in rows])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
