"""One cell, all rounds, in a process of its own: every rival in turns, each result compared with the loop's.

python -m bench.regret.sample CELL ROUNDS OUT [RIVAL,...]
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.order import interleave
from bench.regret.grid import CELLS, Cell

# A rival is cut off after so many times the best time so far, or after so many seconds where that is more.
CUT = 10.0
LEAST = 0.3

ORACLES = ("loop", "threads", "threads-32", "pool-1", "pool", "pool-n")
OURS = "breakeven"
PEERS = ("joblib", "mpire")


class TooLong(BaseException):
    """The alarm."""


def _alarm(*_: object) -> None:
    raise TooLong


def _workers() -> int:
    return len(os.sched_getaffinity(0))


def _loop(function: Callable[..., Any], items: Any) -> list[Any]:
    return [function(item) for item in items]


def _threads(count: int | None) -> Callable[..., list[Any]]:
    def run(function: Callable[..., Any], items: Any) -> list[Any]:
        pool = concurrent.futures.ThreadPoolExecutor(count)
        try:
            return list(pool.map(function, items))
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def _pool(chunk: Callable[[int], int | None]) -> Callable[..., list[Any]]:
    def run(function: Callable[..., Any], items: Any) -> list[Any]:
        with multiprocessing.get_context("fork").Pool(_workers()) as pool:
            items = items if hasattr(items, "__len__") else list(items)
            return pool.map(function, items, chunksize=chunk(len(items)))

    return run


def _joblib(function: Callable[..., Any], items: Any) -> list[Any]:
    import joblib

    return joblib.Parallel(n_jobs=_workers())(joblib.delayed(function)(item) for item in items)


def _mpire(function: Callable[..., Any], items: Any) -> list[Any]:
    import mpire

    with mpire.WorkerPool(_workers()) as pool:
        items = items if hasattr(items, "__len__") else list(items)
        return pool.map(function, items, concatenate_numpy_output=False)


def _breakeven(function: Callable[..., Any], items: Any) -> list[Any]:
    import breakeven

    return breakeven.map(function, items)


RIVALS: dict[str, Callable[..., list[Any]]] = {
    "loop": _loop,
    "threads": _threads(None),
    "threads-32": _threads(32),
    "pool-1": _pool(lambda _: 1),
    "pool": _pool(lambda _: None),
    "pool-n": _pool(lambda count: max(1, -(-count // _workers()))),
    "joblib": _joblib,
    "mpire": _mpire,
    OURS: _breakeven,
}


def same(one: list[Any], other: list[Any]) -> bool:
    """Whether two lists of results are equal, arrays by their elements."""
    if len(one) != len(other):
        return False
    if one and isinstance(one[0], np.ndarray):
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def rivals_of(cell: Cell, asked: list[str] | None) -> list[str]:
    names = []
    for name in RIVALS:
        if asked is not None and name not in asked and name != "loop":
            continue
        if name == "threads-32" and not cell.sleeps:
            continue
        if not cell.pickles and name in ("pool-1", "pool", "pool-n"):
            continue
        if name in PEERS:
            try:
                __import__(name)
            except ImportError:
                continue
        names.append(name)
    return names


def measure(cell: Cell, rounds: int, asked: list[str] | None) -> dict[str, Any]:
    signal.signal(signal.SIGALRM, _alarm)
    function, items = cell.make()
    expected = _loop(function, items)
    names = rivals_of(cell, asked)
    times: dict[str, list[float]] = {name: [] for name in names}
    remarks: dict[str, str] = {}
    best = float("inf")
    # One small map of each, so that imports and templates are not what is compared.
    for name in names:
        try:
            RIVALS[name](spin_once, [1, 2, 3])
        except Exception:
            remarks[name] = traceback.format_exc(limit=3)
    for _, name in interleave(names, dict.fromkeys(names, rounds)):
        if name in remarks:
            continue
        if cell.once:
            function, items = cell.make()
        if name == OURS or name == "loop":
            limit = 60.0
        else:
            limit = max(LEAST, CUT * best)
        result: list[Any] | None = None
        begun = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            result = RIVALS[name](function, items)
            took = time.perf_counter() - begun
            signal.setitimer(signal.ITIMER_REAL, 0)
        except TooLong:
            remarks[name] = f"cut off after {limit:.2f} s"
            continue
        except Exception:
            remarks[name] = traceback.format_exc(limit=3)
            continue
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not same(result, expected):
            remarks[name] = "WRONG RESULTS"
            continue
        del result
        times[name].append(took)
        if name in ORACLES:
            best = min(best, took)
    answer: dict[str, Any] = {"times": times, "remarks": remarks}
    try:
        import breakeven

        plan = breakeven.last()
        if plan is not None:
            answer["plan"] = {"reason": plan.reason, "ran": plan.ran, "decisions": plan.decisions}
    except Exception:
        answer["plan"] = None
    return answer


def spin_once(x: int) -> int:
    return x


def main() -> None:
    cell = next(cell for cell in CELLS if cell.id == sys.argv[1])
    asked = sys.argv[4].split(",") if len(sys.argv) > 4 else None
    try:
        answer = measure(cell, int(sys.argv[2]), asked)
    except BaseException:
        answer = {"error": traceback.format_exc()}
    with open(sys.argv[3], "w") as out:
        json.dump(answer, out)
    # What a rival that was cut off has left behind is not waited for.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
