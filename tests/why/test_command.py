"""What follows `breakeven why` on the command line."""

import os
import sys

import pytest
from breakeven._why.command import BadCommand, Command, parse


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["script.py"], Command("", "script.py", [])),
        (["script.py", "-m", "--json"], Command("", "script.py", ["-m", "--json"])),
        (["-m", "pack.age", "-x"], Command("-m", "pack.age", ["-x"])),
        (["-mpackage", "-x"], Command("-m", "package", ["-x"])),
        (["-c", "print(1)", "a"], Command("-c", "print(1)", ["a"])),
        (["-"], Command("", "-", [])),
        (["--", "-m", "x"], Command("-m", "x", [])),
        (["--", "python", "script.py", "-v"], Command("", "script.py", ["-v"])),
        (["--", "python3", "-m", "x"], Command("-m", "x", [])),
        (["--", sys.executable, "-c", "1"], Command("-c", "1", [])),
    ],
)
def test_programs(words, expected):
    assert parse(words) == expected
    if words[0] != "--":
        assert Command.as_typed(expected)[0] == words[0][:2] if expected.kind else words[0]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing to run"),
        (["--"], "nothing to run"),
        (["-m"], "argument expected for -m"),
        (["-x", "script.py"], "unknown option -x"),
        (["--", "python", "-X", "dev", "script.py"], "options of the interpreter"),
        (["--", "python"], "a script, -m or -c must follow"),
        (["--", "no-such-command-at-all"], "no such command"),
        (["--", "sh", "-c", "true"], "no Python program"),
    ],
)
def test_what_cannot_be_run(words, reason):
    with pytest.raises(BadCommand, match=reason):
        parse(words)


def executable(path, first_lines):
    path.write_text(first_lines)
    path.chmod(0o755)
    return path


def test_commands_written_in_python(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    command = executable(tmp_path / "my-command", "#!/usr/bin/env python3\nprint(1)\n")
    assert parse(["--", "my-command", "-v"]) == Command("", str(command), ["-v"])
    long = executable(tmp_path / "long", "#!/bin/sh\n'''exec' /a/very/long/path/bin/python \"$0\" \"$@\"\n' '''\n")
    assert parse(["--", "long"]) == Command("", str(long), [])


def test_this_environments_commands_come_before_path(tmp_path, monkeypatch):
    executable(tmp_path / "pytest", "#!/usr/bin/python3\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert os.path.dirname(parse(["--", "pytest", "-q"]).what) == os.path.dirname(sys.executable)


def test_scripts_behind_dashes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text("")
    (tmp_path / "plain").write_text("")
    assert parse(["--", "script.py", "1"]) == Command("", "script.py", ["1"])
    assert parse(["--", "./plain", "1"]) == Command("", "./plain", ["1"])
