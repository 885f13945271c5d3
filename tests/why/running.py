"""Running a program and taking its time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .corpus import PROGRAMS, Program

LIMIT = 60
"""Seconds after which a program hangs."""
Hang = subprocess.TimeoutExpired


@dataclass(frozen=True)
class Run:
    """One run of a command."""

    seconds: float
    """Elapsed."""
    cpu: float
    """Seconds of CPU time, of the process and of all children that it waited for."""
    code: int
    out: bytes
    err: bytes


def run(arguments: list[str], nice: int = 0, cwd: Path = PROGRAMS) -> Run:
    """Run this interpreter with `arguments`, in `cwd`. A hang raises subprocess.TimeoutExpired."""
    command = [sys.executable, *arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        child = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            if nice:
                # A session of its own is also a scheduling group of its own, where there are such: then this is what
                # counts, and nice(2) only inside it.
                os.setpriority(os.PRIO_PGRP, child.pid, nice)
                with contextlib.suppress(FileNotFoundError):
                    Path(f"/proc/{child.pid}/autogroup").write_text(str(nice))
            code, usage = _wait(child)
        except BaseException:
            os.killpg(child.pid, 9)
            child.wait()
            raise
        seconds = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        return Run(seconds, usage.ru_utime + usage.ru_stime, code, out.read(), err.read())


def _wait(child):
    """Wait, and learn what it used: subprocess does not tell."""
    until = time.monotonic() + LIMIT
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode, usage
        if time.monotonic() > until:
            raise subprocess.TimeoutExpired(child.args, LIMIT)
        time.sleep(0.002)


def run_variant(program: Program, variant: str = "", shrink: int = 0, nice: int = 0) -> Run:
    """Run one variant of a program, as it is."""
    return run(program.command(variant, shrink), nice, program.root)


def run_under_why(program: Program, report: Path, nice: int = 0) -> Run:
    """Run a program as it is under `breakeven why`, with the report as JSON in the file `report`."""
    return run(["-m", "breakeven", "why", "--json", str(report), *program.command()], nice, program.root)
