"""The supervisor: starts a program, records it and all its children, and makes a recording of it.

The program runs in an interpreter of its own with the supervisor's standard streams, working directory and environment,
in its process group and so in the terminal's foreground. The supervisor is no part of it; it passes signals on.

| signal to the supervisor | what happens |
|---|---|
| SIGINT from the terminal | the program has got it too; the supervisor goes on until the program has ended |
| SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 from a process | the program gets it |
| SIGTSTP from the terminal, SIGCONT | both stop, both go on, as the shell wants it |
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from .. import _cores, _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Program", "supervise"]

# Passed on to the program. SIGINT and SIGQUIT only if somebody sent them: the terminal sends its own to all.
_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_FROM_TERMINAL = ("SIGINT", "SIGQUIT")


@dataclass
class Program:
    """What to run.

    kind: "" for a file, "-m" for a module, "-c" for code. what: which. arguments: what it gets.
    """

    kind: str
    what: str
    arguments: list[str] = field(default_factory=list)

    def argv(self) -> list[str]:
        """As the user typed it."""
        return [*([self.kind] if self.kind else []), self.what, *self.arguments]


def supervise(
    program: Program,
    charges: dict[str, float] | Callable[[], dict[str, float] | None] | None = None,
    transport: str = "plain",
) -> tuple[bytes, int]:
    """Run a program and record it. Returns the recording and the program's exit code, negative for a signal.

    `charges`: what this machine charges, to be kept in the recording; or a function that says so, which is called when
    the program has ended. Raises OSError if the program cannot be started.
    """
    collector = _native.TraceCollector()
    command = [
        sys.executable,
        *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
        "-c",
        _enter_code(),
        collector.path,
        transport,
        program.kind,
        program.what,
        *program.arguments,
    ]
    signals = _Signals()
    started = time.time()
    collector.started(0)
    try:
        with signals:
            child = subprocess.Popen(command, close_fds=False)
            signals.pid = child.pid
            collector.started(child.pid)
            end = _look_after(collector, child.pid, signals)
    finally:
        signals.restore()
    _, status = os.waitpid(child.pid, 0)
    child.returncode = code = os.waitstatus_to_exitcode(status)
    about = {
        "argv": program.argv(),
        "python": platform.python_version(),
        "directory": os.getcwd(),
        "exit_code": code,
        "started": started,
        "transport": transport,
    }
    if callable(charges):
        charges = charges()
    return collector.finish(about, _cores.usable_cores(), charges, end), code


def _enter_code() -> str:
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return (
        "try:\n"
        " from breakeven._why import child\n"
        "except ModuleNotFoundError:\n"
        " import sys\n"
        f" sys.path.append({home!r})\n"
        " from breakeven._why import child\n"
        "child.main()\n"
    )


def _look_after(collector: Any, pid: int, signals: _Signals) -> int:
    """Until the program's first process has ended. Returns when that was, in nanoseconds of the monotonic clock."""
    ended = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    try:
        while True:
            collector.run(0.5, ended)
            now = time.monotonic_ns()
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return now
    finally:
        if ended is not None:
            os.close(ended)


class _Signals:
    """Passes signals on while the program runs."""

    def __init__(self) -> None:
        self.pid = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        for name in _PASSED_ON:
            number = getattr(signal, name)
            # What we ignore because our parent does (nohup), the program ignores as well.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self.before[number] = signal.signal(number, self.pass_on)
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def restore(self) -> None:
        while self.before:
            number, handler = self.before.popitem()
            signal.signal(number, handler)

    def pass_on(self, number: int, frame: object) -> None:
        if not self.pid:
            return
        if signal.Signals(number).name in _FROM_TERMINAL and _in_foreground():
            return  # the program is in the foreground with us
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def main() -> None:
    """`python -m breakeven._why.supervisor [--save FILE] [--json FILE] SCRIPT|-m MODULE|-c CODE ...`: record only."""
    arguments = sys.argv[1:]
    save = json_file = None
    while arguments and arguments[0] in ("--save", "--json"):
        option, value, *arguments = arguments
        if option == "--save":
            save = value
        else:
            json_file = value
    from .command import BadCommand, parse

    try:
        command = parse(arguments)
    except BadCommand as error:
        raise SystemExit(f"{error}\n{main.__doc__}") from None
    recording, code = supervise(Program(command.kind, command.what, command.arguments))
    if save:
        with open(save, "wb") as file:
            file.write(recording)
    if json_file:
        with open(json_file, "w") as text:
            text.write(_native.recording_to_json(recording))
    raise SystemExit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
