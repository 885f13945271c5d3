"""apply_async does not seem to be asynchronous: my jobs run one after the other, though the pool has two
processes."""

import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def simulate(seed, steps):
    value = seed
    for _ in range(steps // SHRINK):
        value = value * 1_103_515_245 + 12_345 & 0x7FFFFFFF
    return value


def asked():
    total = 0
    with Pool(processes=2) as pool:
        for seed in range(12):
            result = pool.apply_async(simulate, (seed, 1_000_000))  # <- here
            total += result.get()  # <- here
    return total


def fixed():
    with Pool(processes=2) as pool:
        results = [pool.apply_async(simulate, (seed, 1_000_000)) for seed in range(12)]
        return sum([result.get() for result in results])


def serial():
    return sum([simulate(seed, 1_000_000) for seed in range(12)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
