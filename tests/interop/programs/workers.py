"""Derived processes that live on queues; processes that are terminated, killed, waited for; trees of them."""

import multiprocessing as mp
import multiprocessing.queues
import os
import queue
import signal
import sys
import time
from multiprocessing.connection import wait


class Worker(mp.Process):
    def __init__(self, tasks, results, ended):
        super().__init__(name="worker", daemon=True)
        self.tasks, self.results, self.ended = tasks, results, ended

    def run(self):
        for number in iter(self.tasks.get, None):
            self.results.put((self.name, mp.parent_process().pid, number * 2))
            self.tasks.task_done()
        self.tasks.task_done()
        self.ended.release()


class CountingQueue(multiprocessing.queues.Queue):
    """The recipe for a qsize() that works everywhere."""

    def __init__(self, maxsize=0):
        super().__init__(maxsize, ctx=mp.get_context())
        self.size = mp.Value("i", 0)

    def __getstate__(self):
        return {"parent": super().__getstate__(), "size": self.size}

    def __setstate__(self, state):
        super().__setstate__(state["parent"])
        self.size = state["size"]

    def put(self, *args, **keywords):
        super().put(*args, **keywords)
        with self.size.get_lock():
            self.size.value += 1

    def get(self, *args, **keywords):
        got = super().get(*args, **keywords)
        with self.size.get_lock():
            self.size.value -= 1
        return got


def produce(numbers):
    for number in range(10):
        numbers.put(number)


def wait_for_the_end(said):
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    said.put("ready")
    while not asked:
        time.sleep(0.01)
    said.put("terminated")
    sys.exit(3)


def tree(depth, said):
    children = [mp.Process(target=tree, args=(depth - 1, said)) for _ in range(2 if depth else 0)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    said.put(depth)


def exit_with(code):
    os._exit(code)


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    mp.freeze_support()
    tasks, results, ended = mp.JoinableQueue(), mp.Queue(), mp.Semaphore(0)
    workers = [Worker(tasks, results, ended) for _ in range(2)]
    for worker in workers:
        worker.start()
    for number in range(10):
        tasks.put(number)
    tasks.join()
    for _ in workers:
        tasks.put(None)
    tasks.join()
    assert all(ended.acquire(timeout=30) for _ in workers)
    assert sorted(results.get(timeout=30) for _ in range(10)) == [("worker", os.getpid(), n * 2) for n in range(10)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]

    numbers = CountingQueue()
    process = mp.Process(target=produce, args=(numbers,))
    process.start()
    assert [numbers.get(timeout=30) for _ in range(10)] == list(range(10))
    process.join()
    assert numbers.size.value == 0

    said = mp.Queue()
    process = mp.Process(target=wait_for_the_end, args=(said,))
    process.start()
    assert said.get(timeout=30) == "ready"
    process.terminate()
    assert said.get(timeout=30) == "terminated"
    process.join()
    assert process.exitcode == 3
    process = mp.Process(target=time.sleep, args=(600,))
    process.start()
    assert process.is_alive() and process in mp.active_children()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and mp.active_children() == []
    process.close()
    try:
        process.is_alive()
    except ValueError:
        pass
    else:
        raise AssertionError("a closed process answers")

    process = mp.Process(target=tree, args=(2, said))
    process.start()
    assert sorted(said.get(timeout=60) for _ in range(7)) == [0, 0, 0, 0, 1, 1, 2]
    process.join()
    processes = [mp.Process(target=exit_with, args=(code,)) for code in (0, 1, 7)]
    for process in processes:
        process.start()
    left = {process.sentinel for process in processes}
    while left:
        left -= set(wait(left, 60))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 1, 7]

    full = mp.Queue(2)
    full.put(1)
    full.put(2)
    for block in (True, False):
        try:
            full.put(3, block, 0.01)
        except queue.Full:
            pass
        else:
            raise AssertionError("there was room")
    assert (full.get(timeout=30), full.get(timeout=30)) == (1, 2)
    full.close()
    full.join_thread()
    print("done")
