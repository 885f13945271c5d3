"""To save overhead I give Pool.map a chunksize of half of my list, so that each of the two workers gets one piece
of work. The jobs are sorted by size. One core is idle for more than half of the time."""

import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
SIZES = [n * n * n // (14 * SHRINK) for n in range(120)]


def align(size):
    a, b = 0, 1
    for n in range(size * 4):
        a, b = b, (a + b * n) % 1_000_003
    return a


def asked():
    with Pool(2) as pool:
        return sum(pool.map(align, SIZES, chunksize=len(SIZES) // 2))  # <- here


def fixed():
    with Pool(2) as pool:
        return sum(pool.map(align, SIZES, chunksize=1))


def serial():
    return sum(map(align, SIZES))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
