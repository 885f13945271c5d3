"""ThreadPoolExecutor with 4 threads for counting primes. It takes as long as a single thread, sometimes longer,
and top shows 100 % where I expected 200 %. I have a two-core machine."""

import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
RANGES = [range(first, first + 8_000 // SHRINK) for first in range(1_000_000, 1_384_000, 8_000)]


def is_prime(n):
    if n % 2 == 0:
        return n == 2
    d = 3
    while d * d <= n:
        if n % d == 0:
            return False
        d += 2
    return True


def count(numbers):
    return sum([is_prime(n) for n in numbers])


def asked():
    with ThreadPoolExecutor(4) as executor:
        return sum(executor.map(count, RANGES))  # <- here


def fixed():
    with ProcessPoolExecutor(2) as executor:
        return sum(executor.map(count, RANGES))


def serial():
    return sum(map(count, RANGES))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
