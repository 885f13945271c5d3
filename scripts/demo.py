"""make demo: every program of examples/ serially, under the standard library, and under `breakeven run`; then why.

The programs are the same files in all three columns. The demo checks that all runs of a program give the same result
and that none leaves a process behind, prints a table, and writes out/demo.json, out/demo.svg and, where rsvg-convert
is installed, out/demo.png. Its exit code is 1 if a program failed or the results differ, whatever the times are.

The times of the table and the chart are those that each program measures itself around its work, workers started and
stopped included: the times that people who make a program parallel look at. What `breakeven run` adds before the
program starts is not in them; it is in the column "whole process", which compares the wall time of the whole command,
interpreter and imports included.

At the end each program runs once more under `breakeven why`, which says why it is slow on the standard library: the
summaries are printed, and the pages are written into out/why/.

The runs are interleaved (each round runs all three variants of all programs, in turning order), and the table shows
medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

# Run as a script, only scripts/ is on the path; bench is beside it.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from demo_support.cases import CASES, ROOT, VARIANTS, Case, select
from demo_support.chart import render_svg
from demo_support.progress import Progress
from demo_support.results import Row
from demo_support.runner import RunFailed, run_program
from demo_support.table import format_seconds, render_table, summarise
from demo_support.why import explain, one_a_program

from bench import machine

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the example programs three ways and compare.")
    parser.add_argument("--list", action="store_true", help="list the programs and end")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="just this program; repeatable")
    parser.add_argument(
        "--variants",
        type=lambda words: words.split(","),
        default=list(VARIANTS),
        help="comma-separated, of serial, stdlib, breakeven (default: all)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds at most (default: %(default)s)")
    parser.add_argument(
        "--budget",
        type=float,
        default=150.0,
        help="no round is begun that would end later than this many seconds after the start (default: %(default)s)",
    )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one run (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="directory for the files (default: out/)")
    parser.add_argument("--no-why", action="store_true", help="without `breakeven why` at the end")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of the table")
    args = parser.parse_args()
    if unknown := set(args.variants) - set(VARIANTS):
        parser.error(f"no such variant: {', '.join(sorted(unknown))}")
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    try:
        args.cases = select(args.only)
    except ValueError as error:
        parser.error(str(error))
    return args


def breakeven_problem() -> str | None:
    """Say why `python -m breakeven` cannot be run here, or None if it can."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "breakeven", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        return "`python -m breakeven --help` did not end"
    return None if done.returncode == 0 else done.stderr.rstrip().rpartition("\n")[2] or f"exit {done.returncode}"


class Interruption:
    """Ctrl-C and SIGTERM, noticed where the program that runs can be ended.

    The usual KeyboardInterrupt may come while Popen has started a program and not yet returned it: nobody would know
    whom to end.
    """

    def __init__(self) -> None:
        self._came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._come)

    def _come(self, number: int, frame: object) -> None:
        self._came = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self._came:
            raise KeyboardInterrupt


def run_round(
    rows: Sequence[Row],
    variants: Sequence[str],
    turn: int,
    timeout: float,
    progress: Progress,
    interruption: Interruption,
) -> None:
    """Run every case once per variant and add what came of it to its row."""

    def on_tick() -> None:
        interruption.check()
        progress.refresh()

    for row in rows:
        # Turning order: what a run leaves in caches and clock speed does not always meet the same successor.
        shift = turn % len(variants)
        for variant in [*variants[shift:], *variants[:shift]]:
            interruption.check()
            if variant not in row.failures:
                progress.starting(f"{row.case.name}, {variant}")
                try:
                    sample = run_program(row.case.command(variant), ROOT, timeout, on_tick)
                    row.add(variant, sample)
                except RunFailed as error:
                    row.failures[variant] = str(error)
                    progress.note(f"FAILED: {row.case.name} under {variant}: {error}")
            progress.finished()
        times = ", ".join(
            f"{variant} {format_seconds(row.samples[variant][-1].seconds)}"
            for variant in variants
            if variant not in row.failures
        )
        progress.note(f"  round {turn + 1}  {row.case.name}: {times}")
        if (difference := row.disagreement()) is not None:
            progress.note(f"FAILED: {row.case.name}: {difference}")


def run_rounds(cases: Sequence[Case], args: argparse.Namespace, interruption: Interruption) -> list[Row]:
    rows = [Row(case) for case in cases]
    progress = Progress(sys.stderr, args.rounds * len(cases) * len(args.variants))
    started = time.monotonic()
    try:
        for turn in range(args.rounds):
            began = time.monotonic()
            run_round(rows, args.variants, turn, args.timeout, progress, interruption)
            now = time.monotonic()
            if turn + 1 < args.rounds and now + (now - began) - started > args.budget:
                progress.note(f"  {turn + 1} of {args.rounds} rounds: another would not fit into {args.budget:g} s")
                break
    finally:
        progress.close()
    return rows


def write_files(rows: Sequence[Row], report: dict[str, object], out: Path) -> list[Path]:
    """Write demo.json, demo.svg and, if rsvg-convert is there, demo.png; return what was written."""
    out.mkdir(parents=True, exist_ok=True)
    json_file, svg_file, png_file = (out / f"demo.{suffix}" for suffix in ("json", "svg", "png"))
    json_file.write_text(json.dumps(report, indent=1) + "\n")
    written = [json_file]
    about = report["machine"]
    assert isinstance(about, dict)
    subtitle = (
        f"{about['cpu']}, {about['cores']} cores, Python {about['python']}; "
        f"median of {report['rounds']} interleaved rounds, as each program measures itself"
    )
    svg_file.write_text(render_svg(rows, "Unmodified programs, three ways", subtitle))
    written.append(svg_file)
    png_file.unlink(missing_ok=True)  # an older chart beside a newer one would mislead
    if converter := shutil.which("rsvg-convert"):
        subprocess.run([converter, "--zoom", "2", "--output", png_file, svg_file], check=True, timeout=60)
        written.append(png_file)
    return written


def run_why(cases: Sequence[Case], args: argparse.Namespace, interruption: Interruption) -> list[str]:
    """Print why each program is slow on the standard library; returns what went wrong."""
    faults, pages = [], []
    for case in one_a_program(cases):
        print(f"\n{'=' * 100}\n== breakeven why {' '.join(case.command('stdlib')[1:])}\n", flush=True)
        try:
            # The first one measures what the machine charges, too.
            summary, page = explain(case, args.out / "why", args.timeout + 60, interruption.check)
        except RunFailed as error:
            faults.append(f"{case.name}, under why: {error}")
            print(f"FAILED: {error}")
            continue
        print(summary.strip())
        pages.append(page)
        print(f"report: {page}")
    if pages:
        print("\nPages with timelines: " + ", ".join(str(page) for page in pages))
    return faults


def main() -> int:
    args = parse_arguments()
    if args.list:
        for case in CASES:
            print(f"{case.name:20} {case.title}")
        return 0
    if "breakeven" in args.variants and (problem := breakeven_problem()) is not None:
        print(
            f"demo: breakeven cannot be run: {problem}\n"
            "demo: `make build` builds it; `--variants serial,stdlib` runs the rest without it",
            file=sys.stderr,
        )
        return 2

    interruption = Interruption()
    about = machine.describe()
    rows = run_rounds(args.cases, args, interruption)
    faults = [f"{row.case.name}: {fault}" for row in rows for fault in row.faults()]
    report = {
        "machine": about,
        "seconds": "median of what each program measures around its work",
        "wall_seconds": "median of the whole command's time",
        "rounds": max((len(samples) for row in rows for samples in row.samples.values()), default=0),
        "cases": [row.as_json() for row in rows],
        "faults": faults,
    }
    written = write_files(rows, report, args.out)
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        print(render_table(rows))
        print()
        print("over stdlib, over serial: how many times faster breakeven is, by the program's own clock;")
        print("whole process: the same over stdlib, from the command's start to its end.")
        if "breakeven" in args.variants and "stdlib" in args.variants:
            print(summarise(rows))
        print("wrote " + ", ".join(str(path) for path in written))
        if "breakeven" in args.variants and not args.no_why:
            faults += run_why(args.cases, args, interruption)
    for fault in faults:
        print(f"FAILED: {fault}", file=sys.stderr)
    if not any(row.faults() for row in rows) and len(args.variants) > 1:
        print("All results are equal.", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ndemo: interrupted; nothing was left running", file=sys.stderr)
        sys.exit(130)
