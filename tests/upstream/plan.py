"""What there is to run: the suites that an interpreter ships, and which of them, in which ways, `make test` runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

WAYS = ("module", "install", "run")
METHODS = ("fork", "spawn", "forkserver")
SUITES = ("multiprocessing", "futures")

# What `make test` runs, by version: (way, suites, start methods). All of 3.11, on which the numbers in
# docs/compatibility.md were made; of the others one way each, so that every way meets at least two versions.
EVERYDAY = {
    "3.10": [("install", SUITES, METHODS)],
    "3.11": [(way, SUITES, METHODS) for way in WAYS],
    "3.12": [("run", SUITES, METHODS)],
    "3.13": [("module", SUITES, METHODS)],
}


@dataclass(frozen=True)
class Interpreter:
    """An interpreter under test, and which of CPython's tests it has."""

    python: str
    version: str  # "3.11"
    full_version: str
    modules: dict[str, tuple[str, ...]]  # by label: what holds the test classes
    extra_tests: str | None  # a folder that the `test` package is extended by
    absent: tuple[str, ...]  # suites that it does not ship, in words


@dataclass(frozen=True)
class Cell:
    """One interpreter x way in: what is run together, and judged together."""

    interpreter: Interpreter
    way: str
    suites: tuple[str, ...] = SUITES
    methods: tuple[str, ...] = METHODS
    only: str | None = field(default=None)

    def __str__(self) -> str:
        return f"{self.interpreter.version} {self.way}"

    def labels(self) -> list[str]:
        """The groups of test modules that this cell takes in."""
        wanted = []
        if "multiprocessing" in self.suites:
            wanted += [*self.methods, "main"]
        if "futures" in self.suites:
            wanted.append("futures")
        return [label for label in wanted if label in self.interpreter.modules]

    def takes(self, name: str) -> bool:
        """Whether the test `name` (`label::Class.method`) belongs to this cell."""
        if self.only is not None and not re.search(self.only, name):
            return False
        return start_method(name) in (None, *self.methods)


def start_method(name: str) -> str | None:
    """The start method that a test is about, or None if it is about none, or several."""
    label, _, rest = name.partition("::")
    if label in METHODS:
        return label
    match = re.match(r"ProcessPool(Forkserver|Fork|Spawn)", rest)
    return match.group(1).lower() if match else None


_ASK = """
import json, os, sys, sysconfig
try:
    import test
    folders = list(test.__path__)
except ImportError:
    folders = []
version = "%d.%d" % sys.version_info[:2]
print(json.dumps(dict(version=version, full="%d.%d.%d" % sys.version_info[:3], folders=folders)))
"""


def _has(folder: str, name: str) -> bool:
    return os.path.exists(os.path.join(folder, name + ".py")) or os.path.exists(
        os.path.join(folder, name, "__init__.py")
    )


def look(python: str) -> Interpreter:
    """Find out which of the suites the interpreter `python` ships.

    What its own `test` package lacks is looked for in the folder UPSTREAM_TESTS, where scripts/test_upstream.sh unpacks
    Debian's libpythonX.Y-testsuite, and where that package installs it. Raises RuntimeError if `python` cannot be run.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{python} cannot be run: {done.stderr}")
    answer = json.loads(done.stdout)
    version = answer["version"]
    own = answer["folders"]
    unpacked = Path(__file__).parents[2] / "target" / "upstream-tests" / version  # by scripts/test_upstream.sh
    candidates = [os.environ.get("UPSTREAM_TESTS", ""), str(unpacked), f"/usr/lib/python{version}/test"]
    others = [folder for folder in candidates if os.path.isdir(folder) and folder not in own]

    modules: dict[str, tuple[str, ...]] = {}
    absent: list[str] = []
    extra = None

    def find(name: str) -> str | None:
        nonlocal extra
        for folder in own:
            if _has(folder, name):
                return folder
        for folder in others:
            if extra in (None, folder) and _has(folder, name):
                extra = folder
                return folder
        return None

    if find("_test_multiprocessing"):
        for method in METHODS:
            modules[method] = (f"upstream_{method}",)
    else:
        absent.append("test_multiprocessing_{fork,spawn,forkserver}")
    if find("test_multiprocessing_main_handling"):
        modules["main"] = ("test.test_multiprocessing_main_handling",)
    else:
        absent.append("test_multiprocessing_main_handling")
    folder = find("test_concurrent_futures")
    if folder is None:
        absent.append("test_concurrent_futures")
    else:
        package = os.path.join(folder, "test_concurrent_futures")
        names = ["test.test_concurrent_futures"]
        if os.path.isdir(package):  # since 3.13, and 3.12.2
            parts = sorted(name[:-3] for name in os.listdir(package) if re.match(r"test_.*\.py$", name))
            names = [f"test.test_concurrent_futures.{part}" for part in parts if "interpreter_pool" not in part]
        modules["futures"] = tuple(names)
    return Interpreter(python, version, answer["full"], modules, extra, tuple(absent))


def everyday(interpreter: Interpreter) -> list[Cell]:
    """The cells of `make test` for an interpreter."""
    return [Cell(interpreter, *row) for row in EVERYDAY.get(interpreter.version, ())]


def everything(interpreter: Interpreter) -> list[Cell]:
    """All cells for an interpreter."""
    return [Cell(interpreter, way) for way in WAYS]
