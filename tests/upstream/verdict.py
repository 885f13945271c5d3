"""Judges what a cell's tests did: against plain CPython, and against the list of what is expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .expected import Entry
from .runner import Outcome


@dataclass
class Verdict:
    """What remains to be said about a cell. It is good if `lost` and `stale` are empty."""

    passed: int = 0
    skipped: int = 0
    lost: dict[str, Outcome] = field(default_factory=dict)  # plain CPython passes them, we do not
    expected: dict[str, Entry] = field(default_factory=dict)
    stale: dict[str, Entry] = field(default_factory=dict)  # on the list, and pass
    plain_too: dict[str, Outcome] = field(default_factory=dict)  # plain CPython does not pass them here either
    second_try: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.lost or self.stale)


def judge(
    outcomes: Mapping[str, Outcome],
    entry_for: Callable[[str], Entry | None],
    plain: Mapping[str, Outcome],
    second_try: list[str],
) -> Verdict:
    """Judge `outcomes`. `plain` has what plain CPython made of the tests that did not pass, `entry_for` the entry of
    the list of expected exceptions that covers a test."""
    verdict = Verdict(second_try=second_try)
    for name, outcome in sorted(outcomes.items()):
        entry = entry_for(name)
        if outcome.status == "passed":
            verdict.passed += 1
            if entry is not None and not entry.sometimes:
                verdict.stale[name] = entry
        elif entry is not None:
            verdict.expected[name] = entry
        elif name in plain and plain[name].status != "passed":
            if outcome.status == "skipped" and plain[name].status == "skipped":
                verdict.skipped += 1
            else:
                verdict.plain_too[name] = outcome
        else:
            verdict.lost[name] = outcome
    return verdict
