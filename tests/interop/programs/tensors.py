"""The shape of torch.multiprocessing: reducers for its own type, queues and a pool whose pipes speak them, workers that
are fed by one queue each and answer on a common one."""

import io
import multiprocessing as mp
import multiprocessing.pool
import multiprocessing.queues
import pickle
import queue
import sys
from multiprocessing.pool import worker as pool_worker
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import register_after_fork

assert callable(pool_worker) and callable(register_after_fork)


class ConnectionWrapper:
    def __init__(self, connection):
        self.connection = connection

    def send(self, obj):
        buffer = io.BytesIO()
        ForkingPickler(buffer, pickle.HIGHEST_PROTOCOL).dump(obj)
        self.send_bytes(buffer.getvalue())

    def recv(self):
        return pickle.loads(self.recv_bytes())

    def __getattr__(self, name):
        if "connection" in self.__dict__:
            return getattr(self.connection, name)
        raise AttributeError(name)


class TensorQueue(multiprocessing.queues.SimpleQueue):
    def _make_methods(self):
        if not isinstance(self._reader, ConnectionWrapper):
            self._reader = ConnectionWrapper(self._reader)
            self._writer = ConnectionWrapper(self._writer)


class TensorPool(multiprocessing.pool.Pool):
    def _setup_queues(self):
        self._inqueue = TensorQueue(ctx=self._ctx)
        self._outqueue = TensorQueue(ctx=self._ctx)
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv


class Tensor:
    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        raise TypeError("only the registered reducer knows how")


def rebuild(data):
    return Tensor(data)


def reduce(tensor):
    return rebuild, (tensor.data,)


ForkingPickler.register(Tensor, reduce)


def increment(tensor):
    return Tensor(tensor.data + 1)


def double(numbers, results):
    results.put(Tensor(numbers.get().data * 2))


def load(indices, batches):
    while True:
        try:
            index = indices.get(timeout=60)
        except queue.Empty:
            break
        if index is None:
            break
        batches.put((index, [index] * 3))
    batches.close()
    batches.join_thread()


if __name__ == "__main__":
    ctx = mp.get_context(sys.argv[1])
    for make in (ctx.Queue, ctx.SimpleQueue, lambda: TensorQueue(ctx=ctx)):
        numbers, results = make(), make()
        process = ctx.Process(target=double, args=(numbers, results))
        process.start()
        numbers.put(Tensor(21))
        assert results.get().data == 42
        process.join()
    with TensorPool(2, context=ctx) as pool:
        assert [tensor.data for tensor in pool.map(increment, [Tensor(1), Tensor(2)])] == [2, 3]
        pool.close()
        pool.join()
    indices, batches, workers = [ctx.Queue() for _ in range(2)], ctx.Queue(), []
    for own in indices:
        own.cancel_join_thread()
        worker = ctx.Process(target=load, args=(own, batches))
        worker.daemon = True
        worker.start()
        workers.append(worker)
    for index in range(10):
        indices[index % 2].put(index)
    assert sorted(batches.get(timeout=60) for _ in range(10)) == [(index, [index] * 3) for index in range(10)]
    for own in indices:
        own.put(None)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    for own in indices:
        own.cancel_join_thread()
        own.close()
    print("done")
