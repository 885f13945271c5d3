"""Nothing that a task, its arguments or its results do may hang a pool: fault by fault, what comes instead.

After each fault the same pool must work on.
"""

import os
import signal
import threading
import time

import breakeven
import pytest
from breakeven.pool import (
    MaybeEncodingError,
    TaskAborted,
    TaskPanicked,
    ThreadPool,
    UnreadableError,
    WorkerDied,
)

from tests.pools import tasks
from tests.support import faults

FORMS = {
    "apply": lambda pool, function, argument: pool.apply(function, (argument,)),
    "async": lambda pool, function, argument: pool.apply_async(function, (argument,)).get(timeout=60),
    "map": lambda pool, function, argument: pool.map(function, [argument]),
    "map of one": lambda pool, function, argument: pool.map(function, [argument], chunksize=1),
    "map of many": lambda pool, function, argument: pool.map(function, [argument] * 20, chunksize=1),
    "map by chunks": lambda pool, function, argument: pool.map(function, [argument] * 20, chunksize=3),
    "starmap": lambda pool, function, argument: pool.starmap(function, [(argument,)]),
    "imap": lambda pool, function, argument: next(pool.imap(function, [argument])),
    "imap of many": lambda pool, function, argument: next(pool.imap(function, [argument] * 20, 3)),
    "unordered": lambda pool, function, argument: next(pool.imap_unordered(function, [argument] * 5)),
}

# function, argument, what is raised, and what its text says
MATRIX = {
    "result does not pickle": (tasks.give_unpicklable, None, MaybeEncodingError, "lock"),
    "result's repr fails, too": (lambda _: tasks.give_bad_repr(), None, MaybeEncodingError, "no pickle"),
    "result does not unpickle": (tasks.give_error_at_unpickle, None, UnreadableError, "refuses to be unpickled"),
    "exception does not pickle": (tasks.raise_unpicklable_exception, None, MaybeEncodingError, "lock"),
    "exception does not unpickle": (tasks.raise_unreadable_exception, None, UnreadableError, "first second"),
    "argument does not pickle": (tasks.identity, faults.Unpicklable(), TypeError, "callbacks"),
    "argument refuses to be pickled": (tasks.identity, faults.ErrorAtPickle(), AttributeError, "refuses"),
    "argument does not unpickle": (tasks.identity, faults.ErrorAtUnpickle(), RuntimeError, "refuses to be unpickled"),
    "argument exits when unpickled": (tasks.identity, faults.ExitAtUnpickle(), TaskAborted, "SystemExit"),
    "sys.exit": (tasks.call_exit, 3, TaskAborted, "SystemExit(3)"),
    "sys.exit(0)": (tasks.call_exit, 0, TaskAborted, "SystemExit(0)"),
    "KeyboardInterrupt": (lambda _: tasks.raise_interrupt(), None, TaskAborted, "from a task"),
    "GeneratorExit": (lambda _: tasks.raise_generator_exit(), None, TaskAborted, "from a task"),
    "BaseException": (lambda _: tasks.raise_base(), None, TaskAborted, "known to anybody"),
    "panic": (tasks.panic, None, TaskPanicked, "Option::unwrap"),
    "killed": (tasks.die, None, WorkerDied, "SIGKILL"),
    "killed while unpickling its argument": (tasks.identity, faults.KilledAtUnpickle(), WorkerDied, "SIGKILL"),
    "os._exit": (tasks.leave, 7, WorkerDied, "exit code 7"),
}


@pytest.fixture(scope="module")
def forked():
    with breakeven.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", MATRIX)
def test_fault_by_form(fault, form, request):
    function, argument, kind, text = MATRIX[fault]
    # A pool of its own, so that the leak check sees what this fault leaves.
    with breakeven.get_context("fork").Pool(2) as pool:
        with pytest.raises(kind) as caught:
            FORMS[form](pool, function, argument)
        assert text in str(caught.value)
        assert pool.map(tasks.square, range(20), chunksize=1) == [x * x for x in range(20)]
        assert pool.apply(tasks.add, (1, 2)) == 3
        assert len(pool._pool) == 2
    pool.join()


@pytest.mark.parametrize("fault", [fault for fault, row in MATRIX.items() if row[0].__name__ != "<lambda>"])
def test_fault_by_start_method(fault):
    function, argument, kind, text = MATRIX[fault]
    for method in ("spawn", "forkserver"):
        with breakeven.get_context(method).Pool(1) as pool:
            with pytest.raises(kind) as caught:
                pool.apply(function, (argument,))
            assert text in str(caught.value)
            assert pool.apply(tasks.add, (1, 2)) == 3
        pool.join()


@pytest.mark.parametrize(
    "fault", ["sys.exit", "KeyboardInterrupt", "GeneratorExit", "BaseException", "result does not pickle"]
)
def test_fault_in_threads(fault):
    function, argument, kind, text = MATRIX[fault]
    with ThreadPool(1) as pool:
        if fault == "result does not pickle":
            assert isinstance(pool.apply(function, (argument,)), dict)
        else:
            with pytest.raises(kind) as caught:
                pool.apply(function, (argument,))
            assert text in str(caught.value)
        assert pool.apply(tasks.add, (1, 2)) == 3
    pool.join()


def test_error_names_the_path_to_the_culprit():
    with breakeven.get_context("fork").Pool(1) as pool:
        with pytest.raises(MaybeEncodingError, match=r"\['deep'\]\[0\]\.callbacks\[2\]\['guard'\]"):
            pool.apply(tasks.give_unpicklable)
    pool.join()


def test_aborted_task_keeps_the_exception():
    with breakeven.get_context("fork").Pool(1) as pool:
        with pytest.raises(TaskAborted) as caught:
            pool.apply(tasks.call_exit, (3,))
        assert type(caught.value.exception) is SystemExit and caught.value.exception.code == 3
    pool.join()


def test_others_finish_when_one_of_them_fails():
    """One bad argument, result and exception among good ones, all in one parcel."""
    with breakeven.get_context("fork").Pool(1) as pool:
        bad = [faults.ErrorAtPickle(), faults.ErrorAtUnpickle(), faults.ExitAtUnpickle()]
        items = [{"n": 0}, bad[0], {"n": 1}, bad[1], {"n": 2}, bad[2], {"n": 3}]
        # Warm, so that parcels are large.
        assert pool.map(tasks.identity, [{}] * 500, chunksize=1) == [{}] * 500
        iterator = pool.imap(tasks.identity, items * 20)
        good, errors = [], []
        while True:
            try:
                good.append(next(iterator)["n"])
            except StopIteration:
                break
            except Exception as error:
                errors.append(type(error))
        assert good == [0, 1, 2, 3] * 20
        assert errors == [AttributeError, RuntimeError, TaskAborted] * 20
    pool.join()


# --- initializers ---


def test_failing_initializer(ctx, tmp_path):
    path = tmp_path / "tries"
    with ctx.Pool(1, tasks.failing_initializer, (str(path),)) as pool:
        result = pool.apply_async(tasks.square, (1,))
        for _ in range(2):
            with pytest.raises(KeyError, match="own error") as caught:
                result.get(timeout=60)
        assert "failing_initializer" in str(caught.value.__cause__)
        for call in (pool.map, pool.imap, pool.map_async):
            with pytest.raises(KeyError, match="own error"):
                call(tasks.square, [1])
        time.sleep(0.3)
        assert path.read_bytes() == b"xxx"
    pool.join()


def test_failing_initializer_fails_all_that_is_pending(tmp_path):
    gate = tmp_path / "gate"
    with breakeven.get_context("fork").Pool(3, tasks.failing_at_gate, (str(gate),)) as pool:
        results = [pool.apply_async(tasks.square, (1,)), pool.map_async(tasks.square, range(1000), chunksize=1)]
        iterator = pool.imap(tasks.square, range(1000))
        gate.touch()  # later calls would raise themselves
        for result in results:
            with pytest.raises(KeyError):
                result.get(timeout=60)
        with pytest.raises(KeyError):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)
    pool.join()


def test_failing_initializer_and_join():
    pool = breakeven.get_context("fork").Pool(2, tasks.failing_initializer)
    result = pool.map_async(tasks.square, range(10))
    pool.close()
    pool.join()
    with pytest.raises(KeyError):
        result.get(timeout=0)


def test_failing_initializer_in_threads():
    with ThreadPool(3, tasks.failing_initializer) as pool:
        with pytest.raises(KeyError, match="own error"):
            pool.map(tasks.square, range(10))
    pool.join()


def test_dying_initializer(ctx):
    with ctx.Pool(1, tasks.dying_initializer) as pool:
        with pytest.raises(WorkerDied, match="SIGKILL"):
            pool.apply(tasks.square, (1,))
        with pytest.raises(WorkerDied):
            pool.apply(tasks.square, (1,))
    pool.join()


# --- memory ---


def test_results_beyond_the_memory_limit():
    """A result for which there can never be room is an error; those that others have to read first are waited for."""
    script = """if 1:
        import breakeven
        from breakeven import _native
        from breakeven.pool import MaybeEncodingError
        import breakeven._pool_worker as worker
        worker.MEMORY_PATIENCE = 5.0
        _native.configure(memory_limit=64 << 20)
        def make(n):
            return bytearray(n)
        with breakeven.get_context("fork").Pool(2) as pool:
            sizes = [len(result) for result in pool.imap(make, [4 << 20] * 100)]
            assert sizes == [4 << 20] * 100, sizes
            try:
                pool.apply(make, (200 << 20,))
            except MaybeEncodingError as error:
                assert "MemoryLimitError" in str(error), error
            else:
                raise AssertionError("no error")
            try:
                pool.apply(len, (bytearray(200 << 20),))
            except breakeven.MemoryLimitError:
                pass
            else:
                raise AssertionError("no error")
            assert pool.map(len, [bytearray(4 << 20)] * 50, chunksize=1) == [4 << 20] * 50
            arguments = [bytearray(4 << 20) for _ in range(50)]
            assert pool.map(len, arguments, chunksize=1) == [4 << 20] * 50
            assert pool.map(len, arguments) == [4 << 20] * 50
            pool.close()
            pool.join()
        print("fine")
    """
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


# --- fork while another thread is inside ---


def test_fork_while_threads_use_the_pool():
    """Children of a process whose other threads are driving a pool, sending to it and calling back."""
    stop = threading.Event()
    errors = []

    def use(pool, n):
        try:
            while not stop.is_set():
                assert pool.map(tasks.square, range(200), chunksize=1) == [x * x for x in range(200)]
                pool.apply_async(tasks.add, (n, 1), callback=lambda value: None).get(60)
        except BaseException as error:
            errors.append(error)

    with breakeven.get_context("fork").Pool(2) as pool:
        threads = [threading.Thread(target=use, args=(pool, n)) for n in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                with breakeven.get_context("fork").Pool(1) as other:
                    assert other.apply(tasks.add, (1, 2)) == 3
                other.join()
                pid = os.fork()
                if not pid:
                    os._exit(0 if breakeven.SimpleQueue().empty() else 1)
                assert os.waitpid(pid, 0)[1] == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    pool.join()
    assert not errors


def test_a_stopped_worker_is_ended_by_terminate():
    pool = breakeven.get_context("fork").Pool(1)
    worker = pool.apply(tasks.pid)
    os.kill(worker, signal.SIGSTOP)
    pool.terminate()
    pool.join()
