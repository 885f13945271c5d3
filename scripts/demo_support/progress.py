"""Where the demo is: one line that is rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from typing import TextIO


class Progress:
    """Shows how many of `total` runs are done and what runs now."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._total = total
        self._done = 0
        self._started = time.monotonic()
        self._now = ""

    def starting(self, what: str) -> None:
        self._now = what
        self.refresh()

    def refresh(self) -> None:
        """Rewrite the line; nothing where there is no terminal."""
        if not self._live:
            return
        filled = 24 * self._done // max(self._total, 1)
        elapsed = time.monotonic() - self._started
        line = f"[{'#' * filled}{'.' * (24 - filled)}] {self._done}/{self._total}  {elapsed:3.0f} s  {self._now}"
        # One column short: a full line would wrap, and the carriage return would only rewrite its last part.
        columns = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{line[:columns]}\x1b[K")
        self._stream.flush()

    def finished(self) -> None:
        self._done += 1

    def note(self, line: str) -> None:
        """Write a line that stays, above the progress line."""
        self._stream.write(f"\r\x1b[K{line}\n" if self._live else f"{line}\n")
        self._stream.flush()
        self.refresh()

    def close(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        self._live = False
