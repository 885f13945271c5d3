"""Is there more to gain? I use Pool.map with its own chunk sizes for 400 independent computations, two workers on
two cores, and it takes a little more than half the time of the loop."""

import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def orbit(seed):
    x, y = seed * 0.0021, 0.3
    for _ in range(50_000 // SHRINK):
        x, y = 1 - 1.1 * x * x + y, 0.2 * x
    return round(x, 6)


def total(values):
    return round(sum(values), 6)


def asked():
    with Pool(2) as pool:
        return total(pool.map(orbit, range(400)))


def one_by_one():
    with Pool(2) as pool:
        return total(pool.map(orbit, range(400), chunksize=1))


def more_workers():
    with Pool(4) as pool:
        return total(pool.map(orbit, range(400)))


def threads():
    with ThreadPoolExecutor(2) as executor:
        return total(executor.map(orbit, range(400)))


def serial():
    return total(map(orbit, range(400)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(globals()[variant]())
