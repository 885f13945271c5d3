"""Each example gives one result, whatever mode, start method or transport it runs with; and that result is right."""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from demo_support.cases import CASES, ROOT
from demo_support.runner import RunFailed, run_program

TIMEOUT = 60.0

# Small enough that starting the interpreters is most of the time.
SIZES: dict[str, tuple[str, ...]] = {
    "sum_squares.py": ("--n", "10000"),
    "io_tasks.py": ("--tasks", "5", "--delay", "0.001"),
    "array_sum.py": ("--size", "10001", "--chunks", "3", "--blocks", "2"),
    "executor_squares.py": ("--items", "50"),
    "queue_arrays.py": ("--products", "6", "--order", "20", "--workers", "3", "--maxsize", "2"),
    "tiny_tasks.py": ("--lists", "300"),
    "image_filters.py": ("--side", "64", "--filters", "6"),
    "word_counts.py": ("--documents", "60"),
    "heavy_model.py": ("--words", "500", "--queries", "40"),
}

CASE_NAMES = [case.name for case in CASES]
RUNNERS = {"plain": (), "breakeven": ("-m", "breakeven", "run")}


def result_of(case_name: str, *more: str, runner: str = "plain") -> Any:
    """Run a case at its small size and return its result."""
    (case,) = (case for case in CASES if case.name == case_name)
    command = [sys.executable, *RUNNERS[runner], str(Path("examples", case.script))]
    return run_program([*command, *case.arguments, *SIZES[case.script], *more], ROOT, TIMEOUT).result


@lru_cache
def serial_result(case_name: str) -> Any:
    return result_of(case_name, "--mode", "serial")


@pytest.mark.parametrize("case_name", CASE_NAMES)
def test_stdlib_gives_the_serial_result(case_name: str) -> None:
    assert result_of(case_name) == serial_result(case_name)


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("case_name", CASE_NAMES)
def test_breakeven_gives_the_serial_result(case_name: str, start_method: str) -> None:
    assert result_of(case_name, "--start-method", start_method, runner="breakeven") == serial_result(case_name)


@pytest.mark.parametrize("case_name", CASE_NAMES)
def test_serial_mode_runs_under_breakeven(case_name: str) -> None:
    assert result_of(case_name, "--mode", "serial", runner="breakeven") == serial_result(case_name)


def squares_below(n: int) -> int:
    return n * (n - 1) * (2 * n - 1) // 6


@pytest.mark.parametrize(
    ("case_name", "expected"),
    [
        ("sum_squares", squares_below(10_000)),
        ("executor/submit", squares_below(50)),
        ("io_tasks", sum((task + 1) * (task * 7 + 1) for task in range(5))),
        ("queue_arrays/int", 6.0),
        ("tiny_tasks", sum(max(v) - min(v) for v in ([i % 7, i % 11, i % 13, i % 17] for i in range(300)))),
    ],
)
def test_serial_result_is_right(case_name: str, expected: float) -> None:
    assert serial_result(case_name) == expected


def test_stdlib_cannot_send_the_lambda() -> None:
    with pytest.raises(RunFailed, match=r"lambda"):
        result_of("executor/submit", "--function", "lambda")


@pytest.mark.parametrize("case_name", ["executor/submit", "executor/map"])
def test_breakeven_sends_the_lambda(case_name: str) -> None:
    assert result_of(case_name, "--function", "lambda", runner="breakeven") == serial_result(case_name)


def test_every_example_is_in_the_demo() -> None:
    programs = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert programs == {case.script for case in CASES} == set(SIZES)
