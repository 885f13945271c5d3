"""Two Processes, a Queue for their results, about twenty messages in all. Everybody writes that queues are slow;
should I replace it by something in shared memory?"""

import sys
from multiprocessing import Array, Process, Queue

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
PARTS = 20


def search(part):
    best = 0
    for n in range(part, 600_000 // SHRINK, PARTS // 2):
        best = max(best, (n * n ^ n * 31) % 10_007)
        best = max(best, sum([n % k == 0 for k in range(2, 22)]))
    return best


def search_all(results, parts):
    for part in parts:
        results.put((part, search(part)))


def search_into(results, parts):
    for part in parts:
        results[part] = search(part)


def asked():
    results = Queue()
    processes = [Process(target=search_all, args=(results, range(n, PARTS, 2))) for n in range(2)]
    for process in processes:
        process.start()
    found = sorted(results.get() for _ in range(PARTS))
    for process in processes:
        process.join()
    return [best for _, best in found]


def shared_array():
    results = Array("q", PARTS)
    processes = [Process(target=search_into, args=(results, range(n, PARTS, 2))) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return list(results)


def serial():
    return [search(part) for part in range(PARTS)]


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(globals()[variant]())
