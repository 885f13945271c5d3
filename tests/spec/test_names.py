"""The public names: multiprocessing's are all there, each is exported from one place, and importing stays cheap."""

import importlib
import multiprocessing
import pkgutil
import types

import breakeven
import pytest

from tests.support import programs

SUBMODULES = sorted(
    module.name for module in pkgutil.iter_modules(multiprocessing.__path__) if module.name != "popen_spawn_win32"
)


@pytest.mark.parametrize("name", multiprocessing.__all__)
def test_every_public_name_of_multiprocessing(name):
    assert name in breakeven.__all__
    assert getattr(breakeven, name) is not None


@pytest.mark.parametrize("name", breakeven.__all__)
def test_every_name_in_all_can_be_had(name):
    assert getattr(breakeven, name) is not None
    assert name in dir(breakeven)


def test_nothing_else_is_public():
    # SUBDEBUG and SUBWARNING: as in multiprocessing, where they are not documented either. `map` would take the place
    # of the builtin in a program that imports everything.
    public = {name for name, value in vars(breakeven).items() if not isinstance(value, types.ModuleType)}
    public = {name for name in public if not name.startswith("_")} - {"SUBDEBUG", "SUBWARNING", "annotations", "map"}
    assert public <= set(breakeven.__all__)


def test_names_are_listed_once():
    assert len(breakeven.__all__) == len(set(breakeven.__all__))


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules(name):
    module = importlib.import_module(f"breakeven.{name}")
    assert getattr(breakeven, name) is module
    stdlib = importlib.import_module(f"multiprocessing.{name}")
    # not only what __all__ lists: programs import pool.worker and queues.Finalize too
    public = {n for n, value in vars(stdlib).items() if n[0] != "_" and not isinstance(value, types.ModuleType)}
    missing = [n for n in public | set(getattr(stdlib, "__all__", ())) if not hasattr(module, n)]
    assert missing == []
    assert not hasattr(module, "no_such_name")


def test_submodules_are_attributes_without_importing_them():
    done = programs.python(
        "-c", "import breakeven; print(breakeven.shared_memory.SharedMemory, breakeven.queues.Queue)"
    )
    assert done.code == 0, done.err


def test_classes_are_exported_from_one_place():
    """A class that two of our modules offer is defined in one of them and re-exported by the package only."""
    homes = {}
    for info in pkgutil.iter_modules(breakeven.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"breakeven.{info.name}")
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if isinstance(value, type) and value.__module__.startswith("breakeven."):
                homes.setdefault(value, set()).add(module.__name__)
    double = {value: places for value, places in homes.items() if len(places) > 1}
    assert double == {}


def test_contexts_derive_from_the_standard_librarys():
    from multiprocessing import context

    for method in multiprocessing.get_all_start_methods():
        ours = breakeven.get_context(method)
        assert isinstance(ours, type(multiprocessing.get_context(method)))
        assert isinstance(ours, context.BaseContext)
        assert ours.get_start_method() == method
        assert ours.get_context() is ours
        assert ours.get_context("spawn") is breakeven.get_context("spawn")
        assert issubclass(ours.Process, multiprocessing.get_context(method).Process)
    assert issubclass(breakeven.Process, multiprocessing.Process)
    with pytest.raises(ValueError, match="cannot find context for 'thread'"):
        breakeven.get_context("thread")
    with pytest.raises(ValueError, match="cannot set start method"):
        breakeven.get_context("fork").set_start_method("spawn")


START_METHOD = """
import multiprocessing, breakeven
assert breakeven.get_start_method(allow_none=True) is None
breakeven.get_context("spawn").Queue()
breakeven.install()
breakeven.cpu_count(), breakeven.active_children(), breakeven.get_all_start_methods()
assert multiprocessing.get_start_method(allow_none=True) is None, "something of ours fixed the start method"
breakeven.set_start_method("spawn")
assert multiprocessing.get_start_method() == breakeven.get_start_method() == "spawn"
assert breakeven.get_context() is breakeven.get_context("spawn")
assert multiprocessing.get_context() is multiprocessing.get_context("spawn")
for module in (breakeven, multiprocessing):
    try:
        module.set_start_method("fork")
    except RuntimeError as error:
        assert "context has already been set" in str(error)
    else:
        raise AssertionError
multiprocessing.set_start_method("forkserver", force=True)
assert breakeven.get_start_method() == "forkserver"
breakeven.set_start_method(None, force=True)
assert multiprocessing.get_start_method(allow_none=True) is None
assert breakeven.get_start_method() == multiprocessing.get_start_method(allow_none=True)
"""


def test_start_method_is_one_with_multiprocessings():
    done = programs.python("-c", START_METHOD)
    assert (done.code, done.err) == (0, "")


def test_importing_loads_no_more_than_needed():
    code = "import multiprocessing, sys; before = set(sys.modules); import breakeven; print(*set(sys.modules) - before)"
    loaded = programs.python("-c", code).out.split()
    heavy = {"logging", "numpy", "cloudpickle", "concurrent.futures", "multiprocessing.pool", "multiprocessing.queues"}
    # Nobody who imports this does without a process; `multiprocessing.util` and the pool are there for the first one.
    assert heavy.isdisjoint(loaded), loaded


def test_missing_native_module_is_said_clearly(tmp_path):
    (tmp_path / "breakeven").symlink_to(breakeven.__path__[0])
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'breakeven._native': raise ImportError('undefined symbol')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "try:\n    import breakeven\n"
        "except ImportError as e:\n    print(e.name, e)\n"
    )
    done = programs.python("-c", code)
    assert done.out.startswith("breakeven._native breakeven's native module cannot be loaded"), done
    assert "undefined symbol" in done.out


def test_reloading_does_not_register_the_fork_hooks_again():
    code = (
        "import os, importlib\ncalls = []\nreal = os.register_at_fork\n"
        "os.register_at_fork = lambda **k: (calls.append(k), real(**k))\n"
        "import breakeven\nimportlib.reload(breakeven)\nprint(len([c for c in calls if 'before' in c]))"
    )
    assert programs.python("-c", code).out == "1\n"


def test_version():
    from importlib.metadata import version

    assert breakeven.__version__ == version("breakeven")
