"""Managers, derived and not, with registered classes; a remote manager; shared ctypes structures; shared memory."""

import ctypes
import multiprocessing as mp
import multiprocessing.managers
import multiprocessing.sharedctypes
import queue
import sys
from multiprocessing import shared_memory


class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self, number=1):
        self.value += number
        return self.value


class CounterManager(mp.managers.BaseManager):
    pass


class ExtendedManager(mp.managers.SyncManager):
    pass


class QueueServer(mp.managers.BaseManager):
    pass


class QueueClient(mp.managers.BaseManager):
    pass


served = queue.Queue()


def get_served():
    return served


CounterManager.register("Counter", Counter)
ExtendedManager.register("Counter", Counter)
QueueServer.register("get", callable=get_served)
QueueClient.register("get")


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


def move(points, lock, counter, shared):
    for _ in range(50):
        with lock:
            points[0].x += 1
    counter.add(10)
    shared["moved"] = shared.get("moved", 0) + 1


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    with CounterManager() as manager:
        counter = manager.Counter(5)
        assert (counter.add(), counter.add(4)) == (6, 10)
    with ExtendedManager() as manager:
        points = mp.sharedctypes.Array(Point, [(1, 2.0), (3, 4.0)], lock=False)
        lock, counter, shared = mp.Lock(), manager.Counter(), manager.dict(a=1)
        for _ in range(2):
            process = mp.Process(target=move, args=(points, lock, counter, shared))
            process.start()
            process.join()
            assert process.exitcode == 0
        assert points[0].x == 101 and points[1].y == 4.0
        assert counter.add(0) == 20
        assert dict(shared) == {"a": 1, "moved": 2}
        numbers, things, event, names = manager.list([1]), manager.Queue(), manager.Event(), manager.Namespace()
        numbers.append(2)
        things.put("thing")
        event.set()
        names.x = numbers
        assert (list(numbers), things.get(timeout=30), event.is_set(), list(names.x)) == ([1, 2], "thing", True, [1, 2])
    server = QueueServer(("127.0.0.1", 0), authkey=b"key")
    server.start()
    clients = [QueueClient(server.address, authkey=b"key") for _ in range(2)]
    for client in clients:
        client.connect()
    clients[0].get().put({"over": "a socket"})
    assert clients[1].get().get(timeout=30) == {"over": "a socket"}
    server.shutdown()
    block = shared_memory.SharedMemory(create=True, size=16)
    block.buf[0] = 5
    again = shared_memory.SharedMemory(block.name)
    assert again.buf[0] == 5
    again.close()
    block.close()
    block.unlink()
    with mp.managers.SharedMemoryManager() as manager:
        assert list(manager.ShareableList([1, "a", 2.5])) == [1, "a", 2.5]
    print("done")
