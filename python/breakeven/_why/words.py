"""How reports put names and numbers, in whatever form they are shown."""

from __future__ import annotations

import os
import signal

from .. import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "CAUSES",
    "FIXES",
    "clean",
    "ending",
    "plural",
    "program_name",
    "seconds",
    "short_path",
    "shortened",
    "size",
    "speedup",
]

# What a second of each cause went into, and what each kind of change means: the page's words, too
# (crates/trace/src/words.rs).
CAUSES, FIXES = _native.report_words()


def clean(text: str) -> str:
    """`text` for one line of a terminal: what is not printable (escape sequences, line ends, marks that reverse the
    direction of writing) is spelled out. Names of files and functions are the program's, and can hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def seconds(value: float) -> str:
    """Seconds in the unit that fits, three digits: `420 us`, `12.3 ms`, `4.56 s`, `12.3 min`."""
    if value == 0:
        return "0 s"
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (600.0, 1.0, "s")):
        if abs(value) < limit:
            return f"{digits(value * factor)} {unit}"
    return f"{digits(value / 60)} min"


def digits(value: float) -> str:
    """Three digits of a number, no exponent."""
    for limit, places in ((9.995, 2), (99.95, 1)):
        if abs(value) < limit:
            return f"{value:.{places}f}" if value else "0"
    return f"{value:,.0f}"


def plural(count: int, noun: str, ending: str = "s") -> str:
    """`1 core`, `2 cores`."""
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def size(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{digits(count)} {unit}"
        count /= 1000
    return f"{digits(count)} TB"


def speedup(value: float) -> str:
    """How many times faster: `3.4x`."""
    return f"{value:.2f}x" if value < 9.995 else f"{value:.1f}x" if value < 99.95 else f"{value:,.0f}x"


def ending(exit_code: int | None) -> str:
    """How a program ended, from the exit code as subprocess has it; nothing for one that ended well."""
    if exit_code is None:
        return "How the program ended is not known."
    if exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return f"The program was ended by {name}."
    return f"The program ended with exit code {exit_code}." if exit_code else ""


def program_name(program: dict[str, Any], limit: int = 60) -> str:
    """What was run, in one line."""
    name = " ".join(program["argv"]) or "a block of code"
    return name if len(name) <= limit else name[: limit - 3] + "..."


def shortened(sentence: str, directory: str) -> str:
    """A sentence with the paths of files below `directory` as one would type them there."""
    return sentence.replace(directory.rstrip("/") + "/", "") if directory.strip("/") else sentence


def short_path(path: str, directory: str) -> str:
    """A file's path as one would type it in `directory`, if it lies below."""
    if directory and os.path.isabs(path):
        prefix = directory.rstrip("/") + "/"
        if path.startswith(prefix):
            return path[len(prefix) :]
    return path
