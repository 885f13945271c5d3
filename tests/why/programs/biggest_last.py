"""I convert 21 videos with a ProcessPoolExecutor. At the end one worker is always busy for a long time with the
big one while the other does nothing. Two workers give me a speed-up of 1.3 only."""

import sys
from concurrent.futures import ProcessPoolExecutor

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
MINUTES = [1] * 20 + [20]  # as they lie in the folder: the small ones first


def convert(minutes):
    state = minutes
    for _ in range(minutes * 400_000 // SHRINK):
        state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
    return state


def asked():
    with ProcessPoolExecutor(2) as executor:
        return sum(executor.map(convert, MINUTES))  # <- here


def fixed():
    with ProcessPoolExecutor(2) as executor:
        return sum(executor.map(convert, sorted(MINUTES, reverse=True)))


def serial():
    return sum(map(convert, MINUTES))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
