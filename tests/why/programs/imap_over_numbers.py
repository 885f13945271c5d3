"""Why is Pool.imap so much slower than map()? I have 30,000 numbers and a function that takes perhaps ten
microseconds for each. I use imap instead of Pool.map because I want to show progress."""

import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
NUMBERS = range(30_000 // SHRINK)


def collatz(n):
    n += 1
    steps = 0
    while n != 1 and steps < 40:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def asked():
    total = 0
    with Pool() as pool:
        for steps in pool.imap(collatz, NUMBERS):  # <- here
            total += steps
    return total


def fixed():
    total = 0
    with Pool() as pool:
        for steps in pool.imap(collatz, NUMBERS, chunksize=1_000):
            total += steps
    return total


def serial():
    return sum(map(collatz, NUMBERS))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
