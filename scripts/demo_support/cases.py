"""Which example programs the demo runs, with which arguments."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# The three ways in which a program is run, in the order of the table's columns.
VARIANTS = ("serial", "stdlib", "breakeven")


@dataclass(frozen=True)
class Case:
    """One row of the table: a program of examples/ with the arguments that choose a variant of it."""

    name: str
    title: str
    script: str
    arguments: tuple[str, ...] = ()

    def command(self, variant: str, python: str = sys.executable) -> list[str]:
        """Return the command line that runs the case in one of VARIANTS; ValueError for another word."""
        if variant not in VARIANTS:
            raise ValueError(f"no such variant: {variant!r}; there are {', '.join(VARIANTS)}")
        runner = ["-m", "breakeven", "run"] if variant == "breakeven" else []
        mode = "serial" if variant == "serial" else "parallel"
        return [python, *runner, str(Path("examples", self.script)), *self.arguments, "--mode", mode]


CASES = (
    Case("sum_squares", "8 million squares, four ranges in Pool(4)", "sum_squares.py"),
    Case("io_tasks", "100 tasks that sleep 20 ms, a Process each, one Queue", "io_tasks.py"),
    Case("array_sum/manager", "array sum, partial sums through manager.list", "array_sum.py", ("--via", "manager")),
    Case("array_sum/pool", "array sum, chunks of 20 MB through Pool.map", "array_sum.py", ("--via", "pool")),
    Case("array_sum/queue", "array sum, a Process per chunk, sums over a Queue", "array_sum.py", ("--via", "queue")),
    Case("executor/submit", "20,000 x*x, Executor.submit each", "executor_squares.py", ("--via", "submit")),
    Case("executor/map", "20,000 x*x, Executor.map", "executor_squares.py", ("--via", "map")),
    Case("queue_arrays/int", "16 workers, 32 matrix products, 1 on a Queue", "queue_arrays.py", ("--payload", "int")),
    Case("queue_arrays/array", "the same, 54 MB on the Queue", "queue_arrays.py", ("--payload", "array")),
    Case("tiny_tasks", "Pool.map of a tiny function, 500,000 small lists", "tiny_tasks.py"),
    Case("image_filters", "64 filters, a 25 MB image in every task", "image_filters.py"),
    Case("word_counts", "50,000 documents, imap_unordered, state in workers", "word_counts.py"),
    Case("heavy_model/map", "model loaded per worker, 20,000 predictions, map", "heavy_model.py", ("--via", "map")),
    Case("heavy_model/async", "the same, apply_async each", "heavy_model.py", ("--via", "apply_async")),
)


def select(words: list[str]) -> tuple[Case, ...]:
    """Return the cases named by `words`: a whole name, or what comes before the slash; all of them for no words.

    Raises ValueError for a word that names none.
    """
    if not words:
        return CASES
    for word in words:
        if not any(word in (case.name, case.name.partition("/")[0]) for case in CASES):
            raise ValueError(f"no example is called {word!r}; --list shows them")
    return tuple(case for case in CASES if case.name in words or case.name.partition("/")[0] in words)
