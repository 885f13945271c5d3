"""`with breakeven.why() as report:` — the library form: this very process and its children, for the time of the block.

A helper process reads the rings and samples `/proc`, as the supervisor does for whole programs; this process starts no
thread, and gets its hooks at the beginning of the block and loses them at its end.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time

from .. import _cores, _native
from . import entering

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

__all__ = ["Recorder"]

_LENGTH = struct.Struct("<Q")


class Recorder:
    """Records this process and its children between `start()` and `stop()`."""

    def __init__(self) -> None:
        self._helper: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def start(self) -> None:
        """Begin to record. Raises RuntimeError if this process is recorded already, OSError if it cannot be."""
        from . import hooks

        if hooks.is_active():
            raise RuntimeError("this process is being recorded already: blocks of breakeven.why() do not nest")
        self._started = time.time()
        helper = subprocess.Popen(
            [sys.executable, "-c", entering("api", "help_recording()")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is not for it
        )
        self._helper = helper
        try:
            assert helper.stdout is not None
            path = helper.stdout.readline().decode().strip()
            if not path:
                raise OSError("the helper process of the recording has ended at once")
            hooks.start(path, 0, "main", "MainProcess")
        except BaseException:
            self._end_helper()
            raise

    def stop(self, charges: Callable[[], dict[str, float] | None] | None = None) -> bytes:
        """End the recording and return it. The processes that were started meanwhile go on unrecorded.

        `charges`: says what the machine charges; called when nothing is recorded any more.
        """
        from . import hooks

        helper = self._helper
        if helper is None:
            raise RuntimeError("nothing is being recorded")
        end = time.monotonic_ns()
        hooks.finish(None)
        hooks.stop()
        from .supervisor import about

        program = about(list(sys.argv), 0, self._started)
        try:
            assert helper.stdin is not None and helper.stdout is not None
            told = (program, _cores.usable_cores(), end, charges() if charges is not None else None)
            helper.stdin.write(repr(told).encode() + b"\n")
            helper.stdin.flush()
            length = helper.stdout.read(_LENGTH.size)
            recording = helper.stdout.read(_LENGTH.unpack(length)[0]) if len(length) == _LENGTH.size else b""
        except BrokenPipeError:
            recording = b""
        finally:
            self._end_helper()
        if not recording:
            raise RuntimeError("the helper process of the recording has died, and the recording with it")
        return recording

    def __enter__(self) -> Recorder:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.recording = self.stop()

    def _end_helper(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            for stream in (helper.stdin, helper.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except OSError:
                        pass
            try:
                helper.wait(10)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait()


def help_recording() -> None:
    """The helper: records its parent until it is told the end, or its parent has gone."""
    import ast

    collector: Any = _native.TraceCollector()
    collector.started(0)
    collector.started(os.getppid())
    sys.stdout.write(collector.path + "\n")
    sys.stdout.flush()
    while not collector.run(60.0, 0):
        pass
    line = sys.stdin.buffer.readline()
    if not line:
        return
    program, cores, end, charges = ast.literal_eval(line.decode())
    recording = collector.finish(program, cores, charges, end)
    sys.stdout.buffer.write(_LENGTH.pack(len(recording)) + recording)
    sys.stdout.buffer.flush()
