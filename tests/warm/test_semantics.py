"""A process from the template is what the standard library would have started: programs print the same under both."""

import sys
import textwrap

import pytest

from tests.support.methods import FRESH
from tests.support.programs import python

# What every program begins with; the rest is the test's.
HEAD = """
import os, signal, sys, time
import {module} as mp
{top}
if __name__ == "__main__":
    ctx = mp.get_context({method!r})
    def run(target, *args, **keywords):
        process = ctx.Process(target=target, args=args, **keywords)
        process.start()
        process.join()
        return process
"""


def program(tmp_path, module, method, top, body, name="program.py"):
    head = HEAD.format(module=module, method=method, top=textwrap.dedent(top))
    path = tmp_path / name
    path.write_text(head + textwrap.indent(textwrap.dedent(body), "    "))
    return path


# Children of the standard library's fork server inherit from that: what the parent was when it started the server.
# Those of breakeven inherit from the parent as it is, whatever the method.
spawn_only = pytest.mark.parametrize("both", ["spawn"], indirect=True)


@pytest.fixture(params=FRESH)
def both(request, tmp_path):
    """Runs a program under the standard library and under breakeven, which must end in the same way; returns that."""

    def run(top, body, *, same_errors=True, **keywords):
        outcomes = []
        for module in ("multiprocessing", "breakeven"):
            outcomes.append(python(program(tmp_path, module, request.param, top, body), **keywords))
        theirs, ours = outcomes
        assert ours.out == theirs.out, ours.err
        assert ours.code == theirs.code
        if same_errors:
            assert ours.err == theirs.err
        return ours

    return run


def test_every_way_to_end_has_its_exit_code(both):
    done = both(
        """
        def end(how):
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif how == "abort":
                os.kill(os.getpid(), signal.SIGABRT)
            elif how == "_exit":
                os._exit(7)
            elif how == "raise":
                raise ValueError("no")
            elif how is not ...:
                sys.exit(how)
        """,
        """
        for how in (..., None, 0, 3, 256 + 5, "a text", "kill", "abort", "_exit", "raise"):
            print(how, run(end, how).exitcode)
        """,
        same_errors=False,  # the lines of the traceback
    )
    assert "kill -9\n" in done.out and "a text 1\n" in done.out
    assert "ValueError: no" in done.err and "a text\n" in done.err


def test_the_life_of_a_process_object(both):
    both(
        """
        from multiprocessing.connection import wait
        def sleep():
            time.sleep(1000)
        """,
        """
        process = ctx.Process(target=sleep, name="sleeper", daemon=True)
        print(process.pid, process.exitcode, process.is_alive(), process.daemon)
        process.start()
        print(process.is_alive(), process.exitcode, process in mp.active_children(), wait([process.sentinel], 0))
        process.join(0.01)
        try:
            process.close()
        except ValueError as error:
            print(error)
        process.terminate()
        print(wait([process.sentinel]) == [process.sentinel])
        process.join()
        print(process.exitcode, process.is_alive(), mp.active_children())
        process.close()
        killed = ctx.Process(target=sleep)
        killed.start()
        killed.kill()
        killed.join()
        print(killed.exitcode, killed.name, killed.daemon)
        """,
    )


def test_what_a_child_knows_of_itself_and_its_parent(both):
    both(
        """
        def tell(parent):
            me, above = mp.current_process(), mp.parent_process()
            print(me.name, me.daemon, above.name, above.pid == parent, above.is_alive(), sys.argv[1:])
            print(__name__, sys.modules["__main__"].__name__, mp.get_start_method(), bool(me.authkey))
            try:
                me.close()
            except ValueError as error:
                print(error)
        """,
        """
        sys.argv.append("argument")
        run(tell, os.getpid())
        run(tell, os.getpid(), name="other", daemon=True)
        """,
    )


@spawn_only
def test_it_inherits_the_parent_as_it_is_now(both, tmp_path):
    both(
        f"""
        other = {str(tmp_path)!r}
        def look():
            print(os.environ.get("NEW"), os.environ.get("GONE"), os.path.basename(os.getcwd()))
            mask = os.umask(0)
            print(oct(mask), sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True)
            print([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)])
            print(signal.getsignal(signal.SIGPIPE))
            print(sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0), os.getpgrp() == os.getppid())
        """,
        """
        os.environ["GONE"] = "there"
        run(look)
        os.environ["NEW"] = "text"
        del os.environ["GONE"]
        os.chdir("/")
        os.umask(0o77)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        run(look)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + 1)
        run(look)
        """,
        env={"GONE": "there"},
    )


@spawn_only
def test_standard_streams_are_the_parents_of_the_moment(both, tmp_path):
    both(
        f"""
        path = {str(tmp_path / "out.txt")!r}
        def write(text):
            print(text, sys.stdin.read() == "", sys.stdout.line_buffering, sys.stdout.encoding, sys.stdout.name)
            print(text, "error", file=sys.stderr)
        """,
        """
        run(write, "first")
        kept = os.dup(1)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        run(write, "second")
        os.dup2(kept, 1)
        print(open(path).read())
        run(write, "third")
        """,
        stdin="not for the child",
    )


def test_a_script_is_run_by_each_child_as_by_a_new_interpreter(both, tmp_path):
    done = both(
        """
        print("body", __name__, flush=True)
        counter = [0]
        def count():
            counter[0] += 1
            print("counted", counter[0])
        """,
        """
        run(count)
        run(count)
        """,
    )
    assert done.out.count("body __mp_main__") == 2 and done.out.count("body __main__") == 1
    assert done.out.count("counted 1") == 2


def test_random_numbers_differ_between_children(tmp_path):
    pytest.importorskip("numpy")
    path = program(
        tmp_path,
        "breakeven",
        "spawn",
        """
        import random, numpy, uuid
        def draw():
            print(random.random(), numpy.random.random(), uuid.uuid4())
        """,
        """
        for _ in range(3):
            run(draw)
        """,
    )
    done = python(path)
    numbers = done.out.split()
    assert len(numbers) == len(set(numbers)) == 9, done.err


def test_exit_handlers_run_where_the_standard_library_runs_them(both):
    both(
        """
        import atexit
        from multiprocessing import util
        def leave():
            atexit.register(print, "registered by the child")
            util.Finalize(None, print, ("finalized",), exitpriority=1)
            sys.stdout.write("not flushed by itself ")
        """,
        """
        run(leave)
        """,
    )


def test_an_exception_while_the_child_comes_up_ends_it(both):
    done = both(
        """
        class Refuses:
            def __reduce__(self):
                return int, ("not a number",)
        """,
        """
        print(run(print, Refuses()).exitcode)
        """,
        same_errors=False,
    )
    assert done.out == "1\n" and "ValueError" in done.err


def test_what_cannot_be_pickled_is_an_error_here_and_the_next_start_works(both):
    both(
        """
        import threading
        def work():
            print("works")
        """,
        """
        try:
            run(work, threading.Lock())
        except TypeError as error:
            print(error)
        run(work)
        """,
    )


def test_a_child_may_have_children_of_each_method(both):
    both(
        """
        def leaf(text):
            print(text, flush=True)
        def branch():
            for method in ("fork", "spawn", "forkserver"):
                process = mp.get_context(method).Process(target=leaf, args=(method,))
                process.start()
                process.join()
                print(process.exitcode, flush=True)
        """,
        """
        run(branch)
        """,
    )


@pytest.mark.parametrize("method", FRESH)
def test_an_unguarded_script_gets_the_clear_error(tmp_path, method):
    path = tmp_path / "unguarded.py"
    path.write_text(
        f"import breakeven as mp\n"
        f"ctx = mp.get_context({method!r})\n"
        f"print('body')\n"
        f"process = ctx.Process(target=print)\n"
        f"process.start()\n"
        f"process.join()\n"
        f"print(process.exitcode)\n"
    )
    done = python(path)
    assert "bootstrapping phase" in done.err
    assert done.out.split() == ["body", "body", "1"]


@pytest.mark.parametrize("method", FRESH)
def test_a_package_run_by_name_and_a_directory(tmp_path, method):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    program(package, "breakeven", method, "def work(): print(__name__, work.__module__)", "run(work)", "inside.py")
    done = python("-m", "package.inside", cwd=tmp_path)
    assert done.out == "__mp_main__ __mp_main__\n", done.err
    # A __main__.py is not run again by children, so what they are to do comes from elsewhere.
    (package / "other.py").write_text("def work(): print(__name__)\n")
    top = "sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\nfrom other import work"
    program(package, "breakeven", method, top, "run(work)", "__main__.py")
    assert python(package).out == "other\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the option is new in 3.11")
def test_the_interpreters_options_are_the_parents(both):
    both(
        """
        import warnings
        def tell():
            print(sys.flags.utf8_mode, sys.flags.optimize, sys.warnoptions, sys._xoptions)
        """,
        """
        run(tell)
        """,
        env={"PYTHONWARNINGS": "ignore::UserWarning"},
    )
