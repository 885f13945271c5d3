"""Medians, spreads and paired ratios. Pure: no clock, no process, no file."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a handful of measurements say: the middle one and how far the others lie from it."""

    median: float
    low: float
    high: float
    count: int

    @property
    def spread(self) -> float:
        """Half the range over the median: 0.1 reads "give or take 10 %"."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def summarise(values: Sequence[float]) -> Summary | None:
    """Median, lowest and highest of `values`; None where there are none."""
    if not values:
        return None
    return Summary(statistics.median(values), min(values), max(values), len(values))


def paired_ratios(ours: Mapping[int, float], theirs: Mapping[int, float], better: str) -> list[float]:
    """How many times better `ours` is, round by round.

    Both map the number of a round to what was measured in it. Two sides of one round ran within seconds of each
    other, so that a machine that is busy for a minute slows both: the ratio of a pair is steadier than the ratio of
    two medians.

    better: "higher" for rates, "lower" for times and sizes. A result above 1 always means that `ours` is the better
    one.
    """
    if better not in ("higher", "lower"):
        raise ValueError(f"better is 'higher' or 'lower', not {better!r}")
    ratios = []
    for number in sorted(ours.keys() & theirs.keys()):
        a, b = (ours[number], theirs[number]) if better == "higher" else (theirs[number], ours[number])
        if b:
            ratios.append(a / b)
    return ratios


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `values` lie; nearest rank, so it is one that was measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
