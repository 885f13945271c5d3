"""What breakeven's own transport charges on this machine, as `map`'s planner needs it.

Nothing is ever measured while a map waits: it starts with what is kept of earlier programs, or with the defaults of
crates/plan/src/machine.rs, and each map betters that by what it saw. `explain` measures, by running a few maps.
"""

from __future__ import annotations

import math
import os

from . import _kept
from ._native import Charges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._native import Planner

__all__ = ["current", "keep", "learn"]

# How much of a new observation is taken on.
NEW = 0.3
# What is kept: what maps observe. The rest stays as built in.
OBSERVED = ("fork", "warm", "dispatch", "byte")

_current: Charges | None = None
_learned = False


def current() -> Charges:
    """The charges, as far as they are known; microseconds, but for the first call in a process, which reads a file."""
    global _current
    if _current is None:
        _current = _read()
    return _current


def learn(planner: Planner) -> None:
    """Take on what a finished map has observed."""
    global _current, _learned
    before, seen = current().as_dict(), planner.observed().as_dict()
    news = {name: seen[name] - before[name] for name in OBSERVED}
    changed = {name: before[name] + NEW * new for name, new in news.items() if new}
    if changed:
        _current = current().replace(**changed)
        _learned = True


def keep() -> None:
    """Write what was learned for later programs. Where that cannot be done, they start with the defaults."""
    global _learned
    if not _learned:
        return
    charges = current().as_dict()
    file = _file()
    temporary = f"{file}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(file), mode=0o700, exist_ok=True)
        with open(temporary, "w") as out:
            out.writelines(f"{name} {charges[name]!r}\n" for name in OBSERVED)
        os.replace(temporary, file)
        folder, name = os.path.split(file)
        for other in os.listdir(folder):  # of earlier starts of the machine
            if other.startswith("map-") and other[:40] != name[:40]:
                os.unlink(os.path.join(folder, other))
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            pass
    _learned = False


def _file() -> str:
    return _kept.path("map", ".txt")


def _read() -> Charges:
    """The defaults with what is kept in their place. A cache folder can hold anything: what is far off is left out."""
    defaults = Charges()
    usual = defaults.as_dict()
    found = {}
    try:
        with open(_file(), errors="replace") as lines:
            for line in lines.read(4096).splitlines():
                name, _, text = line.partition(" ")
                value = float(text)
                if name in OBSERVED and math.isfinite(value) and usual[name] / 100 <= value <= usual[name] * 100:
                    found[name] = value
    except (OSError, ValueError):
        return defaults
    return defaults.replace(**found)
