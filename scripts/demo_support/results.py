"""What the demo found: samples by case and variant, their medians, ratios and faults."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cases import Case
    from .runner import Sample


@dataclass
class Row:
    """The samples of one case. A variant that failed once has an entry in `failures` and counts as not measured."""

    case: Case
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, variant: str, sample: Sample) -> None:
        self.samples.setdefault(variant, []).append(sample)

    def seconds(self, variant: str) -> float | None:
        """Median of the seconds that the program measured itself; None if the variant failed or was not run."""
        return self._median(variant, lambda sample: sample.seconds)

    def wall(self, variant: str) -> float | None:
        """Median of the whole process's seconds; None if the variant failed or was not run."""
        return self._median(variant, lambda sample: sample.wall)

    def _median(self, variant: str, measure: Callable[[Sample], float]) -> float | None:
        samples = self.samples.get(variant)
        if not samples or variant in self.failures:
            return None
        return statistics.median(measure(sample) for sample in samples)

    def speedup(self, over: str, of: str = "breakeven", whole: bool = False) -> float | None:
        """How many times the time of `of` fits into that of `over`; with `whole`, of the whole processes."""
        measure = self.wall if whole else self.seconds
        slow, fast = measure(over), measure(of)
        return slow / fast if slow is not None and fast else None

    def disagreement(self) -> str | None:
        """Say which variants' results differ, or None if every sample of every variant has the same."""
        by_result: dict[str, list[str]] = {}
        for variant, samples in self.samples.items():
            for sample in samples:
                variants = by_result.setdefault(repr(sample.result), [])
                if variant not in variants:
                    variants.append(variant)
        if len(by_result) < 2:
            return None
        return "the results differ: " + "; ".join(f"{', '.join(who)}: {what}" for what, who in by_result.items())

    def faults(self) -> list[str]:
        """Everything that is wrong with this case, one sentence each."""
        found = [f"{variant}: {message}" for variant, message in self.failures.items()]
        if (difference := self.disagreement()) is not None:
            found.append(difference)
        return found

    def as_json(self) -> dict[str, Any]:
        variants = {}
        for variant, samples in self.samples.items():
            variants[variant] = {
                "seconds": self.seconds(variant),
                "wall_seconds": self.wall(variant),
                "samples": [sample.seconds for sample in samples],
                "wall_samples": [sample.wall for sample in samples],
                "result": samples[0].result,
            }
        return {
            "name": self.case.name,
            "title": self.case.title,
            "script": f"examples/{self.case.script}",
            "arguments": list(self.case.arguments),
            "variants": variants,
            "speedup_over_stdlib": self.speedup("stdlib"),
            "speedup_over_serial": self.speedup("serial"),
            "whole_process_speedup_over_stdlib": self.speedup("stdlib", whole=True),
            "faults": self.faults(),
        }
