"""Pool(4) with NumPy: each worker solves small linear systems. On my laptop with two cores four workers are
slower than one, although all cores are at 100 %. Is np.linalg.solve not made for multiprocessing?"""

import sys
from multiprocessing import Pool

import numpy as np
from numpy.random import default_rng

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
SYSTEMS = 64 // SHRINK
SIZE = 300


def solve(seed):
    rng = default_rng(seed)
    matrix = rng.random((SIZE, SIZE)) + SIZE * np.eye(SIZE)
    return float(np.linalg.solve(matrix @ matrix.T, rng.random(SIZE)).sum())


def asked():
    with Pool(4) as pool:
        return sum(pool.map(solve, range(SYSTEMS)))  # <- here


def one_thread():
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def fixed():
    with Pool(2, initializer=one_thread) as pool:
        return sum(pool.map(solve, range(SYSTEMS)))


def serial():
    return sum(map(solve, range(SYSTEMS)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(f"{ ({'asked': asked, 'fixed': fixed, 'serial': serial}[variant]()):.6f}")
