"""The demo's table as text: pure functions from rows to lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cases import VARIANTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .results import Row

ABSENT = "-"


def format_seconds(seconds: float | None) -> str:
    """Three significant digits, with the unit that keeps the number readable."""
    if seconds is None:
        return ABSENT
    if seconds < 0.0995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"


def format_ratio(ratio: float | None) -> str:
    """A speed-up as a factor with two digits or more: 0.52 x, 1.1 x, 23 x."""
    if ratio is None:
        return ABSENT
    if ratio < 0.0995:
        return f"{ratio:.2g} x"
    return f"{ratio:.2f} x" if ratio < 1.995 else f"{ratio:.1f} x" if ratio < 9.95 else f"{ratio:.0f} x"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay cells out in columns: the first to the left, the others to the right."""
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows]


def render_table(rows: Sequence[Row]) -> str:
    """Return the table of seconds and speed-ups, with a rule under its head."""
    head = ("program", *VARIANTS, "over stdlib", "over serial", "whole process")
    body = [
        (
            row.case.name,
            *(format_seconds(row.seconds(variant)) for variant in VARIANTS),
            format_ratio(row.speedup("stdlib")),
            format_ratio(row.speedup("serial")),
            format_ratio(row.speedup("stdlib", whole=True)),
        )
        for row in rows
    ]
    lines = align([head, *body])
    return "\n".join([lines[0].rstrip(), "-" * len(lines[0]), *(line.rstrip() for line in lines[1:])])


# Differences smaller than this are not called faster or slower: repeated runs of one program differ as much.
NOISE = 0.05


def summarise(rows: Sequence[Row]) -> str:
    """Say in a sentence or two where breakeven is faster than the stdlib and where it is not."""
    ratios = {row.case.name: ratio for row in rows if (ratio := row.speedup("stdlib")) is not None}
    if not ratios:
        return "breakeven was not measured against the stdlib."
    faster = [name for name, ratio in ratios.items() if ratio > 1 + NOISE]
    slower = {name: ratio for name, ratio in ratios.items() if ratio < 1 - NOISE}
    best = max(ratios, key=lambda name: ratios[name])
    words = f"breakeven is faster than the stdlib in {len(faster)} of {len(ratios)} programs"
    words += f", up to {format_ratio(ratios[best])} ({best})" if faster else ""
    if slower:
        words += "; SLOWER in " + ", ".join(f"{name} ({format_ratio(ratio)})" for name, ratio in slower.items())
    elif len(faster) < len(ratios):
        words += f", and level with it (within {NOISE:.0%}) in the rest"
    return words + "."
