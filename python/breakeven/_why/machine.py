"""What this machine charges for parallelism: measured once, kept in the user's cache, shown by `breakeven machine`."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

from .. import _kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CHARGES", "MeasuringFailed", "cache_folder", "charges", "kept", "main", "measure"]

MACHINE_USAGE = """\
usage: breakeven machine [--again] [--json]

What this machine charges for parallelism: measured once (about two seconds) after each start
of the machine, for each version of Python, and kept in the user's cache.

--again   measure it anew
--json    as JSON, in seconds
"""

# The fields of crates/trace/src/recording.rs `Charges`: name, unit in which it is shown, what it is.
CHARGES = (
    ("fork", "s", "a process by fork: start and join"),
    ("forkserver", "s", "the same by forkserver, the server being up"),
    ("spawn", "s", "the same by spawn"),
    ("thread", "s", "a thread: start and join"),
    ("message", "s", "a small message through a SimpleQueue, CPU of both sides"),
    ("queue_message", "s", "the same through a Queue with its feeder thread"),
    ("pipe_byte", "s/byte", "a byte through a pipe, CPU of both sides"),
    ("pickle_byte", "s/byte", "pickling and unpickling a byte of a large object"),
    ("pool_task", "s", "a task through Pool.imap with chunksize 1"),
    ("executor_task", "s", "a task through a ProcessPoolExecutor"),
    ("wake", "s", "from waking a sleeping process until it runs"),
    ("page_fault", "s", "the first touch of a fresh page"),
    ("manager_call", "s", "a round trip to a manager"),
    ("lock", "s", "acquiring and releasing a free Lock"),
    ("lock_shared", "s", "the same where two processes do so all the time, CPU"),
    ("interpreter", "s", "an interpreter that imports multiprocessing and ends"),
    ("page_copy", "s", "the first write to a page that a forked child shares"),
    ("page_free", "s", "giving a page back"),
)
_NAMES = tuple(name for name, _, _ in CHARGES)

_FORMAT = 1
# The least, in seconds, that charges are kept that were measured while other programs filled the cores.
_BUSY_KEPT = 600.0
BUSY = 0.15
_LIMIT = 60.0


class MeasuringFailed(Exception):
    """The charges could not be measured; says why."""


def cache_folder() -> Path:
    """breakeven's folder in the user's cache (XDG_CACHE_HOME, by default ~/.cache). It need not exist."""
    return Path(_kept.folder())


def _file() -> Path:
    return Path(_kept.path("machine", ".json"))


def _valid(found: Any) -> bool:
    """Whether this is what `measure` returns: files in a cache folder can hold anything."""

    def is_number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0

    return (
        isinstance(found, dict)
        and found.get("format") == _FORMAT
        and is_number(found.get("busy"))
        and is_number(found.get("measured"))
        and isinstance(found.get("charges"), dict)
        and set(found["charges"]) == set(_NAMES)
        and all(is_number(value) and value > 0 for value in found["charges"].values())
    )


def kept() -> dict[str, Any] | None:
    """What is kept of an earlier measurement since the machine's last start; None if there is none that can be used.

    The dictionary has `charges` (seconds by name), `busy` (share of the time that other programs took from it), and
    `measured` (seconds since 1970).
    """
    try:
        found = json.loads(_file().read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not _valid(found):
        return None
    if found["busy"] > BUSY and not 0 <= time.time() - found["measured"] < _BUSY_KEPT:
        return None
    return found


def _keep(measured: dict[str, Any]) -> None:
    """Write it for the next time. Where that cannot be done, the next time measures again."""
    from .files import write_whole

    file = _file()
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, json.dumps(measured, indent=1))
    except OSError:
        return
    for other in file.parent.glob("machine-*.json"):  # of earlier boots
        if not other.name.startswith(file.name[: len("machine-") + 36]):
            other.unlink(missing_ok=True)


def measure() -> dict[str, Any]:
    """Measure the charges now, about two seconds on a quiet machine, and keep them; returns what `kept` does.

    In a fresh interpreter, so that nothing of this process is in them. Raises MeasuringFailed.
    """
    program = str(Path(__file__).with_name("measure.py"))
    process = subprocess.Popen(
        [sys.executable, "-I", "-W", "ignore", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # its processes are ended together
    )
    try:
        out, errors = process.communicate(timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        raise MeasuringFailed(f"Measuring the machine did not end within {_LIMIT:g} s") from None
    finally:
        _end_session(process)
    try:
        measured = {"format": _FORMAT, "measured": time.time(), **json.loads(out)}
    except ValueError:
        measured = None
    if process.returncode != 0 or not _valid(measured):
        reason = errors.decode(errors="backslashreplace").strip().rpartition("\n")[2] or f"exit {process.returncode}"
        raise MeasuringFailed(f"Measuring the machine failed: {reason}")
    assert measured is not None
    _keep(measured)
    return measured


def _end_session(process: subprocess.Popen[bytes]) -> None:
    import signal

    if process.returncode is None:  # as long as it is not reaped, its number is no other session's
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def charges(*, again: bool = False) -> dict[str, Any]:
    """The charges, as `kept` returns them: those that are kept, or, if there are none or `again`, measured now."""
    found = None if again else kept()
    return measure() if found is None else found


def main(arguments: list[str]) -> int:
    """`breakeven machine`."""
    unknown = [word for word in arguments if word not in ("--again", "--json", "-h", "--help")]
    if unknown:
        sys.stderr.write(f"breakeven machine: unknown option {unknown[0]}\n{MACHINE_USAGE}")
        return 2
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(MACHINE_USAGE)
        return 0
    try:
        found = charges(again="--again" in arguments)
    except MeasuringFailed as error:
        sys.stderr.write(f"breakeven machine: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("breakeven machine: interrupted\n")
        return 130
    if "--json" in arguments:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return 0
    from . import terminal

    terminal.print_machine(found, CHARGES, sys.stdout)
    if found["busy"] > BUSY:
        sys.stderr.write(
            f"Other programs took {found['busy']:.0%} of the time while this was measured, so that starts and messages "
            "look dearer than they are; --again measures anew.\n"
        )
    return 0
