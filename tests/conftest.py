"""What every test runs under: nothing may be left when it ends."""

import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Spawn children import the modules of the tests by name, `tests.queues.…`.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.support import leaks, methods  # noqa: E402

# What a shell runs in the background inherits that Ctrl-C is ignored; programs under test must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _arena():
    """The arena is made once per process tree and stays; so does its descriptor."""
    import breakeven

    queue = breakeven.SimpleQueue()
    queue.put(b"x" * 100_000)
    queue.get()
    queue.close()


_FAILED = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.when == "call" and report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(autouse=True)
def _nothing_left(request, _arena):
    """After each test: no child process, descriptor, mapped segment or thread that was not there before."""
    before = leaks.snapshot()
    yield
    if request.node.stash.get(_FAILED, False):
        return  # its traceback keeps alive what its frames held; and one failure a test is enough
    request.node.funcargs.clear()  # pytest keeps the fixtures' values alive until later
    left = leaks.wait_until_clean(before)
    if left:
        pytest.fail(f"{request.node.nodeid} leaves behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(params=methods.ALL)
def method(request):
    """A start method's name; the test runs once for each."""
    return request.param


@pytest.fixture
def ctx(method):
    """breakeven's context of each start method."""
    import breakeven

    return breakeven.get_context(method)


@pytest.fixture
def python():
    """Runs this interpreter, as a user would from a shell; see tests.support.programs."""
    from tests.support import programs

    return programs.python


@pytest.fixture
def seed():
    """A seed for random moments: printed, and taken from BREAKEVEN_TEST_SEED to repeat a run."""
    value = int(os.environ.get("BREAKEVEN_TEST_SEED") or int.from_bytes(os.urandom(4), "big"))
    print(f"BREAKEVEN_TEST_SEED={value}")
    return value
