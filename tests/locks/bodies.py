"""What the processes of these tests do: importable, for spawn."""

import os
import signal
import time


def acquire_and_die(lock, times=1):
    for _ in range(times):
        lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def acquire_and_end(lock):
    lock.acquire()


def acquire_and_tell(lock, told, go_on):
    lock.acquire()
    told.put(repr(lock))
    go_on.get()
    lock.release()


def release(lock):
    lock.release()


def try_to_release(lock, told):
    try:
        lock.release()
    except Exception as error:
        told.put((type(error).__name__, str(error)))
    else:
        told.put(None)


def try_to_acquire(lock, told, *arguments):
    told.put(lock.acquire(*arguments))


def add_under(lock, value, times):
    for _ in range(times):
        with lock:
            seen = value.value
            value.value = seen + 1


def add_under_for_ever(lock, value):
    while True:
        with lock:
            seen = value.value
            value.value = seen + 1


def take_and_give_for_ever(semaphore):
    while True:
        semaphore.acquire()
        semaphore.release()


def wait_and_tell(condition, told, timeout=None):
    with condition:
        told.put("waits")
        told.put(condition.wait(timeout))


def wait_for_ever(condition):
    while True:
        with condition:
            condition.wait()


def notify_for_ever(condition):
    while True:
        with condition:
            condition.notify()


def wait_until(condition, value, wanted, told):
    with condition:
        told.put("waits")
        told.put(condition.wait_for(lambda: value.value >= wanted))


def wait_for_event(event, told, timeout=None):
    told.put("waits")
    told.put(event.wait(timeout))


def set_and_clear_for_ever(event):
    while True:
        event.set()
        event.clear()


def pass_barrier(barrier, told):
    import threading

    try:
        told.put(barrier.wait())
    except threading.BrokenBarrierError:
        told.put("broken")


def die_in_action():
    os.kill(os.getpid(), signal.SIGKILL)


def wait_at(barrier):
    barrier.wait()


def bump(value):
    value.value += 1


class Bump:
    def __init__(self, value):
        self.value = value

    def __call__(self):
        self.value.value += 1


def put_for_ever(queue):
    while True:
        queue.put(None)


def deal_with(queue):
    while queue.get() is not None:
        queue.task_done()
    queue.task_done()


def nested(lock, told):
    import multiprocessing

    process = multiprocessing.Process(target=acquire_and_end, args=(lock,))
    process.start()
    process.join()
    told.put(process.exitcode)


def until(condition, limit=60):
    """Waits for a condition that nothing tells us of."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)
