"""`breakeven why` on the example programs: the summary of each, and its page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .cases import ROOT, Case
from .runner import RunFailed, run_program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def one_a_program(cases: Sequence[Case]) -> list[Case]:
    """The first case of each program."""
    by_script: dict[str, Case] = {}
    for case in cases:
        by_script.setdefault(case.script, case)
    return list(by_script.values())


def explain(case: Case, folder: Path, timeout: float, on_tick: Callable[[], None]) -> tuple[str, Path]:
    """Run a case, on the standard library, under `breakeven why`; returns the summary and the path of its page.

    Raises RunFailed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = case.name.replace("/", "-")
    page, report = folder / f"{stem}.html", folder / f"{stem}.json"
    own = [sys.executable, "-m", "breakeven"]
    program = case.command("stdlib")[1:]
    run_program([*own, "why", "-q", "--html", str(page), "--json", str(report), *program], ROOT, timeout, on_tick)
    done = subprocess.run([*own, "report", str(report)], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RunFailed(f"breakeven report ended with exit code {done.returncode}\n{done.stderr}")
    return done.stderr, page
