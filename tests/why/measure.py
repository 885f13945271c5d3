"""`python -m tests.why.measure [NAME ...]`: is the fault of each program what the manifest says?

Every program runs as it is, fixed and serially, in turns, several times. The median of the fixed one must beat that of
the program as it is by the manifest's factor; no alternative to a healthy one may gain more than a few percent.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from datetime import date
from pathlib import Path

from . import running
from .corpus import BY_NAME, CORPUS, HEALTHY, Program

PAGE = Path(__file__).parents[2] / "docs" / "why-corpus.md"


def measure(program: Program, rounds: int, nice: int) -> dict[str, list[running.Run]]:
    """Runs by variant, `asked` among them. A run that fails or prints something else raises RuntimeError."""
    runs: dict[str, list[running.Run]] = {variant: [] for variant in ("asked", *program.variants)}
    for _ in range(rounds):
        for variant, done in runs.items():
            run = running.run_variant(program, "" if variant == "asked" else variant, nice=nice)
            if run.code:
                raise RuntimeError(f"{program.name} {variant} ended with {run.code}:\n{run.err.decode()}")
            if run.out != runs["asked"][0].out if runs["asked"] else False:
                raise RuntimeError(f"{program.name} {variant} prints {run.out!r}, not {runs['asked'][0].out!r}")
            done.append(run)
    return runs


def median(runs: list[running.Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def verdict(program: Program, runs: dict[str, list[running.Run]]) -> str:
    """Empty if the runs are as the manifest says, else what is not."""
    asked = median(runs["asked"])
    if program.healthy:
        better = {name: asked / median(done) for name, done in runs.items() if name != "asked"}
        return ", ".join(f"{name} gains {gain:.2f}" for name, gain in better.items() if gain >= HEALTHY)
    gain = asked / median(runs["fixed"])
    return "" if gain >= program.gain else f"the fix gains {gain:.2f}, not {program.gain:.2f}"


def row(program: Program, runs: dict[str, list[running.Run]]) -> list[str]:
    times = {name: median(done) for name, done in runs.items()}
    asked, serial = times["asked"], times.get("serial")
    others = {name: time for name, time in times.items() if name not in ("asked", "serial")}
    best = min(others, key=others.get) if others else None
    return [
        program.name,
        program.primary,
        f"{asked:.2f}",
        "" if best is None else f"{others[best]:.2f}" + (f" ({best})" if program.healthy else ""),
        "" if best is None else f"{asked / others[best]:.2f}",
        "" if serial is None else f"{serial:.2f}",
        "" if serial is None else f"{asked / serial:.2f}",
        f"{statistics.median(run.cpu for run in runs['asked']):.2f}",
        program.change,
    ]


def kept(page: str) -> dict[str, list[str]]:
    """The rows of a page by program."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    return {name.strip("`"): [name.strip("`"), cause.strip("`"), *rest] for name, cause, *rest in rows}


HEADER = ["program", "cause", "as asked, s", "fixed, s", "gain", "serial, s", "gain", "CPU, s", "the fix"]


def page(rows: list[list[str]], options: argparse.Namespace) -> str:
    lines = [
        "# The corpus of `breakeven why`",
        "",
        "Small programs as people show them when they ask why their parallel program is slow (`tests/why/programs`),",
        "each with its cause. That the cause is the right one is measured: `fixed` is the program without it. For the",
        "healthy ones (`none`) that column has the best of the alternatives that one might propose (in brackets).",
        "",
        f"`python -m tests.why.measure --rounds {options.rounds} --publish`, {date.today().isoformat()}, "
        f"{os.cpu_count()} cores ({cpu_name()}), Linux {platform.release()}, CPython {platform.python_version()}; "
        f"medians of {options.rounds} runs of each, in turns"
        + (f", at nice {options.nice} on a busy machine." if options.nice else ".")
        + (f" Measured again alone: {', '.join(options.names)}." if options.names else ""),
        "CPU is that of the program as asked and the children that it waited for.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "|".join("--:" if " s" in name or name == "gain" else "---" for name in HEADER) + "|",
        *("| " + " | ".join([f"`{name}`", f"`{cause}`", *rest]) + " |" for name, cause, *rest in rows),
        "",
    ]
    return "\n".join(lines)


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.why.measure", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="just these programs, or those of these causes")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each variant (default 3)")
    parser.add_argument("--nice", type=int, default=0, help="priority of the programs; below 0 needs to be root")
    parser.add_argument("--publish", action="store_true", help=f"write {PAGE.name}; with NAME, anew in it just those")
    options = parser.parse_args(words)
    chosen = [p for p in CORPUS if not options.names or {p.name, p.primary} & set(options.names)]
    unknown = set(options.names) - BY_NAME.keys() - {p.primary for p in CORPUS}
    if unknown:
        parser.error(f"no such program or cause: {', '.join(unknown)}")

    rows, wrong = [], []
    print(f"{'program':26} {'cause':17} asked  fixed  gain serial  gain   CPU")
    for program in chosen:
        if missing := program.missing():
            wrong.append(f"{program.name}: not measured, {', '.join(missing)} is not installed")
            continue
        runs = measure(program, options.rounds, options.nice)
        rows.append(row(program, runs))
        name, cause, asked, fixed, gain, serial, over_serial, cpu, _ = rows[-1]
        problem = verdict(program, runs)
        print(
            f"{name:26} {cause:17} {asked:>5} {fixed.split()[0] if fixed else '':>6} {gain:>5} "
            f"{serial:>6} {over_serial:>5} {cpu:>5}  {problem}",
            flush=True,
        )
        if program.healthy:
            print(" " * 45 + ", ".join(f"{name} {median(done):.2f}" for name, done in runs.items()), flush=True)
        if problem:
            wrong.append(f"{program.name}: {problem}")
    if options.publish:
        old = kept(PAGE.read_text()) if options.names else {}
        new = {**old, **{row[0]: row for row in rows}}
        PAGE.write_text(page([new[program.name] for program in CORPUS if program.name in new], options))
        print(f"wrote {PAGE}")
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
