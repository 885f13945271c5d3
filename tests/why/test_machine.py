"""`breakeven machine`: what the machine charges, measured once and kept."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from breakeven._why import machine

from tests.support import programs

NAMES = {name for name, _, _ in machine.CHARGES}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "breakeven"


@pytest.fixture(scope="module")
def measured():
    """One real measurement, for all tests that need one."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", str(Path(machine.__file__).with_name("measure.py"))],
        capture_output=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


@pytest.fixture
def count_measurements(monkeypatch, measured):
    """`machine.measure` without the two seconds; returns the list that each call lengthens."""
    calls = []

    def measure():
        calls.append(1)
        found = {"format": 1, "measured": time.time(), **measured, "busy": 0.0}
        machine._keep(found)
        return found

    monkeypatch.setattr(machine, "measure", measure)
    return calls


def test_every_charge_is_measured(measured):
    assert set(measured["charges"]) == NAMES
    assert all(0 < value < 10 for value in measured["charges"].values()), measured
    assert 0 <= measured["busy"] < 1


def test_charges_of_the_report_are_these():
    source = Path(__file__).parents[2] / "crates" / "trace" / "src" / "recording.rs"
    struct = source.read_text().partition("pub struct Charges {")[2].partition("\n}")[0]
    assert [line.split()[1].rstrip(":") for line in struct.splitlines() if line.strip().startswith("pub ")] == [
        name for name, _, _ in machine.CHARGES
    ]


def test_measured_once(cache, count_measurements):
    first = machine.charges()
    assert machine.charges() == first
    assert len(count_measurements) == 1
    machine.charges(again=True)
    assert len(count_measurements) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[1, 2]",
        b"\xff\x00",
        b"[" * 100_000,
        b'{"format": 1}',
        b'{"format": 1, "busy": 0, "measured": 0, "charges": {"fork": 1}}',
        json.dumps({"format": 1, "busy": 0, "measured": 0, "charges": dict.fromkeys(NAMES, -1.0)}).encode(),
        json.dumps({"format": 1, "busy": 0, "measured": 0, "charges": dict.fromkeys(NAMES, "1")}).encode(),
        json.dumps({"format": 1, "busy": 0, "measured": 0, "charges": dict.fromkeys(NAMES, float("nan"))}).encode(),
        json.dumps({"format": 99, "busy": 0, "measured": 0, "charges": dict.fromkeys(NAMES, 1.0)}).encode(),
    ],
    ids=range(12),
)
def test_foreign_content_is_measured_again(cache, count_measurements, content):
    file = machine._file()
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert machine.kept() is None
    found = machine.charges()
    assert len(count_measurements) == 1
    assert machine.kept() == found


def test_a_folder_in_the_files_place(cache, count_measurements):
    machine._file().mkdir(parents=True)
    assert machine.charges()["charges"]
    assert list(cache.glob("machine-*.json?*")) == [], "the temporary file is gone"


def test_a_cache_that_cannot_be_made(cache, count_measurements, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert machine.charges()["charges"]


def test_what_was_measured_on_a_busy_machine_is_kept_for_minutes_only(cache, count_measurements, measured):
    machine._keep({"format": 1, "measured": time.time(), **measured, "busy": 0.5})
    assert machine.kept()["busy"] == 0.5
    machine._keep({"format": 1, "measured": time.time() - 3600, **measured, "busy": 0.5})
    assert machine.kept() is None


def test_files_of_earlier_starts_of_the_machine_go(cache, count_measurements):
    cache.mkdir(parents=True)
    old = cache / "machine-00000000-0000-0000-0000-000000000000-cpython-3.11.7.json"
    other_python = cache / machine._file().name.replace("cpython-", "cpython-9")
    for file in (old, other_python):
        file.write_text("{}")
    machine.charges()
    assert not old.exists()
    assert other_python.exists()


def test_relative_cache_folders_are_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.cache_folder() == tmp_path / ".cache" / "breakeven"


def test_a_measurement_that_fails_says_why(monkeypatch, tmp_path):
    (tmp_path / "measure.py").write_text("raise RuntimeError('no such machine')")
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    with pytest.raises(machine.MeasuringFailed, match="no such machine"):
        machine.measure()


def test_a_measurement_that_hangs_is_ended_with_its_children(monkeypatch, tmp_path):
    (tmp_path / "measure.py").write_text("import subprocess\nsubprocess.run(['sleep', '1000'])")
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    monkeypatch.setattr(machine, "_LIMIT", 0.5)
    with pytest.raises(machine.MeasuringFailed, match="did not end"):
        machine.measure()


@pytest.mark.slow
def test_command(cache):
    table = programs.python("-m", "breakeven", "machine", limit=100)
    assert table.code == 0, table.err
    assert {line.split()[0] for line in table.out.splitlines() if line[:1] > " "} == NAMES
    as_json = programs.python("-m", "breakeven", "machine", "--json")
    kept = json.loads(as_json.out)
    assert kept["charges"] == json.loads(next(cache.glob("machine-*.json")).read_text())["charges"]


def test_command_refuses_what_it_does_not_know():
    done = programs.python("-m", "breakeven", "machine", "--now")
    assert (done.code, done.out) == (2, "")
    assert "--now" in done.err


def processes_with(variable):
    """Living processes that have this in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes())
        except OSError:  # it has ended, or is not ours
            continue
    return found


@pytest.mark.kill
def test_interrupted(cache, seed):
    mark = f"BREAKEVEN_TEST_MARK={cache}"
    process = subprocess.Popen(
        [sys.executable, "-m", "breakeven", "machine", "--again"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "BREAKEVEN_TEST_MARK": str(cache)},
    )
    time.sleep(0.1 + seed % 1000 / 1000)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    # 0: it was through by then; the signal itself: the interpreter had not come to our code yet.
    assert process.returncode in (0, 130, -signal.SIGINT), (out, err)
    deadline = time.monotonic() + 30
    while processes_with(mark) and time.monotonic() < deadline:  # the stdlib's helpers see their pipes close
        time.sleep(0.01)
    assert processes_with(mark) == []
    assert list(cache.glob("machine-*.json?*")) == [], "no half-written file"
