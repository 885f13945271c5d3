"""The benchmark's own arithmetic and words: a wrong median or a lenient verdict would be believed for years."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import channels, memory, order, pools, report, runner, stats, targets, workloads

ROOT = Path(__file__).resolve().parents[2]


def result(samples: list[dict], **workload: dict) -> dict:
    """A result as runner.run makes it, around the given samples."""
    about = {
        "1p1c-int": {"title": "ints", "how": "how", "metric": "rate", "unit": "messages/s", "better": "higher"},
        "round-trip": {"title": "trips", "how": "how", "metric": "p50", "unit": "s", "better": "lower"},
    }
    return {
        "schema": 1,
        "machine": {
            "cpu": "a cpu",
            "cores": 2,
            "memory_mib": 1024,
            "kernel": "6",
            "python": "3.11.0",
            "implementation": "CPython",
            "executable": "python",
            "commit": "abc",
            "changed_files": 0,
            "date": "2026-01-01T00:00:00+00:00",
            "load_at_start": 0.1,
            "load_at_end": 1.0,
            "native": {"profile": "release"},
        },
        "options": {"rounds": 3, "peer_rounds": 3, "quick": False, "only": None, "command": ""},
        "rivals": {
            "stdlib": {"version": "Python 3.11", "note": ""},
            "breakeven": {"version": "0.1", "note": ""},
            "zeroq": {"missing": "ModuleNotFoundError: No module named 'zeroq'", "note": "bytes only"},
        },
        "workloads": about | workload,
        "samples": samples,
        "seconds": 60.0,
    }


def sample(workload: str, rival: str, number: int, **metrics: float) -> dict:
    return {"workload": workload, "rival": rival, "round": number, "metrics": metrics, "seconds": 0.1}


class TestStats:
    def test_summary_has_median_and_range(self):
        assert stats.summarise([3.0, 1.0, 2.0]) == stats.Summary(2.0, 1.0, 3.0, 3)
        assert stats.summarise([4.0, 1.0, 2.0, 3.0]).median == 2.5
        assert stats.summarise([]) is None

    def test_spread_is_half_the_range_over_the_median(self):
        assert stats.Summary(2.0, 1.0, 3.0, 3).spread == 0.5

    def test_ratio_above_one_is_better_whichever_way_the_metric_runs(self):
        assert stats.paired_ratios({0: 10.0}, {0: 5.0}, "higher") == [2.0]
        assert stats.paired_ratios({0: 10.0}, {0: 5.0}, "lower") == [0.5]
        with pytest.raises(ValueError, match="better is"):
            stats.paired_ratios({}, {}, "bigger")

    def test_ratios_pair_rounds_and_skip_those_that_one_side_lacks(self):
        assert stats.paired_ratios({0: 10.0, 1: 30.0, 2: 8.0}, {1: 10.0, 2: 8.0, 3: 1.0}, "higher") == [3.0, 1.0]

    def test_percentile_is_a_value_that_was_measured(self):
        assert stats.percentile([5, 1, 4, 2, 3], 0.5) == 3
        assert stats.percentile([1, 2], 1.0) == 2


class TestOrder:
    def test_every_rival_once_a_round_in_turned_order(self):
        got = list(order.interleave(["a", "b", "c"], {"a": 2, "b": 2, "c": 2}))
        assert got == [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a")]

    def test_peers_drop_out_after_their_rounds(self):
        got = list(order.interleave(["a", "peer"], {"a": 3, "peer": 1}))
        assert got == [(0, "a"), (0, "peer"), (1, "a"), (2, "a")]
        assert list(order.interleave([], {})) == []


class TestVerdicts:
    def figures(self, *samples: dict) -> targets.Figures:
        return targets.Figures(result(list(samples)))

    @pytest.mark.parametrize(("ours", "met"), [(119.0, False), (120.0, True), (121.0, True)])
    def test_times_stdlib(self, ours, met):
        figures = self.figures(
            sample("1p1c-int", "breakeven", 0, rate=ours), sample("1p1c-int", "stdlib", 0, rate=10.0)
        )
        assert targets.times_stdlib("1p1c-int", 12)(figures).met is met

    def test_times_stdlib_of_a_time_is_its_inverse(self):
        figures = self.figures(
            sample("round-trip", "breakeven", 0, p50=1.0), sample("round-trip", "stdlib", 0, p50=20.0)
        )
        verdict = targets.times_stdlib("round-trip", 20)(figures)
        assert verdict.met is True
        assert verdict.measured == "20 x stdlib"

    def test_one_peer_ahead_is_a_miss_and_is_named(self):
        figures = self.figures(
            sample("1p1c-int", "breakeven", 0, rate=10.0),
            sample("1p1c-int", "stdlib", 0, rate=1.0),
            sample("1p1c-int", "zeroq", 0, rate=11.0),
        )
        verdict = targets.ahead_of_peers("1p1c-int")(figures)
        assert verdict.met is False
        assert "zeroq" in verdict.measured

    def test_limits_include_their_bound(self):
        figures = self.figures(sample("round-trip", "breakeven", 0, p50=6e-6))
        assert targets.at_most("round-trip", 6e-6, targets.microseconds)(figures) == targets.Verdict(True, "6 us")
        assert targets.at_most("round-trip", 5.9e-6, targets.microseconds)(figures).met is False
        assert targets.at_least("round-trip", 6e-6, targets.microseconds)(figures).met is True

    def test_nothing_measured_is_neither_met_nor_missed(self):
        empty = self.figures()
        for target in targets.TARGETS:
            assert target.rule(empty) == targets.NOT_MEASURED, target
        only_theirs = self.figures(sample("1p1c-int", "stdlib", 0, rate=1.0), sample("1p1c-int", "zeroq", 0, rate=1.0))
        assert targets.ahead_of_peers("1p1c-int")(only_theirs).met is None

    def test_a_failed_run_is_no_figure(self):
        figures = self.figures(
            {"workload": "1p1c-int", "rival": "breakeven", "round": 0, "error": "boom", "seconds": 1.0}
        )
        assert figures.by_round("1p1c-int", "breakeven") == {}
        assert figures.failures == {("1p1c-int", "breakeven"): ["boom"]}

    def test_targets_name_workloads_and_metrics_that_exist(self):
        """Each rule, given a result in which every workload has every metric, comes to a verdict."""
        about = {
            work.id: {"title": work.title, "how": "", "metric": work.metric, "unit": work.unit, "better": work.better}
            for work in workloads.WORKLOADS.values()
        }
        extra = {"sender_faults": 0.0, "receiver_faults": 0.0, "peak_above_idle": 1.0}
        samples = [
            sample(work.id, rival, 0, **{work.metric: 1.0}, **extra)
            for work in workloads.WORKLOADS.values()
            for rival in ("breakeven", "stdlib")
        ]
        figures = targets.Figures(result(samples, **about))
        assert [target for target in targets.TARGETS if target.rule(figures).met is None] == []


class TestReport:
    def page(self) -> str:
        return report.render(
            result(
                [
                    sample("1p1c-int", "stdlib", 0, rate=100_000.0),
                    sample("1p1c-int", "breakeven", 0, rate=3_000_000.0),
                    sample("round-trip", "stdlib", 0, p50=8e-6, p99=9e-6),
                    sample("round-trip", "breakeven", 0, p50=16e-6, p99=20e-6),
                    {
                        "workload": "1p1c-int",
                        "rival": "zooparallel",
                        "round": 0,
                        "error": "Traceback\nOSError: no | room",
                        "seconds": 1,
                    },
                ]
            )
        )

    def test_reach_table(self):
        page = self.page()
        assert "| int, 1 to 1 | >= 12 x stdlib | 30 x stdlib | met |" in page
        assert "| round trip p50, both running | <= 6 us | 16 us | **missed** |" in page
        assert "| one apply, p50 | <= 70 us | not measured | not measured |" in page

    def test_losses_are_written_down(self):
        page = self.page()
        assert "- trips: 2 x behind stdlib" in page
        assert "0.5 x (0.5 to 0.5), **a loss**" in page

    def test_machine_command_and_absentees(self):
        page = self.page()
        for text in ("a cpu", "2 cores", "CPython 3.11.0", "abc", "2026-01-01", "profile release", "`make bench`"):
            assert text in page
        assert "left out: ModuleNotFoundError" in page

    def test_what_else_ran_is_told(self):
        assert "used 0.2 cores during the median sample, 1.9 during the worst" in report.disturbance(
            [{"others": 0.1}, {"others": 1.9}, {"others": 0.2}]
        )
        assert "not recorded" in report.disturbance([{}])

    def test_failures_are_named_and_do_not_break_the_table(self):
        assert "| 1p1c-int | zooparallel | 1 | OSError: no \\| room |" in self.page()

    @pytest.mark.parametrize(
        ("value", "unit", "text"),
        [(4.8e-6, "s", "4.80 us"), (0.139, "s", "139 ms"), (46e-9, "s", "46.0 ns"), (3.2e6, "messages/s", "3.20 M/s"),
         (54_000.0, "tasks/s", "54.0 k/s"), (208e6, "bytes", "208 MB"), (23.4, "x", "23.4 x"), (0.0, "s", "0.00 ns")],
    )  # fmt: skip
    def test_quantities(self, value, unit, text):
        assert report.quantity(value, unit) == text

    def test_published_page_is_the_one_its_data_makes(self):
        """docs/benchmarks.md is generated: a number typed into it would show here."""
        data = ROOT / "docs" / "benchmarks.json"
        if not data.exists():
            pytest.skip("nothing has been published yet")
        assert data.with_suffix(".md").read_text() == report.render(json.loads(data.read_text()))


class TestRegistry:
    def test_workloads_name_rivals_that_exist(self):
        for work in workloads.WORKLOADS.values():
            assert set(work.rivals) <= work.registry().keys(), work.id
            assert set(work.n_for) <= work.registry().keys(), work.id
            # What importing breakeven costs beyond multiprocessing has no other side.
            wanted = {"breakeven"} if work.id == "start-import" else {"stdlib", "breakeven"}
            assert wanted <= set(work.rivals), work.id

    def test_both_registries_have_both_sides(self):
        for registry in (channels.CHANNELS, pools.POOLS):
            assert {"stdlib", "breakeven"} <= registry.keys()

    def test_only_and_quick(self):
        assert [work.id for work in runner.select_workloads("^round")] == ["round-trip", "round-trip-asleep"]
        assert len(runner.select_workloads(None)) == len(workloads.WORKLOADS)
        work = workloads.WORKLOADS["1p1c-int"]
        assert work.size("breakeven", quick=True) == work.quick
        assert work.size("breakeven", quick=False) == work.n


class TestRunner:
    def test_a_sample_that_hangs_is_killed_with_its_children_and_recorded(self, monkeypatch, tmp_path):
        """What the sample has started goes with it: the child's pid is gone when run_sample returns."""
        note = tmp_path / "pid"
        code = (
            "import subprocess, sys, time; child = subprocess.Popen(['sleep', '600']); "
            f"open({str(note)!r}, 'w').write(str(child.pid)); time.sleep(600)"
        )
        popen = subprocess.Popen
        monkeypatch.setattr(
            runner.subprocess, "Popen", lambda command, **rest: popen([sys.executable, "-c", code], **rest)
        )
        work = workloads.WORKLOADS["1p1c-int"]
        object.__setattr__(work, "limit", 1.5)
        try:
            answer = runner.run_sample(work, "stdlib", quick=True)
        finally:
            object.__setattr__(work, "limit", 60.0)
        assert "still running after 1.5 s" in answer["error"]
        state = Path(f"/proc/{note.read_text()}/stat")

        def gone():
            # Killed, but perhaps still on its way out, or waiting to be reaped by whoever inherits it.
            try:
                return state.read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                return True

        deadline = time.monotonic() + 30
        while not gone() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert gone()

    def test_a_sample_that_dies_is_recorded_with_what_it_said(self, monkeypatch):
        popen = subprocess.Popen
        code = "import os; print('last words', flush=True); os.abort()"
        monkeypatch.setattr(
            runner.subprocess, "Popen", lambda command, **rest: popen([sys.executable, "-c", code], **rest)
        )
        answer = runner.run_sample(workloads.WORKLOADS["1p1c-int"], "stdlib", quick=True)
        assert "status -6" in answer["error"]
        assert "last words" in answer["error"]

    def test_memory_counts_a_private_page_once_and_finds_shared_files(self):
        watch = memory.Watch(os.getpid())
        before = watch.sample()
        size = 64 << 20
        handle = os.memfd_create("counted")
        try:
            os.posix_fallocate(handle, 0, size)  # nobody maps it: PSS cannot see it
            # Half: the rest may shrink meanwhile, as other processes come to share the same libraries.
            assert watch.sample() - before >= size // 2
        finally:
            os.close(handle)

    def test_smoke(self, tmp_path):
        """The whole command on the standard library alone: result, report, exit status."""
        out = tmp_path / "result.json"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "bench",
                "--quick",
                "--rivals",
                "stdlib",
                "--only",
                "^1p1c-int$|^pool-apply$",
                "--json",
                str(out),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        data = json.loads(out.read_text())
        assert {s["workload"]: list(s["metrics"]) for s in data["samples"]} == {
            "1p1c-int": ["rate", "n"],
            "pool-apply": ["p50", "p99", "n"],
        }
        page = report.render(data)
        assert "good for seeing that it runs, not for figures" in page
        assert "breakeven was not measured in this run." in page

    def test_publishing_a_part_is_refused(self):
        done = subprocess.run(
            [sys.executable, "-m", "bench", "--publish", "--quick"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert "--publish is the whole run" in done.stderr
