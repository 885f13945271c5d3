"""Managers: an operation on a shared container from another process than its creator, ours and the standard library's.

    python bench/managers.py [ROUNDS]

Interleaved; prints medians in microseconds and their ratio.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import breakeven

CONTESTANTS: dict[str, tuple[Any, int]] = {"ours": (breakeven, 20_000), "stdlib": (multiprocessing, 500)}


def set_key(d: Any, values: Any, number: Any, i: int) -> None:
    d["key"] = i


def get_key(d: Any, values: Any, number: Any, i: int) -> None:
    d["key"]


def append(d: Any, values: Any, number: Any, i: int) -> None:
    values.append(i)


def add(d: Any, values: Any, number: Any, i: int) -> None:
    number.value += 1


OPERATIONS: list[Callable[..., None]] = [set_key, get_key, append, add]


def measure(d: Any, values: Any, number: Any, queue: Any, times: int) -> None:
    found = {}
    for operation in OPERATIONS:
        operation(d, values, number, 0)
        begin = time.perf_counter()
        for i in range(times):
            operation(d, values, number, i)
        found[operation.__name__] = (time.perf_counter() - begin) / times * 1e6
    queue.put(found)


def main(rounds: int) -> None:
    rows: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for name, (module, times) in CONTESTANTS.items():
            begin = time.perf_counter()
            with module.Manager() as manager:
                d = manager.dict()
                found = {"ready for use": (time.perf_counter() - begin) * 1e6}
                values, number, queue = manager.list(), manager.Value("i", 0), module.Queue()
                process = module.Process(target=measure, args=(d, values, number, queue, times))
                process.start()
                found.update(queue.get())
                process.join()
            for row, value in found.items():
                rows.setdefault(row, {}).setdefault(name, []).append(value)
    for row, by_name in rows.items():
        ours, stdlib = (statistics.median(by_name[name]) for name in CONTESTANTS)
        print(f"{row:14s} ours {ours:8.2f} us   stdlib {stdlib:9.1f} us   {stdlib / ours:5.0f} x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
