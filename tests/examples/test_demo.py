"""The demo's parts: what it makes of samples, and what it does with programs that end badly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from demo_support import chart, table
from demo_support.cases import CASES, ROOT, VARIANTS, Case, select
from demo_support.results import Row
from demo_support.runner import RunFailed, Sample, parse_result, run_program, session_members
from demo_support.why import explain, one_a_program

from tests.support import kill

SVG = "{http://www.w3.org/2000/svg}"


def row(name: str = "a_program", **times: float) -> Row:
    """A row with one sample per variant; the whole process takes 100 ms more than the program says."""
    made = Row(Case(name, f"what {name} does", f"{name}.py"))
    for variant, seconds in times.items():
        made.add(variant, Sample(seconds, seconds + 0.1, 42))
    return made


# --- cases


def test_command_lines() -> None:
    case = Case("x/y", "", "x.py", ("--via", "y"))
    assert case.command("serial", "py") == ["py", "examples/x.py", "--via", "y", "--mode", "serial"]
    assert case.command("stdlib", "py") == ["py", "examples/x.py", "--via", "y", "--mode", "parallel"]
    under = ["py", "-m", "breakeven", "run", "examples/x.py", "--via", "y", "--mode", "parallel"]
    assert case.command("breakeven", "py") == under
    with pytest.raises(ValueError, match="threads"):
        case.command("threads")


def test_select() -> None:
    assert select([]) == CASES
    assert [case.name for case in select(["array_sum/pool", "io_tasks"])] == ["io_tasks", "array_sum/pool"]
    assert {case.name for case in select(["queue_arrays"])} == {"queue_arrays/int", "queue_arrays/array"}
    with pytest.raises(ValueError, match="arrays"):
        select(["arrays"])


# --- results


def test_median_and_ratios() -> None:
    made = row(serial=1.0, stdlib=3.0, breakeven=0.5)
    made.add("stdlib", Sample(4.0, 4.1, 42))
    made.add("stdlib", Sample(100.0, 100.1, 42))
    assert made.seconds("stdlib") == 4.0
    assert made.speedup("stdlib") == 8.0
    assert made.speedup("serial") == 2.0
    assert made.speedup("stdlib", whole=True) == pytest.approx(4.1 / 0.6)
    assert made.faults() == []


def test_a_failed_variant_counts_as_not_measured() -> None:
    made = row(serial=1.0, stdlib=3.0, breakeven=0.5)
    made.failures["breakeven"] = "it was ended by SIGSEGV"
    assert made.seconds("breakeven") is None
    assert made.speedup("stdlib") is None
    assert made.faults() == ["breakeven: it was ended by SIGSEGV"]


def test_a_different_result_in_any_round_is_a_fault() -> None:
    made = row(serial=1.0, stdlib=3.0)
    made.add("stdlib", Sample(3.0, 3.1, 41))
    made.add("serial", Sample(1.0, 1.1, 42))
    (fault,) = made.faults()
    assert fault == "the results differ: serial, stdlib: 42; stdlib: 41"


def test_json_holds_every_sample() -> None:
    made = row(serial=1.0, stdlib=3.0, breakeven=0.5)
    made.add("stdlib", Sample(5.0, 5.1, 42))
    told = json.loads(json.dumps(made.as_json()))
    assert told["variants"]["stdlib"]["samples"] == [3.0, 5.0]
    assert told["variants"]["stdlib"]["seconds"] == 4.0
    assert told["speedup_over_stdlib"] == 8.0
    assert told["faults"] == []


# --- table


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.00131, "1.31 ms"), (0.0994, "99.4 ms"), (0.0996, "0.10 s"), (2.018, "2.02 s"), (12.34, "12.3 s")],
)
def test_format_seconds(seconds: float | None, words: str) -> None:
    assert table.format_seconds(seconds) == words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(None, "-"), (0.0123, "0.012 x"), (0.52, "0.52 x"), (1.0, "1.00 x"), (7.04, "7.0 x"), (23.4, "23 x")],
)
def test_format_ratio(ratio: float | None, words: str) -> None:
    assert table.format_ratio(ratio) == words


def test_table_has_a_line_per_program_in_columns() -> None:
    rows = [row("short", serial=1.0, stdlib=3.0, breakeven=0.5), row("a_longer_name", serial=2.0, stdlib=0.012)]
    head, rule, *body = table.render_table(rows).splitlines()
    assert head.split()[:4] == ["program", *VARIANTS]
    assert set(rule) == {"-"}
    assert body[0].split() == ["short", "1.00", "s", "3.00", "s", "0.50", "s", "6.0", "x", "2.0", "x", "5.2", "x"]
    assert body[1].split() == ["a_longer_name", "2.00", "s", "12", "ms", "-", "-", "-", "-"]
    # Right-aligned: the units of a column are below each other.
    assert body[0].index(" s") == body[1].index(" s")


def test_summary_names_what_is_slower() -> None:
    rows = [row("good", stdlib=3.0, breakeven=0.5), row("bad", stdlib=1.0, breakeven=2.0), row("none", stdlib=1.0)]
    told = table.summarise(rows)
    assert "in 1 of 2 programs, up to 6.0 x (good)" in told
    assert "SLOWER in bad (0.50 x)" in told
    assert "level" in table.summarise([row("good", stdlib=3.0, breakeven=0.5), row("same", stdlib=1.0, breakeven=0.98)])
    assert table.summarise([row(serial=1.0)]) == "breakeven was not measured against the stdlib."


# --- chart


def bars(svg: str) -> dict[str, float]:
    """Return the width of each bar by its title."""
    found = {}
    for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        if (title := rect.find(f"{SVG}title")) is not None:
            found[title.text or ""] = float(rect.get("width", "nan"))
    return found


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_bars_are_logarithmic() -> None:
    svg = chart.render_svg([row(serial=0.01, stdlib=1.0, breakeven=0.1)], "title", "subtitle")
    widths = bars(svg)
    step = widths["breakeven: 0.10 s"] - widths["serial: 10 ms"]
    assert step > 0
    assert widths["stdlib: 1.00 s"] - widths["breakeven: 0.10 s"] == pytest.approx(step, abs=0.2)
    assert widths["serial: 10 ms"] > 0


def test_chart_says_what_it_shows() -> None:
    rows = [row("fine", serial=0.01, stdlib=1.0, breakeven=0.1), row("broken", serial=0.01, stdlib=1.0)]
    shown = words(chart.render_svg(rows, "a <title> & more", "subtitle"))
    for expected in ("a <title> & more", "subtitle", "fine", "what broken does", "10 x", "breakeven: not measured"):
        assert expected in shown
    assert set(chart.LABELS.values()) <= set(shown)


def test_chart_of_two_variants_has_no_third_colour() -> None:
    svg = chart.render_svg([row(serial=0.01, stdlib=1.0)], "", "")
    assert chart.COLOURS["breakeven"] not in svg
    assert "not measured" not in svg


def test_chart_of_nothing_is_still_a_document() -> None:
    assert words(chart.render_svg([row()], "title", ""))[0] == "title"


@pytest.mark.parametrize("values", [[1.0], [0.01], [0.0013, 5.16], [1e-5, 400.0], [0.1, 0.1]])
def test_axis_holds_all_values(values: list[float]) -> None:
    low, high = chart.axis(values)
    assert low < min(values)
    assert max(values) <= high
    assert all(low <= tick * 1.001 and tick <= high * 1.001 for tick in chart.ticks(low, high))


def test_tick_labels() -> None:
    assert [chart.tick_label(10.0**power) for power in (-5, -3, -1, 0, 1)] == ["10 µs", "1 ms", "100 ms", "1 s", "10 s"]


# --- runner

ANSWER = 'print("noise"); print(\'{"seconds": 0.5, "result": [1, 2]}\')'


def run_python(code: str, timeout: float = 30.0) -> Sample:
    return run_program([sys.executable, "-c", code], ROOT, timeout)


def test_a_good_run() -> None:
    sample = run_python(ANSWER)
    assert sample.seconds == 0.5
    assert sample.result == [1, 2]
    assert sample.wall > 0


@pytest.mark.parametrize("output", ["", "no JSON", "[1]", '{"seconds": 1}', '{"seconds": "x", "result": 1}'])
def test_output_without_a_result(output: str) -> None:
    with pytest.raises(RunFailed, match="last line"):
        parse_result(output)


def test_a_crash_is_told_with_its_stderr() -> None:
    with pytest.raises(RunFailed, match=r"exit code 3(?s:.*)the reason"):
        run_python("import sys; print('the reason', file=sys.stderr); sys.exit(3)")
    with pytest.raises(RunFailed, match="SIGSEGV"):
        run_python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")


# A program whose child ignores SIGTERM and hangs; the child's id comes to light in a file.
WITH_CHILD = """
import pathlib, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
pathlib.Path({path!r}).write_text(str(child.pid))
"""


def test_a_time_out_kills_the_children_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(RunFailed, match="did not end within"):
        run_python(WITH_CHILD.format(path=str(pid_file)) + "child.wait()", timeout=3.0)
    assert not kill.is_running(int(pid_file.read_text()))


def test_a_child_left_behind_is_a_failure_and_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(RunFailed, match="1 of its processes were still there"):
        run_python(WITH_CHILD.format(path=str(pid_file)) + "import os; os._exit(0)")
    assert not kill.is_running(int(pid_file.read_text()))


def test_interrupting_the_wait_kills_the_program(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def interrupt() -> None:
        if pid_file.exists() and pid_file.read_text():
            raise KeyboardInterrupt

    code = WITH_CHILD.format(path=str(pid_file)) + "child.wait()"
    with pytest.raises(KeyboardInterrupt):
        run_program([sys.executable, "-c", code], ROOT, 30.0, interrupt)
    assert not kill.is_running(int(pid_file.read_text()))


# --- why


def test_each_program_is_explained_once() -> None:
    chosen = one_a_program(CASES)
    assert [case.script for case in chosen] == list(dict.fromkeys(case.script for case in CASES))


def test_a_program_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    case = Case("sum/small", "", "sum_squares.py", ("--n", "10000"))
    summary, page = explain(case, tmp_path / "why", 100.0, lambda: None)
    assert "breakeven why  examples/sum_squares.py --n 10000 --mode parallel" in summary
    assert page == tmp_path / "why" / "sum-small.html"
    assert page.read_text().startswith("<!doctype html>")


def test_a_program_that_fails_is_not_explained(tmp_path: Path) -> None:
    case = Case("sum/wrong", "", "sum_squares.py", ("--no-such-option",))
    with pytest.raises(RunFailed, match="no-such-option"):
        explain(case, tmp_path / "why", 100.0, lambda: None)


# --- the script


def demo(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_list_names_every_case() -> None:
    with demo("--list") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [line.split()[0] for line in output.splitlines()] == [case.name for case in CASES]


def test_whole_demo_of_one_program(tmp_path: Path) -> None:
    arguments = ("--only", "array_sum/queue", "--variants", "serial,stdlib", "--rounds", "2", "--out", str(tmp_path))
    with demo(*arguments, "--json") as process:
        output, complaints = process.communicate(timeout=110)
    assert process.returncode == 0, complaints
    report = json.loads(output)
    (case,) = report["cases"]
    assert report["rounds"] == 2
    assert case["variants"]["serial"]["result"] == case["variants"]["stdlib"]["result"]
    assert report == json.loads((tmp_path / "demo.json").read_text())
    assert "array_sum/queue" in words((tmp_path / "demo.svg").read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    with demo("--only", "io_tasks", "--variants", "serial", "--out", str(tmp_path)) as process:
        # The demo gives its program a session of its own: wait for that child to be there.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        program: list[int] = []
        while process.poll() is None and not program:
            program = [pid for pid in map(int, children.read_text().split()) if os.getsid(pid) == pid]
            time.sleep(0.01)
        assert program, process.communicate()
        os.kill(process.pid, number)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints.rstrip().endswith("demo: interrupted; nothing was left running")
    assert session_members(program[0]) == []
