"""Running programs the way a user does, from a shell."""

import os
import subprocess
import sys
from dataclasses import dataclass

LIMIT = 60


@dataclass
class Outcome:
    """How a program ended."""

    code: int
    out: str
    err: str


def python(*arguments, stdin="", cwd=None, env=None, limit=LIMIT):
    """Run this interpreter with `arguments`; returns the Outcome. A hang is a failure."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=limit,
    )
    return Outcome(
        done.returncode, *(stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr))
    )


def run(*arguments, options=(), **keywords):
    """The same under `breakeven run`; `options` are the interpreter's."""
    return python(*options, "-m", "breakeven", "run", *arguments, **keywords)
