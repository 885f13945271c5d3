"""Workers keep their numerical libraries' threads within the cores; what the user has decided is left alone."""

import os
import sys
import threading

import breakeven
import pytest
from breakeven import _blas

from tests.support import methods, programs

pytest.importorskip("numpy")
threadpoolctl = pytest.importorskip("threadpoolctl")

VARIABLES = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
PROGRAM = f"""
VARIABLES = {VARIABLES}
import os, sys, time
import breakeven
from breakeven import _blas

def count(_=None):
    '''The largest number of threads that a library is going to use.'''
    import numpy, threadpoolctl
    return max((library["num_threads"] for library in threadpoolctl.threadpool_info()), default=1)

def variables(_=None):
    return [os.environ.get(name) for name in VARIABLES]

def nested(method):
    with breakeven.get_context(method).Pool(2) as pool:
        return [variables(), *pool.map(variables, range(2))]
"""


def run(tmp_path, body, *, cores=2, numpy=True, **environment):
    """What the body of a program prints, on a machine with so many cores as far as breakeven knows."""
    lines = [
        "if __name__ == '__main__':",
        f"    _blas._cores = lambda: {cores}",
        *(f"    {line}" for line in body.splitlines()),
    ]
    if numpy:
        lines.insert(0, "import numpy")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + "\n".join(lines) + "\n")
    done = programs.python(path, env=environment)
    assert (done.code, done.err) == (0, "")
    return done.out.split("\n")[:-1]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in [name for names in _blas._OWN.values() for name in names] + [_blas.SETTING, _blas._SHARE]:
        monkeypatch.delenv(name, raising=False)


def one_thread_anyway():
    import numpy  # noqa: F401  (its BLAS is what is counted)

    return max((library["num_threads"] for library in threadpoolctl.threadpool_info()), default=1) == 1


needs_threads = pytest.mark.skipif(one_thread_anyway(), reason="numpy's BLAS uses one thread on this machine anyway")


@needs_threads
@pytest.mark.parametrize("numpy", [True, False], ids=["loaded", "loaded by the task"])
@pytest.mark.parametrize("method", methods.ALL)
def test_process_workers_have_their_share(tmp_path, method, numpy):
    body = f"""
with breakeven.get_context({method!r}).Pool(2) as pool:
    print(pool.map(count, range(3)))
with breakeven.ProcessPoolExecutor(2, mp_context=breakeven.get_context({method!r})) as executor:
    print(list(executor.map(count, range(3))))
print(variables())
print(count() > 1)
"""
    assert run(tmp_path, body, numpy=numpy) == ["[1, 1, 1]", "[1, 1, 1]", "[None, None, None]", "True"]


@needs_threads
@pytest.mark.parametrize("method", methods.ALL)
def test_limiting_starts_no_threads(tmp_path, method):
    # OpenBLAS starts its threads when it is told how many there are to be, and they spin for a while.
    kinds = {library.kind for library in _blas._libraries()}
    if kinds != {"openblas"} or any(library.set.__name__ != "set_number" for library in _blas._libraries()):
        pytest.skip("numpy's BLAS is another one, or keeps its variables to itself")
    body = f"""
with breakeven.get_context({method!r}).Pool(2) as pool:
    print(set(map(len, pool.map(tasks, range(3)))))
    print(pool.map(multiply, range(2)))
print(len(tasks(0)) if {method!r} == "fork" else 1)
"""
    tasks = """
def tasks(_):
    return os.listdir("/proc/self/task")

def multiply(_):
    import numpy
    product = numpy.ones((300, 300)) @ numpy.ones((300, 300))
    return float(product[0, 0]), len(tasks(0))

"""
    path = tmp_path / "program.py"
    lines = ["    _blas._cores = lambda: 2", *(f"    {line}" for line in body.splitlines())]
    path.write_text("import numpy\n" + PROGRAM + tasks + "if __name__ == '__main__':\n" + "\n".join(lines) + "\n")
    done = programs.python(path)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == ["{1}", "[(300.0, 1), (300.0, 1)]", "1"]


@needs_threads
@pytest.mark.parametrize("method", methods.ALL)
@pytest.mark.parametrize("name", VARIABLES[:2])
def test_a_variable_of_the_users_is_left_alone(tmp_path, method, name):
    body = f"""
with breakeven.get_context({method!r}).Pool(2) as pool:
    print(set(pool.map(count, range(3))), {{each[{VARIABLES.index(name)}] for each in pool.map(variables, range(3))}})
"""
    assert run(tmp_path, body, **{name: "2"}) == ["{2} {'2'}"]


@pytest.mark.parametrize("method", methods.ALL)
def test_pools_in_workers_divide_the_workers_share(tmp_path, method):
    # Workers are daemonic, which may not have children; executors' are not.
    body = f"""
with breakeven.ProcessPoolExecutor(2, mp_context=breakeven.get_context({method!r})) as executor:
    for each in executor.submit(nested, {method!r}).result():
        print(*each)
"""
    assert run(tmp_path, body, cores=8, numpy=False) == ["4 4 4", "2 2 2", "2 2 2"]


@pytest.mark.parametrize(
    ("setting", "expected"), [("off", "None None None"), ("3", "3 3 3"), ("auto", "4 4 4"), ("", "4 4 4")]
)
def test_the_setting(tmp_path, setting, expected):
    body = """
with breakeven.Pool(2) as pool:
    print(*pool.apply(variables))
"""
    assert run(tmp_path, body, cores=8, numpy=False, BREAKEVEN_BLAS_THREADS=setting) == [expected]
    if setting:
        body = f"breakeven.configure(blas_threads={setting!r})" + body
        assert run(tmp_path, body, cores=8, numpy=False) == [expected]


def test_a_setting_that_is_none():
    for wrong in ("many", "-1", "1.5", -1):
        with pytest.raises(ValueError, match='must be "auto", "off" or a number of threads'):
            breakeven.configure(blas_threads=wrong)
    assert _blas.SETTING not in os.environ


@needs_threads
def test_thread_pools_limit_while_they_work_and_restore_afterwards(tmp_path):
    body = """
before = count()
with breakeven.ThreadPool(2) as pool:
    print(count() == before, pool.map(count, range(4)), pool.apply(count), count() == before)
    result = pool.imap(count, range(4))
    print(list(result), count() == before)
with breakeven.ThreadPoolExecutor(2) as executor:
    import threading
    both = threading.Barrier(2)
    print([f.result() for f in [executor.submit(lambda: (both.wait(), count())[1]) for _ in range(2)]])
print(count() == before)
with breakeven.ThreadPoolExecutor(1) as executor:
    print(executor.submit(count).result() == before)
with breakeven.ThreadPool(1) as pool:
    print(pool.apply(count) == before)
"""
    assert run(tmp_path, body) == [
        "True [1, 1, 1, 1] 1 True",
        "[1, 1, 1, 1] True",
        "[1, 1]",
        "True",
        "True",
        "True",
    ]


def test_a_program_without_such_libraries_loads_nothing_for_it(tmp_path):
    body = """
with breakeven.Pool(2) as pool, breakeven.ThreadPool(2) as threads:
    pool.map(abs, range(4))
    threads.map(abs, range(4))
print("ctypes" in sys.modules, "threadpoolctl" in sys.modules, _blas._loaded)
"""
    assert run(tmp_path, body, numpy=False) == ["False False {}"]


# One library, played.


class Played(_blas._Library):
    def __init__(self, threads=8, local=False):
        self.threads = threads
        super().__init__("openblas", lambda: self.threads, self.change, lambda: 8, local)
        self.changes = []

    def change(self, threads):
        self.threads = threads
        self.changes.append(threads)


@pytest.fixture
def library(monkeypatch):
    played = Played()
    monkeypatch.setattr(_blas, "_loaded", {"libopenblas.so": played})
    monkeypatch.setattr(_blas, "_modules_seen", len(sys.modules))
    monkeypatch.setattr(_blas, "_cores", lambda: 8)
    return played


def test_a_fork_inherits_the_limit_and_the_parent_keeps_its_own(library):
    for workers, expected in ((2, 4), (8, 1), (100, 1), (1, 8)):
        with _blas.for_fork(_blas.Limit(workers)):
            assert library.threads == expected
        assert library.threads == 8


def test_nothing_is_raised(library):
    library.threads = 8
    with _blas.for_fork(_blas.Limit(1)):
        assert library.changes == []


def test_a_number_that_the_user_has_set_at_run_time_is_left_alone(library):
    library.threads = 6
    limit = _blas.Limit(4)
    assert limit.kinds == ["openblas"]
    with _blas.for_fork(limit):
        assert library.threads == 6
    team = _blas.Team()
    team.engage(4)
    assert library.threads == 6
    team.rest()
    assert library.changes == []


def test_the_users_choice_in_the_parent_holds_in_workers_that_are_not_forked(library, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    limit = _blas.Limit(4)
    limit.kinds = ["openblas"]
    _blas.limit_worker(limit)
    assert library.threads == 8
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "2"


def test_a_worker_of_a_worker(library, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    _blas.limit_worker(_blas.Limit(2))
    assert (library.threads, os.environ["OMP_NUM_THREADS"]) == (4, "4")
    _blas.limit_worker(_blas.Limit(2))
    assert (library.threads, os.environ["OMP_NUM_THREADS"]) == (2, "2")
    os.environ["OMP_NUM_THREADS"] = "7"
    assert _blas.share(2) == 1
    os.environ[_blas._SHARE] = "2"  # as if the program had set the variable before
    _blas.limit_worker(_blas.Limit(2))
    assert (library.threads, os.environ["OMP_NUM_THREADS"]) == (2, "7")


def test_limits_of_several_at_a_time(library):
    one, other = _blas.Team(), _blas.Team()
    one.engage(2)
    assert library.threads == 4
    other.engage(8)
    assert library.threads == 1
    with _blas.for_fork(_blas.Limit(4)):
        assert library.threads == 1
    one.rest()
    one.rest()
    assert library.threads == 1
    other.rest()
    assert library.threads == 8


def test_a_team_that_grows(library):
    team = _blas.Team()
    for workers, expected in ((1, 8), (2, 4), (4, 2), (2, 2)):
        team.engage(workers)
        assert library.threads == expected
    team.rest()
    assert library.threads == 8


def test_what_the_user_sets_meanwhile_stays(library):
    team = _blas.Team()
    team.engage(4)
    library.threads = 5
    team.rest()
    assert library.threads == 5


def test_a_number_of_each_threads_own(library):
    library.local = True
    team = _blas.Team()
    team.engage(4)
    assert library.threads == 8
    thread = threading.Thread(target=team.limit_thread)
    thread.start()
    thread.join()
    assert library.threads == 2
    library.threads, library.ours = 8, None
    with _blas.for_fork(_blas.Limit(2)):
        assert library.threads == 4
    assert library.threads == 8


def test_an_executor_counts_its_calls(library):
    before = library.threads
    with breakeven.ThreadPoolExecutor(2) as executor:
        both = threading.Barrier(2)
        futures = [executor.submit(lambda: (both.wait(), library.threads)[1]) for _ in range(2)]
        assert [future.result() for future in futures] == [4, 4]
        with pytest.raises(RuntimeError):
            executor.shutdown()
            executor.submit(int)
    assert library.threads == before
