"""`breakeven run`: the program cannot tell it from plain Python. Each case runs both ways, and all that is seen from
outside must be equal: output, errors with their tracebacks, exit code or signal."""

import os
import py_compile
import re
import sys
import zipfile

import pytest

from tests.support import programs

# name: the program
SCRIPTS = {
    "prints": "print('hello')",
    "argv": "import sys; print(sys.argv, sys.flags.dev_mode)",
    "path": "import sys; print(sys.path)",
    "stdin": "import sys; print([line for line in sys.stdin])",
    "main_module": """
        import __main__, sys
        print(sorted(k for k in globals() if not k.startswith('_') or k.startswith('__')))
        print(__name__, __file__, __spec__, __package__, __doc__, __cached__, type(__loader__), __loader__.path)
        print(sys.modules['__main__'].__dict__ is globals(), __main__ is sys.modules[__name__])
        print(type(__builtins__), __annotations__)
        x: int = 1
        print(__annotations__)
        print(sys.modules.get('__mp_main__') in (None, __main__))
    """,
    "docstring": "'''What I do'''\nprint(__doc__)",
    "raises": """
        def inner(x):
            return 1 / x
        def outer():
            inner(0)
        outer()
    """,
    "raises_at_top": "raise ValueError('at the top')",
    "raises_chained": """
        def f():
            try:
                {}['key']
            except KeyError as e:
                raise RuntimeError('second') from e
        f()
    """,
    "raises_in_context": """
        try:
            1 / 0
        except ZeroDivisionError:
            undefined_name
    """,
    "raises_with_group": """
        import sys
        if sys.version_info >= (3, 11):
            raise ExceptionGroup('several', [ValueError(1), TypeError(2)])
        raise ValueError(1)
    """,
    "raises_recursion": """
        import sys
        sys.setrecursionlimit(200)
        def f(n):
            return f(n + 1)
        try:
            f(0)
        except RecursionError as e:
            print(e)
    """,
    "own_excepthook": """
        import sys, traceback
        def hook(kind, value, tb):
            print('HOOK', kind, value, [f.name for f in traceback.extract_tb(tb)], sys.excepthook is hook)
        sys.excepthook = hook
        def f():
            raise ValueError('mine')
        f()
    """,
    "excepthook_is_default": "import sys; print(sys.excepthook is sys.__excepthook__)",
    "excepthook_raises": """
        import sys
        def hook(kind, value, tb):
            raise TypeError('in the hook')
        sys.excepthook = hook
        raise ValueError('mine')
    """,
    "syntax_error": "print('never')\nthis is not python\n",
    "indentation_error": "if True:\nprint(1)\n",
    "null_byte": "x = 1\0\n",
    "exit_none": "import sys; sys.exit()",
    "exit_int": "import sys; sys.exit(7)",
    "exit_big": "import sys; sys.exit(300)",
    "exit_negative": "import sys; sys.exit(-1)",
    "exit_true": "import sys; sys.exit(True)",
    "exit_str": "import sys; print('x'); sys.exit('a message')",
    "exit_tuple": "raise SystemExit((1, 2))",
    "exit_quit": "quit(3)",
    "exit_in_function": "def f():\n    raise SystemExit(4)\nf()",
    "exit_hard": "import os; print('lost', end=''); os._exit(9)",
    "exit_hard_flushed": "import os; print('kept', flush=True); os._exit(9)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "aborted": "import os; os.abort()",
    "interrupted": "raise KeyboardInterrupt",
    "interrupted_by_signal": """
        import os, signal, time
        def work():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        work()
    """,
    "interrupted_with_atexit": """
        import atexit
        atexit.register(print, 'atexit ran')
        raise KeyboardInterrupt('now')
    """,
    "interrupt_handled": """
        import os, signal
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            print('caught')
    """,
    "sigint_is_pythons": "import signal; print(signal.getsignal(signal.SIGINT))",
    "atexit_order": """
        import atexit, threading
        class Dies:
            def __init__(self, name): self.name = name
            def __del__(self): print('del', self.name)
        keep = Dies('global')
        atexit.register(print, 'first registered')
        atexit.register(print, 'second registered')
        def late():
            threading.main_thread().join()
            print('thread')
        threading.Thread(target=late).start()
        print('end of script')
    """,
    "atexit_raises": """
        import atexit
        def bad():
            raise ValueError('in atexit')
        atexit.register(bad)
    """,
    "thread_raises": """
        import threading
        def bad():
            raise ValueError('in a thread')
        t = threading.Thread(target=bad, name='T'); t.start(); t.join()
    """,
    "warnings": """
        import warnings
        warnings.warn('deprecated', DeprecationWarning)
        warnings.warn('user')
        def f():
            warnings.warn('from below', stacklevel=2)
        f()
    """,
    "pickle_of_main": """
        import pickle
        def f(): return 42
        class C: pass
        assert pickle.loads(pickle.dumps(f)) is f
        assert pickle.loads(pickle.dumps(C)) is C
        print(f.__module__, C.__module__, C)
    """,
    "inspects_itself": """
        import inspect
        def f(x):
            '''doc'''
            return x
        print(inspect.getsource(f), inspect.getfile(f) == __file__)
    """,
    "imports_neighbour": "import neighbour; print(neighbour.VALUE, neighbour.__name__)",
    "imports_future": "from __future__ import annotations\ndef f(x: undefined): pass\nprint(f.__annotations__)",
    "no_future_leaks": "def f(x: int): pass\nprint(f.__annotations__)",
    "stdout_closed": "import sys; sys.stdout.close()",
    "buffering": "import sys; print(sys.stdout.line_buffering, sys.stdout.write_through, sys.stderr.line_buffering)",
    "frozen_stdlib_shadow": "import random; print(random.__name__)",
    "forks_by_hand": """
        import os, sys
        pid = os.fork()
        if pid == 0:
            print('child', __name__, flush=True)
            sys.exit(3)
        print('status', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """,
    "system_exit_in_thread": """
        import sys, threading
        t = threading.Thread(target=sys.exit, args=(5,)); t.start(); t.join(); print('on')
    """,
    "daemon_thread": """
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        print('leaves')
    """,
    "processes": """
        import multiprocessing as mp
        def work(q, n):
            q.put((n, __name__, mp.current_process().name))
        if __name__ == '__main__':
            for method in mp.get_all_start_methods():
                ctx = mp.get_context(method)
                q = ctx.Queue()
                ps = [ctx.Process(target=work, args=(q, n)) for n in range(2)]
                for p in ps: p.start()
                print(method, sorted(q.get()[:2] for _ in ps))
                for p in ps: p.join()
                print([p.exitcode for p in ps])
    """,
    "child_raises": """
        import multiprocessing as mp
        def work():
            raise ValueError('in the child')
        if __name__ == '__main__':
            p = mp.get_context('fork').Process(target=work, name='child'); p.start(); p.join(); print(p.exitcode)
    """,
    "child_exits": """
        import multiprocessing as mp, sys
        if __name__ == '__main__':
            for code in (None, 3, 'text'):
                p = mp.get_context('fork').Process(target=sys.exit, args=(code,))
                p.start(); p.join(); print(p.exitcode)
    """,
    "start_method_not_fixed": "import multiprocessing as mp; print(mp.get_start_method(allow_none=True))",
    "unguarded_spawn": """
        import multiprocessing as mp
        print('module level', __name__)
        if __name__ == '__main__':
            p = mp.get_context('spawn').Process(target=print, args=('in child',)); p.start(); p.join()
    """,
}

CODES = {
    "code_prints": "import sys; print(__name__, sys.argv, sys.path[0] == '', '__file__' in globals(), __spec__)",
    "code_loader": "print(__loader__, __package__, __builtins__.__name__)",
    "code_raises": "def f():\n    1/0\nf()",
    "code_raises_flat": "1/0",
    "code_syntax": "a b",
    "code_exit": "raise SystemExit('bye')",
    "code_lambda": "f = lambda: 1\nprint(f())",
    "code_interrupted": "raise KeyboardInterrupt",
}


def dedent(text):
    import textwrap

    return textwrap.dedent(text).lstrip("\n")


def normal(text):
    text = re.sub(r"0x[0-9a-f]{6,}", "0x…", text)
    return re.sub(r"pid \d+", "pid …", text)


def both(*arguments, options=(), **keywords):
    """The outcome under plain Python, and under `breakeven run`."""
    plain = programs.python(*options, *arguments, **keywords)
    ours = programs.run(*arguments, options=options, **keywords)
    return plain, ours


def assert_same(plain, ours):
    assert normal(ours.err) == normal(plain.err)
    assert normal(ours.out) == normal(plain.out)
    assert ours.code == plain.code


@pytest.fixture
def write(tmp_path):
    (tmp_path / "neighbour.py").write_text("VALUE = 'beside the script'\n")

    def write(text, name="script.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
        return path

    return write


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(write, name):
    path = write(SCRIPTS[name])
    assert_same(*both(path, "a", "-b", "--receipt", stdin="one\ntwo\n"))


@pytest.mark.parametrize("name", CODES)
def test_code(name):
    assert_same(*both("-c", CODES[name], "x", "-y"))


@pytest.mark.parametrize("way", ["script.py", "./script.py", "../work/script.py", "link.py"])
def test_script_by_relative_path(write, tmp_path, way):
    script = write(
        "import sys, neighbour; print(sys.argv, __file__, sys.path[:2], neighbour.VALUE); 1/0", "work/script.py"
    )
    write("VALUE = 1", "work/neighbour.py")
    os.symlink(script, tmp_path / "work" / "link.py")
    assert_same(*both(way, "x", cwd=tmp_path / "work"))


def test_link_into_another_directory(write, tmp_path):
    script = write("import sys, neighbour; print(sys.argv, __file__, sys.path[:2], neighbour.VALUE)", "real/script.py")
    write("VALUE = 'of the real directory'", "real/neighbour.py")
    os.symlink(script, tmp_path / "link.py")
    assert_same(*both("link.py", cwd=tmp_path))


@pytest.mark.parametrize(
    "name", ["raises", "exit_int", "prints", "path", "argv", "processes", "interrupted", "child_raises"]
)
def test_module(write, tmp_path, name):
    write("", "pkg/__init__.py")
    write(SCRIPTS[name], "pkg/mod.py")
    assert_same(*both("-m", "pkg.mod", "a", "-b", cwd=tmp_path))


def test_module_that_looks_at_itself(write, tmp_path):
    write("print('package', __import__('sys').argv)", "pkg/__init__.py")
    write(
        """
        import sys
        print(__name__, __package__, __spec__.name, __spec__.origin, __file__, sys.argv, sys.path[:2])
        from . import sibling
        """,
        "pkg/__main__.py",
    )
    write("print(__name__)", "pkg/sibling.py")
    assert_same(*both("-m", "pkg", "a", cwd=tmp_path))
    assert_same(*both("-mpkg", "a", cwd=tmp_path))


@pytest.mark.parametrize("name", ["no_such_module_anywhere", "os.no_such", "json", "breakeven.no_such"])
def test_module_that_cannot_be_run(tmp_path, name):
    assert_same(*both("-m", name, cwd=tmp_path))


@pytest.mark.parametrize("name", ["missing.py", "missing", "sub/missing.py", "/no/such/place.py", "it's.py"])
def test_missing_file(tmp_path, name):
    assert_same(*both(name, cwd=tmp_path))


def test_unreadable_file(write, tmp_path):
    path = write("print(1)")
    path.chmod(0)
    assert_same(*both(path))


def test_directory(write, tmp_path):
    write(
        "import sys, beside; print(sys.argv, sys.path[:2], __name__, __spec__, __file__, beside.X)", "app/__main__.py"
    )
    write("X = 1", "app/beside.py")
    assert_same(*both("app", "x", cwd=tmp_path))
    assert_same(*both(tmp_path / "app", "x"))


def test_directory_without_main(tmp_path):
    (tmp_path / "app").mkdir()
    assert_same(*both("app", cwd=tmp_path))


@pytest.mark.parametrize("name", ["app.zip", "app.pyz", "app"])
def test_zip_file(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("__main__.py", "import sys, inside; print(sys.argv, sys.path[:2], __file__, inside.f())")
        archive.writestr("inside.py", "def f(): return 1/0\n")
    assert_same(*both(name, "x", cwd=tmp_path))


def test_compiled_file(write, tmp_path):
    path = write("import sys; print(__name__, __file__, __cached__, sys.argv)\n1/0")
    py_compile.compile(str(path), cfile=str(tmp_path / "compiled.pyc"))
    assert_same(*both("compiled.pyc", "x", cwd=tmp_path))


@pytest.mark.parametrize("text", [SCRIPTS["prints"], SCRIPTS["raises"], SCRIPTS["argv"], SCRIPTS["path"], "a b", ""])
def test_from_standard_input(text):
    assert_same(*both("-", "x", stdin=dedent(text)))


@pytest.mark.parametrize(
    "source",
    [
        "# -*- coding: latin-1 -*-\nprint(ascii('ä'), 'ä'.encode())\n".encode("latin-1"),
        "# coding: cp1251\nprint(ascii('Привет'))\nraise ValueError('Привет')\n".encode("cp1251"),
        b"\xef\xbb\xbfprint('with a mark')\n",
        "print(ascii('grüße'))\nraise ValueError('grüße')\n".encode(),
        b"print(1)\r\nprint('''a\r\nb''')\r\n1/0\r\n",
        b"#!/usr/bin/env python\nprint(2)",
        b"x = 1\n\x0c\nprint(x)\n",
        b"",
        b"print('before')\nx = '\xe4'\n",
        b"# coding: no-such-encoding\nx = 1\n",
    ],
    ids=["latin-1", "cp1251", "mark", "utf-8", "crlf", "shebang", "form-feed", "empty", "undeclared", "unknown"],
)
def test_encodings(write, source):
    assert_same(*both(write(source)))


@pytest.mark.parametrize(
    "options",
    [
        ["-W", "error"],
        ["-W", "ignore"],
        ["-X", "dev"],
        ["-u"],
        ["-O"],
        ["-OO"],
        ["-B"],
        ["-X", "utf8"],
        ["-E"],
        ["-s"],
        ["-I"],
        ["-b"],
        *([["-P"]] if sys.version_info >= (3, 11) else []),
    ],
    ids=" ".join,
)
def test_interpreter_options(write, options):
    path = write(
        """
        '''doc'''
        import sys, warnings
        print(sys.flags, sys.warnoptions, sys.stdout.write_through, __doc__, sys.path[:2])
        assert False, 'only without -O'
        """
    )
    assert_same(*both(path, options=options))


def test_environment_options(write):
    path = write("import sys; print(sys.flags.optimize, sys.stdout.encoding, sys.stdout.write_through)")
    env = {"PYTHONOPTIMIZE": "1", "PYTHONIOENCODING": "latin-1", "PYTHONUNBUFFERED": "1"}
    assert_same(*both(path, env=env))


def test_traceback_entries_of_the_last_error(write):
    # -i leaves these behind for post-mortem debuggers
    path = write(
        """
        import atexit, sys, traceback
        atexit.register(lambda: print(sys.last_type, [f.name for f in traceback.extract_tb(sys.last_traceback)]))
        def f(): 1/0
        f()
        """
    )
    assert_same(*both(path))
