"""The demo's chart: rows to an SVG of grouped horizontal bars on a logarithmic axis. Pure; no library."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from .cases import VARIANTS
from .table import format_ratio, format_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .results import Row

# Distinguishable without colour vision and in grey: from the palette of Okabe and Ito.
COLOURS = {"serial": "#9a9a9a", "stdlib": "#e69f00", "breakeven": "#0072b2"}
LABELS = {"serial": "serial loop", "stdlib": "stdlib", "breakeven": "the same file under `breakeven run`"}

WIDTH = 1000
LEFT = 345  # where the bars begin
RIGHT = 150  # kept free for the speed-up
TOP = 118
BAR = 11
GAP = 17  # between two programs
BOTTOM = 40


def axis(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis for `values`: each 1, 2 or 5 times a power of ten, a bar's room apart."""
    if not values:
        return 0.1, 10.0
    steps = [step * 10.0**power for power in range(-7, 7) for step in (1, 2, 5)]
    # Strictly below the smallest value, so that the shortest bar is still a bar.
    low = max(step for step in steps if step < min(values) * 0.95)
    high = min(step for step in steps if step >= max(values))
    return low, high


def ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten from low to high."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]


def tick_label(seconds: float) -> str:
    if seconds < 0.0009:
        return f"{seconds * 1e6:g} µs"
    return f"{seconds * 1e3:g} ms" if seconds < 0.9 else f"{seconds:g} s"


def text(x: float, y: float, words: str, size: int = 12, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def render_svg(rows: Sequence[Row], title: str, subtitle: str) -> str:
    """Return the chart as an SVG document; a variant without a time has no bar but the words "not measured"."""
    measured = [time for row in rows for variant in VARIANTS if (time := row.seconds(variant))]
    shown = [variant for variant in VARIANTS if any(row.seconds(variant) for row in rows)]
    low, high = axis(measured)
    group = len(shown) * BAR + GAP
    bottom = TOP + len(rows) * group
    height = bottom + BOTTOM
    span = WIDTH - RIGHT - LEFT - 62  # 62: room for the longest bar's own label

    def position(seconds: float) -> float:
        return LEFT + span * math.log(seconds / low) / math.log(high / low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif" fill="#222">',
        f"<title>{escape(title)}</title>",
        # A page may be dark; the words are not.
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        text(24, 34, title, 20, more=' font-weight="600"'),
        text(24, 56, subtitle, 12, more=' fill="#555"'),
    ]
    x = 24.0
    for variant in shown:
        parts.append(f'<rect x="{x:.1f}" y="71" width="12" height="12" fill="{COLOURS[variant]}"/>')
        parts.append(text(x + 18, 81, LABELS[variant], 13))
        x += 44 + 7.2 * len(LABELS[variant])
    compared = any(row.speedup("stdlib") for row in rows)
    if compared:
        parts.append(text(WIDTH - 24, TOP - 12, "over stdlib", 12, "end", ' fill="#555"'))

    for tick in ticks(low, high):
        at = position(tick)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP - 6}" x2="{at:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(text(at, bottom + 17, tick_label(tick), 12, "middle", ' fill="#555"'))
    parts.append(text(WIDTH - 24, bottom + 17, "time, logarithmic", 12, "end", ' fill="#555"'))

    for at, row in enumerate(rows):
        top = TOP + at * group + GAP / 2
        middle = top + len(shown) * BAR / 2
        parts.append(text(24, middle - 2, row.case.name, 13, more=' font-weight="600"'))
        parts.append(text(24, middle + 13, row.case.title, 11, more=' fill="#555"'))
        for line, variant in enumerate(shown):
            y = top + line * BAR
            seconds = row.seconds(variant)
            if seconds:
                end = position(seconds)
                parts.append(
                    f'<rect x="{LEFT}" y="{y:.1f}" width="{end - LEFT:.1f}" height="{BAR - 1}"'
                    f' fill="{COLOURS[variant]}"><title>{variant}: {format_seconds(seconds)}</title></rect>'
                )
                parts.append(text(end + 4, y + BAR - 2.2, format_seconds(seconds), 10))
            else:
                parts.append(text(LEFT + 4, y + BAR - 2.2, f"{variant}: not measured", 10, more=' fill="#b00"'))
        if compared:
            ratio = row.speedup("stdlib")
            slower = ratio is not None and ratio < 0.95
            style = f' font-weight="600" fill="{"#b00" if slower else "#222"}"'
            parts.append(text(WIDTH - 24, middle + 6, format_ratio(ratio), 17, "end", style))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
