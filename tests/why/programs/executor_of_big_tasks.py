"""ProcessPoolExecutor (forkserver), ten simulations of a quarter of a second each, as_completed. Should I use
shared memory, or another start method, or threads?"""

import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_context

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def simulate(seed):
    cells = [(seed * n) % 7 < 3 for n in range(400)]
    for _ in range(8_000 // SHRINK):
        cells = [cells[n - 1] ^ (cells[n] or cells[n - 399]) for n in range(400)]
    return sum(cells)


def in_executor(executor):
    with executor:
        return sum(future.result() for future in as_completed([executor.submit(simulate, n) for n in range(10)]))


def asked():
    return in_executor(ProcessPoolExecutor(2, mp_context=get_context("forkserver")))


def more_workers():
    return in_executor(ProcessPoolExecutor(4, mp_context=get_context("forkserver")))


def threads():
    return in_executor(ThreadPoolExecutor(2))


def serial():
    return sum(map(simulate, range(10)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(globals()[variant]())
