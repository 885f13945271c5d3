"""Sum of squares, as one loop or as four ranges in a Pool(4).

Fault it shows: start-up. The work itself divides perfectly and needs no data, so whatever the
parallel version loses to the ideal is the price of starting, feeding and ending the four workers,
and, on fewer than four cores, of having more workers than cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time


def sum_of_squares(start: int, stop: int) -> int:
    """Return the sum of i * i for start <= i < stop, by a plain loop."""
    total = 0
    for i in range(start, stop):
        total += i * i
    return total


def split(n: int, parts: int) -> list[tuple[int, int]]:
    """Cut range(n) into `parts` neighbouring (start, stop) pairs of nearly equal length."""
    edges = [n * part // parts for part in range(parts + 1)]
    return list(zip(edges, edges[1:], strict=False))


def run_serial(n: int) -> int:
    return sum_of_squares(0, n)


def run_parallel(n: int, workers: int) -> int:
    with multiprocessing.Pool(workers) as pool:
        return sum(pool.starmap(sum_of_squares, split(n, workers)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Sum of squares: one loop against Pool(4).")
    parser.add_argument("--mode", choices=["serial", "parallel"], default="parallel")
    parser.add_argument("--n", type=int, default=8_000_000, help="how many squares (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="pool size (default: %(default)s)")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    args = parser.parse_args()
    if args.start_method:
        multiprocessing.set_start_method(args.start_method)

    started = time.perf_counter()
    result = run_serial(args.n) if args.mode == "serial" else run_parallel(args.n, args.workers)
    seconds = time.perf_counter() - started
    print(json.dumps({"example": "sum_squares", "mode": args.mode, "seconds": seconds, "result": result}))


if __name__ == "__main__":
    main()
