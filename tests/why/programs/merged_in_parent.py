"""The slow part of my program, finding the candidates, runs in a ProcessPoolExecutor with a good speed-up (I
measured it). The program as a whole is hardly faster. All it does besides is ranking the results as they come in."""

import sys
from concurrent.futures import ProcessPoolExecutor

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
REGIONS = 40


def candidates(region):
    state, found = region, []
    for n in range(60_000):
        state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
        if n % (70 * SHRINK) == 0:
            found.append(state % 10_007)
    return found


def rank(found):
    """Each candidate against each other one."""
    return [sum([a > b and (a - b) % 7 < 3 for b in found]) for a in found]


def candidates_and_ranks(region):
    return rank(candidates(region))


def asked():
    ranks = 0
    with ProcessPoolExecutor(2) as executor:
        for found in executor.map(candidates, range(REGIONS)):  # <- here
            ranks += sum(rank(found))  # <- here
    return ranks


def fixed():
    with ProcessPoolExecutor(2) as executor:
        return sum([sum(ranks) for ranks in executor.map(candidates_and_ranks, range(REGIONS))])


def serial():
    return sum([sum(candidates_and_ranks(region)) for region in range(REGIONS)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
