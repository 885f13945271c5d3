"""The program's first process: what the supervisor starts, with the program to run as arguments."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> None:
    """`python -c ... MEMORY_FILE TRANSPORT KIND WHAT [ARGUMENT ...]`: run the program as its own `__main__`, recorded.

    TRANSPORT: "plain", or "breakeven" for a program that runs on breakeven's pools and queues, as by `breakeven run`.
    """
    _, path, transport, kind, what, *arguments = sys.argv
    from .. import cli
    from . import hooks

    try:
        hooks.start(path, 0, "main", "MainProcess", imports=False)  # what is imported until it begins is not its own
    except OSError as error:
        _give_up(error)
    hooks.open_boot()
    if transport == "breakeven":
        import breakeven

        breakeven.install()
    cli.execute(kind, what, arguments, hooks.begin_program)


def _give_up(error: OSError) -> NoReturn:
    sys.stderr.write(f"breakeven why: cannot record: {error}\n")
    raise SystemExit(2)
