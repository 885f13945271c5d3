"""What the user wants run, as the command line says it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field

__all__ = ["BadCommand", "Command", "parse"]


class BadCommand(Exception):
    """What was asked for cannot be run; says why and what to do."""


@dataclass(frozen=True)
class Command:
    """A Python program: what would stand behind `python` on a command line.

    `kind` is "" (a script: file, directory, zip file, or - for standard input), "-m" or "-c"; `what` the script, module
    or code; `arguments` what the program finds in `sys.argv[1:]`.
    """

    kind: str
    what: str
    arguments: list[str] = field(default_factory=list)

    def as_typed(self) -> list[str]:
        """As one would give it to Python."""
        return [*([self.kind] if self.kind else []), self.what, *self.arguments]


def parse(words: list[str]) -> Command:
    """The command that follows our own options. Raises BadCommand.

    `script.py ...`, `-m module ...`, `-c code ...` as Python has them, and `-- command ...`: a command of this Python
    environment or of PATH that is written in Python (pytest), or `python ...` itself.
    """
    if not words:
        raise BadCommand("nothing to run")
    first, *rest = words
    if first[:2] in ("-m", "-c"):  # as in Python, what follows may be stuck to it
        if len(first) > 2:
            return Command(first[:2], first[2:], rest)
        if not rest:
            raise BadCommand(f"argument expected for {first}")
        return Command(first, rest[0], rest[1:])
    if first == "--":
        return _after_dashes(rest)
    if first.startswith("-") and first != "-":
        raise BadCommand(f"unknown option {first}")
    return Command("", first, rest)


def _after_dashes(words: list[str]) -> Command:
    if not words:
        raise BadCommand("nothing to run after --")
    first, *rest = words
    if first[:2] in ("-m", "-c"):
        return parse(words)
    if os.path.isfile(first) and first.endswith((".py", ".pyc", ".pyz", ".zip")):
        return Command("", first, rest)
    name = os.path.basename(first)
    if name in ("python", "python3", "python{}.{}".format(*sys.version_info[:2])) or first == sys.executable:
        if not rest or (rest[0].startswith("-") and rest[0][:2] not in ("-m", "-c") and rest[0] != "-"):
            raise BadCommand(
                f"{first}: a script, -m or -c must follow; "
                "for options of the interpreter start breakeven with it: python OPTIONS -m breakeven why ..."
            )
        return parse(rest)
    path = _find(first)
    if path is None:
        if os.path.exists(first):  # a folder, or a script that is not executable
            return Command("", first, rest)
        raise BadCommand(f"{first}: there is no such command, neither beside {sys.executable} nor on PATH")
    if not _is_python(path):
        raise BadCommand(
            f"{path} is no Python program, and others cannot be explained: give the script, or -m and its module"
        )
    return Command("", path, rest)


def _find(name: str) -> str | None:
    """The command's file; this interpreter's environment counts before PATH: its modules are what will be imported."""
    if os.sep in name:
        return name if os.access(name, os.X_OK) and os.path.isfile(name) else None
    return shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)


def _is_python(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            beginning = file.read(512)
    except OSError:
        return False
    if path.endswith((".py", ".pyz")):
        return True
    first, _, after = beginning.partition(b"\n")
    if not first.startswith(b"#!"):
        return False
    # Where the interpreter's path is too long for a first line, pip lets sh start it from the second.
    return b"python" in first or (first.endswith(b"sh") and b"python" in after.partition(b"\n")[0])
