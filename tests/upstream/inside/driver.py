"""Lists or runs test cases of CPython's test package, and writes what happens to a file, a JSON object a line."""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
import unittest


class Events:
    """The file that the runner follows. Only the process that opened it writes: forked children stay silent."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pid = os.getpid()

    def __call__(self, event, **fields):
        if os.getpid() == self._pid:
            os.write(self._fd, (json.dumps({"event": event, **fields}, default=repr) + "\n").encode())


def cases_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases_of(item)
        else:
            yield item


def load(label, modules):
    """The test cases of `modules` by name, `label::Class.method`; also what could not be loaded."""
    found, problems = {}, []
    for name in modules:
        try:
            module = importlib.import_module(name)
        except unittest.SkipTest as reason:
            problems.append(f"{name} is skipped as a whole: {reason}")
            continue
        for case in cases_of(unittest.TestLoader().loadTestsFromModule(module)):
            found[f"{label}::{type(case).__qualname__}.{getattr(case, '_testMethodName', case)}"] = case
    return found, problems


class Result(unittest.TestResult):
    """Reports each test case as it starts and ends, under its name."""

    def __init__(self, events, names):
        super().__init__()
        self._events, self._names = events, names
        self._current = None  # name, status, detail, start

    def startTest(self, case):
        super().startTest(case)
        name = self._names[id(case)]
        self._current = [name, "passed", "", time.monotonic()]
        self._events("start", name=name)

    def stopTest(self, case):
        super().stopTest(case)
        if self._current is None:
            return  # 3.12.1 stops a test that a decorator skips without having started it
        name, status, detail, start = self._current
        self._current = None
        seconds = round(time.monotonic() - start, 3)
        self._events("result", name=name, status=status, detail=detail[-6000:], seconds=seconds)

    def _say(self, case, status, detail):
        if self._current is None:
            # setUpClass, setUpModule or their counterparts; or a test that its class's decorator skips
            name = self._names.get(id(case))
            self._events("around", name=name, what=str(case), status=status, detail=detail[-6000:])
        elif not (self._current[1] == "failed" and status == "skipped"):
            self._current[1] = status
            self._current[2] += detail

    def addError(self, case, error):
        self._say(case, "failed", "".join(traceback.format_exception(*error)))

    addFailure = addError

    def addSubTest(self, case, subtest, error):
        if error is not None:
            self._say(case, "failed", "".join(traceback.format_exception(*error)))

    def addSkip(self, case, reason):
        self._say(case, "skipped", reason)

    def addUnexpectedSuccess(self, case):
        self._say(case, "failed", "unexpected success")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--names", help="a JSON file with the names of the tests to run; without it they are listed")
    parser.add_argument("modules", nargs="+")
    arguments = parser.parse_args()
    events = Events(arguments.events)

    try:  # let the interpreters that tests start keep PYTHONPATH, by which breakeven reaches them
        from test.support import script_helper

        vars(script_helper)["__cached_interp_requires_environment"] = True
    except ImportError:
        pass
    found, problems = load(arguments.label, arguments.modules)
    if arguments.names is None:
        modules = {name: type(case).__module__ for name, case in found.items()}
        events("list", modules=modules, problems=problems)
    else:
        with open(arguments.names) as file:
            wanted = json.load(file)
        missing = [name for name in wanted if name not in found]
        for name in missing:
            events("result", name=name, status="failed", detail="there is no such test", seconds=0)
        chosen = [found[name] for name in wanted if name in found]
        suite = unittest.TestSuite(chosen)
        suite.run(Result(events, {id(found[name]): name for name in wanted if name in found}))
        sys.stdout.flush()
        sys.stderr.flush()
    support = sys.modules.get("test.support")
    events("done", altered=bool(getattr(support, "environment_altered", False)))
