"""concurrent.futures: I submit one job for each pair of points and collect them with as_completed. With processes
it is about fifty times slower than without. The function only computes a distance."""

import math
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
POINTS = [(n * 37 % 101, n * 61 % 97) for n in range(8_000 // SHRINK)]


def distance(a, b):
    return math.hypot(a[0] - b[0], a[1] - b[1])


def path_length(points):
    return [distance(a, b) for a, b in zip(points, points[1:])]


def executor():
    return ProcessPoolExecutor(max_workers=2, mp_context=get_context("forkserver"))


def asked():
    with executor() as processes:
        futures = [processes.submit(distance, a, b) for a, b in zip(POINTS, POINTS[1:])]  # <- here
        return math.fsum(future.result() for future in as_completed(futures))


def fixed():
    pieces = [POINTS[first : first + 1_001] for first in range(0, len(POINTS), 1_000)]
    with executor() as processes:
        return math.fsum(length for lengths in processes.map(path_length, pieces) for length in lengths)


def serial():
    return math.fsum(path_length(POINTS))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(f"{ ({'asked': asked, 'fixed': fixed, 'serial': serial}[variant]()):.6f}")
