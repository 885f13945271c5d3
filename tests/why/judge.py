"""`python -m tests.why.judge [NAME ...]`: does `breakeven why` find what is wrong with the programs of the corpus?

Each program runs plainly, under `breakeven why --json`, and serially, in turns. A line for each tells the cause that
was to be found and the first two that were; whether a finding names a line that has to do with it, and the first fix
one that helps; the predicted time of the serial version against the measured one; whether what the program printed, and
its exit code, are the same; and how much longer it took under `why`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from . import corpus, running
from .corpus import Program
from .running import Run

SERIAL_WITHIN = 0.20
"""How far a prediction of the serial time may be off, as a part of the measured time (issue 4)."""
RIGHT_AT_LEAST = 0.95
"""The part of the programs whose primary cause has to be right (issue 4)."""


def first_causes(report: dict) -> list[str]:
    """Causes as a reader meets them: the primary one, those of the findings, then the others by their share."""
    shares = sorted(report["causes"], key=lambda cause: -cause["share"])
    names = [report["primary"]["cause"]]
    names += [finding["cause"] for finding in report.get("findings", [])]
    names += [cause["cause"] for cause in shares if cause["share"] >= 0.005]
    return [name for name in dict.fromkeys(names) if name != "compute"]


def predicted(report: dict, kind: str) -> float | None:
    """Seconds that the report predicts for a kind of fix: the smallest, as it may stand there for several places."""
    return min((fix["predicted_seconds"] for fix in report["fixes"] if fix["kind"] == kind), default=None)


def places(report: dict) -> list[str]:
    """`file:line`, without folders, of all places that the report names: of fixes, and of the primary finding."""
    named = [fix["where"] for fix in report["fixes"] if fix.get("where")]
    for finding in report.get("findings", [])[:1]:
        named += [f"{place['file']}:{place['line']}" for place in finding["places"]]
    return [Path(place).name for place in dict.fromkeys(named)]


@dataclass
class Judgement:
    """What a report on a program is worth."""

    program: Program
    report: dict
    plain: list[Run]
    under: list[Run]
    serial: list[Run] = field(default_factory=list)

    @property
    def found(self) -> str:
        return self.report["primary"]["cause"]

    @property
    def right(self) -> bool:
        return self.found == self.program.primary

    @property
    def second(self) -> str:
        """The second cause, `-` if there is none."""
        return next(iter(first_causes(self.report)[1:2]), "-")

    @property
    def among_two(self) -> bool:
        return self.program.primary in first_causes(self.report)[:2]

    @property
    def line(self) -> bool | None:
        """Whether a place is named that has to do with it. None: there is nothing to name."""
        return None if self.program.healthy else bool(set(places(self.report)) & set(self.program.marked()))

    @property
    def fix(self) -> str:
        """The kind of the first fix that gains, other than running under breakeven, which is always possible."""
        kinds = [
            fix["kind"] for fix in self.report["fixes"] if fix["predicted_speedup"] > 1.02 and fix["kind"] != "run"
        ]
        return next(iter(kinds), "-")

    @property
    def fix_is_right(self) -> bool | None:
        """None for a healthy program: it may be told of small gains."""
        return None if self.program.healthy else self.fix in self.program.fixes

    @property
    def serial_error(self) -> float | None:
        """The prediction of the serial time, relative to the measured one. None if either is not there."""
        guess = predicted(self.report, "serial")
        return None if guess is None or not self.serial else guess / seconds(self.serial) - 1

    @property
    def same_output(self) -> bool:
        return {run.out for run in self.plain} == {run.out for run in self.under}

    @property
    def same_code(self) -> bool:
        return {run.code for run in self.plain} == {run.code for run in self.under}

    @property
    def overhead(self) -> float:
        """Elapsed time under `why`, as the report has it, over that without, less 1."""
        return self.report["elapsed"] / seconds(self.plain) - 1

    def faults(self) -> list[str]:
        """What is wrong, in words. Overhead is not judged here: it is noise in a single run on a busy machine."""
        faults = []
        if not self.right:
            faults.append(
                f"{self.found}, not {self.program.primary}" + ("" if self.among_two else "; not second either")
            )
        if self.line is False:
            faults.append(
                f"names {', '.join(places(self.report)) or 'no line'}, not {' or '.join(self.program.marked())}"
            )
        if self.fix_is_right is False:
            faults.append(f"fix {self.fix}, not {' or '.join(self.program.fixes)}")
        error = self.serial_error
        if error is not None and abs(error) > SERIAL_WITHIN:
            faults.append(f"serial predicted {error:+.0%} off")
        if self.serial and error is None:
            faults.append("serial time not predicted")
        if not self.same_output:
            faults.append(f"output differs: {self.plain[0].out[-80:]!r}, {self.under[0].out[-80:]!r}")
        if not self.same_code:
            faults.append(f"exit code differs: {self.plain[0].code}, {self.under[0].code}")
        shares = sum(cause["share"] for cause in self.report["causes"])
        if abs(shares - 1) > 0.01:
            faults.append(f"the shares add up to {shares:.3f}")
        return faults


def seconds(runs: list[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def run_under_why(program: Program, path: Path, nice: int = 0) -> tuple[Run, dict]:
    """The run and its report, which is written to `path`. No report is a RuntimeError with what `why` said."""
    path.unlink(missing_ok=True)
    run = running.run_under_why(program, path, nice)
    try:
        return run, json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RuntimeError(f"no report ({error}):\n{run.err.decode()[-1000:]}") from error


def run_program(program: Program, rounds: int, nice: int = 0, keep: Path | None = None) -> Judgement:
    """Run a program each way, `rounds` times in turns. The report is that of the run in the middle by elapsed time."""
    plain, under, serial, reports = [], [], [], []
    for number in range(rounds):
        plain.append(running.run_variant(program, nice=nice))
        with tempfile.TemporaryDirectory() as folder:
            path = keep / f"{program.name}.{number}.json" if keep else Path(folder) / "report.json"
            run, report = run_under_why(program, path, nice)
            under.append(run)
            reports.append(report)
        if "serial" in program.variants:
            serial.append(running.run_variant(program, "serial", nice=nice))
    reports.sort(key=lambda report: report["elapsed"])
    return Judgement(program, reports[len(reports) // 2], plain, under, serial)


HEADER = (
    f"{'program':24} {'expected':16} {'found':16} {'second':16} {'':5} line fix              "
    "serial: said   took    off  output code plain under overhead"
)


def line(judged: Judgement) -> str:
    """One line of the table."""
    mark = {True: "yes", False: "NO", None: "-"}
    guess = predicted(judged.report, "serial")
    took = seconds(judged.serial) if judged.serial else None
    error = judged.serial_error
    return (
        f"{judged.program.name:24} {judged.program.primary:16} {judged.found:16} {judged.second:16} "
        f"{'right' if judged.right else 'WRONG':5} {mark[judged.line]:4} "
        f"{judged.fix + (' NO' if judged.fix_is_right is False else ''):22} "
        f"{'-' if guess is None else f'{guess:.2f}':>6} {'-' if took is None else f'{took:.2f}':>6} "
        f"{'-' if error is None else f'{error:+.0%}':>6}{'!' if error is None or abs(error) > SERIAL_WITHIN else ' '} "
        f"{'same' if judged.same_output else 'DIFF':6} {'same' if judged.same_code else 'DIFF':4} "
        f"{seconds(judged.plain):5.2f} {judged.report['elapsed']:5.2f} {judged.overhead:+7.1%}"
    )


def summary(judgements: list[Judgement]) -> str:
    """How many are right, by what issue 4 asks for."""
    count = len(judgements)
    errors = [judged.serial_error for judged in judgements if judged.serial]
    lines = [judged.line for judged in judgements if judged.line is not None]
    fixes = [judged.fix_is_right for judged in judgements if judged.fix_is_right is not None]
    overheads = [judged.overhead for judged in judgements]
    return "\n".join(
        (
            f"primary cause right: {sum(j.right for j in judgements)} of {count}",
            f"among the first two: {sum(j.among_two for j in judgements)} of {count}",
            f"line right: {sum(lines)} of {len(lines)}; first fix right: {sum(fixes)} of {len(fixes)}",
            f"serial time within {SERIAL_WITHIN:.0%}: "
            f"{sum(error is not None and abs(error) <= SERIAL_WITHIN for error in errors)} of {len(errors)}",
            f"output and exit code the same: {sum(j.same_output and j.same_code for j in judgements)} of {count}",
            f"overhead: median {statistics.median(overheads):+.1%}, largest {max(overheads):+.1%}",
        )
    )


def load(manifest: Path) -> tuple[Program, ...]:
    """CORPUS of a Python file."""
    spec = importlib.util.spec_from_file_location("manifest", manifest)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CORPUS


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.why.judge", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="just these programs, or those of these causes")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each (default 1)")
    parser.add_argument("--nice", type=int, default=0, help="priority of the programs; below 0 needs to be root")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the reports' JSON there")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="programs of another manifest")
    options = parser.parse_args(words)
    programs = load(options.manifest) if options.manifest else corpus.CORPUS
    unknown = set(options.names) - {name for program in programs for name in (program.name, program.primary)}
    if unknown:
        parser.error(f"no such program or cause: {', '.join(sorted(unknown))}")
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)

    judgements, broken = [], []
    print(HEADER)
    for program in programs:
        if options.names and not {program.name, program.primary} & set(options.names):
            continue
        if missing := program.missing():
            broken.append(f"{program.name}: {', '.join(missing)} is not installed")
            continue
        try:
            judged = run_program(program, options.rounds, options.nice, options.keep)
        except (RuntimeError, running.Hang) as error:
            broken.append(f"{program.name}: {error}")
            print(f"{program.name:24} {program.primary:16} {str(error).splitlines()[0]}", flush=True)
            continue
        judgements.append(judged)
        print(line(judged), flush=True)
    print()
    for judged in judgements:
        for fault in judged.faults():
            print(f"{judged.program.name}: {fault}")
    print(*broken, sep="\n")
    if judgements:
        print(summary(judgements))
    enough = sum(j.right for j in judgements) >= RIGHT_AT_LEAST * (len(judgements) + len(broken))
    return 0 if judgements and enough and all(j.among_two and j.same_output for j in judgements) else 1


if __name__ == "__main__":
    sys.exit(main())
