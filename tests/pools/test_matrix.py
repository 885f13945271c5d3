"""The pool's crash matrix: every fault at every place, in every form of call.

Faults and places are those of `tests.support.faults`. Each cell says what comes of the item that is struck; in all of
them the others have their results, the same pool works on, and ends. A fault that ends the parent is tried in a program
of its own: then its workers end with it.
"""

import functools
import gc
import os
import signal
import subprocess
import sys
import time

import breakeven
import pytest
from breakeven.pool import PoolTerminated, TaskAborted, UnreadableError, WorkerDied

from tests.pools import tasks
from tests.support import faults, kill, methods

pytestmark = pytest.mark.matrix

WORKERS = 2
SHORT = 0.5  # how long a call that hangs is waited for


def run_collecting(fault):
    """Something is collected in the midst of a task."""
    made = faults.AtCollection(fault).arm()
    del made
    gc.collect()
    return "collected"


def identity(x):
    return x


# --- in a worker ---

# Place -> the task, its argument for a fault, and the error for a fault that is an exception (None: there is none).
IN_WORKER = {
    "unpickling the task": (identity, faults.AtUnpickle, True),
    "running": (faults.run, lambda fault: fault, True),
    "pickling the result": (faults.AtPickle, lambda fault: fault, True),
    "garbage collection": (run_collecting, lambda fault: fault, False),
}


def expected(place, fault):
    """The class of the error that the struck item has; None if it has none."""
    if fault in faults.FATAL:
        return WorkerDied
    if not IN_WORKER[place][2]:
        return None  # exceptions in finalizers are reported and go no further
    if place == "pickling the result":
        return breakeven.pool.MaybeEncodingError
    return faults.Fault if fault == "error" else TaskAborted


def check(error, wanted, fault):
    assert type(error) is wanted, repr(error)
    if wanted is WorkerDied:
        assert error.exitcode == faults.EXIT_CODES[fault]


def check_works(pool, workers=WORKERS):
    assert pool.map(tasks.square, range(50)) == [x * x for x in range(50)]
    assert pool.map(tasks.square, range(50), chunksize=1) == [x * x for x in range(50)]
    assert pool.apply(tasks.add, (1, 2)) == 3
    assert len(pool._pool) == workers


def outcomes(iterator):
    """All values and errors that an iterator gives."""
    found = []
    while True:
        try:
            found.append(next(iterator))
        except StopIteration:
            return found
        except Exception as error:
            found.append(error)


def call(pool, form, function, items, struck):
    """Calls `function` for the items in this form; returns what came of the struck one, and how many others were well.

    Where the form gives one error for all, the others are not to be seen.
    """
    if form == "apply_async":
        results = [pool.apply_async(function, (item,)) for item in items]
        found = []
        for result in results:
            try:
                found.append(result.get(60))
            except Exception as error:
                found.append(error)
        outcome = found.pop(struck)
    elif form == "imap_unordered":
        found = outcomes(pool.imap_unordered(function, items))
        errors = [outcome for outcome in found if isinstance(outcome, Exception)]
        outcome = errors[0] if errors else None
        if errors:
            found.remove(outcome)
    else:
        chunksize = {"map": None, "map, chunks of 1": 1, "map, chunks of 3": 3}[form]
        try:
            found = pool.map(function, items, chunksize)
            outcome = None
        except Exception as error:
            return error
    assert not any(isinstance(other, Exception) for other in found)
    assert len(found) >= len(items) - 1
    return outcome if isinstance(outcome, Exception) else None


FORMS = ["map", "map, chunks of 1", "map, chunks of 3", "imap_unordered", "apply_async"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", faults.FATAL + faults.ERRORS)
@pytest.mark.parametrize("place", IN_WORKER)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_in_a_worker(place, fault, form):
    function, make, _ = IN_WORKER[place]
    with breakeven.get_context("fork").Pool(WORKERS) as pool:
        items = [make(None) for _ in range(9)]
        items[4] = make(fault)
        error = call(pool, form, function, items, 4)
        wanted = expected(place, fault)
        if wanted is None:
            assert error is None
        else:
            check(error, wanted, fault)
        check_works(pool)
    pool.join()


@pytest.mark.parametrize("method", methods.FRESH)
@pytest.mark.parametrize("fault", ["killed", "os._exit", "sys.exit", "error"])
@pytest.mark.parametrize("place", ["unpickling the task", "running", "pickling the result"])
def test_in_a_worker_of_other_start_methods(place, fault, method):
    function, make, _ = IN_WORKER[place]
    with breakeven.get_context(method).Pool(1) as pool:
        error = call(pool, "imap_unordered", function, [make(None), make(fault), make(None)], 1)
        check(error, expected(place, fault), fault)
        check_works(pool, 1)
    pool.join()


@pytest.mark.parametrize("form", ["map_async", "imap_unordered", "apply_async"])
@pytest.mark.parametrize("fault", faults.HANGS)
@pytest.mark.parametrize("place", IN_WORKER)
def test_a_worker_that_hangs(place, fault, form):
    """It is waited for as long as the caller wants; the other worker goes on, and terminate ends both."""
    function, make, _ = IN_WORKER[place]
    with breakeven.get_context("fork").Pool(WORKERS) as pool:
        if form == "imap_unordered":
            iterator = pool.imap_unordered(function, [make(fault)])
            with pytest.raises(breakeven.TimeoutError):
                iterator.next(timeout=SHORT)
        else:
            if form == "map_async":
                result = pool.map_async(function, [make(fault)], chunksize=1)
            else:
                result = pool.apply_async(function, (make(fault),))
            with pytest.raises(breakeven.TimeoutError):
                result.get(SHORT)
        check_works(pool)
        pool.terminate()
        if form == "imap_unordered":
            with pytest.raises(PoolTerminated):
                next(iterator)
        else:
            with pytest.raises(PoolTerminated):
                result.get(60)
    pool.join()


@pytest.mark.parametrize("cycle", [False, True])
@pytest.mark.parametrize("fault", faults.FATAL + faults.ERRORS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_garbage_that_a_task_leaves_behind(fault, cycle):
    """Its own task has its result; the worker may be struck between tasks, or in one that collects."""
    with breakeven.get_context("fork").Pool(1) as pool:
        assert pool.apply(faults.take, (faults.AtCollection(fault, cycle),)) == "taken"
        for _ in range(3):
            try:
                assert pool.apply(faults.take, (None,)) == "taken"
            except WorkerDied as error:
                assert fault in faults.FATAL and error.exitcode == faults.EXIT_CODES[fault]
        check_works(pool, 1)
    pool.join()


# --- the initializer ---


@pytest.mark.parametrize("form", ["map", "imap_unordered", "apply_async"])
@pytest.mark.parametrize("fault", faults.FATAL + faults.ERRORS)
def test_in_the_initializer_of_every_worker(fault, form):
    """After three that failed, its error is what pending and later calls raise."""
    wanted = WorkerDied if fault in faults.FATAL else faults.Fault if fault == "error" else TaskAborted
    with breakeven.get_context("fork").Pool(WORKERS, faults.initialize, (fault,)) as pool:
        calls = {
            "map": lambda: pool.map(tasks.square, [1, 2]),
            "imap_unordered": lambda: next(pool.imap_unordered(tasks.square, [1, 2])),
            "apply_async": lambda: pool.apply_async(tasks.square, (1,)).get(60),
        }
        for _ in range(2):
            with pytest.raises(wanted):
                calls[form]()
    pool.join()


@pytest.mark.parametrize("fault", faults.FATAL + faults.ERRORS)
def test_in_the_initializer_of_one_worker(fault, tmp_path):
    """It is replaced, and nothing else is to be seen of it."""
    with breakeven.get_context("fork").Pool(WORKERS, faults.initialize, (fault, str(tmp_path / "once"))) as pool:
        check_works(pool)
    pool.join()


@pytest.mark.parametrize("fault", faults.HANGS)
def test_an_initializer_that_hangs(fault, tmp_path):
    with breakeven.get_context("fork").Pool(WORKERS, faults.initialize, (fault, str(tmp_path / "once"))) as pool:
        check_works(pool)
    pool.join()
    with breakeven.get_context("fork").Pool(WORKERS, faults.initialize, (fault,)) as pool:
        result = pool.apply_async(tasks.square, (1,))
        with pytest.raises(breakeven.TimeoutError):
            result.get(SHORT)
    pool.join()
    with pytest.raises(PoolTerminated):
        result.get(60)


# --- in the parent ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["error", "sys.exit", "base"])
def test_pickling_the_task(fault, form):
    wanted = faults.Fault if fault == "error" else TaskAborted
    with breakeven.get_context("fork").Pool(WORKERS) as pool:
        items = [faults.AtPickle(None) for _ in range(9)]
        items[4] = faults.AtPickle(fault)
        check(call(pool, form, id, items, 4), wanted, fault)
        check_works(pool)
    pool.join()


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupt_while_pickling_the_task(form):
    """It is the caller's: it is raised at the call or where its results are waited for, once, and the pool goes on."""
    with breakeven.get_context("fork").Pool(WORKERS) as pool:
        with pytest.raises(KeyboardInterrupt):
            call(pool, form, id, [faults.AtPickle(None), faults.AtPickle("interrupt"), faults.AtPickle(None)], 1)
        check_works(pool)
        pool.close()
        pool.join()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["error", "sys.exit", "base"])
def test_unpickling_the_result(fault, form):
    with breakeven.get_context("fork").Pool(WORKERS) as pool:
        items = [None] * 9
        items[4] = fault
        check(call(pool, form, faults.AtUnpickle, items, 4), UnreadableError, fault)
        check_works(pool)
    pool.join()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["error", "sys.exit", "base"])
def test_unpickling_the_exception(fault, form):
    with breakeven.get_context("fork").Pool(WORKERS) as pool:
        items = [None] * 9
        items[4] = fault
        check(call(pool, form, throw_if, items, 4), UnreadableError, fault)
        check_works(pool)
    pool.join()


def throw_if(fault):
    if fault is not None:
        faults.throw(faults.AtUnpickle, fault)


@pytest.mark.parametrize("handler", ["function", "method", "partial", "object"])
@pytest.mark.parametrize("kind", [SystemExit, RuntimeError])
@pytest.mark.parametrize("place", ["pickling", "unpickling"])
def test_what_a_signal_handler_raises_is_raised(place, kind, handler):
    """Whatever was being done when the signal came: it is not taken for the item's error, and no item is lost."""
    raiser = Raiser(kind)
    handlers = {
        "function": raiser.make(),
        "method": raiser.method,
        "partial": functools.partial(raiser.method),
        "object": raiser,
    }
    before = signal.signal(signal.SIGUSR1, handlers[handler])
    try:
        with breakeven.get_context("fork").Pool(WORKERS) as pool:
            if place == "pickling":
                with pytest.raises(kind, match="by a signal"):
                    pool.map_async(id, [SignalOnce("pickling")], chunksize=1).get(60)
            else:
                result = pool.apply_async(SignalOnce, ("unpickling",))
                with pytest.raises(kind, match="by a signal"):
                    result.get(60)
                assert type(result.get(60)) is SignalOnce
            check_works(pool)
            pool.close()
            pool.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        SignalOnce.sent = False


class Raiser:
    def __init__(self, kind):
        self.kind = kind

    def __call__(self, signum, frame):
        raise self.kind("by a signal")

    def method(self, signum, frame):
        raise self.kind("by a signal")

    def make(self):
        def function(signum, frame):
            raise self.kind("by a signal")

        return function


class SignalOnce:
    """Sends this process a signal when it is pickled or unpickled for the first time in the process of the test."""

    sent = False
    home = os.getpid()

    def __init__(self, when):
        self.when = when

    def __reduce__(self):
        if self.when == "pickling":
            SignalOnce.send()
        return _signal_once, (self.when, SignalOnce.home)

    @staticmethod
    def send():
        if not SignalOnce.sent:
            SignalOnce.sent = True
            signal.raise_signal(signal.SIGUSR1)


def _signal_once(when, home):
    if when == "unpickling" and os.getpid() == home:
        SignalOnce.send()
    return SignalOnce(when)


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupt_while_unpickling_the_result(form):
    """The same. Here it is the result's own, so the struck item has an error afterwards; the others are well."""
    with breakeven.get_context("fork").Pool(WORKERS) as pool:
        with pytest.raises(KeyboardInterrupt):
            call(pool, form, faults.AtUnpickle, [None, "interrupt", None], 1)
        check_works(pool)
        pool.close()
        pool.join()


@pytest.mark.parametrize("form", ["map_async", "apply_async"])
@pytest.mark.parametrize("fault", faults.ERRORS)
def test_in_a_callback(fault, form, capsys):
    """It is reported as an unhandled exception is, and the result is there."""
    called = []

    def callback(value):
        called.append(value)
        faults.strike(fault)

    with breakeven.get_context("fork").Pool(WORKERS) as pool:
        for _ in range(2):
            if form == "map_async":
                assert pool.map_async(tasks.square, [1, 2], callback=callback).get(60) == [1, 4]
            else:
                assert pool.apply_async(tasks.square, (3,), callback=callback).get(60) == 9
        with pytest.raises(ValueError):
            pool.apply_async(tasks.raise_it, (ValueError(1),), error_callback=callback).get(60)
        assert len(called) == 3
        check_works(pool)
        pool.close()
        pool.join()
    assert capsys.readouterr().err.count("Traceback") == 3


def test_a_callback_that_hangs():
    """Its result is not ready as long as it runs; all else goes on, and terminate does not wait for it."""
    try:
        with breakeven.get_context("fork").Pool(WORKERS) as pool:
            result = pool.apply_async(tasks.square, (3,), callback=lambda value: faults.strike("hang"))
            with pytest.raises(breakeven.TimeoutError):
                result.get(SHORT)
            check_works(pool)
        pool.terminate()
    finally:
        faults.release()
        pool.join()
        faults.hold()


def test_results_that_hang_in_the_parent():
    """Whoever reads them hangs in their code: the caller, who can be interrupted."""
    script = """if 1:
        import signal, sys, threading, time
        sys.path.insert(0, {root!r})
        import breakeven
        from tests.pools import tasks
        from tests.support import faults
        pool = breakeven.get_context("fork").Pool(2)
        main = threading.main_thread().ident
        threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
        try:
            pool.map({call})
        except KeyboardInterrupt:
            print("interrupted")
        pool.terminate()
        pool.join()
        """
    for form in ("faults.AtUnpickle, ['hang']", "id, [faults.AtPickle('hang')]"):
        text = script.format(root=str(project_root()), call=form)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def project_root():
    return __file__.rsplit("/tests/", 1)[0]


PROGRAM = """if 1:
    import os, sys, threading
    sys.path.insert(0, {root!r})
    import breakeven
    from tests.pools import tasks
    from tests.support import faults
    place, fault = sys.argv[1:]
    if __name__ == "__main__":
        pool = breakeven.get_context("fork").Pool(2)
        print(*(process.pid for process in pool._pool), flush=True)
        result = pool.map_async(tasks.nap, [600], chunksize=1)
        if place == "pickling the task":
            pool.map(id, [faults.AtPickle(fault)])
        elif place == "unpickling the result":
            pool.map(faults.AtUnpickle, [fault])
        elif place == "callback":
            pool.apply_async(tasks.square, (3,), callback=lambda value: faults.strike(fault)).get(60)
        else:
            faults.strike(fault)
"""


@pytest.mark.parametrize(
    "place,fault",
    [
        *((place, fault) for place in ("pickling the task", "unpickling the result") for fault in faults.FATAL),
        # The others prepare for their end in a way that only the main thread may.
        *(("callback", fault) for fault in ("killed", "os._exit")),
    ],
)
def test_what_ends_the_parent_ends_its_workers(place, fault):
    program = PROGRAM.format(root=str(project_root()))
    done = subprocess.run([sys.executable, "-c", program, place, fault], capture_output=True, text=True, timeout=60)
    assert done.returncode == faults.EXIT_CODES[fault], done.stderr
    workers = list(map(int, done.stdout.split()))
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    try:
        while any(map(kill.is_running, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        for pid in filter(kill.is_running, workers):
            os.kill(pid, signal.SIGKILL)
