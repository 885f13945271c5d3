"""The regret of each cell, and the page about it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

ORACLES = ("loop", "threads", "threads-32", "pool-1", "pool", "pool-n")
OURS = "breakeven"
PEERS = ("joblib", "mpire")


def best(cell: Mapping[str, Any]) -> tuple[str, float] | None:
    """The oracle with the least median time, and that time."""
    medians = {name: statistics.median(cell["times"][name]) for name in ORACLES if cell.get("times", {}).get(name)}
    if not medians:
        return None
    name = min(medians, key=medians.__getitem__)
    return name, medians[name]


def regret(cell: Mapping[str, Any]) -> float | None:
    """Median over the rounds of: our time over that of the best way, which is the one with the least median."""
    found = best(cell)
    if found is None or not cell["times"].get(OURS):
        return None
    # Pairs of the same round where both have all rounds, so that what slowed one round slowed both.
    ours, theirs = cell["times"][OURS], cell["times"][found[0]]
    if len(ours) == len(theirs):
        return statistics.median([one / other for one, other in zip(ours, theirs, strict=True)])
    return statistics.median(ours) / found[1]


def over_serial(cell: Mapping[str, Any]) -> float | None:
    """Seconds by which we are over what may at most be taken: the loop's time and 5 %, and 1 ms. Negative: below."""
    ours, loop = cell.get("times", {}).get(OURS), cell.get("times", {}).get("loop")
    if not ours or not loop:
        return None
    return statistics.median(ours) - (1.05 * statistics.median(loop) + 1e-3)


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.3g}" if seconds < 10 else f"{seconds * 1e3:.0f}"


def line(name: str, cell: Mapping[str, Any]) -> str:
    """One cell in a line, for whoever watches."""
    if "error" in cell:
        return f"{name:18} failed: {cell['error'].strip().splitlines()[-1]}"
    found, ratio = best(cell), regret(cell)
    shown = f"{ratio:5.2f}" if ratio is not None else "  ?  "
    over = over_serial(cell)
    mark = "" if over is None or over <= 0 else f"  OVER THE LOOP by {_ms(over)} ms"
    times = ", ".join(f"{rival} {_ms(statistics.median(values))}" for rival, values in cell["times"].items() if values)
    wrong = "; ".join(f"{rival}: {text.strip().splitlines()[-1]}" for rival, text in cell["remarks"].items())
    oracle = found[0] if found else "-"
    return f"{name:18} {shown}  best {oracle:10} | {times}{mark}{' | ' + wrong if wrong else ''}"


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def render(result: Mapping[str, Any]) -> str:
    """The page."""
    cells = result["cells"]
    regrets = {name: value for name, cell in cells.items() if (value := regret(cell)) is not None}
    overs = [name for name, cell in cells.items() if (value := over_serial(cell)) is not None and value > 0]
    build = result["machine"]
    lines = [
        "# Regret of map",
        "",
        "The time of `breakeven.map` over that of the best way in hindsight: the serial loop, a ThreadPoolExecutor (of",
        "32 threads too, where items sleep), and Pool.map with chunksize 1, its default, and n/workers, pools and",
        "executors made for the call. All rivals run in turns in one process for a cell; the figure is the median",
        "over the rounds.",
        "Every result is compared with the loop's. A rival that takes more than ten times as long is cut off.",
        "",
        f"Made by `python -m bench regret --publish` ({result['rounds']} rounds) on: "
        + ", ".join(f"{key} {value}" for key, value in build.items() if isinstance(value, (str, int)))
        + ".",
        "",
    ]
    if regrets:
        values = list(regrets.values())
        lines += [
            "| | wanted | measured |",
            "|---|---|---|",
            f"| median | <= 1.02 | {statistics.median(values):.3f} |",
            f"| 90 % of the cells | <= 1.15 | {quantile(values, 0.9):.3f} |",
            f"| worst | <= 1.5 | {max(values):.2f} ({max(regrets, key=regrets.__getitem__)}) |",
            f"| more than the loop and 5 % and 1 ms | none | {', '.join(overs) or 'none'} |",
            "",
        ]
    lines += [
        "Times in milliseconds; empty: not offered, or cut off.",
        "",
        "| cell | what | regret | best | " + " | ".join([OURS, *ORACLES, *PEERS]) + " |",
        "|---|---|--:|---|" + "--:|" * (1 + len(ORACLES) + len(PEERS)),
    ]
    for name, cell in cells.items():
        if "error" in cell:
            lines.append(f"| {name} | {cell['kind']} | failed | | " + " | " * (len(ORACLES) + len(PEERS)) + " |")
            continue
        found, ratio = best(cell), regrets.get(name)
        medians = [
            _ms(statistics.median(cell["times"][rival])) if cell["times"].get(rival) else ""
            for rival in [OURS, *ORACLES, *PEERS]
        ]
        shown = "" if ratio is None else f"{ratio:.2f}"
        lines.append(f"| {name} | {cell['kind']} | {shown} | {found[0] if found else ''} | {' | '.join(medians)} |")
    return "\n".join(lines) + "\n"
