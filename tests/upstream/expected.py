"""What is known not to pass, each entry with its reason. docs/compatibility.md has the same list in words.

EXPECTED is for tests that plain CPython passes and breakeven does not, because its behaviour is better on purpose: ten
test methods at most, for all versions and ways together. An entry that passes somewhere it covers is stale, and fails
the run.

FLAKY is for tests that fail now and then under plain CPython too, seen there: they get a second try. (So do a few
others if SECOND_LOOK says so, as for the rest of our tests: see scripts/pytest.sh.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .plan import METHODS, WAYS

ALL = ("3.10", "3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Entry:
    """A test, or the same test in several classes."""

    test: str  # regular expression for the whole name, `label::Class.method`
    reason: str
    ways: tuple[str, ...] = WAYS
    versions: tuple[str, ...] = ALL
    sometimes: bool = False  # it depends on who is faster: passing is not stale

    def covers(self, name: str, way: str, version: str) -> bool:
        return way in self.ways and version in self.versions and re.fullmatch(self.test, name) is not None

    @property
    def method(self) -> str:
        return self.test.rpartition(".")[2]


_ANY = f"({'|'.join(METHODS)})"

EXPECTED: tuple[Entry, ...] = (
    Entry(
        rf"{_ANY}::WithProcessesTestQueue\.test_queue_feeder_donot_stop_onexc",
        "wants put() to return for an object that cannot be pickled, which a feeder thread then reports and drops; "
        "with `import breakeven` put() raises. Under install() and `breakeven run` the test passes",
        ways=("module",),
    ),
    Entry(
        r"spawn::TestStartMethod\.test_mixed_startmethod",
        "wants an error for a queue of a fork context that is given to a spawned process; here that works",
    ),
    Entry(
        r"spawn::MiscTestCase\.test_spawn_sys_executable_none_allows_import",
        "wants a program that has not imported multiprocessing before its first line; install() in sitecustomize, "
        "which is how the program that this test starts is reached, has",
        ways=("install", "run"),
    ),
    Entry(
        r"futures::ProcessPool(Fork|Spawn|Forkserver)ProcessPoolExecutorTest\.test_killed_child",
        "wants a killed worker to break the executor; here its task fails with WorkerDied, and the others go on",
    ),
    Entry(
        r"futures::ProcessPoolForkProcessPoolExecutorTest\.test_max_tasks_per_child",
        "wants max_tasks_per_child to be refused for fork; here it works. Under install() and `breakeven run` it is "
        "refused as in the standard library",
        ways=("module",),
    ),
    Entry(
        r"futures::ProcessPool(Fork|Spawn|Forkserver)ProcessPoolExecutorTest\.test_python_finalization_error",
        "wants the executor to break when its second thread cannot be started; ours needs no second one, and the tasks "
        "are run",
    ),
    Entry(
        rf"{_ANY}::TestResourceTracker\.test_resource_tracker_sigkill",
        "wants a warning when a semaphore is made after the resource tracker was killed; ours have no name that a "
        "tracker would have to remove",
    ),
    Entry(
        rf"{_ANY}::TestIgnoreEINTR\.test_ignore",
        "wants the sender of 16 MiB to wait in send_bytes() until it is signalled; the message goes through shared "
        "memory, the sender does not wait and may have ended by then",
        sometimes=True,
    ),
)

FLAKY: tuple[Entry, ...] = ()
