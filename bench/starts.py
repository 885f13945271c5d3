"""What starting costs: pools, processes, executors, locks, the interpreter's own end. Entered in WORKLOADS like the
rest; the names are the same in either module, so a rival is a module."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import machine, stats
from bench.tasks import nothing, square
from bench.workloads import ARTICLE_SHAPE, Metrics, check, now, workload


@dataclasses.dataclass(frozen=True)
class Starter:
    """A module with multiprocessing's names, and the one that has its executor."""

    name: str
    module: str
    executors: str
    distribution: str | None = None
    note: str = ""

    def context(self, method: str) -> Any:
        return importlib.import_module(self.module).get_context(method)

    def executor(self) -> Any:
        """ProcessPoolExecutor, the class."""
        return importlib.import_module(self.executors).ProcessPoolExecutor


STARTERS: dict[str, Starter] = {
    "stdlib": Starter("stdlib", "multiprocessing", "concurrent.futures"),
    "breakeven": Starter("breakeven", "breakeven", "breakeven", "breakeven"),
}
METHODS = ("fork", "forkserver", "spawn")
GB = 1 << 30

_BOTH: dict[str, Any] = {"rivals": tuple(STARTERS)}
_MEDIAN: dict[str, Any] = {"metric": "p50", "unit": "s", "better": "lower"} | _BOTH


def pool_to_result(context: Any) -> float:
    """Seconds from asking for a pool of two workers to the first result."""
    began = now()
    with context.Pool(2) as pool:
        answer = pool.apply(square, (3,))
        took = now() - began
        pool.close()
        pool.join()
    check(answer == 9, f"3 squared is not {answer}")
    return took


def median(times: list[float]) -> Metrics:
    return {"p50": stats.percentile(times, 0.5), "worst": max(times), "n": len(times)}


def with_numpy(rival: Starter, method: str) -> Any:
    """The context, with NumPy imported here."""
    import numpy  # noqa: F401

    return rival.context(method)


def process_to_end(context: Any) -> float:
    """Seconds to start a process that does nothing, and to join it."""
    began = now()
    process = context.Process(target=nothing)
    process.start()
    process.join()
    took = now() - began
    check(process.exitcode == 0, f"exit code {process.exitcode}")
    return took


def prepared(rival: Starter, method: str) -> Any:
    """The same, with what serves later starts (fork server, template) there."""
    context = with_numpy(rival, method)
    if method != "fork":
        process_to_end(context)
    return context


# A server or template is up when it has imported what it was told to.
UP_SECONDS = 1.0

for _method in METHODS:
    if _method != "fork":

        @workload(
            f"start-first-process-{_method}",
            f"first Process of the program, start and join, {_method}, NumPy imported",
            n=1,
            quick=1,
            how="what serves later starts (fork server, template) must come up first",
            **_MEDIAN,
        )
        def _(rival: Starter, n: int, method: str = _method) -> Metrics:
            return median([process_to_end(with_numpy(rival, method))])

        @workload(
            f"start-first-pool-at-once-{_method}",
            f"first pool, right after the first Process, {_method}, NumPy imported",
            n=1,
            quick=1,
            how="as the next, while what serves later starts is still coming up: one Process has just been joined",
            **_MEDIAN,
        )
        def _(rival: Starter, n: int, method: str = _method) -> Metrics:
            return median([pool_to_result(prepared(rival, method))])

    @workload(
        f"start-first-pool-{_method}",
        f"first pool of 2 workers to its first result, {_method}, NumPy imported",
        n=1,
        quick=1,
        how="the program's first pool"
        + ("" if _method == "fork" else f"; one Process has been started and joined {UP_SECONDS:g} s before"),
        **_MEDIAN,
    )
    def _(rival: Starter, n: int, method: str = _method) -> Metrics:
        context = prepared(rival, method)
        if method != "fork":
            time.sleep(UP_SECONDS)
        return median([pool_to_result(context)])

    @workload(
        f"start-second-pool-{_method}",
        f"second pool in the same program, {_method}, NumPy imported",
        n=15,
        quick=2,
        how="median of the pools after the first; each is closed and joined before the next",
        **_MEDIAN,
    )
    def _(rival: Starter, n: int, method: str = _method) -> Metrics:
        context = prepared(rival, method)
        pool_to_result(context)
        return median([pool_to_result(context) for _ in range(n)])

    @workload(
        f"start-second-pool-2gb-{_method}",
        f"the same with 2 GB touched in the parent, {_method}",
        n=7,
        quick=1,
        how="an array of 2 GB, every page written",
        **_MEDIAN,
    )
    def _(rival: Starter, n: int, method: str = _method) -> Metrics:
        import numpy as np

        context = prepared(rival, method)
        held = np.ones(2 * GB, np.uint8)
        pool_to_result(context)
        answer = median([pool_to_result(context) for _ in range(n)])
        check(held[-1] == 1, "the memory was not held")
        return answer

    @workload(
        f"start-process-{_method}",
        f"Process start and join, {_method}, NumPy imported",
        n=20,
        quick=2,
        how="median of one after the other; the target does nothing",
        **_MEDIAN,
    )
    def _(rival: Starter, n: int, method: str = _method) -> Metrics:
        context = prepared(rival, method)
        return median([process_to_end(context) for _ in range(n)])


# ---- executors

_EXECUTOR: dict[str, Any] = {"metric": "rate", "unit": "tasks/s", "better": "higher"} | _BOTH


def executor_rate(rival: Starter, n: int, run: Callable[[Any], list[int]]) -> Metrics:
    with rival.executor()(2) as executor:
        check(list(executor.map(square, range(64))) == [x * x for x in range(64)], "wrong results")
        began = now()
        results = run(executor)
        seconds = now() - began
    check(results == [x * x for x in range(n)], "wrong results")
    return {"rate": n / seconds, "n": n}


@workload(
    "start-executor-submit",
    "executor: submit, all in flight, then every result",
    n=60_000,
    quick=1_000,
    n_for={"stdlib": 8_000},
    how="one future a task",
    **_EXECUTOR,
)
def _(rival: Starter, n: int) -> Metrics:
    return executor_rate(rival, n, lambda e: [f.result() for f in [e.submit(square, x) for x in range(n)]])


@workload(
    "start-executor-map",
    "executor: map, no chunksize",
    n=300_000,
    quick=1_000,
    n_for={"stdlib": 8_000},
    how="an iterator over the results, all taken",
    **_EXECUTOR,
)
def _(rival: Starter, n: int) -> Metrics:
    return executor_rate(rival, n, lambda e: list(e.map(square, range(n))))


@workload(
    "start-executor-one",
    "executor: one submit, waited for",
    n=2_000,
    quick=50,
    how="the next task is submitted when the result of the last is there",
    **_MEDIAN,
)
def _(rival: Starter, n: int) -> Metrics:
    times = []
    with rival.executor()(2) as executor:
        for x in range(n + n // 10):
            began = now()
            got = executor.submit(square, x).result()
            times.append(now() - began)
            check(got == x * x, f"{x} squared is not {got}")
    return median(times[n // 10 :])


# ---- locks and pipes


@workload(
    "start-lock",
    "Lock, acquire and release, nobody else wants it",
    n=200_000,
    quick=1_000,
    how="median of the time a pair takes in batches of 1,000, the loop's own time taken off",
    **_MEDIAN,
)
def _(rival: Starter, n: int) -> Metrics:
    lock = rival.context("fork").Lock()
    acquire, release = lock.acquire, lock.release
    times = []
    for _ in range(n // 1000):
        began = now()
        for _ in itertools.repeat(None, 1000):
            pass
        empty = now()
        for _ in itertools.repeat(None, 1000):
            acquire()
            release()
        times.append((now() - empty - (empty - began)) / 1000)
    check(lock.acquire(False), "the lock was left taken")
    return median(times)


def _echo(connection: Any, n: int) -> None:
    for _ in range(n):
        connection.send(float(connection.recv().sum()))


@workload(
    "start-pipe-54MB",
    "Pipe: array of 54 MB sent, summed by the receiver, the sum sent back",
    n=12,
    quick=2,
    limit=120.0,
    how="one after the other; median after the first three",
    **_MEDIAN,
)
def _(rival: Starter, n: int) -> Metrics:
    import numpy as np

    context = rival.context("fork")
    mine, other = context.Pipe()
    child = context.Process(target=_echo, args=(other, n + 3))
    child.start()
    array = np.ones(ARTICLE_SHAPE)
    times = []
    for _ in range(n + 3):
        began = now()
        mine.send(array)
        total = mine.recv()
        times.append(now() - began)
        check(total == array.size, f"the sum is not {total}")
    child.join()
    return median(times[3:])


@workload(
    "start-pipe-int",
    "Pipe: an int there and back",
    n=5_000,
    quick=100,
    how="median; one after the other",
    **_MEDIAN,
)
def _(rival: Starter, n: int) -> Metrics:
    context = rival.context("fork")
    mine, other = context.Pipe()

    def echo() -> None:
        for _ in range(n):
            other.send(other.recv())

    child = context.Process(target=echo)
    child.start()
    times = []
    for number in range(n):
        began = now()
        mine.send(number)
        got = mine.recv()
        times.append(now() - began)
        check(got == number, f"{got!r} came")
    child.join()
    return median(times[n // 10 :])


# ---- the interpreter

_LIVE_POOL = """
import sys, time
import {module} as mp
from bench.tasks import square
if __name__ == "__main__":
    pool = mp.get_context("fork").Pool(2)
    assert pool.map(square, [3]) == [9]
    sys.stdout.write(repr(time.monotonic()))
    sys.stdout.flush()
"""


@workload(
    "start-exit-with-pool",
    "exit of the interpreter with a live pool of 2",
    n=10,
    quick=1,
    how="from the program's last statement until its parent has waited for it, a fresh program each time",
    **_MEDIAN,
)
def _(rival: Starter, n: int) -> Metrics:
    times = []
    for _ in range(n):
        done = subprocess.run(
            [sys.executable, "-c", _LIVE_POOL.format(module=rival.module)],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            env=machine.environment(),
            cwd=machine.ROOT,
        )
        times.append(time.monotonic() - float(done.stdout))
    return median(times)


_IMPORT = """
import time
import multiprocessing, multiprocessing.queues, multiprocessing.pool
began = time.perf_counter()
import breakeven
print(time.perf_counter() - began)
"""


@workload(
    "start-import",
    "`import breakeven` beyond `import multiprocessing`",
    n=15,
    quick=1,
    rivals=("breakeven",),
    metric="p50",
    unit="s",
    better="lower",
    how="median over fresh interpreters, the standard library's modules imported before the clock starts",
)
def _(rival: Starter, n: int) -> Metrics:
    times = []
    for _ in range(n):
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            env=machine.environment(),
            cwd=machine.ROOT,
        )
        times.append(float(done.stdout))
    return median(times)
