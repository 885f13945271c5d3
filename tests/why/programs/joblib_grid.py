"""joblib.Parallel(n_jobs=2) over the cells of a parameter grid, each takes about 0.1 s. It is nearly twice as
fast as the loop. Would backend="threading" or another batch_size be better?"""

import sys
from itertools import product

from joblib import Parallel, delayed

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
GRID = list(product((0.1, 0.3, 0.5, 0.7), (1, 2, 3, 4), (0, 1)))


def fit(rate, depth, seed):
    weight, loss = seed + 0.5, 0.0
    for step in range(900_000 // SHRINK):
        error = (step * depth % 17) * 0.1 - weight
        weight += rate * error * 0.01
        loss += error * error
    return loss


def asked():
    return min(Parallel(n_jobs=2)(delayed(fit)(*cell) for cell in GRID))


def batches():
    return min(Parallel(n_jobs=2, batch_size=4)(delayed(fit)(*cell) for cell in GRID))


def threads():
    return min(Parallel(n_jobs=2, backend="threading")(delayed(fit)(*cell) for cell in GRID))


def serial():
    return min(fit(*cell) for cell in GRID)


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(f"{globals()[variant]():.6f}")
