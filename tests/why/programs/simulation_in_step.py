"""My simulation cuts the field into 16 strips, one process for each, and a Barrier keeps them in step. With 16
processes it is much slower than with 2. More strips mean less work for each, so it should be the other way round?"""

import sys
from multiprocessing import Barrier, Process, RawArray

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
CELLS = 8_000
STEPS = 800 // SHRINK


def advance(field, strip):
    for cell in strip:
        field[cell] = (field[cell] * 3 + cell) % 997


def simulate(field, strip, barrier):
    for _ in range(STEPS):
        advance(field, strip)
        barrier.wait()  # <- here


def in_processes(count):
    field, barrier = RawArray("l", CELLS), Barrier(count)
    strips = [range(n * CELLS // count, (n + 1) * CELLS // count) for n in range(count)]
    processes = [Process(target=simulate, args=(field, strip, barrier)) for strip in strips]
    for process in processes:
        process.start()  # <- here
    for process in processes:
        process.join()
    return sum(field)


def asked():
    return in_processes(16)


def fixed():
    return in_processes(2)


def serial():
    field = RawArray("l", CELLS)
    for _ in range(STEPS):
        advance(field, range(CELLS))
    return sum(field)


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
