"""Sum of a large array by chunks, the partial sums coming back through a manager, a pool or a queue.

Faults it shows, by --via:

manager  a process per chunk adds its partial sums to a manager.list. It looks like shared memory and
         is a server process: every read and every write is a message there and an answer back.
pool     Pool.map over the chunks themselves: the whole array is pickled through a pipe so that each
         worker can do less work on it than the pickling took.
queue    a process per chunk, the sums over a Queue: the cheapest of the three, and still slower than
         the plain sum, which takes a few milliseconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.managers
import multiprocessing.queues
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def make_array(size: int) -> NDArray[np.float64]:
    """Return `size` pseudo-random whole numbers as floats: their sums are exact in any order."""
    return np.random.default_rng(12345).integers(0, 1000, size).astype(np.float64)


def split(values: NDArray[np.float64], parts: int) -> list[NDArray[np.float64]]:
    return np.array_split(values, parts)


def total(chunk: NDArray[np.float64]) -> float:
    return float(chunk.sum())


def add_to_list(
    chunk: NDArray[np.float64], totals: multiprocessing.managers.ListProxy[float], slot: int, blocks: int
) -> None:
    for block in split(chunk, blocks):
        totals[slot] += total(block)


def put_total(chunk: NDArray[np.float64], totals: multiprocessing.queues.Queue[float]) -> None:
    totals.put(total(chunk))


def run_serial(values: NDArray[np.float64]) -> float:
    return total(values)


def run_manager(values: NDArray[np.float64], chunks: int, blocks: int) -> float:
    with multiprocessing.Manager() as manager:
        totals = manager.list([0.0] * chunks)
        processes = [
            multiprocessing.Process(target=add_to_list, args=(chunk, totals, slot, blocks))
            for slot, chunk in enumerate(split(values, chunks))
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return sum(totals)


def run_pool(values: NDArray[np.float64], chunks: int) -> float:
    with multiprocessing.Pool(chunks) as pool:
        return sum(pool.map(total, split(values, chunks)))


def run_queue(values: NDArray[np.float64], chunks: int) -> float:
    totals: multiprocessing.queues.Queue[float] = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=put_total, args=(chunk, totals)) for chunk in split(values, chunks)]
    for process in processes:
        process.start()
    result = sum(totals.get() for _ in processes)
    for process in processes:
        process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Array sum: numpy against processes.")
    parser.add_argument("--mode", choices=["serial", "parallel"], default="parallel")
    parser.add_argument("--via", choices=["manager", "pool", "queue"], default="manager")
    parser.add_argument("--size", type=int, default=10_000_000, help="array elements (default: %(default)s)")
    parser.add_argument("--chunks", type=int, default=4, help="chunks, and processes (default: %(default)s)")
    parser.add_argument(
        "--blocks",
        type=int,
        default=1000,
        help="additions to the manager's list per chunk; 1 leaves the manager's start alone (default: %(default)s)",
    )
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    args = parser.parse_args()
    if args.start_method:
        multiprocessing.set_start_method(args.start_method)

    values = make_array(args.size)
    started = time.perf_counter()
    if args.mode == "serial":
        result = run_serial(values)
    elif args.via == "manager":
        result = run_manager(values, args.chunks, args.blocks)
    elif args.via == "pool":
        result = run_pool(values, args.chunks)
    else:
        result = run_queue(values, args.chunks)
    seconds = time.perf_counter() - started
    print(json.dumps({"example": "array_sum", "mode": args.mode, "seconds": seconds, "result": result}))


if __name__ == "__main__":
    main()
