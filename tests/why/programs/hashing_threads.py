"""I compute checksums of large blocks with threads, although everybody says that threads are useless in Python.
It is nearly twice as fast as the loop. Would processes be better still?"""

import hashlib
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
BLOCK = bytes(range(256)) * (8 << 10)


def checksum(number):
    digest = hashlib.sha512(number.to_bytes(4, "big"))
    for _ in range(20 // SHRINK):
        digest.update(BLOCK)
        number = zlib.crc32(BLOCK, number)
    return int(digest.hexdigest()[:8], 16) ^ number


def asked():
    with ThreadPoolExecutor(2) as executor:
        return sum(executor.map(checksum, range(40)))


def more_threads():
    with ThreadPoolExecutor(8) as executor:
        return sum(executor.map(checksum, range(40)))


def processes():
    with Pool(2) as pool:
        return sum(pool.map(checksum, range(40)))


def serial():
    return sum(map(checksum, range(40)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print(globals()[variant]())
