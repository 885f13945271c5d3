"""Workers that are killed: what fails is the task that was running, by a typed error, and nothing runs twice."""

import os
import random
import signal
import threading
import time
from collections import Counter

import breakeven
import pytest
from breakeven.pool import WorkerDied

from tests.pools import tasks


def outcomes(iterator):
    """All that an imap gives: values and exceptions."""
    found = []
    while True:
        try:
            found.append(next(iterator))
        except StopIteration:
            return found
        except WorkerDied as error:
            found.append(error)


def test_the_error_says_who_and_how(ctx):
    with ctx.Pool(1) as pool:
        pid = pool.apply(tasks.pid)
        with pytest.raises(WorkerDied) as caught:
            pool.map(tasks.die_at, [(i, 5) for i in range(10)], chunksize=1)
        error = caught.value
        assert (error.task, error.pid, error.signal, error.exitcode) == (5, pid, signal.SIGKILL, -signal.SIGKILL)
        assert 4e6 < error.peak_memory < 4e9
        for part in (f"worker {pid}", "SIGKILL", "task 5", "peak memory"):
            assert part in str(error)
        with pytest.raises(WorkerDied) as caught:
            pool.apply(tasks.leave, (3,))
        assert (caught.value.exitcode, caught.value.signal, caught.value.task) == (3, None, None)
    pool.join()


def test_peak_memory_is_the_workers_own():
    with breakeven.get_context("fork").Pool(1) as pool:
        with pytest.raises(WorkerDied) as caught:
            pool.apply(_use_memory_and_die, (200 << 20,))
        assert caught.value.peak_memory > 200e6
    pool.join()


def _use_memory_and_die(size):
    memory = bytearray(size)
    memory[::4096] = b"x" * len(memory[::4096])
    tasks.die(None)


@pytest.mark.parametrize("chunksize", [1, 4])
def test_only_the_victim_is_lost(ctx, chunksize):
    with ctx.Pool(2) as pool:
        got = outcomes(pool.imap(tasks.die_at, [(i, 50) for i in range(200)], chunksize))
        lost = range(50 // chunksize * chunksize, 50 // chunksize * chunksize + chunksize)
        errors = [outcome for outcome in got if isinstance(outcome, WorkerDied)]
        assert len(errors) == 1 and errors[0].task == lost[0]
        assert [outcome for outcome in got if not isinstance(outcome, WorkerDied)] == [
            i for i in range(200) if i not in lost
        ]
        assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]
        assert len(pool._pool) == 2
    pool.join()


def test_all_results_but_the_victims_survive_in_async_forms():
    with breakeven.get_context("fork").Pool(2) as pool:
        results = [pool.apply_async(tasks.die_at, ((i, 7),)) for i in range(20)]
        for i, result in enumerate(results):
            if i == 7:
                with pytest.raises(WorkerDied):
                    result.get(timeout=60)
            else:
                assert result.get(timeout=60) == i
    pool.join()


def test_many_victims_in_a_row():
    with breakeven.get_context("fork").Pool(2) as pool:
        got = outcomes(pool.imap(tasks.die_at, [(i, i if i % 2 else None) for i in range(12)]))
        assert [isinstance(outcome, WorkerDied) for outcome in got] == [bool(i % 2) for i in range(12)]
    pool.join()


def test_idle_worker_is_replaced(ctx):
    with ctx.Pool(1) as pool:
        first = pool.apply(tasks.pid)
        os.kill(first, signal.SIGKILL)
        second = pool.apply(tasks.pid)
        assert second != first
        assert [process.pid for process in pool._pool] == [second]
    pool.join()


def test_death_is_noticed_while_another_thread_waits():
    with breakeven.get_context("fork").Pool(2) as pool:
        errors = []

        def wait(result):
            try:
                result.get(timeout=60)
            except WorkerDied as error:
                errors.append(error)

        threads = [threading.Thread(target=wait, args=(pool.apply_async(tasks.die, (i,)),)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) == 3
    pool.join()


def test_error_callback_of_a_victim():
    called = []
    with breakeven.get_context("fork").Pool(1) as pool:
        pool.apply_async(tasks.die, (1,), error_callback=called.append).wait(60)
        assert isinstance(called[0], WorkerDied)
    pool.join()


def test_close_and_join_with_victims(tmp_path):
    path = str(tmp_path / "ran")
    pool = breakeven.get_context("fork").Pool(1)
    results = [pool.apply_async(tasks.die, (1,)), pool.apply_async(tasks.record, ((path, 5, 0),))]
    pool.close()
    pool.join()
    with pytest.raises(WorkerDied):
        results[0].get(timeout=0)
    assert results[1].get(timeout=0) == 5


@pytest.mark.kill
@pytest.mark.parametrize("form", ["imap", "unordered", "map", "apply", "chunks"])
def test_kills_at_random_moments(form, seed, tmp_path):
    """Each task has run exactly once or has failed; whoever was killed while idle has cost nothing."""
    chance = random.Random(seed)
    path = str(tmp_path / "ran")
    total, rounds = 3000, 3
    for number in range(rounds):
        open(path, "wb").close()
        stop = threading.Event()
        with breakeven.get_context("fork").Pool(3) as pool:
            processes = pool._pool
            kills = 0

            def kill(processes=processes, stop=stop):
                nonlocal kills
                for _ in range(12):
                    if stop.wait(chance.uniform(0, 0.04)):
                        return
                    victims = list(processes)
                    if victims:
                        try:
                            os.kill(chance.choice(victims).pid, signal.SIGKILL)
                            kills += 1
                        except ProcessLookupError:
                            pass

            killer = threading.Thread(target=kill)
            killer.start()
            items = [(path, i, 0) for i in range(total)]
            failed = set()
            if form == "imap":
                got = outcomes(pool.imap(tasks.record, items))
                assert len(got) == total
            elif form == "unordered":
                got = outcomes(pool.imap_unordered(tasks.record, items))
                assert len(got) == total
            elif form == "chunks":
                got = outcomes(pool.imap(tasks.record, items, chunksize=5))
            elif form == "apply":
                got = []
                for result in [pool.apply_async(tasks.record, (item,)) for item in items]:
                    try:
                        got.append(result.get(timeout=100))
                    except WorkerDied as error:
                        got.append(error)
                assert len(got) == total
            else:
                got = None
                result = pool.map_async(tasks.record, items, chunksize=1)
                result.wait(100)
                assert result.ready()
                if result.successful():
                    assert result.get() == list(range(total))
            stop.set()
            killer.join()
            with open(path) as file:
                ran = Counter(map(int, file))
            assert not [i for i, times in ran.items() if times != 1], f"ran twice; seed {seed}"
            if got is not None:
                values = [outcome for outcome in got if not isinstance(outcome, WorkerDied)]
                failed = len(got) - len(values)
                assert sorted(values) == sorted(set(values))
                assert set(values) <= set(ran)
                if form != "chunks":
                    assert failed <= kills
                assert form == "unordered" or values == sorted(values)
            assert pool.map(tasks.square, range(100)) == [x * x for x in range(100)], f"round {number}"
        pool.join()


@pytest.mark.kill
def test_kills_while_workers_start_and_end(seed):
    """maxtasksperchild and random kills together: the pool always has an answer."""
    chance = random.Random(seed)
    with breakeven.get_context("fork").Pool(2, maxtasksperchild=3) as pool:
        for _ in range(40):
            results = [pool.apply_async(tasks.add, (i, 1)) for i in range(5)]
            victims = list(pool._pool)
            if victims and chance.random() < 0.5:
                time.sleep(chance.uniform(0, 0.005))
                try:
                    os.kill(chance.choice(victims).pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            for i, result in enumerate(results):
                try:
                    assert result.get(timeout=60) == i + 1
                except WorkerDied:
                    pass
    pool.join()
