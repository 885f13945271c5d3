"""Puts breakeven where CPython's tests expect multiprocessing, in the way that the environment names.

UPSTREAM_WAY  plain    nothing is done: the standard library, for comparison
              install  `breakeven.install()`
              run      nothing is done here: the process was started by `breakeven run`
              module   the tests' own `import multiprocessing` and `from concurrent import futures` yield breakeven

In the way `module` the import statements of the tests' modules, and of nothing else, are answered as if each had been
written for breakeven: `multiprocessing.x` is `breakeven.x`. The executors, which the package itself offers, stand in a
view of `concurrent.futures` whose other names (Future, wait, the exceptions) are the standard library's: breakeven's
futures have to work with those.
"""

import builtins
import importlib
import os
import signal
import sys
import types

EXECUTORS = ("ProcessPoolExecutor", "ThreadPoolExecutor")

VIEWED = ("concurrent.futures", "concurrent.futures.process", "concurrent.futures.thread")

# Whose imports are answered: the tests, the scripts that they start, and the modules of our own that hold test classes.
IMPORTERS = (
    "__main__",
    "__mp_main__",
    "test._test_multiprocessing",
    "test.test_concurrent_futures",
    "test.test_multiprocessing_main_handling",
    "test.mp_fork_bomb",
    "test.mp_preload",
    "upstream_fork",
    "upstream_spawn",
    "upstream_forkserver",
    "test.upstream_sample",  # of tests/upstream/test_runner.py
)

# The modules that _TestImportStar imports: ours, and the one that the test strikes from the list on this platform.
NOT_HERE = ["multiprocessing.popen_spawn_win32"]

STACKS = signal.SIGRTMIN + 5
"""The runner sends this to the processes of a test that hangs."""


def way():
    return os.environ.get("UPSTREAM_WAY", "plain")


def activate():
    find_extra_tests()
    if way() == "install":
        import breakeven

        breakeven.install()
    elif way() == "module":
        _answer_imports()


def classes_for(start_method, namespace):
    """Put the classes of CPython's test/_test_multiprocessing.py for a start method into a module's namespace."""
    from test import _test_multiprocessing as tests

    if way() == "module":
        # The one test of the package's files: it takes the names from the folder of `multiprocessing`.
        tests._TestImportStar.get_module_names = lambda self: NOT_HERE + _public_modules()
    tests.install_tests_in_module_dict(namespace, start_method)


def _public_modules():
    import pkgutil

    import breakeven

    names = [module.name for module in pkgutil.iter_modules(breakeven.__path__)]
    return ["breakeven"] + [f"breakeven.{name}" for name in names if not name.startswith("_")]


def find_extra_tests():
    """Let `test` contain the modules of another folder too: some interpreters ship only a part of the package."""
    folder = os.environ.get("UPSTREAM_TESTS")
    if folder:
        import test

        if folder not in test.__path__:
            test.__path__.append(folder)


def answer_with_stacks():
    import faulthandler

    try:
        faulthandler.register(STACKS, file=sys.__stderr__, all_threads=True)
    except (AttributeError, OSError, ValueError):
        pass  # a child whose stderr is closed


class _Futures(types.ModuleType):
    def __init__(self, name):
        super().__init__(name)
        self.__dict__.update(_standard=importlib.import_module(name))

    def __getattr__(self, name):
        if name in EXECUTORS:
            import breakeven

            return getattr(breakeven, name)
        if name in ("process", "thread"):
            return _futures(f"concurrent.futures.{name}")
        return getattr(self._standard, name)

    def __reduce__(self):
        return _futures, (self.__name__,)


_views = {}


def _futures(name):
    if name not in _views:
        _views[name] = _Futures(name)
    return _views[name]


def _answer_imports():
    original = builtins.__import__

    def answer(name, globals=None, locals=None, fromlist=(), level=0):
        package = name.partition(".")[0]
        if level == 0 and package in ("multiprocessing", "concurrent") and _asks(globals):
            if package == "multiprocessing":
                return original("breakeven" + name[len(package) :], globals, locals, fromlist, 0)
            original(name, globals, locals, fromlist, 0)
            if fromlist and name != "concurrent":
                return _futures(name) if name in VIEWED else sys.modules[name]
            return types.SimpleNamespace(futures=_futures("concurrent.futures"))
        return original(name, globals, locals, fromlist, level)

    builtins.__import__ = answer


def _asks(namespace):
    importer = (namespace or {}).get("__name__") or ""
    return any(importer == name or importer.startswith(name + ".") for name in IMPORTERS)
