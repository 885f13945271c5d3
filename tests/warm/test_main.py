"""The main module is run in the template where no process can tell, and by each process where it could."""

import ast
import os
import textwrap
import time

import breakeven
import pytest
from breakeven import _template_main, _warm

from tests.support.leaks import difference, snapshot
from tests.support.programs import python as run_python
from tests.warm import things
from tests.warm.test_template import run, script


def only_defines(text):
    return _template_main.only_defines(ast.parse(textwrap.dedent(text)))


@pytest.mark.parametrize(
    "text",
    [
        '"""Documentation."""',
        "import os, sys\nimport os.path as path",
        "from os.path import join",
        "from __future__ import annotations",
        "LIMIT = 3 * (1 << 20)\nNAME: str = 'x'\nFIRST, SECOND = 1, -2.5\nTABLE = {'a': [1, {2}], 'b': (LIMIT,)}",
        "def double(x: int, *rest: list[int], by=2, **more) -> int:\n    print('later')\n    return by * x",
        "async def later(): pass",
        "KEY = lambda pair, at=1: pair[at]",
        "class Failed(ValueError):\n    code = 3\n    @property\n    def text(self): return open('x')",
        "class Plain: pass",
        "if __name__ == '__main__':\n    import shutil\n    main()",
        "if '__main__' == __name__:\n    main()\nelse:\n    LIMIT = 1",
        "if TYPE_CHECKING:\n    from os import PathLike",
    ],
)
def test_what_only_defines_is_known(text):
    assert only_defines(text)


@pytest.mark.parametrize(
    "text",
    [
        "print('body')",
        "import no_such_module",
        "from sys import argv",
        "from os import *",
        "from os import no_such_name",
        "from . import sibling",
        "LIMIT = int('3')",
        "SIZE = sys.maxsize",
        "LIMIT = BASE + 1",
        "FIRST = TABLE[0]",
        "TEXT = f'{x}'",
        "ITEMS = [x for x in range(3)]",
        "os.limit = 3",
        "TABLE['a'] = 1",
        "LIMIT += 1",
        "del LIMIT",
        "assert LIMIT",
        "raise SystemExit",
        "for x in (1, 2): pass",
        "while False: pass",
        "with LOCK: pass",
        "try:\n    import os\nexcept ImportError:\n    pass",
        "@register\ndef task(): pass",
        "def task(at=now()): pass",
        "def task(at: kind()): pass",
        "class Task(Base): pass",
        "class Task(metaclass=Meta): pass",
        "class Task:\n    print('body')",
        "@register\nclass Task: pass",
        "KEY = lambda at=now(): at",
        "if __name__ == '__mp_main__':\n    pass",
        "if __name__ != '__main__':\n    prepare()",
        "if __name__ == '__main__':\n    pass\nelse:\n    prepare()",
        "if LIMIT:\n    pass",
        "(lambda: 3)()",
    ],
)
def test_what_may_do_more_is_left_to_the_processes(text):
    assert not only_defines(text)


PLAIN = """
    import os, sys
    import breakeven as mp

    STATE = []
    NUMBER = 1

    class Item:
        pass

    def look(_):
        STATE.append(1)
        main = sys.modules["__main__"]
        return [
            len(STATE), NUMBER, __name__, main.__name__, main is sys.modules["__mp_main__"], main.look.__module__,
            Item.__module__, os.path.basename(__file__), os.path.basename(main.__file__), mp.current_process().daemon,
        ]

    if __name__ == "__main__":
        from breakeven import _warm
        context = mp.get_context("METHOD")
        for _ in range(3):
            with context.Pool(1) as pool:
                print(*pool.map(look, [0])[0])
                pool.close()
                pool.join()
        process = context.Process(target=look, args=(0,))
        process.start()
        process.join()
        print(process.exitcode, _warm._current.harmless)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("how", ["script", "module"])
def test_each_process_has_the_main_module_as_if_it_had_run_it(tmp_path, method, how):
    path = script(tmp_path, textwrap.dedent(PLAIN).replace("METHOD", method), name="plain_main.py")
    if how == "script":
        done = run_python(path)
    else:
        done = run_python("-m", "plain_main", cwd=tmp_path)
    seen = "1 1 __mp_main__ __mp_main__ True __mp_main__ __mp_main__ plain_main.py plain_main.py True"
    assert done.out.splitlines() == [seen] * 3 + ["0 True"], done.err


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_changed_script_is_run_anew(tmp_path, method):
    path = script(
        tmp_path,
        f"""
        import os, sys, time
        import breakeven as mp

        NUMBER = 1

        def look(_):
            return NUMBER

        if __name__ == "__main__":
            context = mp.get_context("{method}")
            with context.Pool(1) as pool:
                print(pool.map(look, [0]))
            with open(__file__) as file:
                text = file.read()
            with open(__file__, "w") as file:
                file.write(text.replace("NUMBER = 1", "NUMBER = 1234"))
            with context.Pool(1) as pool:
                print(pool.map(look, [0]))
        """,
    )
    done = run_python(path)
    assert done.out.split() == ["[1]", "[1234]"], done.err


# --- a worker that comes up while its pool is being made ---


@pytest.fixture(params=("spawn", "forkserver"))
def ctx(request):
    return breakeven.get_context(request.param)


@pytest.fixture
def harmless(ctx, monkeypatch):
    """A template with spares, for a main module that shows nowhere (here that is pytest's, which need not be run)."""
    # Whatever template there is then, and whatever became of those of other tests.
    always = property(lambda _: True, lambda self, value: vars(self).update(harmless=value))
    monkeypatch.setattr(_warm._Template, "harmless", always, raising=False)
    monkeypatch.setattr(_warm, "_rest", 0)
    monkeypatch.setattr(_warm, "_wasted", 0)
    deadline = time.monotonic() + 60
    found = None
    while found is None or found.gone is not None or not found.spares:
        assert time.monotonic() < deadline
        assert run(ctx) == 0  # gives up a template that has found a module which it should not have imported
        found = _warm._current
        while found is not None and found.gone is None and not found.spares and time.monotonic() < deadline:
            found.hear(0.1)
    yield
    _warm.stop()  # later tests begin with a template of their own


def test_the_first_worker_comes_up_ahead_and_is_what_any_worker_is(ctx, harmless, monkeypatch):
    begun = []
    ahead = _warm.ahead
    monkeypatch.setattr(_warm, "ahead", lambda method: begun.append(ahead(method)) or begun[-1])
    monkeypatch.setenv("SET_JUST_NOW", "yes")
    with ctx.Pool(2) as pool:
        seen = pool.map(things.surroundings, range(8), chunksize=1)
        names = {process.name for process in pool._pool}
        pids = {process.pid for process in pool._pool}
        pool.close()
        pool.join()
    assert len(begun) == 1 and begun[0] is not None
    for name, pid, directory, variable, cpus, daemon in seen:
        assert name in names and pid in pids
        assert (directory, variable, daemon) == (os.getcwd(), "yes", True)
        assert cpus == os.sched_getaffinity(0)


def test_a_worker_that_is_not_needed_after_all_ends(ctx, harmless):
    before = snapshot()
    for _ in range(3):
        with pytest.raises(Exception, match="lambda"):
            ctx.Pool(2, initializer=lambda: None)
    begun = _warm.ahead(ctx.get_start_method())
    if begun is not None:
        begun.discard()
    assert not difference(before, snapshot())


def test_a_worker_killed_before_it_is_described_is_replaced(ctx, harmless, monkeypatch):
    ahead = _warm.ahead

    def killed(method):
        begun = ahead(method)
        if begun is not None:
            os.kill(begun._spare.pid, 9)
        return begun

    monkeypatch.setattr(_warm, "ahead", killed)
    with ctx.Pool(2) as pool:
        assert pool.map(things.square, range(20)) == [x * x for x in range(20)]
