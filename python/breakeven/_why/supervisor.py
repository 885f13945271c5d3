"""The supervisor: starts a program, records it and all its children, and makes a recording of it.

The program runs in an interpreter of its own with the supervisor's standard streams, working directory and environment,
in its process group and so in the terminal's foreground. The supervisor is no part of it; it passes signals on.

| signal | what happens |
|---|---|
| SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 to the group (a terminal's keys) | the program has got it, too |
| the same to the supervisor alone | the program gets it from the supervisor |
| SIGTSTP from the terminal, SIGCONT | both stop, both go on, as the shell wants it |

A process cannot see whether a signal was sent to itself or to its group. So there is a witness: a process of the same
group that blocks all signals. What is pending there was sent to the group.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time

from .. import _cores, _native
from . import entering
from .command import BadCommand, Command, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["about", "supervise"]

# Passed on to the program.
_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
# Seconds in which a signal to the group has reached all of its processes.
_REACHES_ALL = 0.02


def supervise(
    command: Command,
    charges: dict[str, float] | Callable[[], dict[str, float] | None] | None = None,
    transport: str = "plain",
) -> tuple[bytes, int]:
    """Run a program and record it. Returns the recording and the program's exit code, negative for a signal.

    `charges`: what this machine charges, to be kept in the recording; or a function that says so, which is called when
    the program has ended. Raises OSError if the program cannot be started.
    """
    collector = _native.TraceCollector()
    interpreter = [
        sys.executable,
        *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
        "-c",
        entering("child", "main()"),
        collector.path,
        transport,
        command.kind,
        command.what,
        *command.arguments,
    ]
    signals = _Signals()
    started = time.time()
    collector.started(0)
    with signals:
        child = subprocess.Popen(interpreter, close_fds=False)
        signals.pid = child.pid
        collector.started(child.pid)
        end = _look_after(collector, child.pid)
    _, status = os.waitpid(child.pid, 0)
    child.returncode = code = os.waitstatus_to_exitcode(status)
    if callable(charges):
        charges = charges()
    program = about(command.as_typed(), code, started, transport)
    return collector.finish(program, _cores.usable_cores(), charges, end), code


def about(argv: list[str], exit_code: int, started: float, transport: str = "plain") -> dict[str, Any]:
    """What a recording says of the program: crates/trace's `recording::Program`."""
    return {
        "argv": argv,
        "python": platform.python_version(),
        "directory": os.getcwd(),
        "exit_code": exit_code,
        "started": started,
        "transport": transport,
    }


def _look_after(collector: Any, pid: int) -> int:
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
        self.witness = 0
        self.writer = -1  # of the pipe whose end tells the witness that it is not needed any more

    def __enter__(self) -> _Signals:
        for name in _PASSED_ON:
            number = getattr(signal, name)
            # What we ignore because our parent does (nohup), the program ignores as well.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self.before[number] = signal.signal(number, self.pass_on)
        self._begin_witness()
        return self

    def __exit__(self, *error: object) -> None:
        self._end_witness()
        while self.before:
            number, handler = self.before.popitem()
            signal.signal(number, handler)

    def pass_on(self, number: int, frame: object) -> None:
        if not self.pid:
            return
        if self._was_sent_to_group(number):
            # The next one is to be seen, too.
            self._end_witness()
            self._begin_witness()
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def _begin_witness(self) -> None:
        reader, writer = os.pipe()
        # What comes between the fork and the blocking must not end it.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.witness = os.fork()
            if not self.witness:
                try:
                    os.dup2(reader, 0)
                    os.closerange(1, 1 << 16)
                    os.read(0, 1)
                finally:
                    os._exit(0)
        except OSError:  # no more processes: then all signals are passed on
            os.close(writer)
        else:
            self.writer = writer
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(reader)

    def _end_witness(self) -> None:
        pid, self.witness = self.witness, 0
        if pid:
            os.close(self.writer)
            os.waitpid(pid, 0)

    def _was_sent_to_group(self, number: int) -> bool:
        limit = time.monotonic() + _REACHES_ALL
        while self.witness:
            try:
                with open(f"/proc/{self.witness}/status", "rb") as file:
                    pending = next(line for line in file if line.startswith(b"ShdPnd:"))
            except (OSError, StopIteration):
                return False
            if int(pending.split()[1], 16) >> (number - 1) & 1:
                return True
            if time.monotonic() >= limit:
                return False
            time.sleep(0.002)
        return False


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
    try:
        command = parse(arguments)
    except BadCommand as error:
        raise SystemExit(f"{error}\n{main.__doc__}") from None
    recording, code = supervise(command)
    if save:
        with open(save, "wb") as file:
            file.write(recording)
    if json_file:
        with open(json_file, "w") as text:
            text.write(_native.recording_to_json(recording))
    raise SystemExit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
