"""Turns a result into docs/benchmarks.md. Pure: text from data, no number of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import targets
from bench.programs import CASES
from bench.targets import OURS, TARGETS, THEIRS, Figures

MARK = {True: "met", False: "**missed**", None: "not measured"}


def quantity(value: float, unit: str) -> str:
    """A value with a unit of handy size: 0.0000048 s -> 4.80 us."""
    scales: tuple[tuple[float, str], ...] | None
    scales = {
        "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
        "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    }.get(unit)
    if unit.endswith("/s"):
        scales = ((1e6, "M/s"), (1e3, "k/s"), (1.0, "/s"))
    if scales is None:
        return f"{value:.3g} {unit}"
    size, name = next(((size, name) for size, name in scales if abs(value) >= size), scales[-1])
    scaled = value / size
    digits = 2 if scaled < 10 else 1 if scaled < 100 else 0
    return f"{scaled:.{digits}f} {name}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows),
    ]


def machine_lines(result: Mapping[str, Any]) -> list[str]:
    m, options = result["machine"], result["options"]
    native = m["native"]
    build = ", ".join(f"{key} {value}" for key, value in native.items()) if isinstance(native, dict) else native
    changed = f", {m['changed_files']} tracked files changed since" if m["changed_files"] else ""
    return [
        f"- machine: {m['cpu']}, {m['cores']} cores usable, {m['memory_mib']} MiB, Linux {m['kernel']}",
        f"- Python: {m['implementation']} {m['python']}",
        f"- commit: {m['commit']}{changed}; date: {m['date']}",
        f"- native module: {build}",
        f"- load average at start {m['load_at_start']}, at end {m['load_at_end']} (the benchmark's own included); "
        f"took {result['seconds'] / 60:.1f} minutes",
        disturbance(result["samples"]),
        f"- rounds: {options['rounds']}, of the peers {options['peer_rounds']}"
        + ("; **quick sizes: good for seeing that it runs, not for figures**" if options["quick"] else ""),
    ]


def disturbance(samples: Sequence[Mapping[str, Any]]) -> str:
    """How much of the machine others used while samples ran."""
    others = sorted(sample["others"] for sample in samples if "others" in sample)
    if not others:
        return "- what else ran on the machine was not recorded"
    middle, most = others[len(others) // 2], others[-1]
    return f"- other programs used {middle:.1f} cores during the median sample, {most:.1f} during the worst"


def reach_rows(figures: Figures) -> list[tuple[str, str, str, str, str]]:
    """(issue, work, what the issue asks, what was measured, verdict) for each target."""
    rows = []
    for target in TARGETS:
        verdict = target.rule(figures)
        rows.append((str(target.issue), target.work, target.reach, verdict.measured, MARK[verdict.met]))
    return rows


def workload_rows(figures: Figures, workload: str, rivals: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(rival, median, spread, breakeven against it, remark), breakeven and the standard library first."""
    about = figures.workloads[workload]
    measured = figures.rivals(workload)
    failed = [rival for (name, rival) in figures.failures if name == workload and rival not in measured]
    rows: list[tuple[str, ...]] = []
    for rival in sorted([*measured, *failed], key=lambda name: (name != OURS, name != THEIRS)):
        summary = figures.summary(workload, rival)
        note = rivals.get(rival, {}).get("note", "")
        errors = figures.failures.get((workload, rival), [])
        if summary is None:
            rows.append((rival, "failed", "", "", errors[0].strip().splitlines()[-1][:120]))
            continue
        if errors:
            note = "; ".join(filter(None, [note, f"{len(errors)} of {len(errors) + summary.count} runs failed"]))
        ratio = figures.ratio(workload, rival) if rival != OURS else None
        compared = ""
        if ratio is not None:
            compared = f"{ratio.median:.3g} x ({ratio.low:.3g} to {ratio.high:.3g})" + (
                "" if ratio.median >= 1 else ", **a loss**"
            )
        spread = f"{quantity(summary.low, about['unit'])} to {quantity(summary.high, about['unit'])}"
        rows.append((rival, quantity(summary.median, about["unit"]), spread, compared, note))
    return rows


def extra_rows(figures: Figures, workload: str, metrics: Sequence[tuple[str, str, str]]) -> list[tuple[str, ...]]:
    """Medians of further metrics, a row a rival. metrics: (name, heading, unit)."""
    rows = []
    for rival in sorted(figures.rivals(workload), key=lambda name: (name != OURS, name != THEIRS)):
        cells = [rival]
        for metric, _, unit in metrics:
            summary = figures.summary(workload, rival, metric)
            cells.append(
                "" if summary is None else f"{summary.median:.1f}" if unit == "" else quantity(summary.median, unit)
            )
        rows.append(tuple(cells))
    return rows


EXTRA: dict[str, tuple[tuple[str, str, str], ...]] = {
    **{
        f"array-{size}": (
            ("sender_faults", "page faults a message, sender", ""),
            ("receiver_faults", "receiver", ""),
            ("copy", "one warm copy in that run", "s"),
            ("read", "one sum", "s"),
        )
        for size in ("1MB", "8MB", "54MB")
    },
    **{
        f"example-{case.name.replace('/', '-')}": (("cpu", "CPU time, all processes, imports too", "s"),)
        for case in CASES
    },
    "round-trip": (("p99", "99 of 100 trips are under", "s"),),
    "round-trip-asleep": (("p99", "99 of 100 trips are under", "s"),),
    "pool-apply": (("p99", "99 of 100 calls are under", "s"),),
    "memory": (
        ("idle", "held before the start", "bytes"),
        ("peak_above_idle", "peak less that", "bytes"),
        ("peak_pss", "peak of the sum of PSS alone", "bytes"),
    ),
    "article": (("int_seconds", "with the int", "s"), ("array_seconds", "with the array", "s")),
}


def losses(figures: Figures) -> list[str]:
    """A line for each rival that is ahead of breakeven somewhere."""
    lines = []
    for workload, about in figures.workloads.items():
        for rival in figures.rivals(workload):
            ratio = figures.ratio(workload, rival) if rival != OURS else None
            if ratio is not None and ratio.median < 1:
                lines.append(f"- {about['title']}: {1 / ratio.median:.3g} x behind {rival}")
    return lines


def render(result: Mapping[str, Any]) -> str:
    """The page."""
    figures = Figures(result)
    rivals = result["rivals"]
    lines = [
        "# Benchmarks",
        "",
        "<!-- Generated by `python -m bench report` from docs/benchmarks.json. Do not edit: run `make bench`. -->",
        "",
        "Both sides run in turns in one program, in processes of their own; figures are medians, ratios are medians",
        "of the ratios of pairs that ran in the same round, and above 1 always means that breakeven is the better",
        "one. How it measures, and what is summed where, is in [bench/README.md](../bench/README.md).",
        "",
        "Reproduce with one command: `make bench`.",
        "",
        *machine_lines(result),
        "",
        "## What the issues ask, and what is reached",
        "",
        *table(("issue", "work", "to reach", "measured", "verdict"), reach_rows(figures)),
        "",
    ]
    verdicts = [target.rule(figures).met for target in TARGETS]
    lines += [f"{verdicts.count(True)} met, {verdicts.count(False)} missed, {verdicts.count(None)} not measured.", ""]
    lines += ["## Losses", ""]
    lines += losses(figures) or [
        "No rival was ahead of breakeven in any workload of this run."
        if figures_of_ours(figures)
        else "breakeven was not measured in this run."
    ]
    lines += ["", "## Every workload", ""]
    for workload, about in figures.workloads.items():
        rows = workload_rows(figures, workload, rivals)
        lines += [
            f"### {about['title']}",
            "",
            f"`{workload}`: {about['how']}. {'More' if about['better'] == 'higher' else 'Less'} is better.",
            "",
        ]
        if not rows:
            lines += ["Not measured.", ""]
            continue
        lines += [*table(("", "median", "lowest to highest", "breakeven is better by", "remark"), rows), ""]
        if workload in EXTRA:
            lines += [
                *table(
                    ("", *(heading for _, heading, _ in EXTRA[workload])),
                    extra_rows(figures, workload, EXTRA[workload]),
                ),
                "",
            ]
    lines += ["## Who took part", ""]
    lines += table(
        ("rival", "version", "remark"),
        [
            (name, state.get("version", "left out: " + state.get("missing", "")), state.get("note", ""))
            for name, state in rivals.items()
        ],
    )
    failures = [
        (w, r, len(errors), errors[0].strip().splitlines()[-1][:160]) for (w, r), errors in figures.failures.items()
    ]
    if failures:
        lines += [
            "",
            "## Runs that failed",
            "",
            *table(("workload", "rival", "runs", "why"), [(w, r, str(n), why) for w, r, n, why in failures]),
        ]
    return "\n".join(lines) + "\n"


def figures_of_ours(figures: Figures) -> bool:
    """Whether breakeven has a figure in any workload."""
    return any(OURS in figures.rivals(workload) for workload in figures.workloads)


__all__ = ["render", "quantity", "table", "targets"]
