"""`with breakeven.why() as report:` in a program and, the same, in a notebook's cell."""

import json
import time

import pytest
from breakeven._why import machine

from tests.support import programs
from tests.why import reports

PROGRAM = """
import json, multiprocessing, sys
import breakeven

def work(x):
    return sum(range(x))

if __name__ == "__main__":
    with breakeven.why() as report:
        inside = repr(report)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            total = sum(pool.map(work, [20000] * 40))
    assert total == 40 * sum(range(20000))
    assert "has not ended" in inside
    print(report.to_json())
    print("page", report._repr_html_()[:7], file=sys.stderr)
    print(report, file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    machine._keep({"format": 1, "measured": time.time(), "busy": 0.0, "charges": dict(reports.CHARGES)})


def test_a_block_is_explained(tmp_path):
    (tmp_path / "script.py").write_text(PROGRAM)
    done = programs.python(tmp_path / "script.py")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert len(report["processes"]) >= 3
    assert report["charges"] == reports.CHARGES
    assert report["program"]["exit_code"] == 0
    assert done.err.startswith("page <iframe")
    assert "where the time went" in done.err


def test_an_error_of_the_block_is_the_users(tmp_path):
    code = (
        "import breakeven\n"
        "try:\n"
        "    with breakeven.why() as report:\n"
        "        1 / 0\n"
        "except ZeroDivisionError:\n"
        "    print('its own', report.elapsed > 0)\n"
    )
    done = programs.python("-c", code)
    assert (done.code, done.out) == (0, "its own True\n"), done.err


def test_blocks_one_after_the_other(tmp_path):
    code = (
        "import breakeven\n"
        "for _ in range(2):\n"
        "    with breakeven.why() as report:\n"
        "        sum(range(1000))\n"
        "    print(len(report.processes))\n"
    )
    done = programs.python("-c", code)
    assert (done.code, done.out) == (0, "1\n1\n"), done.err


def test_blocks_do_not_nest():
    code = (
        "import breakeven\n"
        "with breakeven.why():\n"
        "    try:\n"
        "        with breakeven.why(): pass\n"
        "    except RuntimeError as error: print(error)\n"
    )
    done = programs.python("-c", code)
    assert done.code == 0 and "do not nest" in done.out, done.err


def test_a_block_is_entered_once():
    code = (
        "import breakeven\n"
        "block = breakeven.why()\n"
        "with block: pass\n"
        "try:\n"
        "    with block: pass\n"
        "except RuntimeError as error: print(error)\n"
    )
    done = programs.python("-c", code)
    assert done.code == 0 and "call why() again" in done.out, done.err
