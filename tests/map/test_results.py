"""The results of a map are those of the serial loop, whatever the items are and whoever runs them."""

import array
import collections
import concurrent.futures
import functools
import itertools

import breakeven
import pytest

from tests.map import functions

BACKENDS = ["auto", "serial", "threads", "processes"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


class Sequence:
    """A sequence of the user's own, which cannot be sliced."""

    def __len__(self):
        return 30

    def __getitem__(self, index):
        if not 0 <= index < 30:
            raise IndexError(index)
        return index * 10


INPUTS = {
    "list": lambda: list(range(200)),
    "tuple": lambda: tuple(range(200)),
    "range": lambda: range(5, 400, 3),
    "str": lambda: "abcdefgh" * 9,
    "bytes": lambda: bytes(range(100)),
    "bytearray": lambda: bytearray(range(100)),
    "array": lambda: array.array("d", range(100)),
    "dict": lambda: {n: str(n) for n in range(80)},
    "dict items": lambda: {n: str(n) for n in range(80)}.items(),
    "set": lambda: set(range(60)),
    "deque": lambda: collections.deque(range(70)),
    "own sequence": lambda: Sequence(),
    "generator": lambda: (n * 2 for n in range(150)),
    "iterator": lambda: iter(range(150)),
    "mixed": lambda: [1, "two", 3.0, None, (4, [5]), {"six": 7}, b"8"] * 9,
    "empty list": list,
    "empty generator": lambda: iter(()),
    "one": lambda: ["only"],
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_of_input(kind, backend):
    expected = [functions.kind_of(item) for item in INPUTS[kind]()]
    assert breakeven.map(functions.kind_of, INPUTS[kind](), backend=backend) == expected


def test_numpy_arrays_give_their_rows(backend):
    numpy = pytest.importorskip("numpy")
    rows = numpy.arange(120.0).reshape(40, 3)
    got = breakeven.map(numpy.sum, rows, backend=backend)
    assert got == [numpy.sum(row) for row in rows]
    assert breakeven.map(functions.kind_of, numpy.arange(50), backend=backend) == [
        functions.kind_of(number) for number in numpy.arange(50)
    ]


def test_large_results_arrive_whole(backend):
    numpy = pytest.importorskip("numpy")
    got = breakeven.map(numpy.ones, [50_000] * 6, backend=backend)
    assert [array.sum() for array in got] == [50_000] * 6
    got[0][:] = 7  # the caller's own, to be written to
    assert got[1].sum() == 50_000


def test_a_long_range_is_never_made_a_list():
    class Enough(Exception):
        pass

    def some(x):
        if x > 1000:
            raise Enough
        return x

    with pytest.raises(Enough):
        breakeven.map(some, range(10**12), backend="serial")


def test_several_iterables_end_with_the_shortest(backend):
    assert breakeven.map(functions.add, range(100), [10] * 60, backend=backend) == [n + 10 for n in range(60)]
    assert breakeven.map(functions.add, range(40), itertools.count(5), backend=backend) == [
        2 * n + 5 for n in range(40)
    ]
    assert breakeven.map(functions.add, "ab", ["x", "y"], backend=backend) == ["ax", "by"]


def test_starmap(backend):
    pairs = [(n, -1) for n in range(90)]
    assert breakeven.starmap(functions.add, pairs, backend=backend) == [n - 1 for n in range(90)]
    assert breakeven.starmap(functions.add, iter(pairs), backend=backend) == [n - 1 for n in range(90)]


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def times(self, x):
        return self.factor * x


def test_lambdas_closures_partials_methods_and_builtins(backend):
    factor = 3
    expected = [3 * n for n in range(100)]
    assert breakeven.map(lambda x: factor * x, range(100), backend=backend) == expected
    assert breakeven.map(lambda x: factor * x, iter(range(100)), backend=backend) == expected
    assert breakeven.map(functools.partial(functions.add, 3), range(100), backend=backend) == list(range(3, 103))
    assert breakeven.map(Scale(3).times, range(100), backend=backend) == expected
    assert breakeven.map(str, range(100), backend=backend) == [str(n) for n in range(100)]
    assert breakeven.map("{:>4}".format, range(20), backend=backend) == [f"{n:>4}" for n in range(20)]


def test_a_partial_with_a_large_array(backend):
    numpy = pytest.importorskip("numpy")
    table = numpy.arange(200_000.0)
    assert breakeven.map(functools.partial(numpy.take, table), iter(range(60)), backend=backend) == list(range(60))


def test_lambda_results(backend):
    pytest.importorskip("cloudpickle")
    got = breakeven.map(lambda x: lambda: x, range(20), backend=backend)
    assert [f() for f in got] == list(range(20))


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_chunksize_changes_nothing_about_results(backend, chunksize):
    assert breakeven.map(functions.square, range(100), backend=backend, chunksize=chunksize) == [
        n * n for n in range(100)
    ]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers(backend, workers):
    assert breakeven.map(functions.square, range(100), backend=backend, workers=workers) == [n * n for n in range(100)]
    got = breakeven.map(functions.where, range(60), backend=backend, workers=workers)
    assert len(set(got)) <= workers


def test_processes_run_nothing_in_the_caller():
    caller = functions.where(None)[0]
    assert caller not in {pid for pid, _ in breakeven.map(functions.where, range(40), backend="processes")}


def test_serial_runs_everything_in_the_caller(monkeypatch):
    here = [functions.where(None)] * 50
    assert breakeven.map(functions.where, range(50), backend="serial") == here
    monkeypatch.setenv("BREAKEVEN", "serial")
    assert breakeven.map(functions.where, range(50), backend="processes") == here
    assert list(breakeven.imap(functions.where, range(50), backend="threads")) == here


def test_maps_within_maps(backend):
    assert breakeven.map(functions.inner_map, [10, 20, 30], backend=backend) == [285, 2470, 8555]


@pytest.mark.parametrize(
    "executor",
    [
        concurrent.futures.ThreadPoolExecutor,
        concurrent.futures.ProcessPoolExecutor,
        breakeven.ThreadPoolExecutor,
        breakeven.ProcessPoolExecutor,
    ],
)
def test_an_executor_is_a_backend(executor):
    with executor(2) as workers:
        caller = functions.where(None)
        got = breakeven.map(functions.where, range(60), backend=workers)
        assert caller not in got
        assert len(set(got)) <= 2
        assert breakeven.map(functions.square, iter(range(60)), backend=workers) == [n * n for n in range(60)]
        assert list(breakeven.imap(functions.square, range(60), backend=workers)) == [n * n for n in range(60)]
        with pytest.raises(KeyError) as caught:
            breakeven.map(functions.fails_from_50, range(100), backend=workers)
        assert caught.value.args == (50,)
        got = breakeven.map(functions.odd_fails, range(10), backend=workers, return_exceptions=True)
        assert [type(value) for value in got] == [int, ValueError] * 5


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_every_start_method(method, python, tmp_path):
    program = f"""
import breakeven
offset = 5
def shifted(x):
    return x + offset
if __name__ == "__main__":
    breakeven.set_start_method({method!r})
    for _ in range(2):
        print(breakeven.map(shifted, range(50), backend="processes") == list(range(5, 55)))
        print(breakeven.map(lambda x: x + offset, iter(range(50)), backend="processes") == list(range(5, 55)))
        offset = 5
"""
    pytest.importorskip("cloudpickle")
    path = tmp_path / "program.py"
    path.write_text(program)
    done = python(path)
    assert (done.code, done.out, done.err) == (0, "True\n" * 4, "")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_main_module_that_helpers_cannot_run(method, python, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(f"""
import breakeven
breakeven.set_start_method({method!r})
try:
    print(breakeven.map(str, iter(range(50)), backend="processes"))
except breakeven.WorkerDied as error:
    print("guarded" in str(error))
""")
    done = python(path)
    assert (done.code, done.out) == (0, "True\n")


MODULE = """
SCALE = 2
TABLE = {"a": 1}
BIG = list(range(1000))
class Config:
    offset = 0
def inner(x):
    return x * SCALE + TABLE["a"]
def outer(x):
    return inner(x) + Config.offset
def from_big(x):
    return BIG[x]
"""

PROGRAM = """
import breakeven, values
def check(function):
    for items in (range(100), iter(range(100))):
        assert breakeven.map(function, items, backend="processes") == [function(x) for x in range(100)], function
if __name__ == "__main__":
    for _ in range(2):
        check(values.outer)
    values.SCALE = 3
    check(values.outer)
    values.TABLE["a"] = 10
    check(values.outer)
    values.Config.offset = 7
    check(values.outer)
    check(values.from_big)
    values.BIG[5] = "changed"
    check(values.from_big)
    original = values.inner
    values.inner = lambda x: -original(x)
    check(values.outer)
    local = 1
    check(lambda x: x + local + values.SCALE)
    local, values.SCALE = 2, 5
    check(lambda x: x + local + values.SCALE)
    print("same")
"""


def test_helpers_that_are_kept_see_what_the_program_changes_between_maps(python, tmp_path):
    pytest.importorskip("cloudpickle")
    (tmp_path / "values.py").write_text(MODULE)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = python(tmp_path / "program.py")
    assert (done.code, done.out, done.err) == (0, "same\n", "")


def test_classes_that_are_hard_to_look_at_are_no_obstacle(monkeypatch):
    # As with classes of some extension modules, whose `__module__` is a descriptor.
    monkeypatch.setattr(functions, "Odd", type("Odd", (), {"__module__": property(str)}), raising=False)
    for _ in range(2):
        assert breakeven.map(functions.square, range(100), backend="processes") == [x * x for x in range(100)]


def test_helpers_are_used_again():
    first = {pid for pid, _ in breakeven.map(functions.where, iter(range(40)), backend="processes", workers=1)}
    again = {pid for pid, _ in breakeven.map(functions.where, iter(range(40)), backend="processes", workers=1)}
    assert first == again
