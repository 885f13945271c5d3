"""The program's first process: what the supervisor starts, with the program to run as arguments."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> None:
    """`python -c '...' MEMORY_FILE KIND WHAT [ARGUMENT ...]`: run the program as its own `__main__`, recorded."""
    _, path, kind, what, *arguments = sys.argv
    from .. import cli
    from . import hooks

    try:
        hooks.start(path, 0, "main", "MainProcess")
    except OSError as error:
        _give_up(error)
    hooks.open_boot()
    cli.execute(kind, what, arguments, hooks.close_boot)


def _give_up(error: OSError) -> NoReturn:
    sys.stderr.write(f"breakeven why: cannot record: {error}\n")
    raise SystemExit(2)
