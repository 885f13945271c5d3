"""My function parallel_sum() uses a Pool inside, so that the caller need not care. It is called for each row of a
table, and it is slower than sum(). The row is split among the cores, so what is wrong?"""

import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
ROWS = 100 // SHRINK
LENGTH = 20_000


def row(number):
    return [number * n % 1009 for n in range(LENGTH)]


def squares(numbers):
    return sum([number * number for number in numbers])


def parallel_sum(numbers):
    half = len(numbers) // 2
    with Pool(2) as pool:  # <- here
        return sum(pool.map(squares, [numbers[:half], numbers[half:]]))


def asked():
    return sum([parallel_sum(row(number)) for number in range(ROWS)])


def fixed():
    total, half = 0, LENGTH // 2
    with Pool(2) as pool:
        for numbers in map(row, range(ROWS)):
            total += sum(pool.map(squares, [numbers[:half], numbers[half:]]))
    return total


def serial():
    return sum([squares(row(number)) for number in range(ROWS)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
