"""Processes killed while they hold, wait for or change a lock: nobody hangs, and who comes next can learn of it."""

import os
import random
import signal
import threading
import time

import breakeven
import pytest

from tests.locks import bodies
from tests.support import kill

pytestmark = pytest.mark.kill

LIMIT = 30


def run_to_its_end(ctx, target, *args, code=-signal.SIGKILL):
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join(LIMIT)
    assert process.exitcode == code


def kill_at_random_moments(ctx, chance, target, *args, count, processes=2, check=None):
    """Kills `count` processes that do `target`, a few at a time; `check` is called after each lot."""
    for _ in range(count // processes):
        lot = [ctx.Process(target=target, args=args) for _ in range(processes)]
        for process in lot:
            process.start()
        kill.at_random_moments(lot, chance.random(), within=0.02)
        if check:
            check()


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
class TestLocks:
    def test_the_next_gets_it_and_can_learn_so(self, ctx, kind):
        lock = getattr(ctx, kind)()
        assert (lock.owner_died, lock.recoveries) == (False, 0)
        for times in (1, 2):
            run_to_its_end(ctx, bodies.acquire_and_die, lock)
            assert lock.locked()
            assert not lock.owner_died
            assert lock.acquire(timeout=LIMIT) is True
            assert lock.owner_died
            assert lock.recoveries == times
            lock.release()
            assert not lock.owner_died
            with lock:
                assert not lock.owner_died, "the one after that has nothing to put right"

    def test_a_process_that_just_ends(self, ctx, kind):
        lock = getattr(ctx, kind)()
        run_to_its_end(ctx, bodies.acquire_and_end, lock, code=0)
        with lock:
            assert lock.owner_died

    def test_trying_without_waiting(self, ctx, kind):
        lock = getattr(ctx, kind)()
        run_to_its_end(ctx, bodies.acquire_and_die, lock)
        bodies.until(lambda: lock.acquire(False))
        assert lock.owner_died
        lock.release()

    def test_it_dies_while_others_wait(self, ctx, kind):
        lock, told = getattr(ctx, kind)(), ctx.SimpleQueue()
        go_on = ctx.SimpleQueue()
        holder = ctx.Process(target=bodies.acquire_and_tell, args=(lock, told, go_on))
        holder.start()
        told.get()
        waiting = ctx.Process(target=bodies.try_to_acquire, args=(lock, told, True, LIMIT))
        waiting.start()
        taken = []

        def use():
            taken.append(lock.acquire(timeout=LIMIT))
            lock.release()

        thread = threading.Thread(target=use)
        thread.start()
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        assert told.get() is True, "in the end both have it, whoever was first"
        waiting.join(LIMIT)
        thread.join(LIMIT)
        assert taken == [True]
        assert lock.recoveries >= 1

    def test_after_it_was_reaped(self, ctx, kind):
        lock = getattr(ctx, kind)()
        run_to_its_end(ctx, bodies.acquire_and_die, lock)
        breakeven._native.reap()
        assert lock.locked()
        with lock:
            assert lock.owner_died

    def test_the_lock_of_a_dead_process_can_be_released(self, ctx, kind):
        lock = getattr(ctx, kind)()
        run_to_its_end(ctx, bodies.acquire_and_die, lock)
        if kind == "Lock":
            lock.release()
            assert lock.acquire(False)
            assert not lock.owner_died
            lock.release()
        else:
            with pytest.raises(AssertionError):
                lock.release()

    def test_a_hundred_killed_at_random_moments(self, kind, seed):
        ctx = breakeven.get_context("fork")
        lock, value = getattr(ctx, kind)(), ctx.RawValue("l")
        seen = [0]

        def check():
            assert lock.acquire(timeout=LIMIT), "nobody hangs"
            assert value.value >= seen[0]
            seen[0] = value.value
            lock.release()

        chance = random.Random(f"{seed} {kind}")
        kill_at_random_moments(ctx, chance, bodies.add_under_for_ever, lock, value, count=100, check=check)
        assert value.value > 0
        # Still a lock: what is added under it is added once.
        before = value.value
        processes = [ctx.Process(target=bodies.add_under, args=(lock, value, 500)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(LIMIT)
            assert process.exitcode == 0
        assert value.value == before + 1000


class TestSemaphores:
    def test_what_the_dead_held_comes_back(self, ctx):
        semaphore = ctx.Semaphore(3)
        run_to_its_end(ctx, bodies.acquire_and_die, semaphore, 2)
        assert [semaphore.acquire(timeout=LIMIT) for _ in range(3)] == [True] * 3
        assert semaphore.recoveries == 2
        assert not semaphore.acquire(False)
        for _ in range(3):
            semaphore.release()
        assert semaphore.get_value() == 3

    def test_a_bounded_one(self, ctx):
        semaphore = ctx.BoundedSemaphore(1)
        run_to_its_end(ctx, bodies.acquire_and_die, semaphore)
        assert semaphore.acquire(timeout=LIMIT)
        semaphore.release()
        with pytest.raises(ValueError, match="too many"):
            semaphore.release()

    def test_a_signal_that_was_taken_is_not_sent_again(self, ctx):
        semaphore = ctx.Semaphore(0)
        semaphore.release()
        run_to_its_end(ctx, bodies.acquire_and_die, semaphore)
        breakeven._native.reap()
        assert semaphore.get_value() == 0
        assert not semaphore.acquire(timeout=0.2)

    def test_what_somebody_else_gave_back_does_not_come_back_twice(self, ctx):
        semaphore, told, go_on = ctx.Semaphore(1), ctx.SimpleQueue(), ctx.SimpleQueue()
        holder = ctx.Process(target=bodies.acquire_and_tell, args=(semaphore, told, go_on))
        holder.start()
        told.get()
        semaphore.release()  # on its behalf
        holder.kill()
        holder.join()
        breakeven._native.reap()
        assert semaphore.get_value() == 1

    def test_a_hundred_killed_at_random_moments(self, seed):
        ctx = breakeven.get_context("fork")
        semaphore = ctx.BoundedSemaphore(2)

        def check():
            breakeven._native.reap()
            assert semaphore.get_value() == 2, "exactly what the dead held came back"

        chance = random.Random(seed)
        kill_at_random_moments(
            ctx, chance, bodies.take_and_give_for_ever, semaphore, count=100, processes=4, check=check
        )


class TestConditions:
    def test_notify_does_not_wait_for_the_dead(self, ctx):
        condition, told = ctx.Condition(), ctx.SimpleQueue()
        dead = ctx.Process(target=bodies.wait_and_tell, args=(condition, told))
        dead.start()
        assert told.get() == "waits"
        with condition:
            dead.kill()
        dead.join()
        with condition:
            condition.notify()
            condition.notify_all()

    def test_a_notification_that_the_dead_did_not_see_goes_to_another(self, ctx):
        condition, told = ctx.Condition(), ctx.SimpleQueue()
        waiting = [ctx.Process(target=bodies.wait_and_tell, args=(condition, told)) for _ in range(2)]
        for process in waiting:  # in this order
            process.start()
            assert told.get() == "waits"
        with condition:
            os.kill(waiting[0].pid, signal.SIGSTOP)  # it does not look when it is notified
            condition.notify()
            waiting[0].kill()
            waiting[0].join()
        assert told.get() is True
        waiting[1].join(LIMIT)
        assert waiting[1].exitcode == 0

    def test_a_hundred_killed_at_random_moments(self, seed):
        ctx = breakeven.get_context("fork")
        condition, told = ctx.Condition(), ctx.SimpleQueue()
        chance = random.Random(seed)
        for target in (bodies.wait_for_ever, bodies.notify_for_ever):
            kill_at_random_moments(ctx, chance, target, condition, count=50)
        process = ctx.Process(target=bodies.wait_and_tell, args=(condition, told))
        process.start()
        assert told.get() == "waits"
        with condition:
            condition.notify_all()
        assert told.get() is True
        process.join(LIMIT)
        assert process.exitcode == 0


class TestEvents:
    def test_a_hundred_killed_at_random_moments(self, seed):
        ctx = breakeven.get_context("fork")
        event, told = ctx.Event(), ctx.SimpleQueue()
        kill_at_random_moments(ctx, random.Random(seed), bodies.set_and_clear_for_ever, event, count=100)
        event.clear()
        process = ctx.Process(target=bodies.wait_for_event, args=(event, told))
        process.start()
        assert told.get() == "waits"
        event.set()
        assert told.get() is True
        process.join(LIMIT)


class TestBarriers:
    def test_one_that_is_killed_waiting_breaks_it(self, ctx):
        barrier, told = ctx.Barrier(3), ctx.SimpleQueue()
        dead = ctx.Process(target=bodies.wait_at, args=(barrier,))
        living = ctx.Process(target=bodies.pass_barrier, args=(barrier, told))
        dead.start()
        living.start()
        bodies.until(lambda: barrier.n_waiting == 2)
        bodies.until(lambda: barrier._cond._waiters.waiting() == 2)
        dead.kill()
        assert told.get() == "broken"
        dead.join()
        living.join(LIMIT)
        assert barrier.broken
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()
        barrier.reset()
        assert (barrier.broken, barrier.n_waiting) == (False, 0)

    def test_one_that_is_killed_in_the_action_breaks_it(self, ctx):
        barrier, told = ctx.Barrier(2, bodies.die_in_action), ctx.SimpleQueue()
        living = ctx.Process(target=bodies.pass_barrier, args=(barrier, told))
        living.start()
        bodies.until(lambda: barrier.n_waiting == 1)
        run_to_its_end(ctx, bodies.wait_at, barrier)
        assert told.get() == "broken"
        living.join(LIMIT)
        assert barrier.broken

    def test_one_that_was_killed_after_it_had_passed_does_not_break_the_next_round(self, ctx):
        barrier, told = ctx.Barrier(2), ctx.SimpleQueue()
        for _ in range(3):
            process = ctx.Process(target=bodies.pass_barrier, args=(barrier, told))
            process.start()
            barrier.wait(LIMIT)
            told.get()
            process.kill()
            process.join()
            breakeven._native.reap()
        assert not barrier.broken


def test_a_joinable_queue_whose_senders_are_killed(seed):
    ctx = breakeven.get_context("fork")
    queue = ctx.JoinableQueue(3)
    kill_at_random_moments(ctx, random.Random(seed), bodies.put_for_ever, queue, count=40)
    while not queue.empty():
        queue.get()
        queue.task_done()
    queue.join()  # what was not put is not waited for
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()
    queue.close()


def test_waiting_threads_of_the_same_process_do_not_stop_a_takeover(method):
    ctx = breakeven.get_context(method)
    lock = ctx.Lock()
    run_to_its_end(ctx, bodies.acquire_and_die, lock)
    order = []

    def use(number):
        with lock:
            order.append((number, lock.owner_died))
            time.sleep(0.001)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(number for number, _ in order) == [0, 1, 2, 3]
    assert [died for _, died in order] == [True, False, False, False]
