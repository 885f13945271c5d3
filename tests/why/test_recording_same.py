"""Recording a program changes nothing that is seen from outside: output, errors with their tracebacks, exit code."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.run import test_same_as_python as same
from tests.support import programs
from tests.why import recordings


def assert_same(folder, *arguments, **keywords):
    saved = folder / "recording.json"
    plain = programs.python(*arguments, **keywords)
    ours = programs.python("-m", "breakeven._why.supervisor", "--json", saved, *arguments, **keywords)
    if plain.code < 0:  # as a shell says it
        plain.code = 128 - plain.code
    same.assert_same(plain, ours)
    return json.loads(saved.read_text())


@pytest.mark.parametrize("name", same.SCRIPTS)
def test_script(tmp_path, name):
    (tmp_path / "neighbour.py").write_text("VALUE = 'beside the script'\n")
    path = recordings.write(tmp_path, same.SCRIPTS[name].lstrip("\n"))
    if "\0" in same.SCRIPTS[name]:
        path.write_text(same.SCRIPTS[name])
    recording = assert_same(tmp_path, path, "a", "-b", stdin="one\ntwo\n")
    assert recording["processes"]


@pytest.mark.parametrize("name", same.CODES)
def test_code(tmp_path, name):
    assert_same(tmp_path, "-c", same.CODES[name], "x", "-y")


POOLS = """
    import concurrent.futures, multiprocessing, sys, threading

    def fails(n):
        if n == 3:
            raise ValueError(n)
        return n

    def cannot_be_sent(n):
        return lambda: n

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        with context.Pool(1) as pool:
            print(pool.map(fails, range(3)))
            for attempt in (
                lambda: pool.map(fails, range(5), 1),
                lambda: list(pool.imap(fails, range(5))),
                lambda: pool.apply(cannot_be_sent, (1,)),
                lambda: pool.apply(fails, (lambda: 1,)),
                lambda: pool.map(fails, (1 / n for n in range(3, -1, -1))),
                lambda: list(pool.imap(fails, (1 / n for n in range(3, -1, -1)))),
                lambda: pool.apply_async(fails, (3,)).get(timeout=60),
            ):
                try:
                    print(attempt())
                except Exception as error:
                    print(type(error), error, error.__cause__)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
            for future in [executor.submit(fails, n) for n in range(5)]:
                print(future.exception(), future.exception() and future.exception().__cause__)
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            future = executor.submit(fails, 3)
            concurrent.futures.wait([future])
            future.result()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_errors_of_tasks_have_the_same_tracebacks(tmp_path, method):
    assert_same(tmp_path, recordings.write(tmp_path, POOLS), method)


INTROSPECTION = """
    import inspect, multiprocessing, multiprocessing.pool, pickle, threading

    for function in (
        multiprocessing.Process.start, multiprocessing.Process.join, multiprocessing.pool.Pool.map,
        multiprocessing.pool.Pool.apply_async, multiprocessing.pool.worker, threading.Thread.join,
    ):
        print(function.__name__, function.__qualname__, function.__module__, inspect.signature(function))
        print((function.__doc__ or "").strip()[:40])
        print(callable(function), inspect.unwrap(function).__name__)
    assert pickle.loads(pickle.dumps(multiprocessing.pool.worker)) is multiprocessing.pool.worker
    print(multiprocessing.Process.__mro__)

    class Mine(multiprocessing.Process):
        def start(self):
            print("mine")
            super().start()

        def run(self):
            print("runs", flush=True)

    context = multiprocessing.get_context("fork")
    one = Mine()
    one.start()
    one.join()
    print(one.exitcode)
"""


def test_what_is_hooked_looks_like_what_it_was(tmp_path):
    assert_same(tmp_path, recordings.write(tmp_path, INTROSPECTION))


def test_a_program_that_is_not_there(tmp_path):
    assert_same(tmp_path, tmp_path / "missing.py")


def start(folder, source):
    """Start a recorded program that says a line when it is ready; returns the supervisor."""
    path = recordings.write(folder, source)
    process = subprocess.Popen(
        [sys.executable, "-m", "breakeven._why.supervisor", "--json", folder / "recording.json", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


# The child is up when it says that it is ready, and its parent where it is to be: in this function of the kernel's.
WAITS = """
    import multiprocessing, os, sys, time

    def work(where):
        while where not in open(f"/proc/{{os.getppid()}}/wchan").read():
            time.sleep(0.01)
        print("ready", flush=True)
        time.sleep(600)

    if __name__ == "__main__":
        process = multiprocessing.get_context("fork").Process(
            target=work, args=({where!r},), daemon=True, name="worker"
        )
        process.start()
        {then}
"""


def end(folder, process):
    """The recording, when the supervisor has ended; the program's children are ended, who hold its output open."""
    try:
        process.wait(timeout=60)
        recording = json.loads((folder / "recording.json").read_text())
        for child in recording["processes"][1:]:
            try:
                os.kill(child["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    return recordings.Recorded(programs.Outcome(process.returncode, out, err), recording)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_supervisor_are_passed_on(tmp_path, number):
    process = start(tmp_path, WAITS.format(where="", then="time.sleep(600)"))
    process.send_signal(number)
    recorded = end(tmp_path, process)
    if number == signal.SIGINT:
        assert recorded.outcome.err.endswith("KeyboardInterrupt\n")
        assert recorded.outcome.code == 130
    else:
        assert (recorded.outcome.code, recorded.outcome.err) == (143, "")
        assert recorded.main["exit_code"] == -15
    assert [child["name"] for child in recorded.children("fork")] == ["worker"]


COUNTS = """
    import signal, sys, time

    came = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: came.append(number))
    print("ready", flush=True)
    while not came:
        time.sleep(0.01)
    time.sleep(0.3)
    print(*came)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("to", ["group", "supervisor"])
def test_a_signal_reaches_the_program_once(tmp_path, number, to):
    process = start(tmp_path, COUNTS)
    (os.killpg if to == "group" else os.kill)(process.pid, number)
    recorded = end(tmp_path, process)
    assert recorded.outcome == programs.Outcome(0, f"{number:d}\n", "")
    assert len(recorded.processes) == 1


def test_signals_to_the_group_one_after_the_other_arrive_once_each(tmp_path):
    source = """
        import signal

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        for n in range(3):
            print("ready", flush=True)
            signal.sigwait({signal.SIGUSR1})
        print(signal.sigtimedwait({signal.SIGUSR1}, 0.3))
    """
    process = start(tmp_path, source)
    for _ in range(3):
        children = set(_children_of(process.pid))
        os.killpg(process.pid, signal.SIGUSR1)
        line = process.stdout.readline()
        limit = time.monotonic() + 60
        while set(_children_of(process.pid)) == children:  # until the supervisor has seen to this one
            assert time.monotonic() < limit
            time.sleep(0.01)
    assert line == "None\n"
    assert end(tmp_path, process).outcome == programs.Outcome(0, "", "")


def test_a_program_that_is_killed_leaves_a_recording_of_what_it_was_in(tmp_path):
    process = start(tmp_path, WAITS.format(where="do_wait", then="process.join()"))
    (main,) = [child for child in _children_of(process.pid) if _reads_memory_of(child, process.pid)]
    os.kill(main, signal.SIGKILL)
    recorded = end(tmp_path, process)
    assert recorded.outcome.code == 137
    assert recorded.main["exit_code"] == -9
    (child,) = recorded.children("fork")
    (join,) = recorded.records("join", recorded.main, object=child["pid"])
    assert join["flags"] == ["cut"]
    assert join["end"] == recorded.main["end"]
    (run,) = recorded.records("run", child)
    assert (run["flags"], run["name"]) == (["cut"], "work")


def test_a_worker_that_is_killed_leaves_its_records(tmp_path):
    recorded = recordings.record(
        tmp_path,
        """
        import concurrent.futures, multiprocessing, os, signal

        def work(n):
            if n == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return n

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            executor = concurrent.futures.ProcessPoolExecutor(1, mp_context=context)
            try:
                print(list(executor.map(work, range(10))))
            except concurrent.futures.process.BrokenProcessPool:
                print("broken")
        """,
    )
    assert recorded.outcome.out == "broken\n"
    (worker,) = recorded.children("fork")
    assert worker["exit_code"] == -9
    tasks = recorded.records("task", worker)
    assert [task["link"] for task in tasks] == [1, 2, 3, 4, 5, 6]
    assert [task["flags"] for task in tasks] == [[]] * 5 + [["cut"]]


def _reads_memory_of(pid, supervisor):
    """Whether it is the program: the supervisor's other child is there for its signals."""
    with open(f"/proc/{pid}/cmdline") as file:
        return f"/proc/{supervisor}/fd/" in file.read()


def _children_of(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(name))
    return found


def test_the_program_outlives_a_supervisor_that_is_killed(tmp_path):
    done = tmp_path / "done"
    path = recordings.write(
        tmp_path,
        f"""
        import multiprocessing, os, sys

        def work(n):
            return n + 1

        if __name__ == "__main__":
            print("ready", flush=True)
            sys.stdin.readline()
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                total = sum(pool.map(work, range(100)))
            with multiprocessing.get_context("fork").Pool(2) as pool:
                total += sum(pool.imap(work, range(100)))
            with open({str(done)!r} + "-", "w") as file:
                file.write(str(total))
            os.rename({str(done)!r} + "-", {str(done)!r})
        """,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "breakeven._why.supervisor", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.wait()
        process.stdin.write("go\n")
        process.stdin.flush()
        limit = time.monotonic() + 60
        while not done.exists():
            assert time.monotonic() < limit, "the program hangs"
            time.sleep(0.05)
        assert done.read_text() == "10100"
        process.stdout.read()  # until the program has ended
    finally:
        process.stdin.close()
        process.stdout.close()
