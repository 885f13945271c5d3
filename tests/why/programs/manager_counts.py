"""I count words with two processes and a Manager().dict(), guarded by a lock so that no count gets lost. 4,000
words take over a second. The same with a plain dict and no processes takes a millisecond. Am I using Manager
wrongly?"""

import sys
from multiprocessing import Lock, Manager, Process

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
WORDS = 4_000 // SHRINK


def text(number):
    return [f"word{(n * n + number * 13) % 97}" for n in range(WORDS)]


def count(counts, lock, number):
    for word in text(number):
        with lock:
            counts[word] = counts.get(word, 0) + 1  # <- here


def count_first(counts, lock, number):
    mine = {}
    for word in text(number):
        mine[word] = mine.get(word, 0) + 1
    with lock:
        for word, n in mine.items():
            counts[word] = counts.get(word, 0) + n


def in_processes(target):
    with Manager() as manager:
        counts, lock = manager.dict(), Lock()
        processes = [Process(target=target, args=(counts, lock, number)) for number in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return sorted(counts.items())[:5]


def asked():
    return in_processes(count)


def fixed():
    return in_processes(count_first)


def serial():
    counts = {}
    for number in range(2):
        for word in text(number):
            counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items())[:5]


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
