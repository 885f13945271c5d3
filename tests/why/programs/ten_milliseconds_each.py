"""imap_unordered over 200 small images, about ten milliseconds for each, a message to and fro for every one of them. I
get 1.8 times the speed of the loop. I read that tasks should take a second; would chunks help?"""

import sys
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
IMAGES = 200 // SHRINK


def contrast(number):
    darkest, lightest = 255, 0
    for pixel in range(110_000):
        value = (pixel * 31 + number * 17) % 253
        if value < darkest:
            darkest = value
        elif value > lightest:
            lightest = value
    return lightest - darkest


def in_chunks(chunksize):
    with Pool(2) as pool:
        return sum(pool.imap_unordered(contrast, range(IMAGES), chunksize))


def asked():
    return in_chunks(1)


def chunks():
    return in_chunks(10)


def serial():
    return sum(map(contrast, range(IMAGES)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(globals()[variant]())
