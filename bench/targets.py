"""What the issues ask breakeven to reach, as rules over a result; and whether it does. Pure.

The texts are the issues'. Each rule reads figures out of a result and gives a `Verdict`; none holds a measured number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from bench import stats

OURS = "breakeven"
THEIRS = "stdlib"


class Figures:
    """The measured values of a result: by workload, rival, round and metric."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.workloads: Mapping[str, Any] = result["workloads"]
        self._values: dict[tuple[str, str, str], dict[int, float]] = {}
        self.failures: dict[tuple[str, str], list[str]] = {}
        for sample in result["samples"]:
            key = sample["workload"], sample["rival"]
            if "metrics" in sample:
                for metric, value in sample["metrics"].items():
                    self._values.setdefault((*key, metric), {})[sample["round"]] = value
            elif "error" in sample:
                self.failures.setdefault(key, []).append(sample["error"])

    def by_round(self, workload: str, rival: str, metric: str | None = None) -> dict[int, float]:
        """Round -> value; empty where nothing was measured. The workload's own metric unless another is named."""
        if workload not in self.workloads:
            return {}
        return self._values.get((workload, rival, metric or self.workloads[workload]["metric"]), {})

    def summary(self, workload: str, rival: str, metric: str | None = None) -> stats.Summary | None:
        return stats.summarise(list(self.by_round(workload, rival, metric).values()))

    def rivals(self, workload: str) -> list[str]:
        """Who has a figure for it."""
        own = self.workloads[workload]["metric"]
        return [rival for (name, rival, metric) in self._values if name == workload and metric == own]

    def ratio(self, workload: str, against: str, ours: str = OURS) -> stats.Summary | None:
        """How many times better `ours` is than `against`: above 1 is a win, whichever way the metric runs."""
        if workload not in self.workloads:
            return None
        better = self.workloads[workload]["better"]
        return stats.summarise(
            stats.paired_ratios(self.by_round(workload, ours), self.by_round(workload, against), better)
        )


@dataclasses.dataclass(frozen=True)
class Verdict:
    """met is None where there is no measurement to judge by."""

    met: bool | None
    measured: str


Rule = Callable[[Figures], Verdict]
NOT_MEASURED = Verdict(None, "not measured")


def times_stdlib(workload: str, factor: float) -> Rule:
    """At least `factor` times better than the standard library (for times: at most 1/factor of its time)."""

    def rule(figures: Figures) -> Verdict:
        ratio = figures.ratio(workload, THEIRS)
        return NOT_MEASURED if ratio is None else Verdict(ratio.median >= factor, f"{ratio.median:.3g} x stdlib")

    return rule


def ahead_of_peers(workload: str) -> Rule:
    """Better than every rival that was measured."""

    def rule(figures: Figures) -> Verdict:
        ratios = (
            {name: figures.ratio(workload, name) for name in figures.rivals(workload) if name != OURS}
            if workload in figures.workloads
            else {}
        )
        known = {name: ratio.median for name, ratio in ratios.items() if ratio is not None}
        if not known:
            return NOT_MEASURED
        nearest = min(known, key=known.__getitem__)
        return Verdict(known[nearest] > 1, f"{known[nearest]:.3g} x {nearest}, the nearest")

    return rule


def at_most(workload: str, limit: float, show: Callable[[float], str], metric: str | None = None) -> Rule:
    """The median is `limit` (SI units) or less."""

    def rule(figures: Figures) -> Verdict:
        summary = figures.summary(workload, OURS, metric)
        return NOT_MEASURED if summary is None else Verdict(summary.median <= limit, show(summary.median))

    return rule


def at_least(workload: str, limit: float, show: Callable[[float], str]) -> Rule:
    """The median is `limit` (SI units) or more."""

    def rule(figures: Figures) -> Verdict:
        summary = figures.summary(workload, OURS)
        return NOT_MEASURED if summary is None else Verdict(summary.median >= limit, show(summary.median))

    return rule


def share_of(workload: str, other: str, share: float) -> Rule:
    """Our rate in `workload` is at least `share` of our rate in `other`."""

    def rule(figures: Figures) -> Verdict:
        one, two = figures.summary(workload, OURS), figures.summary(other, OURS)
        if one is None or two is None:
            return NOT_MEASURED
        return Verdict(one.median >= share * two.median, f"{one.median / two.median:.2f} of 1 to 1")

    return rule


def no_example_slower(slack: float) -> Rule:
    """No example takes longer under `breakeven run` than under plain Python; `slack` is what two runs may differ by."""

    def rule(figures: Figures) -> Verdict:
        ratios = {name: figures.ratio(name, THEIRS) for name in figures.workloads if name.startswith("example-")}
        known = {name.partition("-")[2]: ratio.median for name, ratio in ratios.items() if ratio is not None}
        lost = [name for (name, _) in figures.failures if name.startswith("example-")]
        if not known or (len(known) < len(ratios) and not lost):
            return NOT_MEASURED
        slow = sorted((ratio, name) for name, ratio in known.items() if ratio < 1 - slack)
        text = "; ".join(f"{name} {ratio:.2f} x" for ratio, name in slow)
        if lost:
            text = "; ".join(filter(None, [text, "failed: " + ", ".join(sorted(set(lost)))]))
        return Verdict(not text, text or f"slowest: {min(known.values()):.2f} x")

    return rule


def microseconds(value: float) -> str:
    return f"{value * 1e6:.3g} us"


def milliseconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms"


def megabytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"


def thousands(value: float) -> str:
    return f"{value / 1e3:.0f} k/s"


def times(value: float) -> str:
    return f"{value:.2f} x"


def each(value: float) -> str:
    return f"{value:.1f} a message"


@dataclasses.dataclass(frozen=True)
class Target:
    """One line of an issue's table, or a part of one."""

    work: str
    reach: str
    rule: Rule
    issue: int = 2


# "No page faults" cannot mean zero by the letter: an interpreter takes a few for itself, and khugepaged makes some. One
# fresh array of 54 MB costs 13,184; ten a message is none of that kind.
FEW = 10

TARGETS: tuple[Target, ...] = (
    Target("int, 1 to 1", ">= 12 x stdlib", times_stdlib("1p1c-int", 12)),
    Target("int, 1 to 1, maxsize 1000", ">= 12 x stdlib", times_stdlib("1p1c-int-bounded", 12)),
    Target("str, 1 to 1", ">= 12 x stdlib", times_stdlib("1p1c-str", 12)),
    Target("small tuple, 1 to 1", ">= 12 x stdlib", times_stdlib("1p1c-tuple", 12)),
    Target("int, 1 to 1", "ahead of every peer", ahead_of_peers("1p1c-int")),
    Target("str, 1 to 1", "ahead of every peer", ahead_of_peers("1p1c-str")),
    Target("small tuple, 1 to 1", "ahead of every peer", ahead_of_peers("1p1c-tuple")),
    Target("the same with put_many/get_many", ">= 40 x stdlib", times_stdlib("many-int", 40)),
    Target("2 producers, 2 consumers", "no worse than half of 1 to 1", share_of("2p2c-int", "1p1c-int", 0.5)),
    Target("put then get in one process", "<= 0.15 us", at_most("same-process", 0.15e-6, microseconds)),
    Target("round trip p50, both running", "<= 6 us", at_most("round-trip", 6e-6, microseconds)),
    Target("round trip p50, from sleep", "<= 60 us", at_most("round-trip-asleep", 60e-6, microseconds)),
    Target("array 54 MB, read", "<= 7 ms", at_most("array-54MB", 7e-3, milliseconds)),
    Target("array 54 MB, read", "20 x stdlib", times_stdlib("array-54MB", 20)),
    Target("array 1 MB, read", "<= 0.12 ms", at_most("array-1MB", 0.12e-3, milliseconds)),
    Target(
        "array 54 MB, page faults of the sender",
        "none in steady state",
        at_most("array-54MB", FEW, each, "sender_faults"),
    ),
    Target(
        "array 54 MB, page faults of the receiver",
        "none in steady state",
        at_most("array-54MB", FEW, each, "receiver_faults"),
    ),
    Target("list of 100,000 ints", "<= 0.7 ms", at_most("list-100k", 0.7e-3, milliseconds)),
    Target(
        "10 arrays of 54 MB, slow consumer, peak memory, all in all", "<= 230 MB", at_most("memory", 230e6, megabytes)
    ),
    Target(
        "the same, less what interpreter and NumPy hold before",
        "<= 230 MB",
        at_most("memory", 230e6, megabytes, "peak_above_idle"),
    ),
    Target("the article's queue program, array over int", "<= 1.5", at_most("article", 1.5, times)),
    Target("Pool.map, a million x*x, default chunks", ">= 1.3 x stdlib", times_stdlib("pool-map", 1.3)),
    Target("Pool.map, chunksize=1", ">= 400 k/s", at_least("pool-map-chunk1", 400e3, thousands)),
    Target("imap, no chunksize", ">= 800 k/s", at_least("pool-imap", 800e3, thousands)),
    Target("imap_unordered, no chunksize", ">= 800 k/s", at_least("pool-imap-unordered", 800e3, thousands)),
    Target("apply_async, many in flight", ">= 150 k/s", at_least("pool-apply-async", 150e3, thousands)),
    Target("one apply, p50", "<= 70 us", at_most("pool-apply", 70e-6, microseconds)),
    Target("every example under `run`", "never slower (5 % for noise)", no_example_slower(0.05)),
    *(
        Target(f"example {name} under `run`", ">= 5 x stdlib", times_stdlib(f"example-{name}", 5))
        for name in ("queue_arrays-array", "array_sum-manager", "tiny_tasks", "executor-submit", "executor-map")
    ),
    Target("first pool, fork", "<= 6 ms", at_most("start-first-pool-fork", 6e-3, milliseconds), 3),
    *(
        Target(f"first pool, {method}", "<= 15 ms", at_most(f"start-first-pool-{method}", 15e-3, milliseconds), 3)
        for method in ("forkserver", "spawn")
    ),
    Target("second pool, fork", "<= 3 ms", at_most("start-second-pool-fork", 3e-3, milliseconds), 3),
    *(
        Target(f"second pool, {method}", "<= 1.5 ms", at_most(f"start-second-pool-{method}", 1.5e-3, milliseconds), 3)
        for method in ("forkserver", "spawn")
    ),
    *(
        Target(
            f"second pool, 2 GB touched, {method}",
            "<= 2 ms",
            at_most(f"start-second-pool-2gb-{method}", 2e-3, milliseconds),
            3,
        )
        for method in ("forkserver", "spawn")
    ),
    Target("Process start and join, forkserver", "<= 4 ms", at_most("start-process-forkserver", 4e-3, milliseconds), 3),
    Target(
        "Process start and join, fork",
        "no slower than the stdlib (5 % for noise)",
        times_stdlib("start-process-fork", 0.95),
        3,
    ),
    Target("executor: submit, many in flight", ">= 150 k/s", at_least("start-executor-submit", 150e3, thousands), 3),
    Target("executor: map, no chunksize", ">= 800 k/s", at_least("start-executor-map", 800e3, thousands), 3),
    Target("executor: one submit, p50", "<= 70 us", at_most("start-executor-one", 70e-6, microseconds), 3),
    Target("exit with a live pool", "<= 20 ms", at_most("start-exit-with-pool", 20e-3, milliseconds), 3),
    Target("import beyond multiprocessing", "<= 15 ms", at_most("start-import", 15e-3, milliseconds), 3),
    Target("Lock, acquire and release", "<= 0.1 us", at_most("start-lock", 0.1e-6, microseconds), 3),
)
