"""The workloads: functions, and inputs for them. At module level, so that pools can pickle them by name."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def tiny(x: int) -> int:
    return x + 1


def square(x: int) -> int:
    return x * x


def total(values: list[int]) -> int:
    return len(values) + values[0]


def spin(count: int) -> int:
    """Pure Python, about 40 ns a round."""
    result = 0
    for i in range(count):
        result += i & 7
    return result


def text(number: int) -> str:
    return ",".join(str(number + i) for i in range(20))


def words(line: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in line.split():
        counts[word] = counts.get(word, 0) + 1
    return counts


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def deflate(data: bytes) -> int:
    return len(zlib.compress(data, 1))


def norm(array: np.ndarray) -> float:
    return float(np.sqrt(np.sum(array * array)))


def sines(array: np.ndarray) -> np.ndarray:
    return np.sin(array)


def zeros(count: int) -> np.ndarray:
    return np.full(count, 1.5)


def add(array: np.ndarray) -> np.ndarray:
    return array + 1.0


def pick(array: np.ndarray) -> float:
    return float(array[17])


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def half(seconds: float) -> int:
    """Sleeps for one half of its time and computes for the other."""
    time.sleep(seconds / 2)
    return spin(int(seconds / 2 / 40e-9))


def hash_and_spin(data: bytes) -> int:
    """Without the interpreter's lock for one half of its time."""
    return len(hashlib.sha256(data).digest()) + spin(5000)


def lookup(table: dict[int, int], x: int) -> int:
    result = 0
    for i in range(200):
        result += table.get(x + i, 0)
    return result


def dot(matrix: np.ndarray, row: int) -> float:
    return float(matrix[row % len(matrix)].sum()) + spin(2000)


def offset(by: int) -> Callable[[int], int]:
    return lambda x: spin(2000) + x + by


class Model:
    """For bound methods."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def score(self, x: int) -> int:
        return spin(self.rounds) + x


@dataclasses.dataclass(frozen=True)
class Cell:
    """One workload.

    Attributes:
        id, kind: for the table.
        make: returns function and input; called outside of the clock, for each round and rival where the input is used
            up by a run, else once.
        once: whether the input is used up (a generator).
        pickles: whether the standard library's pools can take it.
        sleeps: whether a thread pool of 32 is one of the ways in hindsight.
    """

    id: str
    kind: str
    make: Callable[[], tuple[Callable[..., Any], Any]]
    once: bool = False
    pickles: bool = True
    sleeps: bool = False


def _skewed(count: int, mean: int) -> list[int]:
    """Costs with a heavy tail, the same each time."""
    state, costs = 12345, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        doublings = 0
        while (state >> (40 + doublings)) % 100 < 45 and doublings < 7:
            doublings += 1
        costs.append(mean // 4 << doublings)
    return costs


def _numbers(count: int) -> Iterator[int]:
    yield from range(count)


def _lists(count: int) -> list[list[int]]:
    return [[i, i + 1, i + 2] for i in range(count)]


def _blobs(count: int, size: int) -> list[bytes]:
    return [bytes([i % 251]) * size for i in range(count)]


def _arrays(count: int, size: int) -> list[np.ndarray]:
    return [np.full(size, float(i)) for i in range(count)]


MATRIX_ROWS = 800

CELLS: tuple[Cell, ...] = (
    # pure Python, from 50 ns to 100 ms
    Cell("tiny-1m", "50 ns, 1,000,000 items", lambda: (tiny, range(1_000_000))),
    Cell("tiny-3", "50 ns, 3 items", lambda: (tiny, [1, 2, 3])),
    Cell("tiny-1k", "50 ns, 1,000 items", lambda: (tiny, list(range(1000)))),
    Cell("square-100k", "50 ns, 100,000 items", lambda: (square, list(range(100_000)))),
    Cell("lists-500k", "100 ns, 500,000 short lists", lambda: (total, _lists(500_000))),
    Cell("spin-2us-100k", "2 us, 100,000 items", lambda: (spin, [50] * 100_000)),
    Cell("text-20k", "4 us, 20,000 items, text out", lambda: (text, range(20_000))),
    Cell("words-20k", "10 us, 20,000 lines, dicts out", lambda: (words, ["the quick brown fox jumps " * 8] * 20_000)),
    Cell("spin-20us-10k", "20 us, 10,000 items", lambda: (spin, [500] * 10_000)),
    Cell("spin-200us-2k", "200 us, 2,000 items", lambda: (spin, [5000] * 2000)),
    Cell("spin-200us-20", "200 us, 20 items", lambda: (spin, [5000] * 20)),
    Cell("spin-1ms-400", "1 ms, 400 items", lambda: (spin, [25_000] * 400)),
    Cell("spin-1ms-8", "1 ms, 8 items", lambda: (spin, [25_000] * 8)),
    Cell("spin-10ms-40", "10 ms, 40 items", lambda: (spin, [250_000] * 40)),
    Cell("spin-10ms-4", "10 ms, 4 items", lambda: (spin, [250_000] * 4)),
    Cell("spin-100ms-3", "100 ms, 3 items", lambda: (spin, [2_500_000] * 3)),
    Cell("spin-100ms-4", "100 ms, 4 items", lambda: (spin, [2_500_000] * 4)),
    Cell("spin-100ms-7", "100 ms, 7 items", lambda: (spin, [2_500_000] * 7)),
    # skew and drift
    Cell("skewed-2k", "heavy tail, 2,000 items", lambda: (spin, _skewed(2000, 4000))),
    Cell("bimodal-4k", "5 % are 200 times dearer", lambda: (spin, [100 if i % 20 else 20_000 for i in range(4000)])),
    Cell("dear-tail", "the last 2 % dearest", lambda: (spin, [50] * 9800 + [25_000] * 200)),
    Cell("dear-head", "the first 2 % dearest", lambda: (spin, [25_000] * 200 + [50] * 9800)),
    Cell("rising", "cost rises along the input", lambda: (spin, list(range(0, 8000, 4)))),
    Cell("one-long", "one item is half of the work", lambda: (spin, [2000] * 1000 + [2_000_000])),
    # lets go of the interpreter's lock
    Cell("sha-1mb-100", "hashlib, 1 MB in", lambda: (digest, _blobs(100, 1_000_000))),
    Cell("sha-64k-2k", "hashlib, 64 kB in", lambda: (digest, _blobs(2000, 65_536))),
    Cell("sha-50mb-4", "hashlib, 50 MB in", lambda: (digest, _blobs(4, 50_000_000))),
    Cell("zlib-1mb-60", "zlib, 1 MB in", lambda: (deflate, _blobs(60, 1_000_000))),
    Cell("norm-8mb-40", "numpy reduction, 8 MB in", lambda: (norm, _arrays(40, 1_000_000))),
    Cell("sin-8mb-20", "numpy, 8 MB in and out", lambda: (sines, _arrays(20, 1_000_000))),
    Cell("mixed-lock-1k", "half of it without the lock", lambda: (hash_and_spin, _blobs(1000, 100_000))),
    # sleeps
    Cell("sleep-1ms-400", "sleeps 1 ms, 400 items", lambda: (sleep, [0.001] * 400), sleeps=True),
    Cell("sleep-10ms-60", "sleeps 10 ms, 60 items", lambda: (sleep, [0.01] * 60), sleeps=True),
    Cell("sleep-100ms-12", "sleeps 100 ms, 12 items", lambda: (sleep, [0.1] * 12), sleeps=True),
    Cell("half-4ms-150", "4 ms, half of it asleep", lambda: (half, [0.004] * 150), sleeps=True),
    # payloads
    Cell("zeros-8mb-30", "8 MB out, cheap", lambda: (zeros, [1_000_000] * 30)),
    Cell("add-50mb-4", "50 MB in and out, cheap", lambda: (add, _arrays(4, 6_250_000))),
    Cell("pick-8mb-50", "8 MB in, next to no work", lambda: (pick, _arrays(50, 1_000_000))),
    # large captured constants
    Cell(
        "table-3k", "a dict of 200,000 entries captured",
        lambda: (functools.partial(lookup, {i: i for i in range(200_000)}), range(3000)),
    ),
    Cell(
        "matrix-2k", "a 51 MB array captured",
        lambda: (functools.partial(dot, np.ones((MATRIX_ROWS, 8000))), range(2000)),
    ),
    # kinds of functions and inputs
    Cell("lambda-2k", "a lambda, 80 us", lambda: (lambda x: spin(2000) + x, range(3000)), pickles=False),
    Cell("closure-2k", "a closure, 80 us", lambda: (offset(3), range(3000)), pickles=False),
    Cell("method-2k", "a bound method, 80 us", lambda: (Model(2000).score, range(3000))),
    Cell("generator-2us", "a generator of 50,000, 2 us", lambda: (spin_small, _numbers(50_000)), once=True),
    Cell("generator-400us", "a generator of 800, 400 us", lambda: (spin_400us, _numbers(800)), once=True),
)  # fmt: skip


def spin_small(x: int) -> int:
    return spin(50) + x


def spin_400us(x: int) -> int:
    return spin(10_000) + x
