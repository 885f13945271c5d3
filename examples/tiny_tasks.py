"""Pool.map of a tiny function over half a million small lists.

Faults it shows: serialisation and granularity. A task takes a fraction of a microsecond, about what
it costs to pickle its list, and the parent pickles all of the lists before it can unpickle all of the
results: adding cores adds work to the one process that has none to spare.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time


def spread(values: list[int]) -> int:
    """Return the largest minus the smallest of a few values."""
    return max(values) - min(values)


def make_lists(count: int) -> list[list[int]]:
    """Return `count` lists of four small numbers, the same ones on every call."""
    return [[i % 7, i % 11, i % 13, i % 17] for i in range(count)]


def run_serial(lists: list[list[int]]) -> int:
    return sum([spread(values) for values in lists])


def run_parallel(lists: list[list[int]], workers: int | None) -> int:
    with multiprocessing.Pool(workers) as pool:
        return sum(pool.map(spread, lists))


def main() -> None:
    parser = argparse.ArgumentParser(description="Tiny tasks: a loop against Pool.map.")
    parser.add_argument("--mode", choices=["serial", "parallel"], default="parallel")
    parser.add_argument("--lists", type=int, default=500_000, help="how many lists (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="pool size (default: the pool's)")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    args = parser.parse_args()
    if args.start_method:
        multiprocessing.set_start_method(args.start_method)

    lists = make_lists(args.lists)
    started = time.perf_counter()
    result = run_serial(lists) if args.mode == "serial" else run_parallel(lists, args.workers)
    seconds = time.perf_counter() - started
    print(json.dumps({"example": "tiny_tasks", "mode": args.mode, "seconds": seconds, "result": result}))


if __name__ == "__main__":
    main()
