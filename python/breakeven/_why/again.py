"""Running the program again: `--repeat`, and `--verify`, which tries the changes that need no edit."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import subprocess
import sys
import time

from .command import BadCommand, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["Again"]

# What every numerical library of the usual ones reads when it is loaded.
BLAS_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# A run that takes so many times as long as the first one, and longer than this, is given up.
PATIENCE = 10
AT_LEAST = 60.0


class Again:
    """Further runs of one command, with the standard input that the first run found.

    To be made before the first run. Raises BadCommand where a second run would find another input than the first.
    """

    def __init__(self, command: Command) -> None:
        self._command = command
        self._input = _input_to_repeat()
        if command.what == "-" and not command.kind and self._input is None:
            raise BadCommand("--verify and --repeat: the program itself comes from standard input; give it as a file")

    def _open_input(self) -> int:
        """A descriptor to read what the first run could read."""
        if self._input is None:
            return os.open(os.devnull, os.O_RDONLY)
        offset = self._input
        fd = os.open("/proc/self/fd/0", os.O_RDONLY)
        os.lseek(fd, offset, os.SEEK_SET)
        return fd

    # -----------------------------------------------------------------------------------------------------------------

    def repeat(
        self,
        times: int,
        recording: bytes,
        report: dict[str, Any],
        run: Callable[[], tuple[bytes, int]],
        analyze: Callable[[bytes], dict[str, Any]],
    ) -> tuple[bytes, dict[str, Any]]:
        """Run it until there are so many runs; returns the recording and report of the one in the middle.

        Its report has all runs under `runs`. A run that a signal ended is the last one.
        """
        runs = [(recording, report)]
        while len(runs) < times and not _was_ended(runs[-1][1]):
            with self._silenced():
                recording, _ = run()
            runs.append((recording, analyze(recording)))
        by_time = sorted(range(len(runs)), key=lambda number: runs[number][1]["elapsed"])
        recording, report = runs[by_time[(len(runs) - 1) // 2]]
        report["runs"] = [
            {"elapsed": one["elapsed"], "cpu_seconds": one["cpu_seconds"], "primary": one["primary"]["cause"]}
            for _, one in runs
        ]
        if len(runs) < times:
            report["remarks"].append(f"Only {len(runs)} of {times} runs: the last one was ended by a signal.")
        codes = {one["program"]["exit_code"] for _, one in runs}
        if len(codes) > 1:
            report["remarks"].append(
                f"The runs ended with different exit codes: {', '.join(map(str, sorted(codes, key=str)))}."
            )
        return recording, report

    @contextlib.contextmanager
    def _silenced(self) -> Iterator[None]:
        """Our own standard streams, which the program inherits, are for a while the input again and nowhere."""
        sys.stdout.flush()
        sys.stderr.flush()
        saved = {}
        for number in (0, 1, 2):
            with contextlib.suppress(OSError):  # closed: so it is for the program
                saved[number] = os.dup(number)
        try:
            for number in saved:
                fd = self._open_input() if number == 0 else os.open(os.devnull, os.O_WRONLY)
                os.dup2(fd, number)
                os.close(fd)
            yield
        finally:
            for number, fd in saved.items():
                os.dup2(fd, number)
                os.close(fd)

    # -----------------------------------------------------------------------------------------------------------------

    def verify(self, report: dict[str, Any]) -> None:
        """Run the program with each change of the report that needs no edit.

        Enters the seconds measured, and says in the remarks what could not be measured.
        """
        expected = report["program"]["exit_code"]
        if expected is None or expected < 0:
            report["remarks"].append("--verify: the program was ended by a signal; nothing to compare with.")
            return
        tried = False
        for fix in report["fixes"]:
            way = None if fix["needs_edit"] else _way(fix)
            if way is None:
                continue
            tried = True
            prefix, environment = way
            limit = max(AT_LEAST, PATIENCE * report["elapsed"])
            seconds, exit_code = self._time(prefix, environment, limit)
            name = fix["kind"]
            if exit_code is None:
                report["remarks"].append(f"--verify: with {name} the program did not end within {limit:.0f} s.")
            elif exit_code != expected:
                report["remarks"].append(
                    f"--verify: with {name} the program ended with exit code {exit_code} and not {expected}; "
                    "its time says nothing."
                )
            else:
                fix["measured_seconds"] = seconds
        if not tried:
            report["remarks"].append("--verify: none of the changes can be tried without an edit.")

    def _time(self, prefix: list[str], environment: dict[str, str], limit: float) -> tuple[float, int | None]:
        """Seconds that the program takes, and its exit code; no exit code if it did not end in time."""
        options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        stdin = self._open_input()
        try:
            begin = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *options, *prefix, *self._command.as_typed()],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **environment},
                start_new_session=True,  # so that it can be ended with its children
            )
        finally:
            os.close(stdin)
        try:
            exit_code = process.wait(limit)
            return time.perf_counter() - begin, exit_code
        except subprocess.TimeoutExpired:
            return limit, None
        finally:
            if process.returncode is None:  # not reaped yet: the number is still this session's
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _way(fix: dict[str, Any]) -> tuple[list[str], dict[str, str]] | None:
    """How a change is tried: what stands before the program, and the environment; None: not without an edit."""
    kind = fix["kind"]
    if kind == "run":
        return ["-m", "breakeven", "run"], {}
    if kind == "limit_blas_threads":
        return [], dict.fromkeys(BLAS_VARIABLES, "1")
    if kind in ("fewer_workers", "more_workers") and fix["workers"] and sys.version_info >= (3, 13):
        return [], {"PYTHON_CPU_COUNT": str(fix["workers"])}
    return None


def _was_ended(report: dict[str, Any]) -> bool:
    code = report["program"]["exit_code"]
    return code is None or code < 0


def _input_to_repeat() -> int | None:
    """Where in the file on standard input the program begins to read; None if there is nothing to read.

    Raises BadCommand for an input that can be read only once.
    """
    try:
        mode = os.fstat(0).st_mode
    except OSError:  # closed
        return None
    if stat.S_ISREG(mode):
        return os.lseek(0, 0, os.SEEK_CUR)
    if stat.S_ISCHR(mode):  # a terminal, at which nobody types the same twice; /dev/null
        return None
    poll = select.poll()
    poll.register(0, select.POLLIN)
    events = dict(poll.poll(0)).get(0, 0)
    if events & select.POLLHUP and not events & select.POLLIN:  # a pipe that nobody will write to any more
        return None
    raise BadCommand(
        "--verify and --repeat run the program more than once, and its standard input is a pipe, which can be read "
        "only once; give it as a file (< FILE), or < /dev/null if the program reads nothing"
    )
