"""`python -m bench`: run, report, list, setup; regret (bench/regret/run.py has its options)."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from bench import machine, report, runner
from bench.channels import CHANNELS
from bench.pools import POOLS
from bench.workloads import WORKLOADS

PUBLISHED = machine.ROOT / "docs" / "benchmarks.json"
PARTIAL = machine.ROOT / "out" / "bench.json"


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    run = commands.add_parser("run", help="measure (the default)")
    run.add_argument("--only", metavar="REGEX", help="just the workloads whose id this finds")
    run.add_argument("--rivals", metavar="A,B", help="just these rivals, by name")
    run.add_argument("--rounds", type=int, default=5, help="rounds of breakeven and the standard library (default 5)")
    run.add_argument(
        "--peer-rounds", type=int, default=runner.PEER_ROUNDS, help="rounds of the others, at most (default 3)"
    )
    run.add_argument("--quick", action="store_true", help="tiny sizes, one round: does it run?")
    run.add_argument(
        "--json", type=Path, metavar="FILE", help=f"where the result goes (default {PARTIAL.relative_to(machine.ROOT)})"
    )
    run.add_argument(
        "--publish", action="store_true", help="everything, into docs/benchmarks.json and docs/benchmarks.md"
    )
    show = commands.add_parser("report", help="make the page out of a result")
    show.add_argument("result", type=Path, nargs="?", default=PUBLISHED)
    show.add_argument("--out", type=Path, help="default: the result's name with .md; - is standard output")
    commands.add_parser("list", help="workloads and rivals")
    commands.add_parser("setup", help="install the peers into this interpreter's environment, those that can be")
    if not words or words[0] not in {*commands.choices, "-h", "--help"}:
        words = ["run", *words]
    options = parser.parse_args(words)
    if (
        options.command == "run"
        and options.publish
        and (options.only or options.rivals or options.quick or options.json)
    ):
        parser.error("--publish is the whole run: it goes with none of --only, --rivals, --quick and --json")
    return options


def write_report(result: Path, out: Path) -> None:
    out.write_text(report.render(json.loads(result.read_text())))
    print(f"wrote {out}", file=sys.stderr)


def setup() -> int:
    """One by one, so that one that does not build stops none of the others; run() says who is missing and why."""
    for line in (Path(__file__).parent / "requirements.txt").read_text().splitlines():
        requirement = line.partition("#")[0].strip()
        if not requirement:
            continue
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        )
        print(
            f"{requirement}: {'installed' if done.returncode == 0 else 'cannot be installed here, left out'}",
            file=sys.stderr,
        )
    return 0


def main(words: list[str]) -> int:
    if words[:1] == ["regret"]:
        from bench.regret import run

        return run.main(words[1:])
    options = parse(words)
    if options.command == "setup":
        return setup()
    if options.command == "list":
        for work in WORKLOADS.values():
            print(f"{work.id:22} {work.title}\n{'':22} {', '.join(work.rivals)}")
        print("\nrivals:", ", ".join({**CHANNELS, **POOLS}))
        return 0
    if options.command == "report":
        if str(options.out) == "-":
            print(report.render(json.loads(options.result.read_text())), end="")
        else:
            write_report(options.result, options.out or options.result.with_suffix(".md"))
        return 0
    result = runner.run(
        only=options.only,
        rivals=options.rivals.split(",") if options.rivals else None,
        rounds=1 if options.quick else options.rounds,
        peer_rounds=options.peer_rounds,
        quick=options.quick,
        command=shlex.join(["python", "-m", "bench", *words]),
    )
    target = PUBLISHED if options.publish else options.json or PARTIAL
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {target}", file=sys.stderr)
    if options.publish:
        write_report(target, target.with_suffix(".md"))
    ours_failed = [s for s in result["samples"] if s["rival"] in ("breakeven", "stdlib") and "error" in s]
    return 1 if ours_failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
