"""120 requests to a slow service, one thread for each, all at once. A loop takes a minute, this takes less than a
second. A reviewer says that I should use multiprocessing because of the GIL. Should I?

(The service is a sleep here.)"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
REQUESTS = 120 // SHRINK


def request(number):
    time.sleep(0.5 / SHRINK + number % 7 * 0.02)
    return number * 37 % 101


def asked():
    with ThreadPoolExecutor(REQUESTS) as executor:
        return sum(executor.map(request, range(REQUESTS)))


def processes():
    with ProcessPoolExecutor(40) as executor:
        return sum(executor.map(request, range(REQUESTS)))


def fewer_threads():
    with ThreadPoolExecutor(REQUESTS // 2) as executor:
        return sum(executor.map(request, range(REQUESTS)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(globals()[variant]())
