"""Recording this very process: for the time of a block, and nothing of it is left after."""

import json
import multiprocessing
import multiprocessing.pool
import os
import threading

import pytest
from breakeven import _native
from breakeven._why import hooks
from breakeven._why.api import Recorder


def double(x):
    return 2 * x


def _seams():
    """What the hooks replace, as it is now."""
    return {
        "start": multiprocessing.Process.__mro__[1].start,
        "apply_async": multiprocessing.pool.Pool.apply_async,
        "worker": multiprocessing.pool.worker,
        "thread": threading.Thread._bootstrap_inner,
        "exit": os._exit,
        "dumps": multiprocessing.reduction.ForkingPickler.__dict__["dumps"],
        "loads": multiprocessing.reduction.ForkingPickler.__dict__["loads"],
    }


def test_a_block_is_recorded_and_the_standard_library_is_itself_again():
    before = _seams()
    threads = threading.active_count()
    with Recorder() as recorder:
        assert threading.active_count() == threads
        assert _seams().keys() == before.keys()
        assert all(_seams()[name] is not before[name] for name in before)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(double, range(10), chunksize=2) == [2 * n for n in range(10)]
    assert _seams() == before
    assert not hooks.is_active()
    recording = json.loads(_native.recording_to_json(recorder.recording))
    main, *others = recording["processes"]
    assert main["pid"] == os.getpid()
    workers = [process for process in others if process["method"] == "fork"]
    tasks = [record for worker in workers for record in worker["records"] if record["kind"] == "task"]
    assert [task["value"] for task in tasks] == [2] * 5
    # Children that were there before (the standard library's helpers, ours) are shown, and have nothing to tell.
    recorded = {process["name"] for process in others if process["records"]}
    assert recorded == {worker["name"] for worker in workers}, "no helper of the recorder's among them"


def test_blocks_follow_each_other_but_do_not_nest():
    for _ in range(2):
        with Recorder() as recorder, pytest.raises(RuntimeError, match="do not nest"):
            Recorder().start()
        assert recorder.recording
