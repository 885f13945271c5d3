"""`breakeven why` and `breakeven report` as a user types them: the program's own behaviour, and where reports go."""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from breakeven._why import machine
from breakeven._why.again import Again
from breakeven._why.command import BadCommand, Command

from tests.support import programs
from tests.why import reports

POOL = """
import multiprocessing as mp, sys

def work(x):
    return sum(range(x))

if __name__ == "__main__":
    with mp.get_context("fork").Pool(2) as pool:
        print(sum(pool.map(work, [20000] * 40)), sys.argv[1:])
    print("an error of the program's", file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder with the machine's charges in it, so that no test measures them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("COLUMNS", raising=False)
    machine._keep({"format": 1, "measured": time.time(), "busy": 0.0, "charges": dict(reports.CHARGES)})
    return tmp_path / "cache" / "breakeven"


@pytest.fixture
def script(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(POOL)
    return file


def why(*arguments, **keywords):
    return programs.python("-m", "breakeven", "why", *arguments, **keywords)


def report(*arguments, **keywords):
    return programs.python("-m", "breakeven", "report", *arguments, **keywords)


# ---------------------------------------------------------------------------------------------------------------------
# The program


def test_summary_comes_after_the_program_and_on_stderr(script):
    done = why(script, "--fast", "-m")
    plain = programs.python(script, "--fast", "-m")
    assert done.out == plain.out
    assert done.err.startswith(plain.err)
    summary = done.err[len(plain.err) :]
    assert "breakeven why  " in summary and "where the time went" in summary and "recording: " in summary
    assert done.code == 0


@pytest.mark.parametrize(("code", "expected"), [("sys.exit(3)", 3), ("1 / 0", 1), ("sys.exit('no')", 1)])
def test_the_exit_code_is_the_programs(code, expected):
    done = why("-q", "--no-html", "-c", f"import sys; {code}")
    plain = programs.python("-c", f"import sys; {code}")
    assert (done.code, done.err) == (expected, plain.err)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV"])
def test_a_signal_is_told_as_a_shell_does(name):
    done = why("--no-html", "-c", f"import os, signal; os.kill(os.getpid(), signal.{name})")
    assert done.code == 128 + getattr(signal, name)
    assert f"The program was ended by {name}." in done.err


def test_under_breakevens_own_transport(script, tmp_path):
    done = why("--run", "--no-html", "--json", tmp_path / "r.json", script)
    assert done.out == programs.python(script).out
    assert "under breakeven run" in done.err.replace("\n", " ")
    assert json.loads((tmp_path / "r.json").read_text())["program"]["transport"] == "breakeven"


def test_module_and_code(tmp_path):
    (tmp_path / "mod.py").write_text("import sys; print(__name__, sys.argv[1:])")
    assert why("-q", "--no-html", "-m", "mod", "-x", cwd=tmp_path).out == "__main__ ['-x']\n"
    assert why("-q", "--no-html", "-c", "import sys; print(sys.argv)", "a").out == "['-c', 'a']\n"


def test_commands_written_in_python(tmp_path):
    (tmp_path / "test_one.py").write_text("def test_one():\n    assert 1 + 1 == 2\n")
    done = why("--no-html", "--", "pytest", "-q", "-p", "no:cacheprovider", "test_one.py", cwd=tmp_path)
    assert "1 passed" in done.out, done.err
    assert "where the time went" in done.err
    assert done.code == 0


def test_standard_input_is_the_programs():
    assert why("-q", "--no-html", "-c", "print(input() + '!')", stdin="hello\n").out == "hello!\n"


# ---------------------------------------------------------------------------------------------------------------------
# Where the report goes


def test_a_page_is_kept_in_the_cache_and_its_path_told(script, cache):
    done = why(script)
    pages = list((cache / "reports").iterdir())
    assert [page.name.startswith("script-") and page.suffix for page in pages] == [".html"]
    assert f"report: {pages[0]}\n" in done.err
    assert pages[0].read_text().endswith("</html>\n")
    assert stat.S_IMODE((cache / "reports").stat().st_mode) == 0o700


def test_the_oldest_pages_go(script, cache):
    folder = cache / "reports"
    folder.mkdir(parents=True)
    for number in range(25):
        (folder / f"old-{number:02}.html").write_text("")
        os.utime(folder / f"old-{number:02}.html", (number, number))
    why("-q", "-c", "1")
    names = sorted(page.name for page in folder.iterdir())
    assert len(names) == 20
    assert "old-24.html" in names and "old-05.html" not in names


def test_every_output(script, tmp_path):
    done = why("--json", tmp_path / "r.json", f"--html={tmp_path}/r.html", "--trace", tmp_path / "t.json",
               "--save", tmp_path / "r.bin", "-q", script)  # fmt: skip
    assert (done.code, done.err) == (0, "an error of the program's\n")
    as_json = json.loads((tmp_path / "r.json").read_text())
    assert as_json["schema"] == 1
    assert as_json["program"]["argv"] == [str(script)]
    assert as_json["charges"] == reports.CHARGES
    assert len(as_json["processes"]) >= 3
    assert sum(entry["share"] for entry in as_json["causes"]) == pytest.approx(1)
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert {event["ph"] for event in events} >= {"M", "X", "C", "s", "f"}
    pids = {process["pid"] for process in as_json["processes"]}
    assert {event["pid"] for event in events} <= pids


def test_json_on_standard_output_comes_after_the_programs(script):
    done = why("-q", "--no-html", "--json", "-", script)
    first, as_json = done.out.splitlines()
    assert first.endswith("[]")
    assert json.loads(as_json)["program"]["exit_code"] == 0


def test_a_recording_is_shown_again(script, tmp_path):
    saved, first = tmp_path / "r.bin", tmp_path / "first.json"
    why("-q", "--no-html", "--save", saved, "--json", first, script)
    done = report(
        saved, "--json", tmp_path / "again.json", "--trace", tmp_path / "t.json", "--html", tmp_path / "r.html"
    )
    assert done.code == 0, done.err
    assert "where the time went" in done.err and f"report: {tmp_path}/r.html" in done.err
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(first.read_text())
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]


def test_a_report_is_shown_again(tmp_path):
    file = tmp_path / "r.json"
    file.write_text(json.dumps(reports.killed()))
    done = report(file, "--html", tmp_path / "r.html")
    assert (done.code, done.out) == (0, "")
    assert "The program was ended by SIGKILL." in done.err
    assert "SIGKILL" in (tmp_path / "r.html").read_text()
    assert report("-", stdin=file.read_text()).err.splitlines()[1:] == report(file).err.splitlines()[1:]


def test_a_report_has_no_trace(tmp_path):
    file = tmp_path / "r.json"
    file.write_text(json.dumps(reports.killed()))
    done = report(file, "--trace", tmp_path / "t.json")
    assert done.code == 2 and "needs the recording" in done.err


@pytest.mark.parametrize("content", [b"", b"{}", b"{", b"hello", b"brkevtrc", b"\x00" * 100, b"\xff\xfe{"])
def test_what_can_not_be_shown_is_told(tmp_path, content):
    file = tmp_path / "file"
    file.write_bytes(content)
    done = report(file)
    assert done.code == 2
    assert f"breakeven report: {file}: " in done.err and "Traceback" not in done.err


@pytest.mark.kill
def test_the_recording_of_a_killed_program_renders(tmp_path, seed):
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing as mp, os, signal, sys, threading, time\n"
        "def work(x):\n    time.sleep(0.001)\n    return bytes(x)\n"
        "if __name__ == '__main__':\n"
        "    wait = float(sys.argv[1])\n"
        "    threading.Timer(wait, lambda: os.killpg(os.getpgid(0), signal.SIGKILL)).start()\n"
        "    with mp.Pool(2) as pool:\n        pool.map(work, [1000] * 100000, chunksize=1)\n"
    )
    # In a group of its own: the supervisor is to outlive it.
    code = "import os, sys; os.setpgid(0, 0); sys.argv = sys.argv[1:]; exec(open(sys.argv[0]).read())"
    wait = 0.1 + seed % 1000 / 1000
    done = why("--no-html", "--json", tmp_path / "r.json", "--html", tmp_path / "r.html", "-c", code, script, str(wait))
    assert done.code == 128 + signal.SIGKILL, done.err
    assert "ended by SIGKILL" in done.err
    assert json.loads((tmp_path / "r.json").read_text())["program"]["exit_code"] == -signal.SIGKILL
    assert (tmp_path / "r.html").read_text().endswith("</html>\n")


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be carried out is told before the program runs


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "nothing to run"),
        (["--json"], "argument expected for --json"),
        (["--json="], "is empty"),
        (["--repeat", "0", "x.py"], "from 1 to 1000"),
        (["--repeat", "many", "x.py"], "from 1 to 1000"),
        (["--colour", "x.py"], "unknown option --colour"),
        (["--html", "/no/such/folder/r.html", "x.py"], "there is no folder /no/such/folder"),
        (["--html", "/", "x.py"], "that is a folder"),
        (["--", "no-such-command-at-all"], "no such command"),
    ],
)
def test_usage(arguments, reason):
    done = why(*arguments)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err and "Traceback" not in done.err


def test_help():
    for command in ("why", "report", "machine"):
        done = programs.python("-m", "breakeven", command, "--help")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"usage: breakeven {command}")


def test_a_program_that_is_not_there(tmp_path):
    done = why("--no-html", "-q", tmp_path / "none.py")
    plain = programs.python(tmp_path / "none.py")
    assert (done.code, done.err) == (plain.code, plain.err)


def test_an_output_that_fails_in_the_end_is_told(script, tmp_path):
    full = "/dev/full"
    done = why("-q", "--json", full, "--no-html", script)
    assert done.code == 1
    assert f"could not be written: --json {full}: No space left" in done.err


# ---------------------------------------------------------------------------------------------------------------------
# More than once


def test_repeated(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pathlib\n"
        "log = pathlib.Path(sys.argv[1])\n"
        "log.write_text((log.read_text() if log.exists() else '') + sys.stdin.read())\n"
        "print('said once')\n"
    )
    (tmp_path / "input").write_text("skipped\nread\n")
    with open(tmp_path / "input") as stdin:
        os.lseek(stdin.fileno(), len("skipped\n"), os.SEEK_SET)
        done = subprocess.run(
            [sys.executable, "-m", "breakeven", "why", "--repeat", "3", "--no-html", "--json", tmp_path / "r.json",
             script, tmp_path / "log"],
            stdin=stdin, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    assert done.stdout == "said once\n", done.stderr
    assert (tmp_path / "log").read_text() == "read\n" * 3
    found = json.loads((tmp_path / "r.json").read_text())
    times = sorted(run["elapsed"] for run in found["runs"])
    assert len(times) == 3 and found["elapsed"] == times[1]
    assert "3 runs: median " in done.stderr


def test_input_that_can_be_read_once_only_is_refused_before_the_first_run():
    done = why("--repeat", "2", "-c", "print('it ran')", stdin="text")
    assert done.code == 2
    assert "is a pipe" in done.err and "< FILE" in done.err
    assert "it ran" not in done.out


@pytest.fixture
def no_input():
    """Standard input of this process is /dev/null: pytest's own can be anything."""
    saved, null = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    yield
    os.dup2(saved, 0)
    os.close(saved)


def fixed(report, kind):
    return next(fix for fix in report["fixes"] if fix["kind"] == kind)


def test_verify_measures_what_needs_no_edit(no_input, tmp_path):
    report = reports.serialize()
    report["fixes"].append(reports.fix("limit_blas_threads", 3.0, 8.2, needs_edit=False))
    code = (
        "import os, sys, multiprocessing\n"
        "with open(sys.argv[1], 'a') as file:\n"
        "    print(os.environ.get('OPENBLAS_NUM_THREADS'), multiprocessing.Queue.__module__, file=file)\n"
    )
    Again(Command("-c", code, [str(tmp_path / "log")])).verify(report)
    assert fixed(report, "run")["measured_seconds"] > 0
    assert fixed(report, "limit_blas_threads")["measured_seconds"] > 0
    assert fixed(report, "initializer")["measured_seconds"] is None
    assert fixed(report, "serial")["measured_seconds"] is None
    assert (tmp_path / "log").read_text().splitlines() == ["None breakeven._install", "1 multiprocessing.context"]
    assert report["remarks"] == []


def test_a_changed_program_that_fails_is_no_measurement(no_input):
    report = reports.serialize()
    Again(Command("-c", "raise SystemExit(4)")).verify(report)
    assert fixed(report, "run")["measured_seconds"] is None
    assert "exit code 4 and not 0" in report["remarks"][0]


def test_a_changed_program_that_hangs_is_given_up(no_input, monkeypatch):
    monkeypatch.setattr("breakeven._why.again.AT_LEAST", 0.5)
    report = reports.serialize()
    report["elapsed"] = 0.01
    Again(Command("-c", "import subprocess; subprocess.run(['sleep', '1000'])")).verify(report)
    assert "did not end" in report["remarks"][0]


def test_nothing_to_verify(no_input):
    report = reports.healthy()
    Again(Command("-c", "1")).verify(report)
    assert "can be tried without an edit" in report["remarks"][0]
    report = reports.killed()
    Again(Command("-c", "1")).verify(report)
    assert "ended by a signal" in report["remarks"][-1]


def test_a_pipe_that_has_ended_is_no_input(no_input):
    reader, writer = os.pipe()
    os.dup2(reader, 0)
    os.close(reader)
    with pytest.raises(BadCommand, match="pipe"):
        Again(Command("-c", "1"))
    os.write(writer, b"x")
    os.close(writer)
    with pytest.raises(BadCommand, match="pipe"):
        Again(Command("-c", "1"))
    os.read(0, 1)
    Again(Command("-c", "1"))
