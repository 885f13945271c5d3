"""install() and uninstall(): names, classes, children, and what must not change."""

import concurrent.futures
import multiprocessing
import multiprocessing.pool
import multiprocessing.queues
import pickle
from abc import ABC, abstractmethod

import breakeven
import breakeven.pool
import breakeven.queues
import pytest
from breakeven import _install

from tests.support import faults, methods, programs

STDLIB = {
    "Queue": multiprocessing.queues.Queue,
    "JoinableQueue": multiprocessing.queues.JoinableQueue,
    "SimpleQueue": multiprocessing.queues.SimpleQueue,
    "Pool": multiprocessing.pool.Pool,
    "ThreadPool": multiprocessing.pool.ThreadPool,
}
QUEUES = ("Queue", "JoinableQueue", "SimpleQueue")


@pytest.fixture
def installed():
    breakeven.install()
    yield
    breakeven.uninstall()


def state():
    """Everything that install() changes."""
    from multiprocessing import context, pool, queues, spawn

    names = {}
    for owner in (multiprocessing, context.BaseContext, pool, queues, spawn, concurrent.futures):
        for name, value in vars(owner).items():
            if name in {*STDLIB, *RESULTS, "ProcessPoolExecutor", "get_preparation_data", "__getattr__"}:
                names[owner.__name__, name] = value
    names["reducers"] = dict(multiprocessing.reduction.ForkingPickler._extra_reducers)
    return names


def test_uninstall_restores_exactly():
    before = state()
    breakeven.install()
    assert state() != before
    breakeven.uninstall()
    assert state() == before
    breakeven.uninstall()
    assert state() == before


def test_install_twice_is_install_once(installed):
    once = state()
    breakeven.install()
    assert state() == once


@pytest.mark.parametrize("name", QUEUES)
def test_queues_by_every_way(installed, method, name):
    ours = getattr(breakeven.queues, name)
    ctx = multiprocessing.get_context(method)
    made = [
        getattr(multiprocessing, name)(),
        getattr(ctx, name)(),
        getattr(multiprocessing.get_context(), name)(),
        getattr(multiprocessing.queues, name)(ctx=ctx),
    ]
    for queue in made:
        assert type(queue) is ours
        assert isinstance(queue, STDLIB[name])
        assert isinstance(queue, getattr(multiprocessing.queues, name))
        queue.put(1)
        assert queue.get() == 1
        queue.close()


def test_names_bound_before(installed):
    breakeven.uninstall()
    from multiprocessing import Queue

    breakeven.install()
    assert type(Queue()) is breakeven.queues.Queue


def test_pools(installed):
    import multiprocessing.pool

    with multiprocessing.Pool(1) as pool:
        assert isinstance(pool, breakeven.pool.Pool)
        assert isinstance(pool, multiprocessing.pool.Pool)
        assert pool.map(abs, [-1, 2]) == [1, 2]
    pool.join()
    with multiprocessing.pool.ThreadPool(1) as pool:
        assert isinstance(pool, breakeven.pool.ThreadPool)
        assert isinstance(pool, multiprocessing.pool.ThreadPool)
        assert pool.map(abs, [-1, 2]) == [1, 2]
    pool.join()


@pytest.mark.parametrize("name", STDLIB)
def test_classes_derived_from_our_names_are_the_standard_librarys(installed, name):
    module = multiprocessing.pool if "Pool" in name else multiprocessing.queues
    base = getattr(module, name)

    class Derived(base):
        pass

    class Abstract(ABC, base):
        @abstractmethod
        def something(self): ...

    assert Derived.__bases__ == (STDLIB[name],)
    assert issubclass(Derived, base)
    assert issubclass(Derived, STDLIB[name])
    assert issubclass(Abstract, base)
    assert base.__name__ == name
    assert base.__module__ == module.__name__
    assert pickle.loads(pickle.dumps(base)) is base


class CountingQueue(multiprocessing.queues.Queue):
    """Reaches into private parts the way that programs do."""

    def __init__(self, maxsize=0, *, ctx):
        super().__init__(maxsize, ctx=ctx)
        self.count = ctx.Value("i", 0)

    def __getstate__(self):
        return (*super().__getstate__(), self.count)

    def __setstate__(self, state):
        super().__setstate__(state[:-1])
        self.count = state[-1]

    def put(self, obj, block=True, timeout=None):
        super().put(obj, block, timeout)
        with self.count.get_lock():
            self.count.value += 1


def put_one(queue):
    queue.put("from the child")


def test_derived_queue_works(installed, method):
    ctx = multiprocessing.get_context(method)
    queue = CountingQueue(ctx=ctx)
    process = ctx.Process(target=put_one, args=(queue,))
    process.start()
    assert queue.get(timeout=30) == "from the child"
    process.join()
    assert queue.count.value == 1
    queue.close()
    queue.join_thread()


class PoolWithMark(multiprocessing.pool.Pool):
    mark = "derived"


def test_derived_pool_works(installed, method):
    with PoolWithMark(1, context=multiprocessing.get_context(method)) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert type(pool._inqueue) is STDLIB["SimpleQueue"]
    pool.join()


RESULTS = ("ApplyResult", "AsyncResult", "MapResult", "IMapIterator", "IMapUnorderedIterator")
STDLIB_RESULTS = {name: getattr(multiprocessing.pool, name) for name in RESULTS}


def test_results_are_instances_of_the_names(installed):
    def check(pool, own):
        named = multiprocessing.pool
        result, results = pool.apply_async(abs, (-1,)), pool.map_async(abs, [-1])
        ordered, unordered = pool.imap(abs, [-1]), pool.imap_unordered(abs, [-1])
        for one in (result, results):
            assert isinstance(one, named.AsyncResult) and isinstance(one, named.ApplyResult)
        assert isinstance(results, named.MapResult) and not isinstance(result, named.MapResult)
        assert isinstance(ordered, named.IMapIterator) and not isinstance(ordered, named.IMapUnorderedIterator)
        assert isinstance(unordered, named.IMapUnorderedIterator) and isinstance(unordered, named.IMapIterator)
        assert (result.get(), results.get(), list(ordered), list(unordered)) == (1, [1], [1], [1])
        for one, name in ((result, "ApplyResult"), (results, "MapResult"), (ordered, "IMapIterator")):
            assert (type(one) is STDLIB_RESULTS[name]) is not own

    with multiprocessing.pool.ThreadPool(1) as pool:
        check(pool, own=True)
    pool.join()
    with PoolWithMark(1) as pool:  # derived, hence the standard library's
        check(pool, own=False)
    pool.join()


class DerivedExecutor(concurrent.futures.ProcessPoolExecutor):
    pass


def test_the_standard_librarys_executor_works(installed, method):
    with DerivedExecutor(1, mp_context=multiprocessing.get_context(method)) as executor:
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
        assert executor.submit(pow, 2, 5).result() == 32
        with pytest.raises(Exception, match="pickle"):
            executor.submit(abs, faults.Unpicklable()).result(timeout=30)
        assert executor.submit(pow, 2, 6).result() == 64


def test_standard_queue_made_before_reaches_a_spawned_child(method):
    ctx = multiprocessing.get_context(method)
    queue = ctx.SimpleQueue()
    assert type(queue) is STDLIB["SimpleQueue"]
    breakeven.install()
    try:
        process = ctx.Process(target=put_one, args=(queue,))
        process.start()
        assert queue.get() == "from the child"
        process.join()
    finally:
        breakeven.uninstall()
        queue.close()


def report(queue, ended):
    queue.put((type(multiprocessing.Queue()).__module__, _install.is_installed()))
    ended.get(timeout=30)


@pytest.mark.parametrize("in_force", [True, False])
def test_children(method, in_force):
    ctx = breakeven.get_context(method)
    if in_force:
        breakeven.install()
    try:
        queue, ended = ctx.Queue(), ctx.Queue()
        process = ctx.Process(target=report, args=(queue, ended))
        process.start()
        module = "breakeven.queues" if in_force else "multiprocessing.queues"
        assert queue.get(timeout=30) == (module, in_force)
        ended.put(None)
        process.join()
        assert process.exitcode == 0
    finally:
        breakeven.uninstall()


def grandchild(queue, method):
    ctx = multiprocessing.get_context(method)
    process = ctx.Process(target=put_type, args=(queue,))
    process.start()
    process.join()


def put_type(queue):
    queue.put(type(multiprocessing.SimpleQueue()).__module__)


@pytest.mark.parametrize("then", methods.ALL)
def test_grandchildren(installed, method, then):
    if (method, then) == ("fork", "forkserver"):
        pytest.skip("the standard library cannot use its parent's fork server, which runs by now, from a forked child")
    ctx = multiprocessing.get_context(method)
    queue = ctx.Queue()
    process = ctx.Process(target=grandchild, args=(queue, then))
    process.start()
    assert queue.get(timeout=30) == "breakeven.queues"
    process.join()


def test_unpicklable_is_dropped_as_in_the_standard_library(installed, capsys):
    queue = multiprocessing.Queue(1)
    queue.put(faults.ErrorAtPickle())
    queue.put("next")
    assert queue.qsize() == 1
    assert queue.get() == "next"
    err = capsys.readouterr().err
    assert err.count("AttributeError: obj: refuses to be pickled") == 1
    assert err.rstrip().endswith("AttributeError: obj: refuses to be pickled")
    queue.close()


def test_put_many_goes_on_after_what_it_dropped(installed, capsys):
    queue = multiprocessing.Queue()
    assert queue.put_many([1, faults.ErrorAtPickle(), 2]) == 2
    assert queue.get_many() == [1, 2]
    assert capsys.readouterr().err.count("AttributeError: obj: refuses to be pickled") == 1
    queue.close()


def test_unpicklable_leaves_a_joinable_queue_joinable(installed, capsys):
    queue = multiprocessing.JoinableQueue()
    queue.put(faults.ErrorAtPickle())
    assert "refuses" in capsys.readouterr().err
    queue.join()
    queue.close()


def test_breakevens_own_names_keep_their_contract(installed):
    queue = breakeven.Queue()
    with pytest.raises(AttributeError, match="refuses"):
        queue.put(faults.ErrorAtPickle())
    queue.close()


def test_a_manager_still_works(installed):
    with multiprocessing.Manager() as manager:
        queue = manager.Queue()
        queue.put(1)
        assert queue.get() == 1
        assert list(manager.list([1, 2])) == [1, 2]


def test_installing_loads_no_executor_before_it_is_asked_for():
    code = (
        "import sys, breakeven; breakeven.install(); print('concurrent.futures.process' in sys.modules)\n"
        "import concurrent.futures as f; a = f.ProcessPoolExecutor\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "print(a is ProcessPoolExecutor, f.ThreadPoolExecutor.__module__)\n"
        "breakeven.uninstall(); print(type(f.ProcessPoolExecutor).__name__)"
    )
    done = programs.python("-c", code)
    assert done.out.splitlines() == ["False", "True concurrent.futures.thread", "type"], done
