"""The runner of CPython's tests is a judge: here it is judged, on test modules whose verdict is known."""

import sys
import textwrap
from pathlib import Path

import pytest

from tests.upstream import expected, plan, runner, verdict
from tests.upstream.plan import Cell, Interpreter
from tests.upstream.runner import Batch, Outcome

SAMPLE = """
    import os, signal, time, unittest, subprocess, sys

    class Good(unittest.TestCase):
        def test_passes(self): pass
        def test_fails(self): self.fail("on purpose")
        def test_fails_in_a_subtest(self):
            with self.subTest(1): self.fail("inside")
        def test_skips(self): self.skipTest("not today")
        @unittest.skip("never")
        def test_skipped_by_a_decorator(self): pass

    class Hanging(unittest.TestCase):
        def test_1_passes(self): pass
        def test_2_hangs_in_a_child(self):
            pid = os.fork()
            if pid == 0:
                def where_the_child_hangs(): time.sleep(1000)
                where_the_child_hangs()
            def where_the_parent_hangs(): os.waitpid(pid, 0)
            where_the_parent_hangs()
        def test_3_passes(self): pass

    class Crashing(unittest.TestCase):
        def test_1_passes(self): pass
        def test_2_is_killed(self): os.kill(os.getpid(), signal.SIGKILL)
        def test_3_exits(self): os._exit(0)
        def test_4_passes(self): pass

    class Unready(unittest.TestCase):
        @classmethod
        def setUpClass(cls): raise OSError("no ground to stand on")
        def test_is_not_run(self): pass

    class Untidy(unittest.TestCase):
        @classmethod
        def tearDownClass(cls): raise OSError("it fell down")
        def test_passes(self): pass

    class Leaving(unittest.TestCase):
        def test_leaves_a_process(self):
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
"""


@pytest.fixture
def cell(tmp_path):
    package = tmp_path / "sample_tests"
    package.mkdir()
    (package / "test_sample.py").write_text(textwrap.dedent(SAMPLE))
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    modules = {"sample": ("test.test_sample",)}
    return Cell(Interpreter(sys.executable, version, version, modules, str(package), ()), "module")


def names_of(cell, which):
    names, problems = runner.list_tests(cell, "plain", "sample")
    assert problems == []
    return tuple(name for name in names if f"::{which}." in name)


def run(cell, which, limit=60.0):
    outcomes, remarks = runner.run(cell, "plain", Batch("sample", names_of(cell, which)), limit)
    return {name.partition(".")[2]: outcome for name, outcome in outcomes.items()}, remarks


def test_every_kind_of_end_is_told(cell):
    outcomes, _ = run(cell, "Good")
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_fails_in_a_subtest": "failed",
        "test_skips": "skipped",
        "test_skipped_by_a_decorator": "skipped",
    }
    assert "on purpose" in outcomes["test_fails"].detail
    assert "not today" in outcomes["test_skips"].detail


def test_a_hang_is_ended_with_the_stacks_of_all_processes_and_the_rest_runs(cell):
    outcomes, remarks = run(cell, "Hanging", limit=5.0)
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "test_1_passes": "passed",
        "test_2_hangs_in_a_child": "hung",
        "test_3_passes": "passed",
    }
    assert "where_the_parent_hangs" in outcomes["test_2_hangs_in_a_child"].detail
    assert "where_the_child_hangs" in outcomes["test_2_hangs_in_a_child"].detail


def test_a_crash_is_the_running_tests_and_the_rest_runs(cell):
    outcomes, _ = run(cell, "Crashing")
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "test_1_passes": "passed",
        "test_2_is_killed": "crashed",
        "test_3_exits": "crashed",
        "test_4_passes": "passed",
    }


def test_tests_whose_class_cannot_be_set_up_fail(cell):
    outcomes, _ = run(cell, "Unready")
    assert outcomes["test_is_not_run"].status == "failed"
    assert "no ground to stand on" in outcomes["test_is_not_run"].detail


def test_a_class_that_cannot_be_torn_down_fails(cell):
    outcomes, _ = runner.run(cell, "plain", Batch("sample", names_of(cell, "Untidy")))
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.status == "failed"}
    assert len(failed) == 1 and "(around)" in next(iter(failed))
    assert "it fell down" in next(iter(failed.values())).detail


def test_processes_left_behind_are_told_and_ended(cell):
    _, remarks = run(cell, "Leaving")
    assert any("processes were left behind" in remark and "time.sleep(1000)" in remark for remark in remarks)


def test_modules_do_not_share_a_process():
    modules = {f"futures::C{n}.test": "one" if n < 20 else "other" for n in range(25)}
    found = runner.batches("futures", modules)
    assert [name for batch in found for name in batch.names] == list(modules)
    assert all(len({modules[name] for name in batch.names}) == 1 for batch in found)
    assert len(found) == 3


def test_what_cannot_be_listed_is_an_error(cell):
    cell.interpreter.modules["sample"] = ("test.test_of_nothing",)
    with pytest.raises(RuntimeError, match="sample cannot be listed"):
        runner.list_tests(cell, "plain", "sample")


MODULE_WAY = """
    import unittest
    import multiprocessing.connection
    import multiprocessing as mp
    import concurrent.futures
    from multiprocessing import pool
    from multiprocessing.queues import Queue
    from concurrent import futures
    from concurrent.futures import ProcessPoolExecutor, wait, Future
    from concurrent.futures.process import BrokenProcessPool

    class Names(unittest.TestCase):
        def test_ours(self):
            import breakeven, breakeven.pool, breakeven.queues
            self.assertIs(multiprocessing, breakeven)
            self.assertIs(mp, breakeven)
            self.assertIs(pool, breakeven.pool)
            self.assertIs(Queue, breakeven.queues.Queue)
            for executor in (futures.ProcessPoolExecutor, ProcessPoolExecutor, concurrent.futures.ProcessPoolExecutor):
                self.assertIs(executor, breakeven.ProcessPoolExecutor)

        def test_the_rest_is_the_standard_librarys(self):
            import importlib
            standard = importlib.import_module("concurrent.futures")
            self.assertIs(Future, standard.Future)
            self.assertIs(futures.wait, standard.wait)
            self.assertIs(futures.process.BrokenProcessPool, BrokenProcessPool)
            self.assertEqual(BrokenProcessPool.__module__, "concurrent.futures.process")
"""

INSTALL_WAY = """
    import subprocess, sys, unittest
    import multiprocessing

    CHECK = "import multiprocessing, breakeven; assert isinstance(multiprocessing.Queue(), breakeven.queues.Queue)"

    class Names(unittest.TestCase):
        def test_here(self):
            exec(CHECK)

        def test_in_a_program_that_a_test_starts(self):
            subprocess.run([sys.executable, "-c", CHECK], check=True)

        def test_in_a_child(self):
            process = multiprocessing.get_context("spawn").Process(target=exec, args=(CHECK,))
            process.start()
            process.join()
            self.assertEqual(process.exitcode, 0)
"""


@pytest.mark.parametrize("way, text", [("module", MODULE_WAY), ("install", INSTALL_WAY), ("run", INSTALL_WAY)])
def test_the_ways_in(cell, way, text):
    (Path(cell.interpreter.extra_tests) / "upstream_sample.py").write_text(textwrap.dedent(text))
    cell.interpreter.modules["sample"] = ("test.upstream_sample",)
    outcomes, _ = runner.run(cell, way, Batch("sample", tuple(runner.list_tests(cell, way, "sample")[0])))
    bad = {name: outcome.detail for name, outcome in outcomes.items() if outcome.status != "passed"}
    assert bad == {}
    assert len(outcomes) >= 2


PASSED, FAILED, SKIPPED = Outcome("passed"), Outcome("failed"), Outcome("skipped")
ENTRY = expected.Entry(r"fork::Listed\..*", "for this test")
SOMETIMES = expected.Entry(r"fork::Sometimes\..*", "for this test", sometimes=True)


def judge(outcomes, plain=None):
    def entry_for(name):
        return next((entry for entry in (ENTRY, SOMETIMES) if entry.covers(name, "run", "3.11")), None)

    return verdict.judge(outcomes, entry_for, plain or {}, [])


def test_what_plain_cpython_passes_is_lost():
    assert list(judge({"a": FAILED}, {"a": PASSED}).lost) == ["a"]
    assert list(judge({"a": SKIPPED}, {"a": PASSED}).lost) == ["a"]
    assert not judge({"a": FAILED}, {"a": PASSED}).good


def test_what_plain_cpython_does_not_pass_is_not_counted():
    result = judge({"a": FAILED, "b": SKIPPED, "c": PASSED}, {"a": FAILED, "b": SKIPPED})
    assert (list(result.plain_too), result.skipped, result.passed, result.good) == (["a"], 1, 1, True)


def test_what_is_no_test_of_plain_cpythons_is_lost():
    assert list(judge({"fork::(end).x": FAILED}).lost) == ["fork::(end).x"]


def test_what_is_expected_is_no_loss_and_stale_when_it_passes():
    assert judge({"fork::Listed.a": FAILED}).good
    stale = judge({"fork::Listed.a": PASSED})
    assert list(stale.stale) == ["fork::Listed.a"]
    assert not stale.good
    assert judge({"fork::Sometimes.a": FAILED}).good and judge({"fork::Sometimes.a": PASSED}).good


def test_the_list_is_short_and_each_entry_has_its_reason():
    entries = expected.EXPECTED
    assert len({entry.method for entry in entries}) <= 10
    page = (runner.ROOT / "docs" / "compatibility.md").read_text()
    for entry in entries:
        assert len(entry.reason) > 20
        assert entry.method in page, f"docs/compatibility.md does not speak of {entry.method}"


@pytest.mark.parametrize(
    "name, method",
    [
        ("fork::TestWait.test_wait", "fork"),
        ("main::SpawnCmdLineTest.test_basic_script", None),
        ("futures::ProcessPoolForkserverWaitTest.test_timeout", "forkserver"),
        ("futures::ProcessPoolForkWaitTest.test_timeout", "fork"),
        ("futures::ThreadPoolWaitTests.test_timeout", None),
    ],
)
def test_start_method_of_a_test(name, method):
    assert plan.start_method(name) == method


def test_every_way_and_suite_is_met_by_the_everyday_runs():
    rows = [row for rows in plan.EVERYDAY.values() for row in rows]
    assert {way for way, _, _ in rows} == set(plan.WAYS)
    assert {way for way, _, _ in plan.EVERYDAY["3.11"]} == set(plan.WAYS)
