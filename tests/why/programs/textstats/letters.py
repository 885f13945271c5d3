"""I start one threading.Thread per chapter to count letter pairs, and they put their results in a list. The
threads do run at the same time (I print from them), but the whole takes just as long as without. Run as `python
-m textstats.letters`."""

import sys
import threading
from multiprocessing import Pool

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
CHAPTERS = 8
LETTERS = 1_200_000 // SHRINK


def chapter(number):
    return bytes([97 + (n * n + number * 31) % 26 for n in range(1_000)]).decode() * (LETTERS // 1_000)


def pairs(number):
    text, counts = chapter(number), {}
    for pair in zip(text, text[1:]):
        counts[pair] = counts.get(pair, 0) + 1
    return max(counts.values())


def pairs_into(results, number):
    results[number] = pairs(number)


def asked():
    results = [0] * CHAPTERS
    threads = [threading.Thread(target=pairs_into, args=(results, number)) for number in range(CHAPTERS)]
    for thread in threads:
        thread.start()  # <- here
    for thread in threads:
        thread.join()  # <- here
    return results


def fixed():
    with Pool(2) as pool:
        return pool.map(pairs, range(CHAPTERS), chunksize=1)


def serial():
    return [pairs(number) for number in range(CHAPTERS)]


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
