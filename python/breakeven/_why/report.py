"""A report as a Python object: what `with breakeven.why() as report` gives, and what a notebook shows."""

from __future__ import annotations

import html
import json
from types import SimpleNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any

__all__ = ["Report"]


class Report:
    """Where the time of a run went, and what to change.

    Its attributes are those of the JSON form (docs/why-json.md), lists and objects with attributes of their own:
    `report.primary.cause`, `report.causes[0].share`, `report.fixes[0].predicted_seconds`. A notebook shows it as a
    page, `print` as the terminal's summary.

    Until the recorded block has ended there is nothing to show; reading an attribute then raises RuntimeError.
    """

    def __init__(self) -> None:
        self._json: str | None = None
        self._recording: bytes | None = None
        self._fields: dict[str, Any] = {}

    @classmethod
    def from_json(cls, text: str) -> Report:
        """A report from its JSON form. Raises ValueError for what is none."""
        from .. import _native

        self = cls()
        self._set(_native.read_report(text))
        return self

    def _fill(self, recording: bytes) -> None:
        """The block has ended: analyse what was recorded."""
        from .. import _native
        from .sources import add_sources

        analysed = json.loads(_native.analyze(recording))
        add_sources(analysed)
        self._set(json.dumps(analysed))
        self._recording = recording

    def _set(self, text: str) -> None:
        self._json = text
        self._fields = vars(json.loads(text, object_hook=lambda fields: SimpleNamespace(**fields)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._text()
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(f"a report has no {name!r}; it has {', '.join(self._fields)}") from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._fields})

    def _text(self) -> str:
        if self._json is None:
            raise RuntimeError("the report is made when the block of `with breakeven.why()` has ended")
        return self._json

    def to_json(self) -> str:
        """The JSON form, as `breakeven why --json` writes it."""
        return self._text()

    def to_html(self) -> str:
        """The page, as `breakeven why --html` writes it."""
        from . import pages

        return pages.render(self._text(), self._recording)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file. Raises OSError."""
        page = self.to_html()
        with open(path, "w", encoding="utf-8") as file:
            file.write(page)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recording (without one, the JSON form) to a file that `breakeven report` shows. Raises OSError."""
        content = self._recording if self._recording is not None else self._text().encode()
        with open(path, "wb") as file:
            file.write(content)

    def __str__(self) -> str:
        if self._json is None:
            return repr(self)
        from . import terminal

        return terminal.as_text(json.loads(self._json)).rstrip("\n")

    def __repr__(self) -> str:
        if self._json is None:
            return "<breakeven report: the block has not ended>"
        return f"<breakeven report: {self.primary.cause}, {self.elapsed:.3g} s>"

    def _repr_html_(self) -> str:
        if self._json is None:
            return f"<p>{html.escape(repr(self))}</p>"
        # A frame of its own: neither can the page's styles and names touch the notebook, nor the notebook's the page.
        return (
            '<iframe sandbox="allow-scripts" style="width:100%;height:640px;border:0" '
            f'srcdoc="{html.escape(self.to_html())}"></iframe>'
        )
