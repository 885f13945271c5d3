"""imap and imap_unordered: results as they are asked for, from inputs of any length."""

import gc
import itertools
import threading

import breakeven
import pytest

from tests.map import functions

BACKENDS = ["auto", "serial", "threads", "processes"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def test_imap_gives_the_results_in_order(backend):
    assert list(breakeven.imap(functions.square, range(300), backend=backend)) == [n * n for n in range(300)]
    assert list(breakeven.imap(functions.add, range(30), itertools.count(), backend=backend)) == [
        2 * n for n in range(30)
    ]
    assert list(breakeven.imap(functions.square, [], backend=backend)) == []


def test_imap_unordered_gives_each_result_once(backend):
    got = list(breakeven.imap_unordered(functions.square, iter(range(300)), backend=backend))
    assert sorted(got) == [n * n for n in range(300)]


@pytest.mark.parametrize("family", [breakeven.imap, breakeven.imap_unordered])
def test_an_endless_input_is_read_a_bounded_number_ahead(family, backend):
    read = 0

    def endless():
        nonlocal read
        for read in itertools.count(1):
            yield read
            assert read < 2_000_000, "the input is read without bound"

    results = family(functions.square, endless(), backend=backend, chunksize=10)
    got = list(itertools.islice(results, 100))
    assert len(got) == 100
    results.close()
    at = read
    gc.collect()
    assert read == at


def test_nothing_begins_before_the_first_result_is_asked_for(backend):
    def items():
        raise AssertionError("somebody has asked")
        yield

    breakeven.imap(functions.square, items(), backend=backend)


def test_results_do_not_pile_up_behind_a_slow_item():
    """A helper that hangs in one item holds up the results behind it; the input must not be read on without end."""
    read = 0

    def items():
        nonlocal read
        for read in itertools.count(1):
            if read > 50_000:
                return
            yield read

    gate = threading.Event()

    def hold(x):
        # Whichever helper thread gets an item first holds on to it, until the input was read as far as it shall be.
        if threading.current_thread() is not threading.main_thread() and not gate.is_set():
            gate.wait(0.5)
            gate.set()
        return x

    results = breakeven.imap(hold, items(), backend="threads", chunksize=1, workers=2)
    assert list(itertools.islice(results, 1000)) == list(range(1, 1001))
    assert read < 50_000
    results.close()


def test_a_failing_item_raises_in_its_place(backend):
    got = []
    with pytest.raises(KeyError) as caught:
        for value in breakeven.imap(functions.fails_from_50, iter(range(100)), backend=backend):
            got.append(value)
    assert caught.value.args == (50,)
    assert got == list(range(50))
    assert "item 50: 50" in "\n".join(caught.value.__notes__)


def test_return_exceptions(backend):
    got = list(breakeven.imap(functions.odd_fails, iter(range(40)), backend=backend, return_exceptions=True))
    assert got[::2] == list(range(0, 40, 2))
    assert all(isinstance(error, ValueError) for error in got[1::2])


def test_an_input_that_fails(backend):
    def items():
        yield from range(30)
        raise LookupError("no more to read")

    with pytest.raises(LookupError):
        list(breakeven.imap(functions.square, items(), backend=backend))


def test_dropping_the_iterator_stops_what_is_under_way():
    results = breakeven.imap(functions.sleeps_long, range(4), backend="processes", timeout=0.2)
    with pytest.raises(breakeven.TimeoutError):
        next(results)
    results = breakeven.imap(functions.square, itertools.count(), backend="processes")
    assert next(results) == 0
    del results
    gc.collect()  # and the check for left-over processes looks on


@pytest.mark.parametrize("function", [functions.killed_at_50, functions.ends_at_50])
def test_a_helper_that_dies(function):
    got = list(breakeven.imap(function, iter(range(100)), backend="processes", return_exceptions=True, chunksize=1))
    assert isinstance(got.pop(50), breakeven.WorkerDied)
    assert got == [n for n in range(100) if n != 50]
