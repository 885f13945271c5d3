"""What the executors have beyond the standard library of this interpreter, and what programs look at inside of them."""

import asyncio
import concurrent.futures as futures
import gc
import itertools
import os
import signal
import threading
import time
import weakref

import breakeven
import pytest
from breakeven.executor import BrokenProcessPool, LostCall, ProcessPoolExecutor, TaskTimeout, ThreadPoolExecutor
from breakeven.pool import WorkerDied

from tests.pools import tasks

LONG = 3600


@pytest.fixture
def forked():
    with ProcessPoolExecutor(2, breakeven.get_context("fork")) as executor:
        yield executor


def takes_timeout(timeout=None):
    return timeout


# --- time limits ---


def test_a_time_limit_stops_the_task(method):
    with ProcessPoolExecutor(2, breakeven.get_context(method)) as executor:
        others = [executor.submit(tasks.square, i) for i in range(100)]
        future = executor.with_options(timeout=0.2).submit(tasks.nap, LONG)
        error = future.exception(60)
        assert isinstance(error, TaskTimeout) and isinstance(error, TimeoutError)
        assert isinstance(error, futures.TimeoutError)
        assert (error.task, error.limit) == (f"nap({LONG})", 0.2)
        assert "0.2 s" in str(error) and f"nap({LONG})" in str(error)
        with pytest.raises(ProcessLookupError):
            os.kill(error.pid, 0)
        assert [future.result(60) for future in others] == [i * i for i in range(100)]
        assert len(executor._processes) == 2


def test_a_time_limit_starts_with_the_task(forked):
    """Waiting for a worker does not count."""
    limited = forked.with_options(timeout=30)
    pending = [limited.submit(tasks.nap, 0.02) for _ in range(40)]
    assert [future.result(60) for future in pending] == [0.02] * 40


def test_the_functions_own_timeout_is_its_own(forked):
    assert forked.with_options(timeout=60).submit(takes_timeout, timeout=7).result(60) == 7


def test_a_task_that_has_a_limit_leaves_others_alone(forked):
    """Calls that travel with the one that is stopped are run, each once."""
    limited = forked.with_options(timeout=2)  # the quick ones stay far below it, whatever else the machine does
    warm = [limited.submit(tasks.pid_and_nap, 0) for _ in range(2000)]
    mixed = [limited.submit(tasks.nap, LONG if i in (300, 301) else 0) for i in range(1000)]
    assert all(future.result(60) for future in warm)
    for i, future in enumerate(mixed):
        if i in (300, 301):
            assert isinstance(future.exception(60), TaskTimeout)
        else:
            assert future.result(60) == 0


def test_only_a_cancelled_call_is_unwanted(forked, tmp_path):
    """What has finished is not: its worker may be between it and another call, and would be stopped there."""
    finished = forked.submit(tasks.square, 3)
    assert finished.result(60) == 9 and not finished.unwanted()
    cancelled = forked.submit(announce, tmp_path / "runs", LONG)
    _until_running(tmp_path / "runs")
    assert not cancelled.unwanted()
    assert cancelled.cancel(running=True) and cancelled.unwanted()


@pytest.mark.parametrize("seconds", [0.01, 0.5, 3])
def test_time_limits_of_any_length(forked, seconds):
    assert isinstance(forked.with_options(timeout=seconds).submit(tasks.nap, LONG).exception(60), TaskTimeout)


def test_a_time_limit_in_map(forked):
    results = forked.with_options(timeout=2).map(tasks.nap, [0, 0.01, LONG, 0])
    assert [next(results), next(results)] == [0, 0.01]
    with pytest.raises(TaskTimeout, match="task 2"):
        next(results)


def test_views_share_the_executor(forked):
    view = forked.with_options(timeout=60)
    assert isinstance(view, futures.Executor)
    pids = {view.submit(tasks.pid).result(60), view.with_options(cancel_running=True).submit(tasks.pid).result(60)}
    assert pids <= set(forked._processes)
    with view:
        pass
    with pytest.raises(RuntimeError, match="after shutdown"):
        forked.submit(tasks.square, 1)


@pytest.mark.parametrize("timeout", [0, -1])
def test_time_limits_that_make_no_sense(forked, timeout):
    with pytest.raises(ValueError, match="timeout must be"):
        forked.with_options(timeout=timeout)


# --- cancelling what runs ---


def _until_running(path):
    while not path.exists():
        time.sleep(0.005)


def announce(path, seconds):
    path.touch()
    time.sleep(seconds)


def test_cancel_a_running_call(method, tmp_path):
    with ProcessPoolExecutor(1, breakeven.get_context(method)) as executor:
        future = executor.submit(announce, tmp_path / "runs", LONG)
        _until_running(tmp_path / "runs")
        called = []
        future.add_done_callback(called.append)
        assert future.running() and not future.cancel() and not future.done()
        assert future.cancel(running=True)
        assert future.cancelled() and called == [future] and future.cancel()
        with pytest.raises(futures.CancelledError):
            future.result(60)
        assert executor.submit(tasks.square, 3).result(60) == 9


def test_cancel_by_option_and_asyncio(forked, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        task = loop.run_in_executor(forked.with_options(cancel_running=True), announce, tmp_path / "runs", LONG)
        while not (tmp_path / "runs").exists():
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert list(forked.map(tasks.square, range(10))) == [i * i for i in range(10)]


def test_who_waits_learns_of_a_cancelled_call(forked, tmp_path):
    future = forked.submit(announce, tmp_path / "runs", LONG)
    _until_running(tmp_path / "runs")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(futures.wait([future]).done)),
        threading.Thread(target=lambda: found.append({*futures.as_completed([future])})),
    ]
    for thread in threads:
        thread.start()
    future.cancel(running=True)
    for thread in threads:
        thread.join()
    assert found == [{future}] * 2


# --- terminate_workers and kill_workers ---


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_end_the_workers(method, how, tmp_path):
    executor = ProcessPoolExecutor(1, breakeven.get_context(method))
    running = executor.submit(announce, tmp_path / "runs", LONG)
    _until_running(tmp_path / "runs")
    pending = [executor.submit(tasks.nap, LONG) for _ in range(10)]
    results = executor.map(tasks.nap, [LONG] * 3)
    (process,) = executor._processes.values()
    getattr(executor, how)()
    error = running.exception(60)
    assert isinstance(error, LostCall) and isinstance(error, BrokenProcessPool)
    assert error.signal == (signal.SIGTERM if how == "terminate_workers" else signal.SIGKILL)
    for future in pending:
        assert future.cancelled() or isinstance(future.exception(60), BrokenProcessPool)
    with pytest.raises((BrokenProcessPool, futures.CancelledError)):
        next(results)
    process.join()
    for call in (lambda: executor.submit(tasks.square, 1), lambda: executor.map(tasks.square, [1])):
        with pytest.raises(RuntimeError):
            call()
    getattr(executor, how)()
    executor.shutdown()


def test_end_the_workers_of_an_executor_without_any():
    executor = ProcessPoolExecutor(1)
    executor.kill_workers()
    executor.terminate_workers()
    with pytest.raises(ValueError, match="Unsupported operation"):
        executor._force_shutdown("nothing")
    executor.shutdown()


# --- map ---


def make_executor(kind):
    if kind is ThreadPoolExecutor:
        return kind(2)
    return kind(2, breakeven.get_context("fork"))


KINDS = pytest.mark.parametrize("kind", [ProcessPoolExecutor, ThreadPoolExecutor])


@KINDS
@pytest.mark.parametrize("buffersize", [1, 3, 100])
def test_map_reads_as_results_are_read(kind, buffersize):
    with make_executor(kind) as executor:
        source = itertools.count()
        results = executor.map(tasks.square, source, buffersize=buffersize)
        for i in range(50):
            assert next(results) == i * i
        results.close()
        assert next(source) == buffersize + 50


@KINDS
def test_map_with_a_buffer_to_the_end(kind):
    with make_executor(kind) as executor:
        assert list(executor.map(tasks.square, iter(range(100)), buffersize=7)) == [i * i for i in range(100)]
        assert list(executor.map(tasks.add, range(9), itertools.count(), buffersize=100)) == [2 * i for i in range(9)]
        assert list(executor.map(tasks.square, (), buffersize=2)) == []
        assert list(executor.map(tasks.square, iter(range(23)), chunksize=5, buffersize=2)) == [
            i * i for i in range(23)
        ]
        for wrong in (0, -1):
            with pytest.raises(ValueError, match="buffersize must be None or >= 1"):
                executor.map(tasks.square, [1], buffersize=wrong)


@KINDS
def test_map_with_a_buffer_and_errors(kind):
    def source():
        yield 1
        yield 2
        raise KeyError("of the input")

    with make_executor(kind) as executor:
        results = executor.map(tasks.square, source(), buffersize=1)
        assert next(results) == 1
        with pytest.raises(KeyError):
            next(results)
        results = executor.map(tasks.Failing(3), itertools.count(), buffersize=2)
        assert [next(results), next(results), next(results)] == [0, 1, 2]
        with pytest.raises(ValueError):
            next(results)
        assert list(results) == []


@KINDS
def test_map_with_a_buffer_times_out(kind, tmp_path):
    gate = tmp_path / "gate"
    with make_executor(kind) as executor:
        results = executor.map(tasks.pass_gate, [str(gate)] * 3, buffersize=2, timeout=0.2)
        with pytest.raises(futures.TimeoutError):
            next(results)
        gate.touch()
        assert list(executor.map(tasks.pass_gate, [str(gate)] * 3, buffersize=2, timeout=60)) == [str(gate)] * 3


# --- max_tasks_per_child ---


@pytest.mark.parametrize("tasks_per_child", [1, 3])
def test_max_tasks_per_child_is_exact(method, tasks_per_child):
    with ProcessPoolExecutor(1, breakeven.get_context(method), max_tasks_per_child=tasks_per_child) as executor:
        pids = [future.result(60) for future in [executor.submit(tasks.pid) for _ in range(9)]]
        counts = [len(list(group)) for _, group in itertools.groupby(pids)]
        assert counts == [tasks_per_child] * (9 // tasks_per_child)
        assert len(set(pids)) == len(counts)


# --- inside a worker, and across a fork ---


def nested(depth):
    if not depth:
        return os.getpid()
    with ProcessPoolExecutor(1, breakeven.get_context("fork")) as executor:
        return executor.submit(nested, depth - 1).result(60)


def test_executors_in_workers(method):
    with ProcessPoolExecutor(1, breakeven.get_context(method)) as executor:
        assert executor.submit(nested, 2).result(60) not in {os.getpid(), *executor._processes}


def leave_one_open():
    executor = ProcessPoolExecutor(1, breakeven.get_context("fork"))
    globals()["kept"] = executor
    return executor.submit(tasks.square, 3).result(60)


def test_an_executor_left_open_in_a_worker():
    with ProcessPoolExecutor(1, breakeven.get_context("fork")) as executor:
        assert executor.submit(leave_one_open).result(60) == 9


def test_an_executor_in_a_forked_child(forked):
    """It says whose it is, instead of waiting for ever."""
    assert forked.submit(tasks.square, 3).result(60) == 9
    future = forked.submit(tasks.nap, 0.2)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            for call in (lambda: forked.submit(tasks.square, 1), lambda: forked.map(tasks.square, [1])):
                try:
                    call()
                except RuntimeError as error:
                    assert "belongs to process" in str(error)
                else:
                    os._exit(2)
            future.cancel()
            forked.shutdown()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert future.result(60) == 0.2


def test_an_executor_cannot_be_sent(forked):
    assert isinstance(forked.submit(tasks.identity, forked).exception(60), TypeError)


# --- what programs look at ---


def test_private_names_that_programs_use(forked):
    assert forked._max_workers == 2 and forked._mp_context.get_start_method() == "fork"
    assert forked._executor_manager_thread is None and forked._processes == {} and forked._broken is False
    assert forked.submit(tasks.pid).result(60) in forked._processes
    assert all(process.is_alive() for process in forked._processes.values())
    manager = forked._executor_manager_thread
    with forked._shutdown_lock:
        assert manager.is_alive()
    forked.shutdown()
    manager.join()
    assert forked._processes is None and not manager.is_alive()


def test_default_start_method():
    with ProcessPoolExecutor(1) as executor:
        assert executor._mp_context is breakeven.get_context() or executor._mp_context.get_start_method()
    with ProcessPoolExecutor(1, max_tasks_per_child=2) as executor:
        assert executor._mp_context.get_start_method() == "spawn"


def test_threads_for_asyncio():
    async def main():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        return await asyncio.to_thread(tasks.square, 3)

    assert asyncio.run(main()) == 9


def test_nothing_is_kept(forked):
    """Neither a future nor the executor holds on to a call that is done."""

    class Argument:
        pass

    arguments = [Argument() for _ in range(3)]
    references = [weakref.ref(argument) for argument in arguments]
    pending = [forked.submit(id, argument) for argument in arguments]
    for future in pending:
        future.result(60)
    del arguments
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_dropped_executors_leave_nothing():
    """The check after each test sees what is left; here it is much."""
    for _ in range(30):
        executor = ProcessPoolExecutor(1, breakeven.get_context("fork"))
        pending = executor.submit(tasks.square, 3)
        del executor
        assert pending.result(60) == 9


# --- futures ---


def test_futures_from_many_sides(forked):
    """wait, as_completed, callbacks and result, all of the same futures, while they are being ended."""
    for _ in range(20):
        _from_many_sides([forked.submit(tasks.square, i) for i in range(50)])


def _from_many_sides(pending):
    called, found = [], []
    for future in pending:
        future.add_done_callback(called.append)
    sides = [
        lambda: futures.wait(pending, 60).done,
        lambda: futures.as_completed(pending, 60),
        lambda: [future for future in pending if future.result(60) >= 0],
    ]
    threads = [threading.Thread(target=lambda side=side: found.append(set(side()))) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [set(pending)] * 3
    deadline = time.monotonic() + 60
    while len(called) < len(pending) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert set(called) == set(pending) and len(called) == len(pending)


def test_cancelling_while_calls_begin(forked):
    """Each call is either cancelled and not run, or run and not cancelled; and everybody agrees."""
    for _ in range(20):
        pending = [forked.submit(tasks.square, i) for i in range(100)]
        cancelled = {future for future in reversed(pending) if future.cancel()}
        done, not_done = futures.wait(pending, 60)
        assert not not_done and done == set(pending)
        for i, future in enumerate(pending):
            assert future.cancelled() == (future in cancelled)
            if future not in cancelled:
                assert future.result() == i * i


def test_a_future_waits_no_longer_than_it_is_told(forked, tmp_path):
    gate = tmp_path / "gate"
    future = forked.submit(tasks.pass_gate, str(gate))
    for wait in (future.result, future.exception):
        with pytest.raises(futures.TimeoutError):
            wait(0.01)
    gate.touch()
    assert future.result(60) == str(gate) and future.exception() is None


def test_a_dead_worker_costs_its_call_only(forked, tmp_path):
    victim = forked.submit(announce, tmp_path / "runs", LONG)
    _until_running(tmp_path / "runs")
    others = [forked.submit(tasks.nap, 0.01) for _ in range(20)]
    pid = forked.submit(tasks.pid).result(60)
    (other,) = set(forked._processes) - {pid}
    os.kill(other, signal.SIGKILL)
    error = victim.exception(60)
    assert isinstance(error, WorkerDied) and error.pid == other and "announce(" in str(error)
    assert [future.result(60) for future in others] == [0.01] * 20
