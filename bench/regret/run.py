"""`python -m bench regret`: every cell in a process of its own, one after the other; then the table."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import machine

CELL_LIMIT = 60.0

PUBLISHED = machine.ROOT / "docs" / "regret.json"
PARTIAL = machine.ROOT / "out" / "regret.json"


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench regret", description=__doc__)
    parser.add_argument("--only", metavar="REGEX", help="just the cells whose id this finds")
    parser.add_argument("--rivals", metavar="A,B", help="just these rivals; the loop always runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--publish", action="store_true", help="everything, into docs/regret.json and docs/regret.md")
    parser.add_argument("--list", action="store_true", help="the cells, and nothing is run")
    options = parser.parse_args(words)
    if options.publish and (options.only or options.rivals):
        parser.error("--publish is the whole grid: it goes with neither --only nor --rivals")
    return options


def sample(cell: str, rounds: int, rivals: str | None) -> dict[str, Any]:
    """Run one cell; what it leaves behind is killed with its process group."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "answer.json")
        command = [sys.executable, "-m", "bench.regret.sample", cell, str(rounds), str(out)]
        process = subprocess.Popen(
            [*command, rivals] if rivals else command,
            cwd=machine.ROOT,
            env=machine.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, errors = process.communicate(timeout=CELL_LIMIT)
        except subprocess.TimeoutExpired:
            return {"error": f"not done within {CELL_LIMIT:g} s"}
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        try:
            return json.loads(out.read_text())
        except (OSError, ValueError):
            return {"error": errors.decode(errors="replace")[-800:] or f"exit {process.returncode}"}


def run(only: str | None, rivals: str | None, rounds: int) -> dict[str, Any]:
    """The grid's result, ready for JSON."""
    from bench.regret import report
    from bench.regret.grid import CELLS

    cells: dict[str, Any] = {}
    for cell in CELLS:
        if only and not re.search(only, cell.id):
            continue
        answer = sample(cell.id, rounds, rivals)
        cells[cell.id] = {"kind": cell.kind, **answer}
        print(report.line(cell.id, cells[cell.id]), file=sys.stderr, flush=True)
    return {"machine": machine.describe(), "rounds": rounds, "cells": cells}


def main(words: list[str]) -> int:
    """The command; returns its exit code: 1 if a result was wrong or a cell failed."""
    from bench.regret import report

    options = parse(words)
    if options.list:
        from bench.regret.grid import CELLS

        for cell in CELLS:
            print(f"{cell.id:18} {cell.kind}")
        return 0
    result = run(options.only, options.rivals, options.rounds)
    target = PUBLISHED if options.publish else PARTIAL
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    page = report.render(result)
    if options.publish:
        target.with_suffix(".md").write_text(page)
    print(page)
    wrong = [
        name
        for name, cell in result["cells"].items()
        if "error" in cell or "breakeven" in cell["remarks"] or "loop" in cell["remarks"]
    ]
    if wrong:
        print(f"failed: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0
