"""I put Parallel(n_jobs=2) around a loop that takes 50 ms. It takes most of a second now. I thought joblib was
clever about small tasks?"""

import math
import sys

from joblib import Parallel, delayed

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1


def area(n):
    return sum(math.sqrt(4 - (4 * k / 500) ** 2) if 4 * k < 1000 else 0.0 for k in range(500)) * (n % 7)


def asked():
    return sum(Parallel(n_jobs=2)(delayed(area)(n) for n in range(600 // SHRINK)))  # <- here


def fixed():
    return serial()


def serial():
    return sum([area(n) for n in range(600 // SHRINK)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(f"{ ({'asked': asked, 'fixed': fixed, 'serial': serial}[variant]()):.6f}")
