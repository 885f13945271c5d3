"""The Pool API, by start method: what programs written for multiprocessing.Pool rely on."""

import functools
import itertools
import operator
import pickle
import threading
import time
import warnings

import breakeven
import pytest
from breakeven.pool import AsyncResult, IMapIterator, MapResult, Pool, RemoteTraceback, ThreadPool

from tests.pools import tasks


@pytest.fixture(params=["fork", "spawn", "forkserver", "threads"])
def make(request):
    """Makes pools of each kind."""
    if request.param == "threads":
        return ThreadPool
    return breakeven.get_context(request.param).Pool


@pytest.fixture
def pool(make):
    with make(2) as pool:
        yield pool
    pool.join()


@pytest.fixture
def forked():
    with breakeven.get_context("fork").Pool(2) as pool:
        yield pool
    pool.join()


def generator(n, fail_at=None):
    for i in range(n):
        if i == fail_at:
            raise ZeroDivisionError(i)
        yield i


SQUARES = [x * x for x in range(1000)]


def test_apply(pool):
    assert pool.apply(tasks.square, (7,)) == 49
    assert pool.apply(tasks.add, (1,), {"b": 2}) == 3
    assert pool.apply_async(tasks.add, (1, 2)).get(timeout=60) == 3


@pytest.mark.parametrize("chunksize", [None, 1, 7, 5000])
@pytest.mark.parametrize("items", [range(1000), list(range(1000)), tuple(range(1000))], ids=["range", "list", "tuple"])
def test_map(forked, items, chunksize):
    assert forked.map(tasks.square, items, chunksize) == SQUARES
    assert forked.map_async(tasks.square, items, chunksize).get() == SQUARES


def test_every_form_of_map(pool):
    items = range(1000)
    assert pool.map(tasks.square, items) == SQUARES
    assert pool.map(tasks.square, generator(1000), chunksize=3) == SQUARES
    assert pool.starmap(tasks.add, zip(items, items, strict=True)) == [2 * x for x in items]
    assert pool.starmap_async(tasks.add, list(zip(items, items, strict=True)), chunksize=1).get() == [
        2 * x for x in items
    ]
    assert list(pool.imap(tasks.square, items)) == SQUARES
    assert list(pool.imap(tasks.square, generator(1000), chunksize=7)) == SQUARES
    assert sorted(pool.imap_unordered(tasks.square, generator(1000))) == SQUARES
    assert sorted(pool.imap_unordered(tasks.square, items, 10)) == SQUARES


def test_nothing_to_do(pool):
    assert pool.map(tasks.square, []) == []
    assert pool.map_async(tasks.square, [], chunksize=1).get(timeout=60) == []
    assert list(pool.imap(tasks.square, [])) == []
    assert list(pool.imap_unordered(tasks.square, iter(()))) == []
    called = []
    pool.map_async(tasks.square, [], callback=called.append).wait(60)
    assert called == [[]]


def test_objects_go_and_come(pool):
    words = [{"word": str(i), "n": [i]} for i in range(100)]
    assert pool.map(tasks.identity, words) == words
    assert pool.map(tasks.identity, words, chunksize=1) == words
    assert list(pool.imap(tasks.identity, words)) == words
    assert list(pool.imap(tasks.identity, words, chunksize=9)) == words


def test_mixed_results_in_one_parcel(forked):
    items = [i if i % 3 else {"i": i} for i in range(300)]
    assert forked.map(tasks.identity, items, chunksize=1) == items
    assert list(forked.imap(tasks.identity, items)) == items


@pytest.mark.parametrize("form", ["map", "imap"])
def test_numbers_of_every_size(forked, form):
    """Ints and floats take a short cut; what does not fit in must come out the same."""
    small, large = list(range(-50, 50)), [1 << 63, -(1 << 63), (1 << 63) - 1, 1 << 200, -(1 << 64)]
    items = [*small, *large, *small, 1.5, 2, True, float("inf"), None, "x", *small, *large]
    call = (lambda f, x: forked.map(f, x, 1)) if form == "map" else (lambda f, x: list(forked.imap(f, x)))
    for chosen in (items, items[::-1], large * 20, [1.5] * 100 + [1], [1] * 100 + [1.5] * 100, [True] * 50 + [1]):
        got = call(tasks.identity, chosen)
        assert got == chosen and list(map(type, got)) == list(map(type, chosen))


def test_exceptions_in_map(pool):
    with pytest.raises(ValueError) as caught:
        pool.map(tasks.Failing(5), range(10))
    assert caught.value.args == (5,)
    with pytest.raises(ValueError):
        pool.map(tasks.Failing(5), range(10), chunksize=1)
    assert pool.map(tasks.square, range(3)) == [0, 1, 4]


def test_remote_traceback(forked):
    with pytest.raises(ValueError) as caught:
        forked.apply(tasks.Failing(1), (1,))
    assert type(caught.value.__cause__) is RemoteTraceback
    assert "raise ValueError(x)" in str(caught.value.__cause__)
    assert "_pool_worker" not in str(caught.value.__cause__)


def test_threads_raise_the_very_exception():
    error = KeyError("mine")
    with ThreadPool(1) as pool, pytest.raises(KeyError) as caught:
        pool.apply(tasks.raise_it, (error,))
    assert caught.value is error and error.__cause__ is None


@pytest.mark.parametrize("chunksize,lost", [(1, [3, 6]), (2, [2, 3, 6, 7]), (5, list(range(10)))])
@pytest.mark.parametrize("ordered", [True, False])
def test_imap_goes_on_after_an_exception(forked, chunksize, lost, ordered):
    method = forked.imap if ordered else forked.imap_unordered
    iterator = method(tasks.Failing(3, 6), range(10), chunksize)
    got, errors = [], 0
    while True:
        try:
            got.append(next(iterator))
        except StopIteration:
            break
        except ValueError:
            errors += 1
    assert (got if ordered else sorted(got)) == [i for i in range(10) if i not in lost]
    assert errors == 2


def test_imap_next_with_timeout(pool, tmp_path):
    here, gate = str(tmp_path), tmp_path / "gate"
    iterator = pool.imap(tasks.pass_gate, [here, str(gate)])
    assert isinstance(iterator, IMapIterator)
    assert iterator.next(timeout=60) == here
    with pytest.raises(breakeven.TimeoutError):
        iterator.next(timeout=0.05)
    gate.touch()
    assert iterator.next() == str(gate)
    with pytest.raises(StopIteration):
        iterator.next()
    with pytest.raises(StopIteration):
        iterator.next(timeout=1)


def test_imap_input_that_raises(pool):
    for chunksize, good in [(1, 7), (2, 6), (4, 4)]:
        iterator = pool.imap(tasks.square, generator(20, fail_at=7), chunksize)
        assert list(itertools.islice(iterator, good)) == SQUARES[:good]
        with pytest.raises(ZeroDivisionError) as caught:
            next(iterator)
        assert caught.value.__cause__ is None
        assert list(iterator) == []
    with pytest.raises(ZeroDivisionError):
        pool.map(tasks.square, generator(20, fail_at=7), 1)


def test_imap_takes_input_lazily(pool):
    taken = []

    def numbers():
        for i in itertools.count():
            taken.append(i)
            yield i

    iterator = pool.imap(tasks.identity, numbers())
    assert [next(iterator) for _ in range(10)] == list(range(10))
    time.sleep(0.2)
    assert len(taken) < 50_000
    pool.terminate()


def test_imap_input_may_depend_on_results(pool):
    """As a program that finds more work while it works: the input waits for what the consumer puts in."""
    import queue

    todo = queue.Queue()
    todo.put(3)
    got = []
    for value in pool.imap_unordered(tasks.identity, iter(todo.get, None)):
        got.append(value)
        todo.put(value - 1 if value else None)
    assert got == [3, 2, 1, 0]


def test_imap_is_run_to_its_end_by_close_and_join(make, tmp_path):
    path = str(tmp_path / "ran")
    pool = make(2)
    unconsumed = pool.imap(tasks.record, [(path, i, 0) for i in range(50)])
    from_generator = pool.imap_unordered(tasks.record, ((path, i, 0) for i in range(50, 100)))
    pool.close()
    pool.join()
    with open(path) as file:
        assert sorted(map(int, file)) == list(range(100))
    assert list(unconsumed) == list(range(50)) and len(list(from_generator)) == 50


def test_imap_keeps_its_pool_alive():
    iterator = breakeven.get_context("fork").Pool(2).imap(tasks.square, range(100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert list(iterator) == SQUARES[:100]
        del iterator


def test_two_imaps_at_once(pool):
    pairs = zip(pool.imap(tasks.square, range(1000)), pool.imap(tasks.identity, generator(1000)), strict=True)
    assert list(pairs) == list(zip(SQUARES, range(1000), strict=True))


def test_async_result(pool, tmp_path):
    gate = tmp_path / "gate"
    result = pool.apply_async(tasks.pass_gate, (str(gate),))
    assert isinstance(result, AsyncResult) and not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(breakeven.TimeoutError):
        result.get(timeout=0.01)
    gate.touch()
    result.wait(60)
    assert result.ready() and result.successful() and result.get() == str(gate)
    failed = pool.apply_async(tasks.raise_it, (KeyError("k"),))
    failed.wait()
    assert failed.ready() and not failed.successful()
    for _ in range(2):
        with pytest.raises(KeyError):
            failed.get()
    assert isinstance(pool.map_async(tasks.square, [1]), MapResult)


def test_ready_without_anybody_waiting(pool):
    result = pool.map_async(tasks.square, range(100), chunksize=1)
    deadline = time.monotonic() + 60
    while not result.ready():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert result.get(timeout=0) == SQUARES[:100]


def test_callbacks(pool):
    called, failed = [], []
    pool.apply_async(tasks.square, (3,), callback=called.append, error_callback=failed.append).wait()
    pool.apply_async(tasks.raise_it, (KeyError(1),), callback=called.append, error_callback=failed.append).wait()
    pool.map_async(tasks.square, [1, 2], callback=called.append).wait()
    pool.starmap_async(tasks.add, [(1, 2)], callback=called.append).wait()
    pool.map_async(tasks.Failing(2), [1, 2], error_callback=failed.append).wait()
    assert called == [9, [1, 4], [3]]
    assert [type(error) for error in failed] == [KeyError, ValueError]


def test_callback_runs_while_nobody_waits(pool):
    called = threading.Event()
    pool.apply_async(tasks.square, (3,), callback=lambda value: called.set())
    assert called.wait(60)


def test_callback_may_use_the_pool(pool):
    done = []

    def again(value):
        done.append(pool.apply(tasks.add, (value, 1)))

    pool.apply_async(tasks.square, (3,), callback=again).wait(60)
    assert done == [10]


def test_callback_that_raises(pool, capsys):
    def broken(value):
        raise LookupError("in a callback")

    result = pool.apply_async(tasks.square, (3,), callback=broken)
    assert result.get(60) == 9
    assert pool.apply(tasks.square, (4,)) == 16
    assert "in a callback" in capsys.readouterr().err


def test_unpicklable_pool(pool):
    with pytest.raises(NotImplementedError):
        pickle.dumps(pool)


def test_states(make):
    pool = make(2)
    assert "state=RUN" in repr(pool) and "pool_size=2" in repr(pool)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    for call in (pool.map, pool.imap, pool.imap_unordered, pool.map_async, pool.starmap):
        with pytest.raises(ValueError, match="Pool not running"):
            call(tasks.square, [1])
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(tasks.square, (1,))
    with pytest.raises(ValueError, match="Pool not running"):
        pool.__enter__()
    pool.close()
    pool.join()
    pool.join()
    pool.terminate()
    assert "state=TERMINATE" in repr(pool)


def test_close_lets_everything_finish(make):
    pool = make(2)
    results = [pool.apply_async(tasks.nap, (0.05,)) for _ in range(6)]
    mapped = pool.map_async(tasks.square, range(1000), chunksize=1)
    pool.close()
    pool.join()
    assert [result.get(timeout=0) for result in results] == [0.05] * 6
    assert mapped.get(timeout=0) == SQUARES


def test_terminate_does_not_wait(make):
    pool = make(2)
    gate = threading.Event()  # for threads, which nobody can end
    task, wait = (tasks.nap, 3600) if make is not ThreadPool else (gate.wait, 60)
    results = [pool.apply_async(task, (wait,)) for _ in range(4)]
    mapped = pool.map_async(task, [wait] * 1000, chunksize=1)
    iterator = pool.imap(task, [wait] * 10)
    pool.terminate()
    for result in (*results, mapped):
        with pytest.raises(breakeven.pool.PoolTerminated):
            result.get(timeout=60)
    with pytest.raises(breakeven.pool.PoolTerminated):
        next(iterator)
    gate.set()
    pool.join()


def test_wrong_arguments(make):
    for processes in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            make(processes)
    with pytest.raises(TypeError):
        make(1, initializer=5)
    with make(1) as pool:
        for chunksize in (0, -1):
            with pytest.raises(ValueError):
                pool.imap(tasks.square, [1], chunksize)
            with pytest.raises(ValueError):
                pool.map(tasks.square, [1], chunksize)
    pool.join()


@pytest.mark.parametrize("value", [0, -1, 0.5, "12"])
def test_wrong_maxtasksperchild(value):
    with pytest.raises(ValueError):
        Pool(1, maxtasksperchild=value)


def test_initializer(make):
    with make(2, initializer=tasks.set_mark, initargs=("set",)) as pool:
        assert pool.map(tasks.get_mark, range(4), chunksize=1) == ["set"] * 4
    pool.join()
    tasks.set_mark(None)


@pytest.mark.parametrize("chunksize,replaced", [(1, 4), (2, 2)])
def test_maxtasksperchild(ctx, chunksize, replaced):
    with ctx.Pool(1, maxtasksperchild=1) as pool:
        pids = pool.map(tasks.pid, range(4), chunksize=chunksize)
        assert len(set(pids)) == replaced
        assert pool.apply(tasks.pid) not in pids
        assert len(pool._pool) == 1
        pool.close()
        pool.join()


def test_maxtasksperchild_while_nobody_waits(tmp_path):
    path = str(tmp_path / "ran")
    with breakeven.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for i in range(6):
            pool.apply_async(tasks.record, ((path, i, 0),))
        deadline = time.monotonic() + 60
        while not (tmp_path / "ran").exists() or len((tmp_path / "ran").read_text().split()) < 6:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        pool.close()
        pool.join()


def test_workers_by_name_and_nature(ctx, tmp_path):
    with ctx.Pool(2) as pool:
        assert all("PoolWorker-" in process.name and process.daemon for process in pool._pool)
        assert len(set(pool.map(tasks.meet, [(str(tmp_path), 2)] * 2, chunksize=1))) == 2
    pool.join()


def test_default_number_of_workers():
    import os

    with Pool() as pool:
        assert 1 <= len(pool._pool) <= len(os.sched_getaffinity(0))
    pool.join()


def test_process_hook():
    class Mine(Pool):
        made = 0

        @staticmethod
        def Process(ctx, *args, **kwds):
            Mine.made += 1
            return ctx.Process(*args, **kwds)

    with Mine(2, context=breakeven.get_context("fork")) as pool:
        assert pool.map(tasks.square, [1, 2]) == [1, 4]
    pool.join()
    assert Mine.made == 2


def test_values_are_copies(ctx):
    shared = [0]
    with ctx.Pool(1) as pool:
        # Each chunk has its own copy, whatever travels together.
        assert pool.map(tasks.append_one, [shared] * 50, chunksize=1) == [2] * 50
        assert list(pool.imap(tasks.append_one, [shared] * 50)) == [2] * 50
        assert pool.starmap(tasks.append_one, [(shared,)] * 50, chunksize=1) == [2] * 50
        assert shared == [0]
        # Within a chunk, what was one object is one object.
        assert pool.map(tasks.append_one, [shared] * 4, chunksize=4) == [2, 3, 4, 5]
    pool.join()


def test_results_are_taken_when_the_task_returns():
    with breakeven.get_context("fork").Pool(1) as pool:
        assert pool.map(tasks.remember, range(20), chunksize=1) == [list(range(i + 1)) for i in range(20)]
    pool.join()


def test_state_of_a_callable_lives_for_a_chunk(ctx):
    counter = tasks.Counter()
    with ctx.Pool(1) as pool:
        for function in (counter, counter.method):
            assert pool.map(function, range(6), chunksize=1) == [1] * 6
            assert pool.map(function, range(6), chunksize=3) == [1, 2, 3] * 2
            assert [pool.apply(function, (0,)) for _ in range(2)] == [1, 1]
        counter.calls = 10
        assert pool.apply(counter, (0,)) == 11
    pool.join()


def test_partial_lambda_and_closure(ctx):
    with ctx.Pool(2) as pool:
        assert pool.map(functools.partial(tasks.add, b=5), range(3)) == [5, 6, 7]
        offset = 3
        assert pool.map(lambda x: x + offset, range(3)) == [3, 4, 5]
        offset = 4
        assert pool.map(lambda x: x + offset, range(3), chunksize=1) == [4, 5, 6]
        assert pool.map(operator.itemgetter(1), [(1, 2)]) == [2]
        assert pool.map(str.upper, ["a"]) == ["A"]
        assert pool.map("{}".format, [1, 2], chunksize=1) == ["1", "2"]
    pool.join()


def test_repeated_big_arguments_are_sent_once(ctx):
    numpy = pytest.importorskip("numpy")
    from breakeven import _native

    array = numpy.zeros(1_000_000)
    with ctx.Pool(2) as pool:
        before = _native.arena_statistics()["in_use"]
        jobs = [(array, i) for i in range(40)]
        result = pool.map_async(tasks.big_sum, jobs, chunksize=1)
        used = _native.arena_statistics()["in_use"] - before
        assert result.get() == [(1.0, 1_000_000, i) for i in range(40)]
        # 40 copies would be 320 MB.
        assert used < 3 * array.nbytes
        assert array[0] == 0
    pool.join()


def test_arrays_go_and_come(ctx):
    numpy = pytest.importorskip("numpy")
    with ctx.Pool(2) as pool:
        for got in pool.map(tasks.array_of, [10, 200_000], chunksize=1):
            assert got.flags.writeable and (got == 7).all()
            got[:] = 0
        arrays = [numpy.arange(n) for n in (0, 10, 100_000)]
        for got, sent in zip(pool.imap(tasks.identity, arrays), arrays, strict=True):
            assert numpy.array_equal(got, sent) and got.flags.writeable
    pool.join()


def test_many_threads_use_one_pool(pool):
    errors = []

    def use(n):
        try:
            for i in range(20):
                assert pool.apply(tasks.add, (n, i)) == n + i
            assert pool.map(tasks.square, range(100), chunksize=1) == SQUARES[:100]
            assert list(pool.imap(tasks.square, range(100))) == SQUARES[:100]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_no_thread_without_need(forked):
    before = set(threading.enumerate())
    forked.map(tasks.square, range(1000))
    list(forked.imap(tasks.square, range(1000)))
    forked.apply_async(tasks.square, (1,)).get()
    forked.map_async(tasks.square, range(1000)).get()
    assert set(threading.enumerate()) == before


def test_unclosed_pool_warns():
    pool = breakeven.get_context("fork").Pool(1)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool


def test_dropped_pool_still_runs_what_it_was_given(tmp_path):
    path = tmp_path / "ran"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        result = breakeven.get_context("fork").Pool(1).apply_async(tasks.record, ((str(path), 7, 0),))
        assert result.get(60) == 7
    assert path.read_text() == "7\n"


def test_arguments_and_results_are_released(pool):
    import gc
    import weakref

    class Thing:
        pass

    things = [tasks.Counter() for _ in range(10)]
    refs = [weakref.ref(thing) for thing in things]
    pool.map(tasks.identity, things)
    pool.map(tasks.identity, things, chunksize=1)
    list(pool.imap(tasks.identity, things))
    del things
    gc.collect()
    deadline = time.monotonic() + 5
    while any(ref() is not None for ref in refs) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [ref() for ref in refs] == [None] * 10


def test_consumed_results_are_let_go(forked):
    import weakref

    refs = []
    for thing in forked.imap(tasks.identity, [tasks.Counter() for _ in range(50)]):
        refs.append(weakref.ref(thing))
        del thing
        assert refs[-1]() is None


def test_results_can_be_looked_at_from_outside(pool):
    """As multiprocessing.managers does with an object that it makes a proxy for."""
    for result in (
        pool.apply_async(tasks.square, (1,)),
        pool.map_async(tasks.square, [1]),
        pool.map_async(tasks.square, []),
    ):
        for name in dir(result):
            getattr(result, name)
        assert result.get(60) is not None


def test_pool_behind_a_manager():
    with breakeven.Manager() as manager:
        pool = manager.Pool(2)
        assert pool.apply(tasks.square, (3,)) == 9
        assert pool.map_async(tasks.square, [1, 2]).get(60) == [1, 4]
        assert pool.apply_async(tasks.square, (4,)).get(60) == 16
        assert list(pool.imap(tasks.square, range(5))) == [0, 1, 4, 9, 16]
        pool.terminate()


class TestManySmallLists:
    """They travel as columns, and a worker makes them while it goes through them."""

    LISTS = [[i, i + 1, -i][: i % 4] for i in range(5000)]

    @pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
    def test_map(self, pool, chunksize):
        assert pool.map(sum, self.LISTS, chunksize) == list(map(sum, self.LISTS))
        assert pool.map_async(sum, self.LISTS, chunksize).get() == list(map(sum, self.LISTS))

    def test_starmap(self, pool):
        pairs = [(i, i % 7) for i in range(5000)]
        assert pool.starmap(tasks.add, pairs) == [a + b for a, b in pairs]

    def test_imap(self, pool):
        assert list(pool.imap(sum, self.LISTS, 100)) == list(map(sum, self.LISTS))

    def test_each_call_has_a_list_of_its_own(self, forked):
        lists = [[i] for i in range(5000)]
        assert forked.map(tasks.append_and_count, lists) == [2] * 5000
        assert forked.map(tasks.append_and_count, lists, 100) == [2] * 5000
        assert lists == [[i] for i in range(5000)]

    def test_one_list_many_times_is_one_in_its_chunk(self, forked):
        shared = [1]
        counts = forked.map(tasks.append_and_count, [shared] * 1000, chunksize=1000)
        assert counts == list(range(2, 1002))
        assert shared == [1]

    @pytest.mark.parametrize(
        "result", [[1, 2], (1.5,), "text", b"bytes", None, True, [], {"a": [1]}, [[1], [2]], {1}], ids=repr
    )
    def test_results_of_every_kind(self, forked, result):
        results = forked.map(functools.partial(tasks.copied, result), range(1000))
        assert results == [result] * 1000
        if type(result) in (list, dict, set):
            assert len(set(map(id, results))) == 1000

    def test_a_call_gets_lists_and_nothing_else(self, forked):
        numbers, lists = list(range(5000)), [[i] for i in range(5000)]
        assert forked.apply(tasks.kinds, (numbers, lists)) == ["list", "list"]
        assert forked.apply(tasks.kinds, (numbers,), {"more": lists}) == ["list", "list"]
        assert forked.map(tasks.kinds, [numbers, lists]) == [["list"], ["list"]]
        assert forked.map(tasks.kinds, [numbers] * 600) == [["list"]] * 600
