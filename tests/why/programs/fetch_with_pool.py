"""I download pages with Pool(2), since I have two cores, and it is twice as fast as a loop. A colleague says that
with threads it would be far faster. But threads cannot run in parallel in Python because of the GIL, right?

(The network is a sleep here.)"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
PAGES = 60 // SHRINK


def fetch(page):
    time.sleep(0.03 + page % 5 * 0.01)
    return sum(f"page {page} ".encode() * 500)


def asked():
    with Pool(2) as pool:
        return sum(pool.map(fetch, range(PAGES), chunksize=1))  # <- here


def fixed():
    with ThreadPoolExecutor(PAGES) as executor:
        return sum(executor.map(fetch, range(PAGES)))


def serial():
    return sum(map(fetch, range(PAGES)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
