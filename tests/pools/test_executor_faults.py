"""The executor's crash matrix: every fault at every place costs the call that it belongs to, and nothing else.

Faults and places are those of `tests.support.faults`. A place is in a worker or in the parent; a fault that ends the
parent is tried in a program of its own, and then the question is whether its workers end, too.
"""

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import breakeven
import pytest
from breakeven.executor import BrokenProcessPool, LostCall, ProcessPoolExecutor, TaskTimeout
from breakeven.pool import TaskError, UnreadableError, WorkerDied

from tests.pools import tasks
from tests.support import faults, kill, methods

pytestmark = pytest.mark.matrix


def limit(fault, hanging=0.5):
    """Seconds that a call may run: short only if it is to hang, for others may be held up by what the machine does."""
    return hanging if fault in faults.HANGS else 60


def collect_inside(fault):
    """A task in the middle of which something is collected that strikes."""
    made = faults.AtCollection(fault).arm()
    del made
    return "collected"


# --- in a worker ---

# A call for each place, and what becomes of it: by the kinds of faults that leave the worker alive. (A fatal one is
# always a LostCall, a hang always a TaskTimeout, where nothing else is said.)
IN_WORKER = {
    "unpickling the task": (lambda fault: (tasks.identity, faults.AtUnpickle(fault)), lambda fault: UnreadableError),
    "running": (lambda fault: (faults.run, fault), faults.RAISED.get),
    "pickling the result": (lambda fault: (faults.give, faults.AtPickle, fault), faults.RAISED.get),
    "collecting in the task": (lambda fault: (collect_inside, fault), lambda fault: "collected"),
}


def expected(place, fault):
    if fault in faults.FATAL:
        return LostCall
    if fault in faults.HANGS:
        return TaskTimeout
    return IN_WORKER[place][1](fault)


def check(outcome_of, wanted, fault):
    """A future has the outcome that is wanted: an exception's class, or a value."""
    error = outcome_of.exception(60)
    if not isinstance(wanted, type):
        assert error is None and outcome_of.result() == wanted
        return
    assert isinstance(error, wanted), repr(error)
    if fault in faults.FATAL:
        assert isinstance(error, WorkerDied) and isinstance(error, BrokenProcessPool)
        assert error.exitcode == faults.EXIT_CODES[fault]
    if wanted is UnreadableError:
        assert isinstance(error, BrokenProcessPool)


def check_works(executor, workers):
    """Nothing is left of the fault."""
    assert list(executor.map(tasks.square, range(50))) == [x * x for x in range(50)]
    assert executor.submit(tasks.add, 1, b=2).result(60) == 3
    assert len(executor._processes) == workers


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fault", faults.FAULTS)
@pytest.mark.parametrize("place", IN_WORKER)
def test_in_a_worker(place, fault, workers):
    make, _ = IN_WORKER[place]
    with ProcessPoolExecutor(workers, breakeven.get_context("fork")) as executor:
        before = [executor.submit(tasks.square, i) for i in range(10)]
        struck = executor.with_options(timeout=limit(fault)).submit(*make(fault))
        after = [executor.submit(tasks.square, i) for i in range(10)]
        check(struck, expected(place, fault), fault)
        assert [future.result(60) for future in before + after] == [i * i for i in range(10)] * 2
        check_works(executor, workers)


@pytest.mark.parametrize("method", methods.FRESH)
@pytest.mark.parametrize("fault", ["killed", "os._exit", "sys.exit", "error", "hang"])
@pytest.mark.parametrize("place", ["unpickling the task", "running", "pickling the result"])
def test_in_a_worker_of_other_start_methods(place, fault, method):
    make, _ = IN_WORKER[place]
    with ProcessPoolExecutor(1, breakeven.get_context(method)) as executor:
        struck = executor.with_options(timeout=limit(fault)).submit(*make(fault))
        check(struck, expected(place, fault), fault)
        check_works(executor, 1)


@pytest.mark.parametrize("fault", faults.FAULTS)
@pytest.mark.parametrize("place", IN_WORKER)
def test_in_map(place, fault):
    """The item's error comes at the item's place."""
    make, _ = IN_WORKER[place]
    function, *arguments = make(fault)
    if len(arguments) == 2:
        (kind, _) = arguments
        items = [(kind, None)] * 2 + [(kind, fault)] + [(kind, None)] * 2
        columns = zip(*items, strict=True)
    else:
        plain, struck = type(arguments[0]), arguments[0]
        quiet = None if plain is str else plain(None)
        columns = [[quiet] * 2 + [struck] + [quiet] * 2]
    with ProcessPoolExecutor(2, breakeven.get_context("fork")) as executor:
        results = executor.with_options(timeout=limit(fault)).map(function, *columns)
        next(results), next(results)
        wanted = expected(place, fault)
        if isinstance(wanted, type):
            with pytest.raises(wanted):
                next(results)
            assert list(results) == []
        else:
            assert next(results) == wanted
            assert len(list(results)) == 2
        check_works(executor, 2)


@pytest.mark.parametrize("fault", faults.FAULTS)
@pytest.mark.parametrize("cycle", [False, True])
def test_collecting_after_the_task(cycle, fault):
    """What a task leaves behind strikes when it is collected, and a hang then ends at the task's time limit.

    When that is, is the collector's business if it lies in a cycle: it may be in the middle of either call.
    """
    with ProcessPoolExecutor(1, breakeven.get_context("fork")) as executor:
        limited = executor.with_options(timeout=limit(fault, 2))
        for argument in (faults.AtCollection(fault, cycle), None):
            future = limited.submit(faults.take, argument)
            error = future.exception(60)
            if error is None:
                assert future.result() == "taken"
            else:
                assert cycle and isinstance(error, (LostCall, TaskTimeout)), repr(error)
        check_works(executor, 1)


# All faults with fork, some with the other start methods, where the same code runs.
@pytest.mark.parametrize(
    "fault,method",
    [(fault, "fork") for fault in [*faults.FATAL, *faults.ERRORS]]
    + [(fault, method) for fault in ("killed", "error", "sys.exit") for method in methods.FRESH],
)
def test_in_the_initializer(fault, method):
    with ProcessPoolExecutor(2, breakeven.get_context(method), faults.initialize, (fault,)) as executor:
        pending = []
        error = None
        try:
            for _ in range(5):
                pending.append(executor.submit(tasks.square, 2))
        except BrokenProcessPool as raised:  # it is known already
            error = raised
        for future in pending:
            error = future.exception(60)
            assert isinstance(error, BrokenProcessPool)
        cause = error.__cause__
        if fault in faults.ERRORS:
            assert isinstance(cause, faults.RAISED[fault]) and "strike" in str(cause.__cause__)
        else:
            assert isinstance(cause, WorkerDied) and cause.exitcode == faults.EXIT_CODES[fault]
        assert executor._broken
        for call in (lambda: executor.submit(tasks.square, 2), lambda: executor.map(tasks.square, [2])):
            with pytest.raises(BrokenProcessPool) as caught:
                call()
            assert caught.value.__cause__ is cause


def test_in_the_initializer_of_one_worker(tmp_path):
    """A worker that dies while it starts is replaced, as long as others come up."""
    settings = (faults.initialize, ("killed", str(tmp_path / "once")))
    with ProcessPoolExecutor(2, breakeven.get_context("fork"), *settings) as executor:
        assert [executor.submit(tasks.square, i).result(60) for i in range(20)] == [i * i for i in range(20)]


# --- in the parent ---


@pytest.fixture
def soon():
    """Ends hangs of this process, after a moment."""
    timer = threading.Timer(0.2, faults.release)
    timer.start()
    yield
    timer.join()
    faults.hold()


HERE = [*faults.ERRORS, "hang"]


@pytest.mark.parametrize("fault", HERE)
def test_pickling_the_task(fault, soon):
    with ProcessPoolExecutor(2, breakeven.get_context("fork")) as executor:
        before = [executor.submit(tasks.square, i) for i in range(10)]
        if fault == "interrupt":
            # In the main thread this is Ctrl-C, and ends what that is doing; the call fails, too.
            with pytest.raises(KeyboardInterrupt):
                for _ in range(10):
                    executor.submit(tasks.identity, faults.AtPickle(fault)).result(60)
        else:
            error = executor.submit(tasks.identity, faults.AtPickle(fault)).exception(60)
            assert error is None if fault == "hang" else type(error) is faults.RAISED[fault]
        after = [executor.submit(tasks.square, i) for i in range(10)]
        assert [future.result(60) for future in before + after] == [i * i for i in range(10)] * 2
        check_works(executor, 2)


@pytest.mark.parametrize("fault", ["error", "sys.exit", "base"])
def test_pickling_one_task_of_many(fault):
    with ProcessPoolExecutor(1, breakeven.get_context("fork")) as executor:
        pending = [executor.submit(tasks.identity, {"n": i}) for i in range(500)]
        struck = executor.submit(tasks.identity, faults.AtPickle(fault))
        pending += [executor.submit(tasks.identity, {"n": i}) for i in range(500)]
        assert type(struck.exception(60)) is faults.RAISED[fault]
        assert [future.result(60)["n"] for future in pending] == [*range(500)] * 2


@pytest.mark.parametrize("how", [faults.give, faults.throw])
@pytest.mark.parametrize("fault", HERE)
def test_unpickling_the_outcome(fault, how, soon):
    with ProcessPoolExecutor(2, breakeven.get_context("fork")) as executor:
        struck = executor.submit(how, faults.AtUnpickle, fault)
        others = [executor.submit(tasks.square, i) for i in range(10)]
        try:
            error = struck.exception(60)
        except KeyboardInterrupt:
            # In the main thread this is Ctrl-C, at first; what raises it again does so by itself.
            assert fault == "interrupt"
            error = struck.exception(60)
        if fault == "hang":
            assert error is None if how is faults.give else isinstance(error, faults.Fault)
        else:
            assert isinstance(error, UnreadableError) and isinstance(error, BrokenProcessPool)
        assert [future.result(60) for future in others] == [i * i for i in range(10)]
        check_works(executor, 2)


@pytest.mark.parametrize("fault", HERE)
def test_in_a_callback(fault, soon, caplog):
    called = []
    with caplog.at_level(logging.CRITICAL + 1), ProcessPoolExecutor(2, breakeven.get_context("fork")) as executor:
        struck = executor.submit(tasks.nap, 0.05)
        struck.add_done_callback(lambda future: faults.strike(fault))
        struck.add_done_callback(called.append)
        others = [executor.submit(tasks.square, i) for i in range(10)]
        while not called:  # not waiting for the future: then it is the executor's thread that calls back
            time.sleep(0.005)
        assert struck.result(60) == 0.05 and called == [struck]
        assert [future.result(60) for future in others] == [i * i for i in range(10)]
        check_works(executor, 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", HERE)
def test_collecting_the_result(fault, soon):
    with ProcessPoolExecutor(2, breakeven.get_context("fork")) as executor:
        executor.submit(faults.AtCollection, fault).result(60)
        gc.collect()
        check_works(executor, 2)


@pytest.mark.parametrize("fault", ["error", "sys.exit", "base"])
def test_pickling_the_initializer(fault):
    """No worker can be started at all: `submit` says why, each time."""
    settings = (faults.run, (faults.AtPickle(fault),))
    with ProcessPoolExecutor(2, breakeven.get_context("spawn"), *settings) as executor:
        for _ in range(2):
            with pytest.raises(faults.RAISED[fault]):
                executor.submit(tasks.square, 2)
        assert executor._processes == {}


PROGRAM = """
import gc, sys, threading, time
import breakeven
from tests.pools import tasks
from tests.support import faults

if __name__ == "__main__":
    place, fault, method = sys.argv[1:]
    executor = breakeven.ProcessPoolExecutor(2, breakeven.get_context(method))
    pids = set()
    while len(pids) < 2:
        pids.update(executor.map(tasks.pid_and_nap, [0.01] * 4))
    print(*pids, flush=True)
    busy = executor.submit(tasks.nap, 3600)  # a worker in the middle of a task, and one that waits
    if place == "pickling the task":
        executor.submit(tasks.identity, faults.AtPickle(fault))
    elif place == "unpickling the outcome":
        executor.submit(faults.give, faults.AtUnpickle, fault)
    elif place == "callback":
        executor.submit(tasks.nap, 0.05).add_done_callback(lambda future: faults.strike(fault))
    elif place == "collection":
        executor.submit(faults.AtCollection, fault)
    elif place == "main":
        faults.strike(fault)
    time.sleep(3600)
"""


PLACES = ["main", "pickling the task", "unpickling the outcome", "callback", "collection"]


@pytest.mark.parametrize(
    "place,fault,method",
    [(place, fault, "fork") for place in PLACES for fault in faults.FATAL]
    + [("main", fault, method) for fault in ("killed", "os._exit") for method in methods.FRESH],
)
def test_that_ends_the_parent(place, fault, method, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    root = str(Path(__file__).resolve().parent.parent.parent)
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), place, fault, method],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": root},
        text=True,
    )
    with program:
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 2
        assert program.wait(60) == faults.EXIT_CODES[fault]
        deadline = time.monotonic() + 60
        while any(map(kill.is_running, pids)):
            assert time.monotonic() < deadline, "a worker has outlived its parent"
            time.sleep(0.01)


def test_a_stopped_parent_goes_on(tmp_path):
    """Ctrl-Z and fg."""
    (tmp_path / "program.py").write_text(
        PROGRAM.replace(
            "time.sleep(3600)\n", "print(executor.submit(tasks.add, 1, 2).result()); executor.kill_workers()"
        )
    )
    root = str(Path(__file__).resolve().parent.parent.parent)
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), "callback", "stopped", "fork"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
        text=True,
    )
    with program:
        program.stdout.readline()
        while True:
            _, status = os.waitpid(program.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                program.returncode = os.waitstatus_to_exitcode(status)
                break
            program.send_signal(signal.SIGCONT)
        assert program.returncode == 0 and program.stdout.read() == "3\n"


def test_errors_are_errors_of_breakeven():
    """One `except` clause for all that breakeven itself says about a call, and one as the standard library has it."""
    for kind in (LostCall, TaskTimeout, UnreadableError):
        assert issubclass(kind, TaskError)
    assert issubclass(TaskTimeout, TimeoutError)
