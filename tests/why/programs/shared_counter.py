"""Four processes count hits in a shared multiprocessing.Value, with get_lock() as one should. The count is right,
but counting is many times slower than in one process. Without the lock it is fast, and wrong."""

import sys
from multiprocessing import Process, Value

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
PROCESSES = 4
TRIES = 240_000 // SHRINK


def hit(seed, n):
    x, y = (seed * 7919 + n * 104_729) % 1009, (seed * 31 + n * 15_485_863) % 1013
    return x * x + y * y < 1_000_000


def throw(hits, seed):
    for n in range(TRIES):
        if hit(seed, n):
            with hits.get_lock():  # <- here
                hits.value += 1


def throw_and_tell(hits, seed):
    mine = sum([hit(seed, n) for n in range(TRIES)])
    with hits.get_lock():
        hits.value += mine


def in_processes(target):
    hits = Value("q", 0)
    processes = [Process(target=target, args=(hits, seed)) for seed in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return hits.value


def asked():
    return in_processes(throw)


def fixed():
    return in_processes(throw_and_tell)


def serial():
    return sum([hit(seed, n) for seed in range(PROCESSES) for n in range(TRIES)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
