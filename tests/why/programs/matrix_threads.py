"""Eight threads, each multiplies matrices with NumPy, which releases the GIL. It does use both cores, but a loop
with one thread is faster?! The matrices are 220 x 220."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
STEPS = 60 // SHRINK
SIZE = 220


def power(seed):
    matrix = np.random.default_rng(seed).random((SIZE, SIZE)) / SIZE
    result = matrix
    for _ in range(STEPS):
        result = result @ matrix * 2
    return float(np.trace(result))


def asked():
    with ThreadPoolExecutor(8) as threads:
        return sum(threads.map(power, range(24)))  # <- here


def fixed():
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), ThreadPoolExecutor(2) as threads:
        return sum(threads.map(power, range(24)))


def serial():
    return sum(map(power, range(24)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(f"{ ({'asked': asked, 'fixed': fixed, 'serial': serial}[variant]()):.9f}")
