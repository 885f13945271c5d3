"""`breakeven.explain` and `breakeven.last`: what the break-even model says of a map, and why it was run as it was."""

from __future__ import annotations

import time
from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TextIO

    from ._native import Planner

__all__ = ["Candidate", "Plan", "explain", "last", "remember"]

# explain runs items until it has seen so many seconds of them, or has run so many.
EXPLAIN_SECONDS = 0.1
EXPLAIN_ITEMS = 100_000

_NAMES = {"serial": "the loop", "threads": "threads", "fork": "processes, forked", "warm": "processes, warm"}
_COLOURS = {"serial": "#6b7280", "helped": "#2563eb"}

_last: tuple[Planner, float | None, int | None] | None = None


class Candidate:
    """One way to run a map, and the time that the model predicts for it.

    Attributes:
        strategy: "serial", "threads", "fork" (processes forked at the call) or "warm" (processes started before).
        workers: how many run items at the same time, the caller included.
        seconds: the predicted time.
        low, high: the same if items are as cheap, or as dear, as the measurements allow (two standard errors), and
            helpers come up early, or late.
    """

    __slots__ = ("high", "low", "seconds", "strategy", "workers")

    def __init__(self, strategy: str, workers: int, seconds: float, low: float, high: float) -> None:
        self.strategy = strategy
        self.workers = workers
        self.seconds = seconds
        self.low = low
        self.high = high

    def to_dict(self) -> dict[str, Any]:
        """As a dictionary of the attributes."""
        return {name: getattr(self, name) for name in ("strategy", "workers", "seconds", "low", "high")}

    def __repr__(self) -> str:
        return f"<{self.strategy}, {self.workers} workers: {_seconds(self.seconds)}>"


class Plan:
    """What the break-even model knows and says of one map.

    `print(plan)` shows it as a table, `plan.show()` in colours on a terminal, a notebook with the break-even curve.

    Attributes:
        items: number of items that the predictions are for.
        strategy: what was chosen: "serial", "threads", "fork" or "warm".
        workers: how many run items at the same time then, the caller included.
        reason: why, in one sentence.
        predicted_seconds: for the way that was chosen; None if nothing was measured.
        elapsed: what a finished map really took, in seconds; None for a plan of `explain`.
        break_even_items: the fewest items for which helpers pay; None if they do not, however many there are.
        candidates: list of `Candidate`, the loop first.
        estimate: dict of what was measured of an item: `seconds`, `spread` (standard deviation over mean), `error`
            (relative standard error of `seconds`), `sleep_share`, `gil_share` (shares of its time in which it sleeps
            and holds the interpreter's lock), `bytes_in`, `bytes_out`. None where not known.
        charges: dict of what this machine charges, in seconds.
        ran: dict: how many items have run where: `here` (the caller), `threads`, `fork`, `warm`.
        decisions: list of dicts: what was decided while the map ran, and `after` how many seconds.
        curve: list of (items, seconds of the loop, seconds of the best other way).
        cores: cores that the map could use.
    """

    def __init__(self, found: dict[str, Any]) -> None:
        self.items: int = found["items"]
        self.cores: int = found["cores"]
        self.estimate: dict[str, float | None] = found["estimate"]
        self.charges: dict[str, float] = found["charges"]
        self.ran: dict[str, int] = found["ran"]
        self.candidates = [
            Candidate(row["strategy"], row["helpers"] + 1, row["seconds"], row["low"], row["high"])
            for row in found["candidates"]
        ]
        self.decisions: list[dict[str, Any]] = found["decisions"]
        self.reason: str = found["reason"]
        self.curve: list[tuple[int, float, float]] = found["curve"]
        self.break_even_items: int | None = found["break_even_items"]
        self.elapsed: float | None = found["elapsed"]
        self._chosen: int = found["chosen"]

    @property
    def chosen(self) -> Candidate | None:
        """The candidate that was chosen; None if nothing was measured."""
        return self.candidates[self._chosen] if self.candidates else None

    @property
    def strategy(self) -> str:
        """What was chosen."""
        return "serial" if self.chosen is None else self.chosen.strategy

    @property
    def workers(self) -> int:
        """How many run items at the same time then."""
        return 1 if self.chosen is None else self.chosen.workers

    @property
    def predicted_seconds(self) -> float | None:
        """Predicted time of what was chosen."""
        return None if self.chosen is None else self.chosen.seconds

    def to_dict(self) -> dict[str, Any]:
        """Everything as a dictionary that `json.dumps` takes."""
        return {
            "items": self.items,
            "cores": self.cores,
            "strategy": self.strategy,
            "workers": self.workers,
            "reason": self.reason,
            "predicted_seconds": self.predicted_seconds,
            "elapsed": self.elapsed,
            "break_even_items": self.break_even_items,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "estimate": dict(self.estimate),
            "charges": dict(self.charges),
            "ran": dict(self.ran),
            "decisions": [dict(decision) for decision in self.decisions],
            "curve": [list(point) for point in self.curve],
        }

    # --- forms ---

    def __repr__(self) -> str:
        took = "" if self.elapsed is None else f", took {_seconds(self.elapsed)}"
        return f"<Plan: {self.items:,} items, {_NAMES[self.strategy]}{took}>"

    def __str__(self) -> str:
        rows = [("", "workers", "predicted", "between"), *self._rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [self.reason, ""]
        for number, row in enumerate(rows):
            mark = ">" if number - 1 == self._chosen and number else " "
            name, *figures = row
            cells = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
            lines.append(f"{mark} {name.ljust(widths[0])}  {'  '.join(cells)}".rstrip())
        lines += ["", *(f"{name}: {text}" for name, text in self._facts())]
        return "\n".join(lines)

    def show(self, file: TextIO | None = None) -> None:
        """Print the plan to `file` (standard output by default); in colours on a terminal, where rich is installed."""
        try:
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text
        except ImportError:
            print(self, file=file)
            return
        console = Console(file=file, highlight=False)
        if not console.is_terminal:
            print(self, file=file)
            return
        console.print(Text(self.reason, "bold"))
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("", "workers", "predicted", "between"):
            table.add_column(name, justify="left" if not name else "right", style="" if name != "between" else "dim")
        for number, row in enumerate(self._rows()):
            table.add_row(*row, style="green" if number == self._chosen else None)
        console.print(table)
        for name, text in self._facts():
            console.print(Text.assemble((f"{name}: ", "dim"), text))

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        for row in self.candidates:
            between = f"{_seconds(row.low)} to {_seconds(row.high)}"
            yield _NAMES[row.strategy], str(row.workers), _seconds(row.seconds), between

    def _facts(self) -> Iterator[tuple[str, str]]:
        """What was measured, as pairs of a name and a text."""
        known = self.estimate
        seconds, error = known["seconds"], known["error"]
        if seconds is not None:
            shares = [
                f"{text} for {share:.0%} of it"
                for text, share in (("sleeps", known["sleep_share"]), ("holds the lock", known["gil_share"]))
                if share is not None
            ]
            exact = "" if error is None else f" +- {2 * error:.0%}"
            yield "an item", ", ".join([f"{_seconds(seconds)}{exact}", *shares])
        sizes = [
            f"{_bytes(size)} {way}" for way, size in (("in", known["bytes_in"]), ("out", known["bytes_out"])) if size
        ]
        if sizes:
            yield "it moves", ", ".join(sizes)
        charges = self.charges
        yield (
            "this machine charges",
            f"{_seconds(charges['warm'])} for a warm process, {_seconds(charges['fork'])} for a forked one, "
            f"{_seconds(charges['thread'])} for a thread, {_seconds(charges['dispatch'])} for a chunk, "
            f"{_bytes(1 / charges['byte'])} a second",
        )
        if self.break_even_items is not None:
            yield "break-even", f"helpers pay from {self.break_even_items:,} items on"
        if self.elapsed is not None:
            ran = ", ".join(f"{count:,} in {_WHERE[where]}" for where, count in self.ran.items() if count)
            yield "took", f"{_seconds(self.elapsed)}; items ran: {ran or 'none'}"
        for decision in self.decisions:
            what = f"{decision['helpers']} x {_NAMES[decision['strategy']]}"
            left = f"{decision['items']:,} items were left, {_seconds(decision['serial_seconds'])} in the loop"
            yield f"after {_seconds(decision['after'])}", f"{what}: {left}"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr style='font-weight:{'bold' if number == self._chosen else 'normal'}'><td style='text-align:left'>"
            f"{escape(row[0])}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
            for number, row in enumerate(self._rows())
        )
        facts = "".join(f"<li>{escape(name)}: {escape(text)}</li>" for name, text in self._facts())
        return (
            f"<div><p><b>{escape(self.reason)}</b></p><table><thead><tr><th></th><th>workers</th><th>predicted</th>"
            f"<th>between</th></tr></thead><tbody>{rows}</tbody></table>{self._svg()}<ul>{facts}</ul></div>"
        )

    def _svg(self) -> str:
        """The break-even curve: seconds over items, both logarithmic."""
        import math

        points = [(items, loop, other) for items, loop, other in self.curve if loop > 0 and other > 0]
        if len(points) < 2:
            return ""
        width, height, left, bottom = 460, 240, 56, 34
        xs = [math.log10(items) for items, _, _ in points]
        ys = [math.log10(value) for _, *values in points for value in values]
        (x0, x1), (y0, y1) = (xs[0], xs[-1]), (min(ys), max(ys))

        def place(x: float, y: float) -> tuple[float, float]:
            across = left + (x - x0) / (x1 - x0 or 1) * (width - left - 10)
            return across, 10 + (y1 - y) / (y1 - y0 or 1) * (height - bottom - 10)

        def line(which: int, colour: str) -> str:
            path = " ".join(
                "{:.1f},{:.1f}".format(*place(x, math.log10(point[which]))) for x, point in zip(xs, points, strict=True)
            )
            return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>'

        labels = []
        for power in range(math.ceil(x0), math.floor(x1) + 1):
            x, _ = place(power, y0)
            labels.append(f'<text x="{x:.1f}" y="{height - 18}" text-anchor="middle">{10**power:,}</text>')
        for power in range(math.ceil(y0), math.floor(y1) + 1):
            _, y = place(x0, power)
            labels.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_seconds(10.0**power)}</text>')
        if self.items >= 1:
            x, _ = place(min(max(math.log10(self.items), x0), x1), y0)
            labels.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{height - bottom}" stroke="#9ca3af"/>')
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="10" role="img" aria-label="seconds over items">{"".join(labels)}'
            f"{line(1, _COLOURS['serial'])}{line(2, _COLOURS['helped'])}"
            f'<text x="{left + 6}" y="20" fill="{_COLOURS["serial"]}">the loop</text>'
            f'<text x="{left + 6}" y="33" fill="{_COLOURS["helped"]}">the best helpers</text>'
            f'<text x="{width - 10}" y="{height - 4}" text-anchor="end">items</text></svg>'
        )


_WHERE = {"here": "the caller", "threads": "threads", "fork": "forked processes", "warm": "warm processes"}


def remember(planner: Planner, elapsed: float | None = None, items: int | None = None) -> None:
    """Keep a map that has finished for `last`: its planner, what it took in seconds, its number of items where the
    planner was not told."""
    global _last
    _last = planner, elapsed, items


def last() -> Plan | None:
    """The plan of the map that has finished last in this process, with what it measured, decided and took; None if
    there was none."""
    if _last is None:
        return None
    planner, elapsed, items = _last
    found = planner.plan(items)
    if elapsed is not None:
        found["elapsed"] = elapsed
    return Plan(found)


def explain(
    func: Callable[..., Any], *iterables: Iterable[Any], workers: int | None = None, backend: str = "auto"
) -> Plan:
    """What `map(func, *iterables)` would do, and why, with every measured number.

    To know what an item costs, **it calls `func`** on the first items, in this process and in order, until a tenth of a
    second of them has been seen or the inputs end (one item at least, 100,000 at most); how many it were is in
    `plan.ran["here"]`. Their results are thrown away. Of an iterator these items are then gone.

    Args:
        func, iterables: as for `map`.
        workers: as for `map`: how many may run items at the same time.
        backend: as for `map`, if only one way shall be considered.

    Raises what `func` raises.
    """
    from . import _charges, _map
    from ._map_work import Call, source_of
    from ._native import Planner

    if not iterables:
        raise TypeError("explain() needs at least one iterable")
    total = _length(iterables)
    options = _map.Options(workers, backend)
    # What may be started depends on the kind of input, not on what is in it.
    empty = tuple(range(0) for _ in iterables)
    team = _map._Teams(options, Call(func, len(empty) > 1, False, 0), source_of(empty, len(empty) > 1))
    planner = Planner(
        total,
        charges=_charges.current(),
        cores=team.cores,
        workers=team.workers,
        kinds=() if options.backend == "serial" else team.kinds(),
        gil=_map._gil(),
    )
    try:
        _sample(planner, func, zip(*iterables, strict=False), total)
    finally:
        planner.close()
    _charges.keep()
    return Plan(planner.plan(total))


def _sample(planner: Any, func: Any, arguments: Iterator[tuple[Any, ...]], total: int | None) -> None:
    """Run the first items as a map would, until enough is known."""
    import _thread

    clock, cpu_clock = time.perf_counter, time.thread_time
    begun = clock()
    ran = 0
    size = 1
    probing = False
    while ran < EXPLAIN_ITEMS:
        batch = list(islice(arguments, min(size, EXPLAIN_ITEMS - ran)))
        if not batch:
            if total is None:
                planner.exhausted()
            return
        wall, cpu = clock(), cpu_clock()
        result = None
        for item in batch:
            result = func(*item)
        wall, cpu = clock() - wall, cpu_clock() - cpu
        if not ran:
            planner.sampled(_size(batch[0][0] if len(batch[0]) == 1 else batch[0]), _size(result))
        ran += len(batch)
        planner.ran_here(len(batch), wall, cpu)
        # Its orders are not followed, but for the probe.
        if planner.next(clock()) == ("probe",) and not probing:
            probing = True
            _thread.start_new_thread(planner.probe, ())
        if clock() - begun > EXPLAIN_SECONDS:
            return
        each = wall / len(batch)
        size = max(1, min(size * 8, int(2e-3 / each) if each else size * 8))


def _length(iterables: tuple[Any, ...]) -> int | None:
    try:
        return min(len(iterable) for iterable in iterables)
    except TypeError:
        return None


def _size(value: Any) -> float | None:
    """Encoded bytes of a value; None if it cannot be encoded."""
    import pickle

    buffers: list[Any] = []
    try:
        inline = len(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))
        return float(inline + sum(buffer.raw().nbytes for buffer in buffers))
    except Exception:
        return None


def _seconds(value: float) -> str:
    for factor, unit in ((1e9, "ns"), (1e6, "us"), (1e3, "ms")):
        if value * factor < 999.5:
            return f"{value * factor:.3g} {unit}"
    return f"{value:.3g} s" if value < 999.5 else f"{value:,.0f} s"


def _bytes(value: float) -> str:
    for factor, unit in ((1.0, "B"), (1e-3, "kB"), (1e-6, "MB")):
        if value * factor < 999.5:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e-9:.3g} GB"
