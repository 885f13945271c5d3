"""`with breakeven.why() as report:` around a part of a program, a notebook's cell say."""

from __future__ import annotations

from .report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from .api import Recorder

__all__ = ["Block"]


class Block:
    """The context manager: records this process, and the children that it starts, until the block ends.

    `quick`: do not measure what the machine charges if that has not been done yet; the predictions are then made with
    another machine's charges.
    """

    def __init__(self, quick: bool = False) -> None:
        self._quick = quick
        self._recorder: Recorder | None = None
        self._report = Report()

    def __enter__(self) -> Report:
        from .api import Recorder

        if self._recorder is not None:
            raise RuntimeError("a block of breakeven.why() can be entered once; call why() again")
        self._recorder = Recorder()
        self._recorder.start()
        return self._report

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._recorder is not None
        try:
            self._report._fill(self._recorder.stop(self._charges))
        except Exception:
            if error is None:  # else the program's own error is what the user has to see
                raise

    def _charges(self) -> dict[str, float] | None:
        from . import machine

        found = machine.kept()
        if found is None and not self._quick:
            try:
                found = machine.measure()
            except machine.MeasuringFailed:
                return None
        return None if found is None else found["charges"]
