"""Word counts of many short documents, each worker keeping its own running count.

Fault it shows: granularity, with state. The counts stay in the workers, as they should (sending a
Counter back per document would cost more than the counting), but imap_unordered sends document by
document, so that two pipe messages and their wake-ups carry a microsecond of work.

At the end every worker hands in its count. A Pool cannot address its workers, so the collecting tasks
meet at a barrier: none ends before each worker has taken exactly one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import threading
import time
import zlib
from collections import Counter

COLLECT_TIMEOUT = 60.0  # seconds until a worker that never came breaks the barrier for all

# A worker's state, put here by start_counting in each worker.
_counts: Counter[str] = Counter()
_stop_words: frozenset[str] = frozenset()
_meeting: threading.Barrier | None = None


def make_documents(count: int, words: int) -> list[str]:
    """Return `count` documents of `words` words each, frequent and rare ones, the same on every call."""
    rng = random.Random(2024)
    syllables = ["ka", "lo", "mi", "re", "su", "ta", "ven", "zor"]
    vocabulary = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(2000)]
    weights = [1.0 / rank for rank in range(1, len(vocabulary) + 1)]
    drawn = rng.choices(vocabulary, weights, k=count * words)
    return [" ".join(drawn[i * words : (i + 1) * words]) for i in range(count)]


def start_counting(stop_words: frozenset[str], meeting: threading.Barrier | None) -> None:
    global _stop_words, _meeting
    _counts.clear()
    _stop_words = stop_words
    _meeting = meeting


def count_document(document: str) -> int:
    """Add a document's words to this worker's count; return how many were counted."""
    words = [word for word in document.split() if word not in _stop_words]
    _counts.update(words)
    return len(words)


def hand_in(_: int) -> Counter[str]:
    if _meeting is not None:
        _meeting.wait(COLLECT_TIMEOUT)
    return _counts


def checksum(counts: Counter[str], counted: int) -> list[int]:
    """Return words counted, distinct words, and a CRC over every word with its count."""
    if counts.total() != counted:
        raise ValueError(f"{counted} words were counted, the workers handed in {counts.total()}")
    listing = "\n".join(f"{word} {count}" for word, count in sorted(counts.items()))
    return [counted, len(counts), zlib.crc32(listing.encode())]


def run_serial(documents: list[str], stop_words: frozenset[str]) -> list[int]:
    start_counting(stop_words, None)
    counted = sum(count_document(document) for document in documents)
    return checksum(hand_in(0), counted)


def run_parallel(documents: list[str], stop_words: frozenset[str], workers: int) -> list[int]:
    meeting = multiprocessing.Barrier(workers)
    with multiprocessing.Pool(workers, initializer=start_counting, initargs=(stop_words, meeting)) as pool:
        counted = sum(pool.imap_unordered(count_document, documents))
        counts: Counter[str] = Counter()
        for part in pool.map(hand_in, range(workers), chunksize=1):
            counts.update(part)
    return checksum(counts, counted)


def main() -> None:
    parser = argparse.ArgumentParser(description="Word counts: a loop against workers with state.")
    parser.add_argument("--mode", choices=["serial", "parallel"], default="parallel")
    parser.add_argument("--documents", type=int, default=50_000, help="how many documents (default: %(default)s)")
    parser.add_argument("--words", type=int, default=12, help="words per document (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="(default: the cores)")
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    args = parser.parse_args()
    if args.start_method:
        multiprocessing.set_start_method(args.start_method)

    documents = make_documents(args.documents, args.words)
    stop_words = frozenset({"ka", "lo", "mi"})
    started = time.perf_counter()
    if args.mode == "serial":
        result = run_serial(documents, stop_words)
    else:
        result = run_parallel(documents, stop_words, args.workers)
    seconds = time.perf_counter() - started
    print(json.dumps({"example": "word_counts", "mode": args.mode, "seconds": seconds, "result": result}))


if __name__ == "__main__":
    main()
