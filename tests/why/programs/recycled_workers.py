"""Pool with maxtasksperchild=1 and an initializer that loads our dictionary of place names. Without a pool the
tool needs half a second, with the pool several. The tasks themselves are quick. I set maxtasksperchild because of a
library that leaks."""

import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
QUERIES = 48 // SHRINK

names = {}


def load():
    """What a real program reads from a file."""
    for number in range(120_000 // SHRINK):
        name = f"{number * 7919 % 1_000_003:x}"
        names[name] = (number % 180 - 90, number % 360 - 180)


def nearest(query):
    best = None
    for step in range(3_000):
        found = names.get(f"{(query * 31 + step) * 7919 % 1_000_003:x}")
        if found is not None and (best is None or found < best):
            best = found
    return best


def summary(places):
    return sum(latitude * 1000 + longitude for latitude, longitude in filter(None, places))


def asked():
    with Pool(2, initializer=load, maxtasksperchild=1) as pool:  # <- here
        return summary(pool.map(nearest, range(QUERIES), chunksize=4))


def fixed():
    with Pool(2, initializer=load) as pool:
        return summary(pool.map(nearest, range(QUERIES), chunksize=4))


def serial():
    load()
    return summary([nearest(query) for query in range(QUERIES)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
