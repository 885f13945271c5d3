"""The terminal's summary: what it says, where it is plain, and that no name of a program's can act on a terminal."""

import copy
import io
import os
import pty
import re
import subprocess
import sys

import pytest
from breakeven._why import terminal, words
from rich.cells import cell_len

from tests.why import reports

WIDTHS = (60, 80, 120)


def shown(report, width=100, full=False):
    file = io.StringIO()
    terminal.print_report(report, file, width=width, full=full)
    return file.getvalue()


@pytest.mark.parametrize("make", reports.ALL, ids=lambda make: make.__name__)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_report_can_be_shown_in_every_width(make, width):
    text = shown(make(), width)
    assert text.endswith("\n")
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_what_it_says():
    text = shown(reports.serialize())
    for expected in (
        "mesh.py --steps 40",
        "8.20 s, 3 processes on 2 cores",
        "Pickling `mesh` takes 5.0 of 8.2 seconds: 210 MB for each of 40 tasks (mesh.py:31).",
        "Without it the run would take about 2.90 s, 5.30 s less.",
        "1. serialize  69% of the process-seconds, costs about 5.30 s",
        "mesh.py:31 in main: 40 tasks of 210 MB",
        "results = pool.starmap(step, [(mesh, i) for i in range(40)])",
        "+ with Pool(2, initializer=keep, initargs=(mesh,)) as pool:",
        "send once to each worker",
        "2.04 s - 2.88 s",
        "3.42x",
        "as it ran",
        "recording: 12,031 records, 0.7% of the elapsed time",
    ):
        assert expected in text, expected
    assert text.count("Pickling `mesh` takes") == 1, "the headline is not said twice"


def test_in_short_and_in_full():
    short, full = shown(reports.serialize()), shown(reports.serialize(), full=True)
    assert len(short.splitlines()) <= 40 and len(full.splitlines()) > len(short.splitlines())
    other = "8.4 GB went through pipes of 64 kB."
    assert other in short and other in full
    advice = "What is not sent need not be copied"
    assert advice not in short and advice in full


@pytest.mark.parametrize("make", reports.ALL, ids=lambda make: make.__name__)
def test_one_screen(make):
    if make is not reports.hostile:  # its sentences are as long as they like
        assert len(shown(make()).splitlines()) <= 48


def test_paths_below_the_programs_folder_are_short():
    assert "/home/ann" not in shown(reports.serialize())


def test_shares_and_bars():
    lines = shown(reports.serialize()).splitlines()
    rows = [re.match(r"(\w+) +([\d.]+) +(\d+)%  (#+)", line) for line in lines]
    rows = {match[1]: (float(match[2]), int(match[3]), len(match[4])) for match in rows if match}
    assert rows["serialize"][:2] == (16.4, 69)
    assert sorted(rows, key=lambda name: -rows[name][2]) == ["serialize", "compute", "transfer", "startup"]


def test_small_causes_are_one_row_and_nothing_is_lost():
    text = shown(reports.every_cause())
    assert sum(line.startswith("others ") for line in text.splitlines()) == 1
    shares = [int(share) for share in re.findall(r"^\w+ +[\d.]+ +(\d+)%", text, re.MULTILINE)]
    assert abs(sum(shares) - 100) <= len(shares) / 2


def test_verified_and_repeated():
    text = shown(reports.verified())
    assert re.search(r"breakeven run, no edit .* 2\.80 s .* 3\.05 s", text)
    assert "3 runs: median 8.20 s, 8.10 s to 8.40 s; the same verdict each time" in text
    report = reports.verified()
    report["runs"][0]["primary"] = "none"
    assert "verdicts: none, serialize" in shown(report)


def test_healthy_program():
    text = shown(reports.healthy())
    assert "none  It pays as it is" in text
    assert "costs" not in text


def test_killed_program():
    text = shown(reports.killed())
    assert "The program was ended by SIGKILL." in text
    assert "1,200 dropped" in text


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, ""), (3, "exit code 3"), (-11, "SIGSEGV"), (-64, "SIGRTMAX"), (-99, "signal 99"), (None, "not known")],
)
def test_how_it_ended(code, expected):
    assert expected in words.ending(code)
    assert bool(words.ending(code)) == bool(expected)


def test_plain_where_it_is_no_terminal():
    for make in reports.ALL:
        report = make()
        assert shown(report).isascii(), make.__name__


def test_a_programs_names_do_not_act_on_the_terminal():
    text = shown(reports.hostile())
    assert not [c for c in text if c != "\n" and not c.isprintable()]
    assert "\\x1b]0;owned\\x07" in text
    assert "\\u202e" in text


@pytest.mark.parametrize("name", ["[red]x[/red]", ":smile:", "[/]", "\\[bold]"])
def test_names_are_not_markup(name):
    report = reports.serialize()
    report["findings"][0]["evidence"] = [name]
    assert name in shown(report)


def test_surrogates_are_spelled_out():
    assert words.clean("caf\udce9") == "caf\\udce9"


def test_a_stream_that_knows_ascii_only():
    raw = io.BytesIO()
    report = reports.serialize()
    report["findings"][0]["evidence"] = ["Größe"]
    file = io.TextIOWrapper(raw, encoding="ascii", errors="backslashreplace")
    terminal.print_report(report, file)
    assert b"Gr\\xf6\\xdfe" in raw.getvalue()


ON_TERMINAL = """
import sys
from breakeven._why import terminal
from tests.why import reports
terminal.print_report(getattr(reports, sys.argv[1])(), sys.stderr, html="page.html")
"""


def on_terminal(report, rows=50, columns=100, **environment):
    """What a terminal of that size gets."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES", "TERM")}
    env |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}
    process = subprocess.Popen([sys.executable, "-c", ON_TERMINAL, report], stderr=theirs, env=env)
    os.close(theirs)
    parts = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # how a terminal says that nobody has it open any more
        pass
    finally:
        os.close(ours)
    assert process.wait(timeout=60) == 0
    return b"".join(parts).decode()


def test_colours_on_a_terminal():
    text = on_terminal("serialize")
    assert "\x1b[31m" in text
    assert "█" in text


def test_no_color_is_honoured():
    text = on_terminal("serialize", NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", text)
    assert "█" in text


def test_dumb_terminals_get_no_escapes():
    assert "\x1b" not in on_terminal("serialize", TERM="dumb")


@pytest.mark.parametrize("rows", [30, 40])
def test_it_fits_the_screen(rows):
    text = on_terminal("serialize", rows=rows)
    assert text.count("\n") < rows
    assert "page.html" in text
    assert "Pickling `mesh`" in text


def test_the_pages_path_is_not_wrapped():
    file = io.StringIO()
    terminal.print_report(reports.serialize(), file, html="/a/long/path" * 20, width=60)
    assert "report: " + "/a/long/path" * 20 + "\n" in file.getvalue()


def test_hostile_names_on_a_terminal():
    text = re.sub(r"\x1b\[[\d;]*m", "", on_terminal("hostile"))  # our own colours
    assert "\x1b" not in text and "\x07" not in text and "\x9b" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0 s"),
        (3e-9, "3.00 ns"),
        (4.2e-4, "420 us"),
        (0.0999999, "100 ms"),
        (1.0, "1.00 s"),
        (12.34, "12.3 s"),
        (599.0, "599 s"),
        (3600.0, "60.0 min"),
    ],
)
def test_seconds(value, expected):
    assert words.seconds(value) == expected


def test_nothing_of_the_report_is_changed():
    report = reports.hostile()
    before = copy.deepcopy(report)
    shown(report)
    assert report == before


def test_rich_is_not_imported_with_breakeven():
    code = (
        "import sys, breakeven, breakeven.cli, breakeven._why.terminal; print([m for m in sys.modules if 'rich' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
