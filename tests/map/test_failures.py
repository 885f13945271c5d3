"""What goes wrong in an item arrives at the call, says which item it was, and leaves the next map in order."""

import os
import sys
import threading

import breakeven
import pytest

from tests.map import functions

BACKENDS = ["auto", "serial", "threads", "processes"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def notes(error):
    return "\n".join(getattr(error, "__notes__", ()))


def test_the_first_item_that_fails_is_the_one_that_is_raised(backend):
    for items in (range(100), iter(range(100))):
        with pytest.raises(KeyError) as caught:
            breakeven.map(functions.fails_from_50, items, backend=backend)
        assert caught.value.args == (50,)
        assert "item 50: 50" in notes(caught.value)


def test_the_traceback_in_the_helper_is_shown():
    with pytest.raises(KeyError) as caught:
        breakeven.map(functions.fails_from_50, range(100), backend="processes")
    assert "fails_from_50" in str(caught.value.__cause__)


def test_return_exceptions(backend):
    for items in (range(40), iter(range(40))):
        got = breakeven.map(functions.odd_fails, items, backend=backend, return_exceptions=True)
        assert got[::2] == list(range(0, 40, 2))
        assert [str(error) for error in got[1::2]] == [f"odd: {n}" for n in range(1, 40, 2)]
        assert all(isinstance(error, ValueError) for error in got[1::2])


def test_an_input_that_fails(backend):
    def items():
        yield from range(30)
        raise LookupError("no more to read")

    with pytest.raises(LookupError, match="no more to read"):
        breakeven.map(functions.square, items(), backend=backend)


def test_sys_exit_in_an_item_is_as_in_the_loop(backend):
    with pytest.raises(SystemExit) as caught:
        breakeven.map(functions.exits_at_50, range(100), backend=backend)
    assert caught.value.code == 7


def test_other_base_exceptions(backend):
    with pytest.raises(GeneratorExit):
        breakeven.map(functions.interrupts_at_50, range(100), backend=backend)


@pytest.mark.parametrize("function", [functions.killed_at_50, functions.ends_at_50])
def test_a_helper_that_dies(function):
    with pytest.raises(breakeven.WorkerDied) as caught:
        breakeven.map(function, range(100), backend="processes", chunksize=1)
    assert caught.value.task == 50
    got = breakeven.map(function, range(100), backend="processes", return_exceptions=True, chunksize=1)
    assert isinstance(got.pop(50), breakeven.WorkerDied)
    assert got == [n for n in range(100) if n != 50]


def test_items_that_had_not_begun_are_run_by_others_when_a_helper_dies():
    got = breakeven.map(functions.killed_at_50, range(100), backend="processes", return_exceptions=True, chunksize=10)
    lost = [n for n in range(100) if isinstance(got[n], breakeven.WorkerDied)]
    assert lost[-1] == 50
    assert [n for n in range(100) if n not in lost] == [value for value in got if type(value) is int]


def test_a_dead_helpers_items_are_retried_if_that_is_asked_for(tmp_path):
    path = str(tmp_path / "mark")
    assert breakeven.map(functions.dies_once, [path], backend="processes", retries=1) == ["lived"]


def test_retries(backend, tmp_path):
    paths = [(str(tmp_path / f"{n}"), 3) for n in range(4)]
    assert breakeven.map(functions.tries, paths, backend=backend, retries=2) == [3] * 4
    with pytest.raises(OSError, match="try 1"):
        breakeven.map(functions.tries, [(str(tmp_path / "once"), 3)], backend=backend)


def test_an_error_that_does_not_unpickle_here():
    with pytest.raises(breakeven.TaskError, match="cannot be unpickled"):
        breakeven.map(functions.unsendable_error_at_50, range(100), backend="processes")


def test_a_result_that_cannot_be_sent():
    with pytest.raises(Exception, match="lock") as caught:
        breakeven.map(functions.lock_at_50, range(100), backend="processes")
    assert "item 50: 50" in notes(caught.value)


@pytest.mark.parametrize("kind", [functions.Argument, functions.Arrival])
def test_an_item_that_cannot_be_sent(kind):
    items = [kind(n) for n in range(100)]
    # To processes that have to be sent it, it cannot go; the caller has it as it is.
    with pytest.raises(Exception, match="pickle") as caught:
        breakeven.map(functions.value_of, iter(items), backend="processes")
    assert "item 50" in notes(caught.value)
    assert breakeven.map(functions.value_of, iter(items)) == list(range(100))
    assert breakeven.map(functions.value_of, iter(items), backend="threads") == list(range(100))


@pytest.mark.parametrize("backend", ["processes", "threads"])
def test_initializers(backend):
    got = breakeven.map(
        functions.get_state, range(20), backend=backend, workers=2, initializer=functions.set_state, initargs=(5,)
    )
    functions.set_state(None)
    if backend == "processes":
        assert got == [5] * 20
    with pytest.raises(RuntimeError, match="no such device"):
        breakeven.map(functions.sleeps_long, range(4), backend="processes", initializer=functions.initializer_fails)


def test_timeout():
    with pytest.raises(breakeven.TimeoutError, match=r"0\.3 s"):
        breakeven.map(functions.sleeps_long, range(3), timeout=0.3)
    assert issubclass(breakeven.TimeoutError, Exception)
    assert breakeven.map(functions.square, range(50), timeout=60) == [n * n for n in range(50)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"workers": 0}, ValueError),
        ({"workers": "two"}, ValueError),
        ({"chunksize": 0}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"retries": -1}, ValueError),
        ({"initializer": 5}, TypeError),
        ({"backend": "quantum"}, ValueError),
        ({"backend": 5}, TypeError),
        ({"backend": "ray://head:10001"}, NotImplementedError),
    ],
)
@pytest.mark.parametrize("family", [breakeven.map, breakeven.imap, breakeven.imap_unordered])
def test_arguments_that_make_no_sense(family, arguments, error):
    with pytest.raises(error):
        family(functions.square, range(5), **arguments)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are interpreters")
def test_interpreters_need_a_newer_python():
    with pytest.raises(NotImplementedError, match=r"3\.14"):
        breakeven.map(functions.square, range(5), backend="interpreters")


def test_no_iterable():
    with pytest.raises(TypeError):
        breakeven.map(functions.square)
    with pytest.raises(TypeError):
        breakeven.imap(functions.square)


def test_not_iterable():
    with pytest.raises(TypeError):
        breakeven.map(functions.square, 5)


def test_after_any_failure_the_next_map_works(backend):
    for function in (functions.fails_from_50, functions.exits_at_50):
        with pytest.raises(BaseException):
            breakeven.map(function, range(100), backend=backend)
        assert breakeven.map(functions.square, range(100), backend=backend) == [n * n for n in range(100)]


def test_progress_is_quiet_without_a_terminal(capsys):
    pytest.importorskip("tqdm")
    assert breakeven.map(functions.square, range(100), progress=True) == [n * n for n in range(100)]
    assert list(breakeven.imap(functions.square, range(100), progress=True)) == [n * n for n in range(100)]
    assert capsys.readouterr() == ("", "")


BAR = """
import sys, threading
import breakeven
sys.stderr.isatty = lambda: True
def item(x):
    return x
assert breakeven.map(item, range(50), progress=True, backend="processes") == list(range(50))
print(threading.active_count())
"""


def test_progress_counts_items_and_leaves_no_thread(python):
    pytest.importorskip("tqdm")
    done = python("-c", BAR)
    assert done.out == "1\n" and "50/50" in done.err, done.err


def test_maps_from_several_threads():
    results = {}

    def work(number):
        results[number] = breakeven.map(functions.square, range(number, number + 100), backend="processes")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [n * n for n in range(number, number + 100)] for number in range(3)}


def test_helpers_are_no_children_that_the_program_sees():
    assert breakeven.map(functions.square, iter(range(100)), backend="processes") == [n * n for n in range(100)]
    assert breakeven.active_children() == []
    assert os.getpid() == functions.CALLER
