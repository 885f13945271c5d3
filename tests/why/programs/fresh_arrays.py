"""Each task blends two layers of 32 MB and returns one number. Two workers should take half the time of one,
NumPy needs no GIL in another process anyway. But top shows half of the CPU time as system time. What is the
system doing?"""

import sys
from multiprocessing import Pool

import numpy as np

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
TASKS = 100 // SHRINK
SIZE = 4 << 20

layers = None


def blend(number):
    lower = np.full(SIZE, float(number))  # <- here
    upper = lower * 0.5  # <- here
    both = lower + upper  # <- here
    return float(both[:: SIZE // 8].sum())


def prepare():
    global layers
    layers = [np.zeros(SIZE) for _ in range(3)]


def blend_in_place(number):
    lower, upper, both = layers
    lower.fill(number)
    np.multiply(lower, 0.5, out=upper)
    np.add(lower, upper, out=both)
    return float(both[:: SIZE // 8].sum())


def asked():
    with Pool(2) as pool:
        return sum(pool.map(blend, range(TASKS)))  # <- here


def fixed():
    with Pool(2, initializer=prepare) as pool:
        return sum(pool.map(blend_in_place, range(TASKS)))


def serial():
    return sum(map(blend, range(TASKS)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
