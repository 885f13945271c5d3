"""The two ways in which an example program is run. Which programs there are: scripts/demo_support, as in the demo."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from bench.machine import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from demo_support.cases import CASES

sys.path.pop(0)


@dataclasses.dataclass(frozen=True)
class Program:
    """A variant of `demo_support.cases.Case.command`, as a rival."""

    name: str
    variant: str
    distribution: str | None = None
    note: str = ""


PROGRAMS: dict[str, Any] = {
    "stdlib": Program("stdlib", "stdlib"),
    "breakeven": Program("breakeven", "breakeven", "breakeven"),
}

__all__ = ["CASES", "PROGRAMS", "Program"]
