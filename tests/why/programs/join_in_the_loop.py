"""I start a Process for each of my simulations, but only one of my cores is busy at a time. Do I have to set the
affinity?"""

import sys
from multiprocessing import Pipe, Process

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
RUNS = 8


def simulate(connection, seed):
    value = seed
    for _ in range(1_500_000 // SHRINK):
        value = value * 1_103_515_245 + 12_345 & 0x7FFFFFFF
    connection.send(value)


def asked():
    here, there = Pipe(duplex=False)
    total = 0
    for seed in range(RUNS):
        process = Process(target=simulate, args=(there, seed))
        process.start()  # <- here
        process.join()  # <- here
        total += here.recv()
    return total


def fixed():
    here, there = Pipe(duplex=False)
    total = 0
    for seed in range(0, RUNS, 2):
        processes = [Process(target=simulate, args=(there, seed + n)) for n in range(2)]
        for process in processes:
            process.start()
        total += sum([here.recv() for _ in processes])
        for process in processes:
            process.join()
    return total


def serial():
    here, there = Pipe(duplex=False)
    total = 0
    for seed in range(RUNS):
        simulate(there, seed)
        total += here.recv()
    return total


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
