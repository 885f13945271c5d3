"""A Queue cannot be passed to Pool.map ("should only be shared through inheritance"), Manager().Queue() can, so
my tasks report each row they finished through one of those. It works, but the progress report costs more than the
work."""

import sys
from multiprocessing import Manager, Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
SHEETS = 16
ROWS = 800 // SHRINK


def row(sheet, number):
    return sum([(sheet * 31 + number * cell) % 101 for cell in range(40)])


def process(sheet, progress):
    total = 0
    for number in range(ROWS):
        total += row(sheet, number)
        progress.put((sheet, number))  # <- here
    return total


def process_quietly(sheet, progress):
    total = sum([row(sheet, number) for number in range(ROWS)])
    progress.put((sheet, ROWS))
    return total


def in_pool(task, reports):
    with Manager() as manager, Pool(2) as pool:
        progress = manager.Queue()
        result = pool.starmap_async(task, [(sheet, progress) for sheet in range(SHEETS)], chunksize=1)
        for _ in range(reports):
            progress.get()  # <- here
        return sum(result.get())


def asked():
    return in_pool(process, SHEETS * ROWS)


def fixed():
    return in_pool(process_quietly, SHEETS)


def serial():
    return sum([row(sheet, number) for sheet in range(SHEETS) for number in range(ROWS)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
