"""x * x for many x through a ProcessPoolExecutor, one task per item.

Fault it shows: granularity. A multiplication takes some tens of nanoseconds, the future, the pickle,
the two queues and the wake-ups that carry it to a worker and back some tens of microseconds.
--via map sends the items through Executor.map with its default chunk size, which is 1.
--function lambda is the same with a lambda, which the standard library cannot send at all.

The programs that people post do this with a million items, and then wait for minutes under the
standard library; the default here is smaller, and --items 1000000 gives the whole.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def square(x: int) -> int:
    return x * x


def run_serial(function: Callable[[int], int], items: int) -> int:
    return sum(function(x) for x in range(items))


def run_submit(function: Callable[[int], int], items: int, workers: int | None) -> int:
    with ProcessPoolExecutor(workers) as executor:
        futures = [executor.submit(function, x) for x in range(items)]
        return sum(future.result() for future in futures)


def run_map(function: Callable[[int], int], items: int, workers: int | None) -> int:
    with ProcessPoolExecutor(workers) as executor:
        return sum(executor.map(function, range(items)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Squares: a loop against an executor.")
    parser.add_argument("--mode", choices=["serial", "parallel"], default="parallel")
    parser.add_argument("--via", choices=["submit", "map"], default="submit")
    parser.add_argument("--function", choices=["named", "lambda"], default="named")
    parser.add_argument("--items", type=int, default=20_000, help="how many squares (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="pool size (default: the executor's)")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    args = parser.parse_args()
    if args.start_method:
        multiprocessing.set_start_method(args.start_method)

    function = square if args.function == "named" else lambda x: x * x
    started = time.perf_counter()
    if args.mode == "serial":
        result = run_serial(function, args.items)
    elif args.via == "submit":
        result = run_submit(function, args.items, args.workers)
    else:
        result = run_map(function, args.items, args.workers)
    seconds = time.perf_counter() - started
    print(json.dumps({"example": "executor_squares", "mode": args.mode, "seconds": seconds, "result": result}))


if __name__ == "__main__":
    main()
