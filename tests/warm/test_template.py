"""The template: hidden from the program, found again, given up when it would not be what a new interpreter is."""

import os
import random
import select
import signal
import textwrap
import time

import breakeven
import pytest
from breakeven import _native, _warm

from tests.support.leaks import difference, snapshot
from tests.support.programs import python
from tests.warm import things


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """Earlier tests, or a machine with too much to do, may have made the owner give up templates for a while."""
    monkeypatch.setattr(_warm, "_rest", 0)
    monkeypatch.setattr(_warm, "_wasted", 0)


@pytest.fixture(params=("spawn", "forkserver"))
def ctx(request):
    return breakeven.get_context(request.param)


def run(ctx, target=things.nothing, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join()
    code = process.exitcode
    process.close()
    return code


def template():
    """The template, which is there after a start."""
    assert _warm._current is not None and _warm._current.gone is None
    return _warm._current


def wait_gone(pid, limit=20.0):
    """Wait until a process that is not our child is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], limit)[0], f"process {pid} lives on"
    finally:
        os.close(pidfd)


def script(tmp_path, text, name="script.py"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(text))
    return path


def wait_learned(template, limit=60.0):
    """Wait until the template knows what a worker's start writes to; returns how many bytes."""
    deadline = time.monotonic() + limit
    while template.learned is None:
        assert time.monotonic() < deadline and template.gone is None, template.gone
        template.hear(0.1)
    return template.learned


# --- hidden ---


def test_the_program_has_no_child_but_those_it_started(python, tmp_path):
    path = script(
        tmp_path,
        """
        import os, signal, socket, sys, time
        import breakeven as mp
        def nothing():
            pass
        if __name__ == "__main__":
            seen = []
            signal.signal(signal.SIGCHLD, lambda *_: seen.append("SIGCHLD"))
            read, write = socket.socketpair()
            write.setblocking(False)
            signal.set_wakeup_fd(write.fileno())
            from multiprocessing import resource_tracker
            for method in ("spawn", "forkserver"):
                process = mp.get_context(method).Process(target=nothing)
                process.start()
                print(process in mp.active_children())
                process.join()
            from breakeven import _warm
            assert _warm._current.starts == 2
            pid = _warm._current.pid
            _warm.stop()
            # The one child is the standard library's resource tracker.
            children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
            print(children == [str(resource_tracker._resource_tracker._pid)], os.waitpid(-1, os.WNOHANG), seen)
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                print("not ours")
        """,
    )
    done = python(path)
    assert done.out == "True\nTrue\nTrue (0, 0) []\nnot ours\n", done.err


def test_nothing_is_said_about_it_at_the_end(python, tmp_path):
    path = script(
        tmp_path,
        """
        import breakeven as mp
        def nothing():
            pass
        if __name__ == "__main__":
            process = mp.get_context("spawn").Process(target=nothing)
            process.start()
            process.join()
        """,
    )
    done = python("-X", "dev", "-W", "always::ResourceWarning", path)
    assert (done.code, done.out) == (0, "") and "ResourceWarning" not in done.err, done.err


def test_later_starts_find_it_again(ctx):
    run(ctx)
    first = template()
    starts = first.starts
    with ctx.Pool(2) as pool:
        assert pool.map(things.give, range(3)) == [0, 1, 2]
    with breakeven.ProcessPoolExecutor(1, mp_context=ctx) as executor:
        assert executor.submit(things.give, 5).result() == 5
    assert template() is first and first.starts == starts + 3


def test_a_thousand_starts_leave_nothing(ctx):
    run(ctx)
    pid = template().pid
    before = snapshot()
    fds = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(1000 if os.environ.get("BREAKEVEN_LONG_TESTS") else 100):
        assert run(ctx) == 0
    assert template().pid == pid
    assert not difference(before, snapshot())
    # Two for each spare, of which there may be some more or less just now.
    assert len(os.listdir(f"/proc/{pid}/fd")) <= fds + 2 * 8


def test_spares_know_what_workers_write_to(ctx):
    try:
        _native.make_own(b"")
        _native.own_pages()
    except OSError:
        pytest.skip("this kernel does not tell, or cannot copy ahead")
    run(ctx)
    assert 100_000 < wait_learned(template()) < 16 << 20
    with ctx.Pool(2) as pool:
        assert pool.map(things.give, range(3)) == [0, 1, 2]


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


@pytest.mark.parametrize("seed", range(3))
def test_whoever_takes_part_in_the_lesson_is_killed(ctx, seed):
    chance = random.Random(seed)
    _warm.stop()
    for _ in range(4):  # after which the lesson does not wait for a quiet moment
        assert run(ctx) == 0
    server = template()
    deadline = time.monotonic() + 60
    while server.learned is None and time.monotonic() < deadline:
        time.sleep(chance.uniform(0, 0.01))
        for pid in children(server.pid):
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if pid in children(server.pid):  # and the number is not another's by now
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    assert select.select([pidfd], [], [], 60)[0]
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)
        server.hear(0)
    assert server.learned is not None and template() is server
    assert run(ctx) == 0


def test_a_child_holds_no_descriptors_of_the_template(ctx):
    queue = ctx.SimpleQueue()
    others = [ctx.Process(target=things.sleep) for _ in range(3)]
    for other in others:
        other.start()
    counts = []
    for _ in range(2):
        assert run(ctx, things.own_descriptors, queue) == 0
        counts.append(queue.get())
    for other in others:
        other.kill()
        other.join()
        other.close()
    assert run(ctx, things.own_descriptors, queue) == 0
    assert {*counts} == {queue.get()}
    queue.close()


# --- and when it is not to be used ---


def test_it_can_be_turned_off(python, tmp_path):
    path = script(
        tmp_path,
        """
        import os
        import breakeven as mp
        def tell(parent):
            print(os.getppid() == parent, flush=True)
        if __name__ == "__main__":
            process = mp.get_context("spawn").Process(target=tell, args=(os.getpid(),))
            process.start()
            process.join()
        """,
    )
    assert python(path, env={"BREAKEVEN_WARM": "0"}).out == "True\n"
    assert python(path, env={"BREAKEVEN_WARM": "1"}).out == "False\n"


def test_another_executable_is_started_as_the_standard_library_does(python, tmp_path):
    path = script(
        tmp_path,
        """
        import os, sys
        import breakeven as mp
        def tell():
            print(os.environ.get("WRAPPED"), flush=True)
        if __name__ == "__main__":
            wrapper = sys.argv[1]
            with open(wrapper, "w") as file:
                file.write(f'#!/bin/sh\\nWRAPPED=yes exec {sys.executable} "$@"\\n')
            os.chmod(wrapper, 0o755)
            mp.set_executable(wrapper)
            process = mp.get_context("spawn").Process(target=tell)
            process.start()
            process.join()
        """,
    )
    assert python(path, tmp_path / "wrapper").out == "yes\n"


def test_a_forked_child_has_a_template_of_its_own(ctx):
    run(ctx)
    mine = template()
    queue = breakeven.get_context("fork").SimpleQueue()

    def in_child():
        before = _warm._current is None
        code = run(ctx)
        queue.put((before, code, _warm._current.pid))

    child = breakeven.get_context("fork").Process(target=in_child)
    child.start()
    before, code, pid = queue.get()
    child.join()
    child.close()
    queue.close()
    assert before and code == 0 and pid != mine.pid
    wait_gone(pid)
    assert run(ctx) == 0 and template() is mine


def test_it_ends_for_want_of_work_and_comes_again(python, tmp_path):
    path = script(
        tmp_path,
        """
        import os, select
        import breakeven as mp
        from breakeven import _warm
        def nothing():
            pass
        if __name__ == "__main__":
            pids = set()
            for method in ("spawn", "forkserver") * 3:
                process = mp.get_context(method).Process(target=nothing)
                process.start()
                process.join()
                pid = _warm._current.pid
                pids.add(pid)
                try:
                    pidfd = os.pidfd_open(pid)
                except ProcessLookupError:
                    continue
                assert select.select([pidfd], [], [], 30)[0]
                os.close(pidfd)
            print(len(pids), process.exitcode)
        """,
    )
    assert python(path, env={"BREAKEVEN_WARM_IDLE": "0.05"}).out == "6 0\n"


def test_starts_race_with_the_idle_end(python, tmp_path, seed):
    path = script(
        tmp_path,
        """
        import random, sys, time
        import breakeven as mp
        def nothing():
            pass
        if __name__ == "__main__":
            chance = random.Random(int(sys.argv[1]))
            ctx = mp.get_context("spawn")
            for _ in range(40):
                process = ctx.Process(target=nothing)
                process.start()
                process.join()
                assert process.exitcode == 0, process.exitcode
                time.sleep(chance.uniform(0.0, 0.02))
            print("done")
        """,
    )
    done = python(path, seed, env={"BREAKEVEN_WARM_IDLE": "0.01"})
    assert done.out == "done\n", done.err


# --- modules ---

PROGRAM = """
import os, sys, time
import breakeven as mp
from breakeven import _warm
{top}
def look():
{look}
def run():
    process = mp.get_context({method!r}).Process(target=look)
    process.start()
    process.join()
    assert process.exitcode == 0
if __name__ == "__main__":
{body}
"""


def modular(tmp_path, method, *, top="import own", look, body, **modules):
    for name, text in modules.items():
        script(tmp_path, text, f"{name}.py")
    indent = lambda text: textwrap.indent(textwrap.dedent(text), "    ")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(top=textwrap.dedent(top), look=indent(look), method=method, body=indent(body)))
    return python(path)


def test_modules_of_the_program_are_imported_once(tmp_path):
    done = modular(
        tmp_path,
        "spawn",
        own="import time; at = time.monotonic()",
        look="print(own.at, flush=True)",
        body="run(); run()",
    )
    first, second = done.out.split()
    assert first == second


@pytest.mark.parametrize(
    "module, reason",
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()", "thread"),
        ("print('imported')", "writes"),
        ("import os; file = open(os.devnull)", "opens"),
        ("import os; pid = os.getpid()", "process number"),
        ("import random; generator = random.Random()", "generator"),
        ("import subprocess; child = subprocess.Popen(['sleep', '1000'])", "process"),
    ],
    ids=["thread", "output", "file", "pid", "random", "process"],
)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_modules_whose_import_does_more_are_imported_by_each_child(tmp_path, method, module, reason):
    done = modular(
        tmp_path,
        method,
        top="import outer",
        outer="import own",
        own=f"import time\nat = time.monotonic()\n{module}\n",
        look="import own; print(own.at, flush=True); getattr(own, 'child', None) and own.child.kill()",
        body="""
        run(); run()
        import own
        if hasattr(own, "child"):
            own.child.kill()
            own.child.wait()
        print(_warm._guilty["own"], _warm._current.gone)
        """,
    )
    lines = [line for line in done.out.splitlines() if line != "imported"]
    assert lines[0] != lines[1], done
    assert reason in lines[2] and lines[2].endswith("None")
    if reason == "writes":
        assert done.out.count("imported") == 3  # here and in both children, as with the standard library


def test_what_a_module_leaves_for_the_end_is_done_by_the_processes_that_the_program_starts(tmp_path):
    done = modular(
        tmp_path,
        "spawn",
        look="pass",
        body="""
        run()
        while _warm._current.learned is None and _warm._current.gone is None:
            _warm._current.hear(0.1)
        run()
        with open(own.path) as file:
            print(*file.read().split())
        """,
        own=f"""
        import atexit
        path = {str(tmp_path / "notes")!r}
        def note():
            with open(path, "a") as file:
                print("ended", file=file)
        atexit.register(note)
        """,
    )
    assert (done.code, done.out) == (0, "ended ended\n"), done


def test_a_module_that_fails_or_hides_behind_the_guard_does_not_keep_others(tmp_path):
    done = modular(
        tmp_path,
        "spawn",
        top="if __name__ == '__main__':\n    import own, big",
        own="import __main__; __main__.mp.set_forkserver_preload",
        big="print('big') if __name__ == '__main__' else None",
        look="print('own' in sys.modules, flush=True)",
        body="run(); print(_warm._current.gone)",
    )
    assert done.out == "False\nNone\n", done


def test_a_changed_module_is_read_again(tmp_path):
    done = modular(
        tmp_path,
        "spawn",
        own="value = 1",
        look="print(own.value, flush=True)",
        body="""
        run()
        with open(own.__file__, "w") as file:
            file.write("value = 1000")
        run()
        """,
    )
    assert done.out == "1\n1000\n"


def test_a_variable_that_was_read_at_import_is_read_again(tmp_path):
    done = modular(
        tmp_path,
        "spawn",
        own="import os; value = os.environ.get('OWN_VARIABLE')",
        look="print(own.value, flush=True)",
        body="""
        run()
        first = _warm._current
        os.environ["ANOTHER_VARIABLE"] = "x"
        run()
        print(_warm._current is first)
        os.environ["OWN_VARIABLE"] = "set"
        run()
        print(_warm._current is first)
        """,
    )
    assert done.out == "None\nNone\nTrue\nset\nFalse\n"


def test_a_program_that_changes_it_all_the_time_is_served_by_the_standard_library(tmp_path):
    done = modular(
        tmp_path,
        "spawn",
        own="import os; value = os.environ.get('OWN_VARIABLE')",
        look="print(own.value, flush=True)",
        body="""
        for number in range(6):
            os.environ["OWN_VARIABLE"] = str(number)
            run()
        print(_warm._rest > 0)
        """,
    )
    assert done.out.split() == ["0", "1", "2", "3", "4", "5", "True"]


def test_numpy_is_preloaded_without_its_threads(tmp_path):
    pytest.importorskip("numpy")
    done = modular(
        tmp_path,
        "spawn",
        top="import numpy",
        look="a = numpy.ones((300, 300)); print('numpy' in sys.modules, (a @ a)[0, 0], flush=True)",
        body="""
        run()
        threads = len(os.listdir(f"/proc/{_warm._current.pid}/task"))
        print(threads, _warm._guilty)
        """,
    )
    assert done.out == "True 300.0\n1 {}\n"


def test_preloaded_modules_that_were_asked_for(tmp_path):
    done = modular(
        tmp_path,
        "forkserver",
        top="mp.set_forkserver_preload(['asked'])",
        asked="value = 1",
        look="print('asked' in sys.modules, flush=True)",
        body="run()",
    )
    assert done.out == "True\n"


def test_what_is_imported_later_is_preloaded_by_the_next_template(tmp_path):
    pytest.importorskip("numpy")
    done = modular(
        tmp_path,
        "spawn",
        top="",
        look="print('numpy' in sys.modules, flush=True)",
        body="""
        run()
        import numpy
        from multiprocessing import spawn
        deadline = time.monotonic() + 40
        first = _warm._current
        run()
        while _warm._current is first and time.monotonic() < deadline:
            time.sleep(0.1)
            with _warm._lock:
                _warm._look_ahead(_warm._Surroundings(), spawn.get_preparation_data("x"))
        run()
        """,
    )
    assert done.out == "False\nFalse\nTrue\n"


# --- death ---


def test_a_signal_sent_right_after_the_start_arrives(ctx):
    run(ctx)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP) * 10:
        process = ctx.Process(target=things.sleep)
        process.start()
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode == -number
        process.close()


def test_the_template_is_killed_at_random_moments(ctx, seed):
    import random

    chance = random.Random(seed)
    for _ in range(10):
        process = ctx.Process(target=things.nothing)
        process.start()
        killed = _warm._current
        if killed is not None and killed.gone is None:
            time.sleep(chance.uniform(0, 0.01))
            try:
                os.kill(killed.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.join()
        # The template may have been unable to tell.
        assert process.exitcode in (0, 255)
        process.close()
    assert run(ctx, things.end_with, 3) == 3


def test_the_number_of_an_ended_process_is_its_own_until_it_is_joined(ctx):
    process = ctx.Process(target=things.end_with, args=(5,))
    process.start()
    assert select.select([process.sentinel], [], [], 60)[0]
    pid = process.pid
    os.kill(pid, signal.SIGUSR1)
    assert process.exitcode == 5
    process.join()
    process.close()
    wait_reaped(pid)


def wait_reaped(pid, limit=20.0):
    deadline = time.monotonic() + limit
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, f"process {pid} is kept"
        time.sleep(0.01)


def test_an_ended_process_is_forgotten_with_its_object(ctx):
    process = ctx.Process(target=things.nothing)
    process.start()
    assert select.select([process.sentinel], [], [], 60)[0]
    pid = process.pid
    from multiprocessing import process as stdlib

    stdlib._children.discard(process)
    del process
    wait_reaped(pid)


def test_a_process_tells_itself_how_it_ends(ctx):
    queue = ctx.SimpleQueue()
    process = ctx.Process(target=things.end_as_told, args=(queue,))
    process.start()
    os.kill(template().pid, signal.SIGKILL)
    wait_gone(template().pid)
    queue.put(5)
    process.join()
    assert process.exitcode == 5
    process.close()


@pytest.mark.parametrize("how", ["closed", "replaced"])
def test_a_process_that_has_closed_its_descriptors_ends_as_ever(ctx, how, tmp_path):
    path = tmp_path / "file"
    process = ctx.Process(target=things.close_descriptors, args=(how, str(path)))
    process.start()
    process.join()
    assert process.exitcode == 5
    process.close()
    assert not path.exists() or path.read_bytes() == b""


def test_children_outlive_a_killed_template_and_their_end_is_noticed(ctx):
    process = ctx.Process(target=things.sleep)
    process.start()
    os.kill(template().pid, signal.SIGKILL)
    wait_gone(template().pid)
    assert process.is_alive() and process.exitcode is None
    process.terminate()
    process.join()
    assert process.exitcode == 255
    process.close()


PARENT = """
import os, sys, time
import breakeven as mp
from breakeven import _warm
from tests.warm import things
if __name__ == "__main__":
    ctx = mp.get_context(sys.argv[1])
    queue = ctx.SimpleQueue()
    processes = [ctx.Process(target=things.stubborn, args=(queue,), daemon=True)]
    processes[0].start()
    stubborn = queue.get()
    pool = ctx.Pool(2)
    result = pool.map_async(time.sleep, [1000] * 4)
    executor = mp.ProcessPoolExecutor(1, mp_context=ctx)
    future = executor.submit(time.sleep, 1000)
    survivor = ctx.Process(target=things.sleep)
    survivor.start()
    time.sleep(0.2)
    tied = [stubborn, _warm._current.pid, *(worker.pid for worker in pool._pool), *executor._processes]
    _warm._current.hear(1)
    tied += [spare.pid for spare in _warm._current.spares]
    print(survivor.pid, *tied, flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("template_too", [False, True])
def test_nothing_tied_outlives_a_killed_parent(tmp_path, method, template_too):
    import subprocess
    import sys

    path = tmp_path / "parent.py"
    path.write_text(PARENT)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    parent = subprocess.Popen(
        [sys.executable, path, method], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    )
    survivor, stubborn, server, *others = map(int, parent.stdout.readline().split())
    parent.kill()
    if template_too:
        # Then only what watches the parent by itself ends: workers and spares, not daemons.
        os.kill(server, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for pid in [server, *others]:
        wait_gone(pid)
    if template_too:
        os.kill(stubborn, signal.SIGKILL)
    wait_gone(stubborn)
    os.kill(survivor, signal.SIGKILL)  # raises if it was ended: a process that is no daemon lives on


def test_ctrl_c_ends_everything_with_one_traceback(tmp_path):
    import subprocess
    import sys

    path = script(
        tmp_path,
        """
        import time
        import breakeven as mp
        from breakeven import _warm
        if __name__ == "__main__":
            with mp.get_context("spawn").Pool(2) as pool:
                pool.map(abs, range(4))
                print(_warm._current.pid, *(worker.pid for worker in pool._pool), flush=True)
                pool.map(time.sleep, [1000] * 2)
        """,
    )
    program = subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    pids = list(map(int, program.stdout.readline().split()))
    time.sleep(0.1)
    os.killpg(program.pid, signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert err.count("Traceback") == 1 and err.rstrip().endswith("KeyboardInterrupt")
    for pid in pids:
        wait_gone(pid)


def test_want_of_processes_or_descriptors_is_an_error_of_the_start(tmp_path):
    done = modular(
        tmp_path,
        "spawn",
        top="import resource",
        look="pass",
        body="""
        run()
        keep = []
        try:
            while True:
                keep.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for _ in range(20):
            try:
                run()
            except OSError as error:
                print(error.errno)
                break
        for fd in keep:
            os.close(fd)
        run()
        print("works again")
        """,
    )
    assert done.out == "24\nworks again\n", done
