"""What `multiprocessing`'s locks promise, and breakeven's alike: each test runs against both."""

import contextlib
import multiprocessing
import pickle
import threading
import time

import breakeven
import pytest

from tests.locks import bodies

LIMIT = 30


@pytest.fixture(params=["stdlib", "breakeven"])
def mp(request, method):
    return {"stdlib": multiprocessing, "breakeven": breakeven}[request.param].get_context(method)


@contextlib.contextmanager
def started(ctx, target, *args, **keywords):
    process = ctx.Process(target=target, args=args, **keywords)
    process.start()
    try:
        yield process
    finally:
        process.join(LIMIT)
        assert process.exitcode == 0


def in_thread(function, *args, name=None):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)), name=name)
    thread.start()
    thread.join(LIMIT)
    return result[0]


class TestLock:
    def test_it_is_held_once(self, mp):
        lock = mp.Lock()
        assert lock.acquire() is True
        assert lock.acquire(False) is False
        assert lock.acquire(block=False) is False
        assert lock.acquire(True, 0.01) is False
        assert lock.acquire(timeout=0) is False
        assert lock.acquire(timeout=-1) is False
        assert lock.release() is None
        assert lock.acquire(True, None) is True
        lock.release()

    def test_releasing_a_free_lock(self, mp):
        lock = mp.Lock()
        with pytest.raises(ValueError, match="released too many times"):
            lock.release()
        assert lock.acquire(False) is True
        lock.release()

    def test_as_a_context_manager(self, mp):
        lock = mp.Lock()
        with lock as entered:
            assert entered is True
            assert not lock.acquire(False)
        with pytest.raises(KeyError), lock:
            raise KeyError
        assert lock.acquire(False)
        lock.release()

    def test_any_thread_may_release_it(self, mp):
        lock = mp.Lock()
        in_thread(lock.acquire)
        assert lock.acquire(False) is False, "a thread's end does not release it"
        lock.release()
        assert lock.acquire(False)
        in_thread(lock.release)
        assert lock.acquire(False)
        lock.release()

    def test_any_process_may_release_it(self, mp):
        lock = mp.Lock()
        lock.acquire()
        with started(mp, bodies.release, lock):
            assert lock.acquire(timeout=LIMIT)
        lock.release()

    def test_it_excludes(self, mp):
        lock, value = mp.Lock(), mp.RawValue("i")
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(started(mp, bodies.add_under, lock, value, 300))
            bodies.add_under(lock, value, 300)
        assert value.value == 1200

    def test_what_it_says_about_itself(self, mp):
        lock = mp.Lock()
        assert repr(lock) == "<Lock(owner=None)>"
        lock.acquire()
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        assert in_thread(repr, lock) == "<Lock(owner=SomeOtherThread)>"
        lock.release()
        assert in_thread(lambda: (lock.acquire(), repr(lock), lock.release())[1], name="T") == (
            "<Lock(owner=MainProcess|T)>"
        )
        told, go_on = mp.SimpleQueue(), mp.SimpleQueue()
        with started(mp, bodies.acquire_and_tell, lock, told, go_on, name="P"):
            assert told.get() == "<Lock(owner=P)>"
            assert repr(lock) == "<Lock(owner=SomeOtherProcess)>"
            go_on.put(None)

    def test_private_parts_that_programs_use(self, mp):
        lock = mp.Lock()
        semlock = lock._semlock
        assert (semlock._get_value(), semlock._is_zero(), semlock._count(), semlock._is_mine()) == (1, False, 0, False)
        lock.acquire()
        assert (semlock._get_value(), semlock._is_zero(), semlock._count(), semlock._is_mine()) == (0, True, 1, True)
        lock.release()
        assert (semlock.kind, semlock.maxvalue) == (1, 1)
        assert semlock.SEM_VALUE_MAX == 2**31 - 1

    def test_arguments(self, mp):
        lock = mp.Lock()
        with pytest.raises(TypeError):
            lock.acquire(True, "soon")
        with pytest.raises(TypeError):
            lock.acquire(True, 1, 2)


class TestRLock:
    def test_its_thread_takes_it_again(self, mp):
        lock = mp.RLock()
        assert [lock.acquire() for _ in range(3)] == [True] * 3
        assert repr(lock) == "<RLock(MainProcess, 3)>"
        assert lock._semlock._count() == 3
        assert in_thread(lock.acquire, False) is False
        for _ in range(3):
            lock.release()
        assert in_thread(lock.acquire, False) is True

    def test_only_its_thread_releases_it(self, mp):
        lock = mp.RLock()
        with pytest.raises(AssertionError, match="not owned by thread"):
            lock.release()
        lock.acquire()
        told = mp.SimpleQueue()
        with started(mp, bodies.try_to_release, lock, told):
            assert told.get()[0] == "AssertionError"

        def release():
            with pytest.raises(AssertionError, match="not owned by thread"):
                lock.release()

        in_thread(release)
        lock.release()
        with pytest.raises(AssertionError):
            lock.release()

    def test_another_process_waits(self, mp):
        lock, told = mp.RLock(), mp.SimpleQueue()
        with lock, lock:
            with started(mp, bodies.try_to_acquire, lock, told, True, 0.05):
                assert told.get() is False
        assert repr(lock) == "<RLock(None, 0)>"

    def test_what_it_says_about_itself(self, mp):
        lock = mp.RLock()
        lock.acquire()
        lock.acquire()
        assert in_thread(repr, lock) == "<RLock(SomeOtherThread, nonzero)>"
        lock.release()
        lock.release()
        told, go_on = mp.SimpleQueue(), mp.SimpleQueue()
        with started(mp, bodies.acquire_and_tell, lock, told, go_on, name="P"):
            assert told.get() == "<RLock(P, 1)>"
            assert repr(lock) == "<RLock(SomeOtherProcess, nonzero)>"
            go_on.put(None)


class TestSemaphore:
    def test_it_counts(self, mp):
        semaphore = mp.Semaphore(2)
        assert semaphore.get_value() == 2
        assert repr(semaphore) == "<Semaphore(value=2)>"
        assert semaphore.acquire() is True
        assert semaphore.acquire() is True
        assert semaphore.get_value() == 0
        assert semaphore._semlock._is_zero()
        assert semaphore.acquire(False) is False
        assert semaphore.acquire(timeout=0.01) is False
        assert semaphore.release() is None
        assert semaphore.get_value() == 1
        semaphore.release()
        semaphore.release()
        assert semaphore.get_value() == 3, "more than at first"
        assert mp.Semaphore().get_value() == 1

    def test_a_bounded_one_is_not_released_too_often(self, mp):
        semaphore = mp.BoundedSemaphore(2)
        assert repr(semaphore) == "<BoundedSemaphore(value=2, maxvalue=2)>"
        with pytest.raises(ValueError, match="released too many times"):
            semaphore.release()
        with semaphore as entered:
            assert entered is True
            assert semaphore.get_value() == 1
        assert semaphore.get_value() == 2

    def test_values_that_cannot_be(self, mp):
        with pytest.raises(OSError, match="Invalid argument"):
            mp.Semaphore(-1)
        with pytest.raises(OverflowError):
            mp.Semaphore(2**40)
        with pytest.raises(TypeError):
            mp.Semaphore("many")

    def test_as_a_signal_to_another_process(self, mp):
        semaphore, told = mp.Semaphore(0), mp.SimpleQueue()
        with started(mp, bodies.try_to_acquire, semaphore, told, True, LIMIT):
            semaphore.release()
            assert told.get() is True
        assert semaphore.get_value() == 0


class TestCondition:
    def test_the_lock_is_wanted(self, mp):
        condition = mp.Condition()
        with pytest.raises(AssertionError, match="must acquire"):
            condition.wait()
        with pytest.raises(AssertionError, match="lock is not owned"):
            condition.notify()
        with pytest.raises(AssertionError, match="lock is not owned"):
            condition.notify_all()

    def test_waiting_in_vain(self, mp):
        condition = mp.Condition()
        with condition:
            assert condition.wait(0.01) is False
            assert condition.wait(0) is False
            assert condition.wait(-1) is False
            assert condition._lock._semlock._is_mine()

    @pytest.mark.parametrize("lock", [None, "Lock", "RLock"])
    def test_notify_wakes_as_many_as_it_says(self, mp, lock):
        condition, told = mp.Condition(lock and getattr(mp, lock)()), mp.SimpleQueue()
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(started(mp, bodies.wait_and_tell, condition, told))
            assert [told.get() for _ in range(3)] == ["waits"] * 3
            with condition:  # all wait by now: each said so with the lock held
                assert repr(condition).endswith(", 3)>")
                condition.notify()
            assert told.get() is True
            with condition:
                assert repr(condition).endswith(", 2)>")
                assert told.empty()
                condition.notify(5)
            assert [told.get() for _ in range(2)] == [True] * 2
        with condition:
            condition.notify()
            condition.notify_all()
            assert condition.wait(0.01) is False, "a notification is not kept for those who come later"

    def test_notify_all(self, mp):
        condition, told = mp.Condition(), mp.SimpleQueue()
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(started(mp, bodies.wait_and_tell, condition, told))
            assert [told.get() for _ in range(3)] == ["waits"] * 3
            with condition:
                condition.notify_all()
            assert [told.get() for _ in range(3)] == [True] * 3

    def test_a_lock_taken_more_than_once_is_let_go_entirely(self, mp):
        condition, told = mp.Condition(mp.RLock()), mp.SimpleQueue()
        with condition, condition:
            thread = threading.Thread(target=lambda: bodies.wait_and_tell(condition, told))
            thread.start()
            assert condition.wait(0.05) is False
            assert condition._lock._semlock._count() == 2
            assert told.get() == "waits"
            condition.notify()
        assert told.get() is True
        thread.join()

    def test_wait_for(self, mp):
        condition, value, told = mp.Condition(), mp.Value("i", 0), mp.SimpleQueue()
        with condition:
            assert condition.wait_for(lambda: "so it is") == "so it is"
            assert condition.wait_for(lambda: 0, 0.01) == 0
        with started(mp, bodies.wait_until, condition, value, 3, told):
            assert told.get() == "waits"
            for _ in range(3):
                assert told.empty()
                with condition:
                    value.value += 1
                    condition.notify()
            assert told.get() is True


class TestEvent:
    def test_setting_and_clearing(self, mp):
        event = mp.Event()
        assert event.is_set() is False
        assert event.wait(0) is False
        assert event.wait(0.01) is False
        assert event.wait(-1) is False
        assert event.set() is None
        assert event.is_set() is True
        assert event.wait() is True
        assert event.wait(0) is True
        event.set()
        assert event.clear() is None
        assert event.is_set() is False

    def test_everybody_is_woken(self, mp):
        event, told = mp.Event(), mp.SimpleQueue()
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(started(mp, bodies.wait_for_event, event, told))
            assert [told.get() for _ in range(3)] == ["waits"] * 3
            event.set()
            assert [told.get() for _ in range(3)] == [True] * 3


class TestBarrier:
    def test_all_go_on_together(self, mp):
        barrier, told = mp.Barrier(3), mp.SimpleQueue()
        assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
        for _ in range(3):  # rounds
            with contextlib.ExitStack() as stack:
                for _ in range(2):
                    stack.enter_context(started(mp, bodies.pass_barrier, barrier, told))
                bodies.until(lambda: barrier.n_waiting == 2)
                assert told.empty()
                mine = barrier.wait(LIMIT)
                assert sorted([mine, told.get(), told.get()]) == [0, 1, 2]
            assert barrier.n_waiting == 0

    def test_the_action_is_run_once_a_round(self, mp):
        value, told = mp.Value("i", 0), mp.SimpleQueue()
        barrier = mp.Barrier(2, bodies.Bump(value))
        for nth in range(3):
            with started(mp, bodies.pass_barrier, barrier, told):
                barrier.wait(LIMIT)
                assert value.value == nth + 1
                told.get()

    def test_an_action_that_fails_breaks_it(self, mp):
        barrier = mp.Barrier(1, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            barrier.wait()
        assert barrier.broken

    def test_time_outs_break_it(self, mp):
        for barrier, arguments in ((mp.Barrier(2), (0.01,)), (mp.Barrier(2, timeout=0.01), ())):
            with pytest.raises(threading.BrokenBarrierError):
                barrier.wait(*arguments)
            assert barrier.broken
            assert barrier.n_waiting == 0
            with pytest.raises(threading.BrokenBarrierError):
                barrier.wait()
            barrier.reset()
            assert not barrier.broken

    @pytest.mark.parametrize("how", ["abort", "reset"])
    def test_those_who_wait_are_told(self, mp, how):
        barrier, told = mp.Barrier(3), mp.SimpleQueue()
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(started(mp, bodies.pass_barrier, barrier, told))
            bodies.until(lambda: barrier.n_waiting == 2)
            getattr(barrier, how)()
            assert [told.get(), told.get()] == ["broken"] * 2
        assert barrier.broken == (how == "abort")
        barrier.reset()
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(started(mp, bodies.pass_barrier, barrier, told))
            assert sorted([barrier.wait(LIMIT), told.get(), told.get()]) == [0, 1, 2]


@pytest.mark.parametrize("name", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event"])
class TestEach:
    def test_pickling_is_for_starting_processes(self, mp, name):
        with pytest.raises(RuntimeError, match="inheritance"):
            pickle.dumps(getattr(mp, name)())

    def test_its_class(self, mp, name):
        from multiprocessing import synchronize

        obj = getattr(mp, name)()
        assert isinstance(obj, getattr(synchronize, name))
        assert type(obj).__name__ == name

    def test_a_derived_class(self, mp, name):
        base = type(getattr(mp, name)())

        class Derived(base):
            def __init__(self, label, *, ctx):
                super().__init__(ctx=ctx)
                self.label = label

        obj = Derived("x", ctx=mp)
        assert obj.label == "x"
        if hasattr(obj, "acquire"):
            assert obj.acquire()
            obj.release()


def test_values_and_arrays_have_such_locks(mp):
    value, array = mp.Value("i", 0), mp.Array("d", 3)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(started(mp, bodies.add_under, value.get_lock(), value, 200))
    assert value.value == 400
    with array.get_lock():
        array[1] = 2.5
    assert array[:] == [0, 2.5, 0]
    lock = mp.RLock()
    assert mp.Value("i", lock=lock).get_lock() is lock


def test_a_queue_that_is_joined(mp):
    queue = mp.JoinableQueue()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    queue.join()
    with started(mp, bodies.deal_with, queue):
        for number in range(1, 20):
            queue.put(number)
        queue.join()
        queue.put(None)
        queue.join()
    assert queue.empty()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    queue.put(1)
    assert queue.get() == 1
    queue.close()
    queue.join_thread()
    queue.task_done()
    queue.join()


def test_threads_of_one_process(mp):
    lock, value = mp.Lock(), [0]

    def add():
        for _ in range(2000):
            with lock:
                seen = value[0]
                if seen % 100 == 0:
                    time.sleep(0)
                value[0] = seen + 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert value == [8000]
