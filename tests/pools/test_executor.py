"""ProcessPoolExecutor: futures that concurrent.futures and asyncio accept, cancelling, shutting down, deaths."""

import asyncio
import concurrent.futures as futures
import functools
import os
import signal
import subprocess
import sys
import threading
import time

import breakeven
import pytest
from breakeven.executor import BrokenProcessPool, LostCall, ProcessPoolExecutor
from breakeven.pool import WorkerDied

from tests.pools import tasks
from tests.support import faults


@pytest.fixture
def executor(method):
    with ProcessPoolExecutor(2, breakeven.get_context(method)) as executor:
        yield executor


@pytest.fixture
def forked():
    with ProcessPoolExecutor(2, breakeven.get_context("fork")) as executor:
        yield executor


def test_is_an_executor(forked):
    assert isinstance(forked, futures.Executor)
    assert isinstance(forked.submit(tasks.square, 2), futures.Future)


def test_submit(executor):
    assert executor.submit(tasks.square, 7).result(60) == 49
    assert executor.submit(tasks.add, 1, b=2).result(60) == 3
    many = [executor.submit(tasks.add, i, 1) for i in range(2000)]
    assert [future.result(60) for future in many] == list(range(1, 2001))
    assert executor.submit(functools.partial(tasks.add, b=3), 1).result(60) == 4


def test_mixed_functions_and_arguments(forked):
    calls = []
    for i in range(300):
        calls.append((forked.submit(tasks.square, i), i * i))
        calls.append((forked.submit(tasks.add, i, b=i), 2 * i))
        calls.append((forked.submit(tasks.identity, {"i": [i]}), {"i": [i]}))
    for future, expected in calls:
        assert future.result(60) == expected


def test_exceptions(executor):
    future = executor.submit(tasks.raise_it, KeyError("k"))
    with pytest.raises(KeyError) as caught:
        future.result(60)
    assert "raise error" in str(caught.value.__cause__)
    assert isinstance(executor.submit(tasks.call_exit, 3).exception(60), SystemExit)
    assert executor.submit(tasks.square, 3).result(60) == 9


def test_what_cannot_be_pickled(forked):
    assert isinstance(forked.submit(tasks.identity, faults.Unpicklable()).exception(60), TypeError)
    assert isinstance(forked.submit(tasks.identity, faults.ErrorAtPickle()).exception(60), AttributeError)
    assert isinstance(forked.submit(tasks.identity, faults.ErrorAtUnpickle()).exception(60), RuntimeError)
    assert isinstance(forked.submit(tasks.give_unpicklable).exception(60), TypeError)
    assert "first second" in str(forked.submit(tasks.raise_unreadable_exception).exception(60))
    assert forked.submit(tasks.square, 3).result(60) == 9


def test_wait_as_completed_and_callbacks(forked, tmp_path):
    gates = [tmp_path / name for name in ("last", "first", "second")]
    pending = [forked.submit(tasks.pass_gate, str(gate)) for gate in gates]
    completed = futures.as_completed(pending, 60)
    for gate in (gates[1], gates[2], gates[0]):
        gate.touch()
        assert next(completed).result() == str(gate)
    done, not_done = futures.wait([forked.submit(tasks.nap, 0.05) for _ in range(4)], 60)
    assert len(done) == 4 and not not_done
    called = threading.Event()
    forked.submit(tasks.square, 3).add_done_callback(lambda future: called.set())
    assert called.wait(60)


def test_callbacks_may_use_the_executor(forked):
    again = []
    done = threading.Event()

    def more(future):
        again.append(forked.submit(tasks.add, future.result(), 1))
        done.set()

    forked.submit(tasks.square, 3).add_done_callback(more)
    assert done.wait(60) and again[0].result(60) == 10


def test_asyncio(forked):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(forked, tasks.square, i) for i in range(20)))

    assert asyncio.run(main()) == [i * i for i in range(20)]


def test_map(executor):
    assert list(executor.map(tasks.square, range(1000))) == [i * i for i in range(1000)]
    assert list(executor.map(tasks.add, [1, 2], [3, 4])) == [4, 6]
    assert list(executor.map(tasks.add, range(100), range(100), chunksize=7)) == [2 * i for i in range(100)]
    assert list(executor.map(tasks.square, [])) == []


def test_map_begins_at_once(forked, tmp_path):
    results = forked.map(tasks.record, [(str(tmp_path / "ran"), i, 0) for i in range(100)])
    deadline = time.monotonic() + 60
    while len((tmp_path / "ran").read_text().split() if (tmp_path / "ran").exists() else ()) < 100:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert list(results) == list(range(100))


def test_map_with_timeout_and_exception(forked, tmp_path):
    gate = tmp_path / "gate"
    results = forked.map(tasks.pass_gate, [str(gate)], timeout=0.2)
    with pytest.raises(futures.TimeoutError):
        next(results)
    gate.touch()
    assert list(forked.map(tasks.pass_gate, [str(gate)] * 2, timeout=60)) == [str(gate)] * 2
    results = forked.map(tasks.Failing(2), range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError):
        next(results)
    assert list(results) == []
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        forked.map(tasks.square, [1], chunksize=0)


def test_map_that_is_dropped_is_not_run_to_its_end(forked, tmp_path):
    results = forked.map(tasks.record, [(str(tmp_path / "ran"), i, 0.01) for i in range(1000)])
    assert next(results) == 0
    results.close()
    assert forked.submit(tasks.square, 2).result(60) == 4
    assert len((tmp_path / "ran").read_text().split()) < 500


def test_cancel(forked, tmp_path):
    gate = tmp_path / "gate"
    slow = [forked.submit(tasks.pass_gate, str(gate)) for _ in range(12)]
    cancelled = [future.cancel() for future in slow]
    gate.touch()
    assert not any(cancelled[:2]) and all(cancelled[-5:])
    for future, gone in zip(slow, cancelled, strict=True):
        if gone:
            with pytest.raises(futures.CancelledError):
                future.result(60)
        else:
            assert future.result(60) == str(gate)
    assert forked.submit(tasks.square, 2).result(60) == 4


def test_shutdown(method):
    executor = ProcessPoolExecutor(2, breakeven.get_context(method))
    pending = [executor.submit(tasks.nap, 0.02) for _ in range(10)]
    executor.shutdown()
    assert all(future.done() for future in pending)
    for call in (lambda: executor.submit(tasks.square, 1), lambda: executor.map(tasks.square, [1])):
        with pytest.raises(RuntimeError, match="after shutdown"):
            call()
    executor.shutdown()


def test_shutdown_without_waiting():
    executor = ProcessPoolExecutor(2, breakeven.get_context("fork"))
    pending = [executor.submit(tasks.nap, 0.05) for _ in range(6)]
    executor.shutdown(wait=False)
    assert [future.result(60) for future in pending] == [0.05] * 6
    executor.shutdown()


def test_shutdown_that_cancels():
    context = breakeven.get_context("fork")
    gate = context.Event()
    executor = ProcessPoolExecutor(2, context, tasks.set_mark, (gate,))
    pending = [executor.submit(tasks.pass_mark) for _ in range(20)]
    while not pending[0].running():
        time.sleep(0.001)
    executor.shutdown(wait=False, cancel_futures=True)
    gate.set()
    executor.shutdown()
    assert all(future.done() for future in pending)
    assert sum(future.cancelled() for future in pending) >= 10
    assert not pending[0].cancelled()


def test_unused_executor_starts_nothing():
    with ProcessPoolExecutor(2) as executor:
        assert executor._processes == {}


def test_dropped_executor_lets_its_calls_finish():
    future = ProcessPoolExecutor(1, breakeven.get_context("fork")).submit(tasks.nap, 0.1)
    assert future.result(60) == 0.1


@pytest.mark.parametrize("value,kind", [(0, ValueError), (-1, ValueError)])
def test_wrong_arguments(value, kind):
    with pytest.raises(kind):
        ProcessPoolExecutor(value)
    with pytest.raises(TypeError):
        ProcessPoolExecutor(1, initializer=5)
    with pytest.raises(TypeError):
        ProcessPoolExecutor(1, max_tasks_per_child=1.5)
    with pytest.raises(ValueError):
        ProcessPoolExecutor(1, max_tasks_per_child=0)


def test_initializer(executor):
    with ProcessPoolExecutor(2, executor._mp_context, tasks.set_mark, ("set",)) as other:
        assert set(other.map(tasks.get_mark, range(10))) == {"set"}


def test_failing_initializer(method):
    with ProcessPoolExecutor(2, breakeven.get_context(method), tasks.failing_initializer) as executor:
        future = executor.submit(tasks.square, 2)
        error = future.exception(60)
        assert isinstance(error, BrokenProcessPool) and isinstance(error.__cause__, KeyError)
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.square, 2)


def test_max_tasks_per_child():
    with ProcessPoolExecutor(1, breakeven.get_context("spawn"), max_tasks_per_child=2) as executor:
        pids = [executor.submit(tasks.pid).result(60) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_a_death_costs_one_call(executor):
    pending = [executor.submit(tasks.die_at, (i, 5)) for i in range(50)]
    for i, future in enumerate(pending):
        if i == 5:
            error = future.exception(60)
            assert isinstance(error, WorkerDied) and isinstance(error, BrokenProcessPool)
            assert type(error) is LostCall and error.signal == signal.SIGKILL
        else:
            assert future.result(60) == i
    assert executor.submit(tasks.square, 3).result(60) == 9


def test_workers_may_have_children(forked):
    assert not any(process.daemon for process in forked._processes.values())
    assert forked.submit(_run_a_child).result(60) == 0


def _run_a_child():
    process = breakeven.Process(target=tasks.square, args=(2,))
    process.start()
    process.join()
    return process.exitcode


PROGRAM = """
import os, sys
import breakeven

def task(x):
    os.write(1, b"%d " % x)

if __name__ == "__main__":
    executor = breakeven.ProcessPoolExecutor(2, breakeven.get_context(sys.argv[1]))
    for i in range(5):
        executor.submit(task, i)
"""


def test_interpreter_waits_for_what_was_submitted(method, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), method], capture_output=True, text=True, timeout=60
    )
    assert sorted(done.stdout.split()) == list("01234") and done.returncode == 0 and not done.stderr


GOES_ON = """
import sys
import breakeven
from multiprocessing import util

def task(x):
    return x * x

def body():
    executor = breakeven.ProcessPoolExecutor(2, breakeven.get_context(sys.argv[1]))
    futures = [executor.submit(task, i) for i in range(20)]
    for least in (None, 0, None):
        util._run_finalizers(least)
        futures.append(executor.submit(task, 20))
        futures.append(breakeven.ProcessPoolExecutor(1, breakeven.get_context(sys.argv[1])).submit(task, 20))
    util._run_finalizers()
    assert [future.result(60) for future in futures] == [i * i for i in range(20)] + [400] * 6

if __name__ == "__main__":
    if sys.argv[2] == "main":
        body()
    else:
        process = breakeven.get_context("fork").Process(target=body)
        process.start()
        process.join()
        sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("where", ["main", "child"])
def test_a_program_that_runs_finalizers_and_goes_on(method, where, tmp_path):
    """As with the standard library's, executors know of nothing; and they still end with the process."""
    (tmp_path / "program.py").write_text(GOES_ON)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), method, where], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_submitting_from_many_threads(forked):
    errors = []

    def use(n):
        try:
            pending = [forked.submit(tasks.add, n, i) for i in range(300)]
            assert [future.result(60) for future in pending] == [n + i for i in range(300)]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_pid_of_this_process_is_not_among_the_workers(forked):
    assert os.getpid() not in set(forked.map(tasks.pid, range(20)))
