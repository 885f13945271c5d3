"""A report as text, one screen: on a terminal with colours, elsewhere plain.

Works on the JSON form of `Report` (crates/trace/src/report.rs), as a dictionary. rich is imported when something is
printed and not before: most processes that load breakeven never do.
"""

from __future__ import annotations

import io
import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from . import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from rich.console import Console, RenderableType
    from rich.text import Text

__all__ = ["as_text", "print_machine", "print_report"]

_COLOURS = {
    "compute": "green",
    "startup": "yellow",
    "serialize": "red",
    "transfer": "magenta",
    "queue_contention": "bright_magenta",
    "rpc": "bright_red",
    "granularity": "bright_yellow",
    "imbalance": "blue",
    "oversubscription": "bright_blue",
    "serial_fraction": "cyan",
    "gil": "bright_cyan",
    "io_wait": "white",
    "memory": "red",
    "not_parallel": "bright_red",
    "none": "green",
}


@dataclass(frozen=True)
class _Length:
    """How much is shown of what."""

    evidence: int
    places: int
    sketch: bool
    others_in_full: bool  # the findings after the first one; else two lines each
    fixes: int
    curve: int  # points of it


# Everything, what fits most screens, and what is tried where a terminal has fewer lines than that takes.
_FULL = _Length(99, 99, True, True, 99, 24)
_LENGTHS = (
    _Length(3, 2, True, False, 5, 5),
    _Length(2, 1, True, False, 4, 4),
    _Length(1, 1, False, False, 3, 0),
    _Length(0, 1, False, False, 2, 0),
)


class _Style:
    """How it may look there: characters beyond ASCII or not."""

    def __init__(self, console: Console) -> None:
        # Without a terminal the text goes to a file or another program: ASCII, but for the names in it.
        self.fancy = console.is_terminal and console.encoding.startswith("utf")
        self.bar, self.half = ("█", "▌") if self.fancy else ("#", "")
        self.bullet = "·" if self.fancy else "-"

    def bar_of(self, share: float, width: int) -> str:
        """A bar of `share` (0 to 1) of `width`; something can be seen of whatever is above 0."""
        halves = round(max(0.0, min(share, 1.0)) * width * 2)
        text = self.bar * (halves // 2) + (self.half if halves % 2 else "")
        return text or ((self.half or self.bar) if share > 0 else "")


def _console(file: TextIO, width: int | None = None) -> Console:
    from rich.console import Console

    # Emoji, markup and highlighting would act on names that the program chose.
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False, soft_wrap=False)


def print_report(
    report: dict[str, Any],
    file: TextIO,
    *,
    html: str | None = None,
    width: int | None = None,
    into: TextIO | None = None,
    full: bool = False,
) -> None:
    """Print the summary of `report` for `file`; `html` is where the page with the rest is.

    One screen; with `full` everything that the report says. With `into` the text, made for what `file` is (a
    terminal, or not), is written there.
    """
    console = _console(file, width)
    style = _Style(console)
    for length in [_FULL] if full else _LENGTHS:
        parts = list(_report(report, style, console.width, length, html))
        if not console.is_terminal or _height(console, parts) + bool(html) < console.height:
            break
    if console.is_terminal:
        with console.capture() as capture:
            _print(console, parts, html)
        (into or file).write(capture.get())
        return
    page = _console(io.StringIO(), console.width)
    _print(page, parts, html)
    lines = page.file.getvalue().split("\n")  # type: ignore[attr-defined]
    (into or file).write("\n".join(line.rstrip() for line in lines))
    (into or file).flush()


def _print(console: Console, parts: Iterable[RenderableType], html: str | None) -> None:
    for part in parts:
        console.print(part)
    if html:
        # Not wrapped: people copy it.
        console.print(_text(f"report: {words.clean(html)}", "bold"), soft_wrap=True)


def as_text(report: dict[str, Any], width: int = 100) -> str:
    """The summary as plain text."""
    file = io.StringIO()
    print_report(report, file, width=width)
    return file.getvalue()


def _height(console: Console, parts: Iterable[RenderableType]) -> int:
    return sum(len(console.render_lines(part, pad=False)) for part in parts)


# ---------------------------------------------------------------------------------------------------------------------
# The parts


def _report(
    report: dict[str, Any], style: _Style, width: int, length: _Length, html: str | None
) -> Iterable[RenderableType]:
    yield from _head(report, style)
    yield ""
    yield _causes(report, style, width, length is _FULL)
    for number, finding in enumerate(report["findings"]):
        if number < 2 or length.others_in_full:
            yield ""
        if number and not length.others_in_full:
            yield from _finding_in_short(report, finding, number)
        else:
            yield from _finding(report, finding, number, style, length)
    if report["fixes"]:
        yield ""
        yield _fixes(report, length.fixes, style, width)
    if length.curve and len(report["curve"]) > 1:
        yield ""
        yield _curve(report, style, width, length.curve)
    remarks, most = report["remarks"], 99 if length is _FULL else 3
    if remarks or html:
        yield ""
    for remark in remarks[:most]:
        yield _indented("note: ", words.clean(words.shortened(remark, report["program"]["directory"])), "yellow")
    if len(remarks) > most:
        yield _text(f"note: {len(remarks) - most} more (--full, or the page)", "yellow")
    yield _recorder(report)


def _text(text: str, style: str = "", **keywords: Any) -> Text:
    from rich.text import Text

    return Text(text, style=style, **keywords)


def _unwrapped(text: Text) -> RenderableType:
    """Lines that are cut off rather than wrapped."""
    from rich.table import Table

    table = Table.grid(padding=0)
    table.add_column(no_wrap=True, overflow="crop")
    table.add_row(text)
    return table


def _indented(label: str, text: str, label_style: str = "", style: str = "") -> RenderableType:
    """`label`, and `text` wrapped beside it."""
    from rich.table import Table

    table = Table.grid(padding=0)
    table.add_column(width=len(label), no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(_text(label, label_style), _text(text, style))
    return table


def _head(report: dict[str, Any], style: _Style) -> Iterable[RenderableType]:
    program, count = report["program"], len(report["processes"])
    line = _text("breakeven why  ", "bold")
    line.append(words.clean(words.program_name(program)), "bold")
    line.append(f"  {words.seconds(report['elapsed'])}")
    line.append(f", {words.plural(count, 'process', 'es')} on {words.plural(report['cores'], 'core')}")
    line.append(f", {words.seconds(report['cpu_seconds'])} of CPU")
    if program["transport"] == "breakeven":
        line.append(", under breakeven run")
    yield line
    how = words.ending(program["exit_code"])
    if how:
        yield _text(how, "bold red")
    if len(report["runs"]) > 1:
        yield _text(_runs(report["runs"]), "dim")
    primary = report["primary"]
    cause = primary["cause"]
    yield ""
    headline = words.shortened(primary["headline"], program["directory"])
    yield _indented(f"{cause}  ", words.clean(headline), f"bold {_COLOURS.get(cause, '')}", "bold")
    if primary["without_it"] is not None and cause != "none":
        gain = report["elapsed"] - primary["without_it"]
        text = f"Without it the run would take about {words.seconds(primary['without_it'])}"
        yield _indented(" " * (len(cause) + 2), text + (f", {words.seconds(gain)} less." if gain > 0 else "."))


def _runs(runs: list[dict[str, Any]]) -> str:
    elapsed = [run["elapsed"] for run in runs]
    verdicts = sorted({run["primary"] for run in runs})
    text = (
        f"{len(runs)} runs: median {words.seconds(statistics.median(elapsed))}, "
        f"{words.seconds(min(elapsed))} to {words.seconds(max(elapsed))}; "
    )
    return text + ("the same verdict each time" if len(verdicts) == 1 else f"verdicts: {', '.join(verdicts)}")


def _shown_causes(causes: list[dict[str, Any]], all_of_them: bool) -> list[tuple[str, str, float, float]]:
    """(name, description, seconds, share), the small ones in one row."""
    rows = [(c["cause"], words.CAUSES.get(c["cause"], ""), c["core_seconds"], c["share"]) for c in causes]
    shown = [row for number, row in enumerate(rows) if number < 3 or (number < 6 and row[3] >= 0.01)]
    rest = rows[len(shown) :]
    if all_of_them or len(rest) == 1:
        return rows
    if rest:
        names = ", ".join(row[0] for row in rest)
        shown.append(("others", names, sum(row[2] for row in rest), sum(row[3] for row in rest)))
    return shown


def _causes(report: dict[str, Any], style: _Style, width: int, all_of_them: bool) -> RenderableType:
    from rich.table import Table

    rows = _shown_causes(report["causes"], all_of_them)
    if not rows:
        return _text("No time was recorded.", "dim")
    name_width = max(len(row[0]) for row in rows)
    # Names, seconds and shares are whole in any case; the bar and then the description get what is left.
    left = width - max(name_width, len("where the time went")) - len("process-seconds") - 6 - 6
    bar_width = max(5, min(20, left // 2))
    words_width = left - bar_width - 2
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, min_width=5)
    table.add_column(width=bar_width, no_wrap=True, overflow="crop")
    if words_width >= 12:
        table.add_column(no_wrap=True, overflow="crop", width=words_width)
    header = ["where the time went", "process-seconds", "share", *([""] * (len(table.columns) - 3))]
    table.add_row(*(_text(word, "dim") for word in header))
    for name, description, spent, share in rows:
        colour = _COLOURS.get(name, "dim")
        if len(description) > words_width:
            description = description[: max(0, words_width - 3)] + "..."
        cells: list[RenderableType] = [
            _text(name, colour),
            f"{spent:,.2f}",
            f"{share:.0%}" if share >= 0.01 else "< 1%",
            _text(style.bar_of(share, bar_width), colour),
            *([_text(description, "dim")] if words_width >= 12 else []),
        ]
        table.add_row(*cells)
    return table


def _finding(
    report: dict[str, Any], finding: dict[str, Any], number: int, style: _Style, length: _Length
) -> Iterable[RenderableType]:
    cause, directory = finding["cause"], report["program"]["directory"]
    line = _text(f"{number + 1}. {cause}", f"bold {_COLOURS.get(cause, '')}")
    line.append(f"  {finding['share']:.0%} of the process-seconds")
    if finding["costs_seconds"] is not None:
        line.append(f", costs about {words.seconds(finding['costs_seconds'])}", "bold")
    yield line
    if finding["headline"] != report["primary"]["headline"]:
        yield _indented("   ", words.clean(words.shortened(finding["headline"], directory)))
    for sentence in finding["evidence"][: length.evidence]:
        yield _indented(f"   {style.bullet} ", words.clean(words.shortened(sentence, directory)))
    for place in finding["places"][: length.places]:
        yield _indented("   ", _where(place, directory), style="cyan")
        if place["source"] is not None:
            yield _unwrapped(_text("       " + words.clean(place["source"].strip().replace("\t", " "))))
    if finding["advice"]:
        yield _indented("   ", words.clean(words.shortened(finding["advice"], directory)))
    if finding["sketch"] and length.sketch:
        yield _sketch(finding["sketch"])


def _finding_in_short(report: dict[str, Any], finding: dict[str, Any], number: int) -> Iterable[RenderableType]:
    """What happens, and where."""
    cause, directory = finding["cause"], report["program"]["directory"]
    what = words.clean(words.shortened(finding["headline"], directory))
    yield _indented(f"{number + 1}. {cause}  ", what, f"bold {_COLOURS.get(cause, '')}")
    for place in finding["places"][:1]:
        yield _indented("   ", _where(place, directory), style="cyan")


def _where(place: dict[str, Any], directory: str) -> str:
    where = f"{words.short_path(place['file'], directory)}:{place['line']}"
    where += f" in {place['function']}" if place["function"] else ""
    return words.clean(f"{where}: {place['what']}")


def _sketch(sketch: str) -> RenderableType:
    text = _text("")
    for number, line in enumerate(sketch.rstrip("\n").split("\n")):
        style = {"+": "green", "-": "red"}.get(line[:1], "dim")
        text.append(("\n" if number else "") + "       " + words.clean(line.expandtabs(4)), style)
    return _unwrapped(text)


def _fixes(report: dict[str, Any], limit: int, style: _Style, width: int) -> RenderableType:
    from rich.table import Table

    fixes = report["fixes"]
    shown = fixes[:limit]
    shown += [fix for fix in fixes[limit:] if fix["kind"] == "serial" or fix["measured_seconds"] is not None]
    measured = any(fix["measured_seconds"] is not None for fix in shown)
    directory = report["program"]["directory"]
    columns: dict[str, list[str]] = {"a change": [_change(fix) for fix in shown]}
    columns["predicted"] = [words.seconds(fix["predicted_seconds"]) for fix in shown]
    if width >= 80:
        columns["between"] = [f"{words.seconds(fix['low'])} - {words.seconds(fix['high'])}" for fix in shown]
    columns["faster"] = [words.speedup(fix["predicted_speedup"]) for fix in shown]
    if measured:
        columns["measured"] = [
            "" if fix["measured_seconds"] is None else words.seconds(fix["measured_seconds"]) for fix in shown
        ]
    # Numbers are whole in any case. Names of changes, then places, are cut where there is no room.
    widths = {name: max(len(name), *map(len, texts)) for name, texts in columns.items()}
    left = width - sum(widths.values()) - 2 * len(widths)
    places = [words.clean(_place(fix["where"], directory)) for fix in shown]
    wanted = min(32, max(map(len, places)))
    if left < wanted:
        shorter = min(wanted - left, max(0, widths["a change"] - 20))
        widths["a change"] -= shorter
        left += shorter
    columns["where"] = [_shortened(place, left) for place in places]
    widths["where"] = max(1, left)

    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for name, size in widths.items():
        to_the_left = name in ("a change", "where")
        table.add_column(justify="left" if to_the_left else "right", no_wrap=True, overflow="crop", width=size)
    table.add_row(*(_text(name, "dim") for name in columns))
    for fix, *cells in zip(shown, *columns.values(), strict=True):
        helps = fix["predicted_speedup"] > 1.05
        styles = {"a change": "bold" if helps else "", "predicted": "green" if helps else "", "where": "cyan"}
        table.add_row(*(_text(text, styles.get(name, "")) for name, text in zip(columns, cells, strict=True)))
    return table


def _place(where: str | None, directory: str) -> str:
    """`file:line` as one would type it in `directory`."""
    file, colon, line = (where or "").rpartition(":")
    return words.short_path(file, directory) + colon + line


def _shortened(text: str, width: int) -> str:
    """The end of it says more: the file's name and the line."""
    width = max(width, 4)
    return text if len(text) <= width else "..." + text[len(text) - width + 3 :]


def _change(fix: dict[str, Any]) -> str:
    name = words.FIXES.get(fix["kind"], fix["kind"])
    if fix["workers"] is not None and fix["kind"] in ("fewer_workers", "more_workers"):
        name += f" ({fix['workers']})"
    return name


def _curve(report: dict[str, Any], style: _Style, width: int, most: int) -> RenderableType:
    from rich.table import Table

    points = _thinned(report["curve"], most, keep=(report["workload"] or {}).get("workers"))
    longest = max(point["seconds"] for point in points) or 1.0
    best = min(points, key=lambda point: point["seconds"])
    bar_width = max(10, min(40, width - 50))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=bar_width, no_wrap=True)
    table.add_column(no_wrap=True, overflow="crop")
    table.add_row(*(_text(name, "dim") for name in ("workers", "predicted", "", "")))
    for point in points:
        remarks = []
        if report["workload"] is not None and point["workers"] == report["workload"]["workers"]:
            remarks.append("as it ran")
        if point is best:
            remarks.append("the least")
        if point["extrapolated"]:
            remarks.append(f"beyond {words.plural(report['cores'], 'core')}")
        table.add_row(
            str(point["workers"]),
            words.seconds(point["seconds"]),
            _text(style.bar_of(point["seconds"] / longest, bar_width), "dim" if point["extrapolated"] else "green"),
            _text(", ".join(remarks), "dim"),
        )
    return table


def _thinned(points: list[dict[str, Any]], most: int, keep: int | None) -> list[dict[str, Any]]:
    """At most about `most` of the points: the first and last, the least, that of `keep` workers, and some between."""
    if len(points) <= most:
        return points
    most = max(most, 4)
    least = min(range(len(points)), key=lambda index: points[index]["seconds"])
    chosen = {round(step * (len(points) - 1) / (most - 2)) for step in range(most - 1)} | {least}
    chosen |= {index for index, point in enumerate(points) if point["workers"] == keep}
    return [points[index] for index in sorted(chosen)]


def _recorder(report: dict[str, Any]) -> RenderableType:
    recorder = report["recorder"]
    records = words.plural(recorder["records"], "record")
    dropped = f", {recorder['dropped']:,} dropped" if recorder["dropped"] else ""
    return _text(f"recording: {records}{dropped}, {recorder['overhead']:.1%} of the elapsed time", "dim")


# ---------------------------------------------------------------------------------------------------------------------
# The machine


def print_machine(measured: dict[str, Any], descriptions: Iterable[tuple[str, str, str]], file: TextIO) -> None:
    """Print the charges as a table; `measured` as `machine.kept` returns it."""
    from rich.table import Table

    console = _console(file)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for name, unit, what in descriptions:
        value = measured["charges"][name]
        if unit == "s/byte":
            shown = f"{words.digits(value * 1e9)} ns/B"
            what += f" ({words.size(1 / value)}/s)"
        else:
            shown = words.seconds(value)
        table.add_row(name, shown, _text(what, "dim"))
    console.print(table)


def stream_width(file: TextIO) -> int | None:
    """Columns of what is not a terminal: the environment's COLUMNS, or 100."""
    try:
        if os.isatty(file.fileno()):
            return None
    except (OSError, ValueError):
        pass
    try:
        return max(40, int(os.environ["COLUMNS"]))
    except (KeyError, ValueError):
        return 100
