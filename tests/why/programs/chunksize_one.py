"""I read that chunksize=1 gives the best load balancing, so I set it in all my starmap calls. My grid search has
25,000 cells, each takes some microseconds. 25,000 is not much, is it?"""

import sys
from itertools import product
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
CELLS = list(product(range(250), range(100 // SHRINK)))


def error(a, b):
    return sum([(a * x + b - x * x) ** 2 for x in range(12)])


def asked():
    with Pool(2) as pool:
        return min(pool.starmap(error, CELLS, chunksize=1))  # <- here


def fixed():
    with Pool(2) as pool:
        return min(pool.starmap(error, CELLS))


def serial():
    return min([error(a, b) for a, b in CELLS])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
