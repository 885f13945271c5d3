"""The command line: `python -m tests.upstream`. See the package's docstring."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from . import expected, plan, runner, verdict
from .plan import Cell
from .runner import Batch, Outcome

_print_lock = threading.Lock()


def say(text: str) -> None:
    with _print_lock:
        print(text, flush=True)


def entry_in(entries: tuple[expected.Entry, ...], cell: Cell, name: str) -> expected.Entry | None:
    for entry in entries:
        if entry.covers(name, cell.way, cell.interpreter.version):
            return entry
    return None


class CellRun:
    """A cell on its way: its batches run on the threads of a pool that several cells share."""

    def __init__(self, cell: Cell, pool: ThreadPoolExecutor, limit: float):
        self.cell, self._pool, self._limit = cell, pool, limit
        self._start = time.monotonic()
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self._futures = []
        self._listings = [(label, pool.submit(runner.list_tests, cell, cell.way, label)) for label in cell.labels()]

    def start_batches(self) -> None:
        """Wait for the lists of tests, and start the tests. The longest suites come first by the order of labels."""
        for label, listing in self._listings:
            try:
                names, problems = listing.result()
            except RuntimeError as error:
                self.problems.append(str(error))
                continue
            self.problems += problems
            for batch in runner.batches(label, names):
                self._futures.append(self._pool.submit(self._run, batch))

    def _run(self, batch: Batch) -> tuple[dict[str, Outcome], dict[str, Outcome], list[str]]:
        """Run a batch; what does not pass a second time if it is known to be flaky, and then under plain CPython."""
        cell = self.cell
        outcomes, remarks = runner.run(cell, cell.way, batch, self._limit)
        self.remarks += remarks
        again = []
        for name, outcome in list(outcomes.items()):
            if outcome.status in ("failed", "hung", "crashed") and entry_in(expected.FLAKY, cell, name):
                say(f"   second try, for it fails now and then under plain CPython too: {cell} {name}")
                second, _ = runner.run(cell, cell.way, Batch(batch.label, (name,)), self._limit)
                outcomes.update(second)
                again.append(name)
        bad = [name for name in batch.names if outcomes[name].status != "passed"]
        unexpected = [name for name in bad if not entry_in(expected.EXPECTED, cell, name)]
        plain: dict[str, Outcome] = {}
        if unexpected:
            plain, _ = runner.run(cell, "plain", Batch(batch.label, tuple(unexpected)), self._limit)
        return outcomes, plain, again

    def verdict(self) -> verdict.Verdict:
        """Wait for all of it, print what is to be said, and return the verdict."""
        outcomes: dict[str, Outcome] = {}
        plain: dict[str, Outcome] = {}
        again: list[str] = []
        for future in self._futures:
            some, plainly, twice = future.result()
            outcomes.update(some)
            plain.update(plainly)
            again += twice
        cell = self.cell
        result = verdict.judge(outcomes, lambda name: entry_in(expected.EXPECTED, cell, name), plain, again)
        self.outcomes = outcomes
        for remark in self.remarks:
            say(f"   {cell}: {remark}")
        for name, outcome in result.plain_too.items():
            say(f"   {cell}: not counted, plain CPython does not pass it here either: {name} ({outcome.status})")
        for name, outcome in result.lost.items():
            say(f"\n---- {cell}: LOST, {outcome.status} after {outcome.seconds:.1f} s: {name}")
            say(outcome.detail.rstrip() + "\n")
        for problem in self.problems:
            say(f"\n---- {cell}: {problem}\n")
        parts = [f"{result.passed} passed", f"{result.skipped} skipped as in plain CPython"]
        parts += [f"{len(result.expected)} expected not to pass"] if result.expected else []
        parts += [f"{len(result.plain_too)} not counted"] if result.plain_too else []
        parts += [f"{len(result.lost)} LOST"] if result.lost else []
        parts += [f"{len(result.stale)} STALE"] if result.stale else []
        seconds = time.monotonic() - self._start
        say(f"== upstream {cell} ({', '.join(cell.labels())}): {', '.join(parts)}; {seconds:.0f} s")
        return result

    def second_look(self, result: verdict.Verdict, at_most: int) -> None:
        """Run what was lost once more, alone, if it is `at_most` so much; name what passes then, and take it off."""
        if len(result.lost) > at_most:
            return
        for name in list(result.lost):
            if "::(" in name:
                continue  # no test: the end of a process, or what a class did around its tests
            outcomes, _ = runner.run(self.cell, self.cell.way, Batch(name.partition("::")[0], (name,)), self._limit)
            if outcomes[name].status == "passed":
                del result.lost[name]
                say(f"FLAKY upstream {self.cell} {name}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__)
    parser.add_argument(
        "--python", action="append", required=True, help="an interpreter that has breakeven; repeatable"
    )
    parser.add_argument("--all", action="store_true", help="every way in and start method")
    parser.add_argument("--way", action="append", choices=plan.WAYS, help="this way in, with all suites")
    parser.add_argument("--suite", action="append", choices=plan.SUITES)
    parser.add_argument("--method", action="append", choices=plan.METHODS)
    parser.add_argument("--only", help="a regular expression for names, `label::Class.method`")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes of tests at a time")
    parser.add_argument("--limit", type=float, default=runner.LIMIT, help="seconds that a test may take")
    parser.add_argument("--slowest", type=int, default=0, metavar="N", help="print the N slowest tests of each cell")
    arguments = parser.parse_args()

    cells = []
    for python in arguments.python:
        interpreter = plan.look(os.path.abspath(python))
        say(f"== upstream: CPython {interpreter.full_version} ({python})")
        if not interpreter.modules:
            say("   it ships none of CPython's tests of multiprocessing and concurrent.futures: nothing is run on it")
            continue
        if interpreter.absent:
            say(f"   its test package does not ship {', '.join(interpreter.absent)}: not run")
        if arguments.way or arguments.all or arguments.suite or arguments.method or arguments.only:
            suites = tuple(arguments.suite or plan.SUITES)
            methods = tuple(arguments.method or plan.METHODS)
            for way in arguments.way or plan.WAYS:
                cells.append(Cell(interpreter, way, suites, methods, arguments.only))
        else:
            cells += plan.everyday(interpreter)

    good = True
    summary: list[str] = []
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        runs = []
        for cell in cells:
            runs.append(CellRun(cell, pool, arguments.limit))
            runs[-1].start_batches()
        results = [run.verdict() for run in runs]
        for run, result in zip(runs, results, strict=True):
            run.second_look(result, int(os.environ.get("SECOND_LOOK", 0)))
            for name, outcome in sorted(run.outcomes.items(), key=lambda item: -item[1].seconds)[: arguments.slowest]:
                say(f"   {outcome.seconds:6.1f} s  {name}")
            good = good and result.good and not run.problems
            summary += [f"LOST   {run.cell} {name} ({outcome.status})" for name, outcome in result.lost.items()]
            summary += [f"STALE  {run.cell} {name}: remove it from expected.py" for name in result.stale]
            summary += [f"BROKEN {run.cell} {problem.splitlines()[0]}" for problem in run.problems]
    for line in summary:
        say(f"FAILED upstream: {line}")
    if not cells:
        say("== upstream: nothing was run")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
