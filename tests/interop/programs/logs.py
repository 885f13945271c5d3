"""The cookbook's ways to log from several processes: QueueHandler, with a process or a QueueListener that listens."""

import logging
import logging.handlers
import multiprocessing as mp
import sys
import threading
from logging.handlers import QueueHandler, QueueListener


class Counting(logging.Handler):
    def __init__(self, awaited=0):
        super().__init__()
        self.messages, self.awaited, self.all_there = [], awaited, threading.Event()

    def emit(self, record):
        self.messages.append(record.getMessage())
        if len(self.messages) == self.awaited:
            self.all_there.set()


def use(records):
    root = logging.getLogger()
    root.handlers[:] = [QueueHandler(records)]
    root.setLevel(logging.INFO)


def listen(records, counted):
    handler = Counting()
    logging.getLogger().handlers[:] = [handler]
    for record in iter(records.get, None):
        logging.getLogger(record.name).handle(record)
    counted.put((len(handler.messages), sum("Traceback" in message for message in handler.messages)))


def work(records):
    use(records)
    for number in range(10):
        logging.getLogger("a.b").info("message %d", number)
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("x").exception("bad")


def task(number):
    logging.info("task %d", number)
    return number


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    records, counted = mp.Queue(-1), mp.Queue()
    listener = mp.Process(target=listen, args=(records, counted))
    listener.start()
    workers = [mp.Process(target=work, args=(records,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    records.put_nowait(None)
    listener.join()
    assert counted.get(timeout=30) == (22, 2)

    records, handler = mp.Queue(), Counting(awaited=20)
    listener = QueueListener(records, handler)
    listener.start()
    with mp.Pool(2, use, [records]) as pool:
        assert sum(pool.map(task, range(20))) == 190
    assert handler.all_there.wait(60)
    listener.stop()
    assert sorted(handler.messages) == sorted(f"task {number}" for number in range(20))
    records.close()
    records.join_thread()
    print("done")
