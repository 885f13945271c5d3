"""The HTML page of a report: rendered by the native module, kept in the user's cache if no place is named."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path

from .files import write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["keep", "render"]

# Pages that are kept, the newest of them.
KEPT = 20


def render(report_json: str, recording: bytes | None) -> str:
    """The page, self-contained. `recording`: its tasks are shown in the timeline too; without one they are not."""
    from .. import _native

    return _native.render_html(report_json, recording)


def keep(page: str, program: dict[str, Any]) -> str:
    """Write the page into a folder of the user's cache (or, where that cannot be written, of temporary files), remove
    the oldest ones there; returns the path. Raises OSError."""
    from .machine import cache_folder

    words = [word for word in program["argv"] if not word.startswith("-")] or ["program"]
    stem = re.sub(r"[^\w.-]+", "_", os.path.basename(words[0]).removesuffix(".py"), flags=re.ASCII)[:40].strip("._")
    name = f"{stem or 'program'}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.html"
    try:
        folder = cache_folder() / "reports"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name
        write_whole(path, page)
    except OSError:
        # A folder of our own that exists already could be somebody else's: only new ones.
        path = Path(tempfile.mkdtemp(prefix="breakeven-"), name)
        write_whole(path, page)
        return str(path)
    _remove_oldest(folder)
    return str(path)


def _remove_oldest(folder: Path) -> None:
    def age(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:  # another command has removed it
            return 0.0

    pages = sorted(folder.glob("*.html"), key=age, reverse=True)
    for path in pages[KEPT:]:
        path.unlink(missing_ok=True)
