"""What programs do with pools: every kind of call, initializers with shared state, callbacks, errors, time-outs."""

import multiprocessing as mp
import sys
import threading
import time
from multiprocessing.dummy import Pool as ThreadedPool
from multiprocessing.pool import AsyncResult, ThreadPool

state = None


def refuse_three(x):
    if x == 3:
        raise ValueError("x is 3")
    return x


def initialize(value, lock):
    global state
    state = value, lock


def count(_):
    value, lock = state
    with lock:
        value.value += 1
    return mp.current_process().pid


def add(a, b, c=0):
    return a + b + c


def wait_for(event):
    return event.wait(600)


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    value, lock = mp.Value("i", 0), mp.Lock()
    with mp.Pool(2) as pool:
        try:
            pool.map(refuse_three, range(6))
        except ValueError as error:
            assert str(error) == "x is 3" and type(error.__cause__).__name__ == "RemoteTraceback"
            assert "refuse_three" in str(error.__cause__)
        else:
            raise AssertionError("no error")
        result = pool.map_async(abs, range(-4, 0))
        result.wait(60)
        assert isinstance(result, AsyncResult)
        assert (result.ready(), result.successful(), result.get(1)) == (True, True, [4, 3, 2, 1])
        assert pool.starmap(add, [(1, 2), (3, 4, 5)]) == [3, 12]
        assert pool.apply(add, (1, 2), {"c": 3}) == 6
        assert list(pool.imap(abs, iter(range(-5, 0)), 3)) == [5, 4, 3, 2, 1]
        assert sorted(pool.imap_unordered(abs, iter(range(-5, 0)))) == [1, 2, 3, 4, 5]
        got, all_there = [], threading.Semaphore(0)

        def keep(value):
            got.append(str(value))
            all_there.release()

        for x in range(5):
            pool.apply_async(refuse_three, (x,), callback=keep, error_callback=keep)
        assert all(all_there.acquire(timeout=60) for _ in range(5))
        assert sorted(got) == ["0", "1", "2", "4", "x is 3"]
        results = pool.imap(abs, [-1])
        assert results.next(timeout=60) == 1
        try:
            next(results)
        except StopIteration:
            pass
        else:
            raise AssertionError("one too many")
        try:
            pool.apply_async(time.sleep, (600,)).get(timeout=0.05)
        except mp.TimeoutError:
            pass
        else:
            raise AssertionError("it cannot be done yet")
    with mp.Pool(2, initialize, (value, lock), maxtasksperchild=5) as pool:
        assert len(set(pool.map(count, range(20), chunksize=1))) >= 4
        assert value.value == 20
        pool.close()
        pool.join()
    with ThreadPool(3) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    with ThreadedPool(2) as pool:
        assert pool.map(lambda x: x + value.value, [1]) == [21]
    print("done")
