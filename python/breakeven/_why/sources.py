"""The lines of the user's code that a report names."""

from __future__ import annotations

import linecache
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_sources"]


def add_sources(report: dict[str, Any]) -> None:
    """Enter the text of the line at each place of a report, as far as its file can be read.

    The analysis reads no files; and where a recording is shown on another machine, or later, there may be none. The
    code of a notebook's cells is known to this process only.
    """
    for finding in report["findings"]:
        for place in finding["places"]:
            if place["source"] is None:
                file = os.path.join(report["program"]["directory"], place["file"])
                line = linecache.getline(file, place["line"])
                line = line or linecache.getline(place["file"], place["line"])
                place["source"] = line.rstrip("\r\n") or None
