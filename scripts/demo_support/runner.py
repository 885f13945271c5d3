"""Runs one program to its end, whatever that end is, and leaves none of its processes behind.

Each program gets a session of its own, so that "its processes" has a meaning for the kernel: all that it started
are in that session unless they left it on purpose. A time-out or Ctrl-C kills the session, and after a normal end
the session must be empty: a program whose workers outlive it is reported, not tidied up in silence.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TICK = 0.1  # seconds between two calls of on_tick
# Seconds that helpers of an ended program may take to notice: the stdlib's resource tracker ends when its pipe closes.
GRACE = 2.0


class RunFailed(Exception):
    """A program that did not end well: it crashed, took too long, printed no result, or left processes behind."""


@dataclass(frozen=True)
class Sample:
    """What one run gave: the program's own seconds, those of the whole process, and the result."""

    seconds: float
    wall: float
    result: Any


def session_members(session: int) -> list[int]:
    """Return the ids of the living processes of a session; zombies hold nothing and are not counted."""
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        # The name in parentheses can hold anything, spaces and parentheses too: what follows it cannot.
        state, _parent, _group, its_session = stat.rpartition(")")[2].split()[:4]
        if int(its_session) == session and state not in "ZX":
            members.append(int(entry))
    return members


def kill_session(session: int) -> None:
    """SIGKILL every process of a session, those included that are started meanwhile."""
    while members := session_members(session):
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


def wait_until_empty(session: int, seconds: float) -> list[int]:
    """Wait until a session has no living process, at most `seconds`; return the processes it still has."""
    end = time.monotonic() + seconds
    while (members := session_members(session)) and time.monotonic() < end:
        time.sleep(0.02)
    return members


def environment() -> dict[str, str]:
    """The caller's, but bytecode is kept, as it is for an installed package: nothing is compiled while it is timed."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def wait_for_end(process: subprocess.Popen[bytes], timeout: float, on_tick: Callable[[], None]) -> bool:
    """Wait until a process ends, without delay when it does; return False if that took more than `timeout` seconds."""
    # Popen.wait(timeout) polls with growing pauses, which would be added to the measured time; a pidfd does not.
    pidfd = os.pidfd_open(process.pid)
    try:
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            if select.select([pidfd], [], [], min(TICK, left))[0]:
                return True
            on_tick()
        return False
    finally:
        os.close(pidfd)


def tail(text: str, lines: int = 12) -> str:
    """Return the last lines of what a program wrote, for an error message."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def parse_result(output: str) -> tuple[float, Any]:
    """Return (seconds, result) from the JSON object on a program's last line; raises RunFailed if it is not there."""
    last = output.rstrip().rpartition("\n")[2]
    try:
        answer = json.loads(last)
        return float(answer["seconds"]), answer["result"]
    except (ValueError, TypeError, KeyError) as error:
        raise RunFailed(f"its last line is not the JSON object expected of an example: {last[:200]!r}") from error


def run_program(
    command: Sequence[str], cwd: Path, timeout: float, on_tick: Callable[[], None] = lambda: None
) -> Sample:
    """Run `command` in `cwd` for at most `timeout` seconds; on_tick is called ten times a second meanwhile.

    Raises RunFailed, with the end of what the program wrote on stderr, for every end but a good one.
    """
    # Files, not pipes: nobody has to read them while the program runs, and a worker that outlives its program
    # cannot keep us waiting for the end of a pipe.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        left_behind: list[int] = []
        try:
            ended = wait_for_end(process, timeout, on_tick)
            wall = time.perf_counter() - started
            if ended:
                process.wait()
                left_behind = wait_until_empty(process.pid, GRACE)
        finally:
            kill_session(process.pid)
            process.wait()

        stdout.seek(0)
        stderr.seek(0)
        output, complaints = (file.read().decode(errors="replace") for file in (stdout, stderr))
        if not ended:
            raise RunFailed(f"it did not end within {timeout:g} s and was killed\n{tail(complaints)}".rstrip())
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            raise RunFailed(f"it was ended by {name}\n{tail(complaints)}".rstrip())
        if process.returncode != 0:
            raise RunFailed(f"it ended with exit code {process.returncode}\n{tail(complaints)}".rstrip())
        if left_behind:
            raise RunFailed(f"{len(left_behind)} of its processes were still there {GRACE:g} s after its end")
        seconds, result = parse_result(output)
        return Sample(seconds, wall, result)
