"""ProcessPoolExecutor with "spawn" (we have threads, so no fork). My script reads its reference data at the top
of the file, and it looks as if it read them again and again: with four workers it takes three times as long as
without."""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def reference(size):
    rows = {}
    for number in range(size):
        rows[f"{number:07d}"[::-1]] = f"{number * 31 % 997}/{number % 89}"
    return rows


table = reference(500_000 // SHRINK)  # <- here


def look_up(key):
    return sum(int(table[f"{(key + n) % len(table):07d}"[::-1]].partition("/")[0]) for n in range(2_000))


def asked():
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as executor:  # <- here
        return sum(executor.map(look_up, range(40), chunksize=10))


def fixed():
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as executor:
        return sum(executor.map(look_up, range(40), chunksize=10))


def serial():
    return sum([look_up(key) for key in range(40)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
