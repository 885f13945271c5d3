"""Queues between processes: parent and children, siblings, every start method."""

import os
import queue as std
import signal
import threading
import time
from multiprocessing.connection import wait

import breakeven
import pytest

from tests.support import methods

LIMIT = 60  # a test that waits longer than this for a message has failed


def put_all(queue, items):
    for item in items:
        queue.put(item)


def double(inbox, outbox):
    for item in iter(inbox.get, None):
        outbox.put(item * 2)


def task_done_for_all(queue):
    for _ in iter(queue.get, None):
        queue.task_done()
    queue.task_done()


def put_and_exit_hard(queue):
    queue.put(b"x" * 500_000)
    queue.put("last")
    os._exit(0)


def same_arena(first, second, third, out):
    first.put(1), second.put(2), third.put(3)
    out.put("all three")


def put_when_told(go, queue):
    go.get()
    queue.put(os.getpid())


def hang_in_get(queue, ready):
    ready.put(os.getpid())
    queue.get()


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
@pytest.mark.parametrize(
    "items",
    [[1, "two", (3.0, None)], [b"x" * 2_000_000, list(range(50_000))], [{"deep": [{"er": (1, 2)}]}]],
    ids=["small", "large", "pickled"],
)
def test_child_to_parent(ctx, kind, items):
    queue = getattr(ctx, kind)()
    process = ctx.Process(target=put_all, args=(queue, items))
    process.start()
    assert [queue.get() for _ in items] == items
    process.join()
    assert process.exitcode == 0
    queue.close()


def test_both_ways_with_several_children(ctx):
    inbox, outbox = ctx.Queue(5), ctx.Queue()
    processes = [ctx.Process(target=double, args=(inbox, outbox)) for _ in range(3)]
    for process in processes:
        process.start()
    for i in range(1000):
        inbox.put(i)
    assert sorted(outbox.get(timeout=LIMIT) for _ in range(1000)) == [2 * i for i in range(1000)]
    for _ in processes:
        inbox.put(None)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    inbox.close()
    outbox.close()


def test_between_siblings(ctx):
    middle, result = ctx.SimpleQueue(), ctx.SimpleQueue()
    producer = ctx.Process(target=put_all, args=(middle, [*range(100), None]))
    consumer = ctx.Process(target=double, args=(middle, result))
    consumer.start()
    producer.start()
    assert [result.get() for _ in range(100)] == [2 * i for i in range(100)]
    producer.join()
    consumer.join()
    middle.close()
    result.close()


def test_several_queues_in_one_process(ctx):
    # they lie in one arena, whose descriptor may be handed to the child once only
    queues = [ctx.Queue(), ctx.SimpleQueue(), ctx.JoinableQueue()]
    out = ctx.Queue()
    process = ctx.Process(target=same_arena, args=(*queues, out))
    process.start()
    assert out.get(timeout=LIMIT) == "all three"
    assert [queue.get() for queue in queues] == [1, 2, 3]
    process.join()
    for queue in (*queues, out):
        queue.close()


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_a_method_as_target(ctx, kind):
    queue = getattr(ctx, kind)()
    process = ctx.Process(target=queue.put, args=("by the method",))
    process.start()
    assert queue.get() == "by the method"
    process.join()
    assert process.exitcode == 0
    queue.close()


def keep_queue(queue):
    global kept
    kept = queue


def put_square(x):
    kept.put(x * x)


@pytest.mark.parametrize("maker", ["breakeven", "multiprocessing", "executor"])
def test_handed_to_a_pools_workers_by_initializer(ctx, maker):
    import concurrent.futures
    import multiprocessing

    queue = ctx.Queue()
    if maker == "executor":
        with concurrent.futures.ProcessPoolExecutor(2, ctx, initializer=keep_queue, initargs=(queue,)) as executor:
            list(executor.map(put_square, range(10)))
    else:
        pools = ctx if maker == "breakeven" else multiprocessing.get_context(ctx.get_start_method())
        with pools.Pool(2, initializer=keep_queue, initargs=(queue,)) as pool:
            pool.map(put_square, range(10))
        pool.join()
    assert sorted(queue.get(timeout=LIMIT) for _ in range(10)) == [x * x for x in range(10)]
    queue.close()


def test_not_handed_to_a_pools_tasks(ctx):
    queue = ctx.Queue()
    with ctx.Pool(1) as pool:
        with pytest.raises(RuntimeError, match="through inheritance"):
            pool.apply(put_all, (queue, [1]))
        assert pool.apply(abs, (-1,)) == 1
    pool.join()
    queue.close()


def test_the_same_queue_twice(ctx):
    queue = ctx.Queue()
    process = ctx.Process(target=same_arena, args=(queue, queue, queue, queue))
    process.start()
    assert [queue.get(timeout=LIMIT) for _ in range(4)] == [1, 2, 3, "all three"]
    process.join()
    queue.close()


def test_join_before_get(ctx):
    # the documented deadlock of the standard library's queues
    queue = ctx.Queue()
    process = ctx.Process(target=put_all, args=(queue, [b"x" * 1_000_000] * 5))
    process.start()
    process.join()
    assert [len(queue.get(timeout=LIMIT)) for _ in range(5)] == [1_000_000] * 5
    queue.close()


def test_messages_outlive_their_sender(ctx):
    queue = ctx.Queue()
    process = ctx.Process(target=put_and_exit_hard, args=(queue,))
    process.start()
    process.join()
    assert len(queue.get(timeout=LIMIT)) == 500_000
    assert queue.get(timeout=LIMIT) == "last"
    queue.close()


def test_joinable(ctx):
    queue = ctx.JoinableQueue()
    processes = [ctx.Process(target=task_done_for_all, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    for i in range(200):
        queue.put(i)
    queue.join()
    assert queue.empty()
    for _ in processes:
        queue.put(None)
    queue.join()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    queue.close()


def test_waiting_for_several_queues(ctx):
    go, first, second = ctx.Queue(), ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=put_when_told, args=(go, second))
    process.start()
    readers = [first._reader, second._reader]
    assert wait(readers, 0) == []
    go.put(None)
    assert wait(readers, LIMIT) == [second._reader]
    assert second.get() == process.pid
    process.join()
    for queue in (go, first, second):
        queue.close()


def test_queue_of_a_finished_parent_reaches_its_grandchild(ctx):
    # the process in the middle hands the queue on and ends before it is used
    queue, go = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=hand_on, args=(ctx.get_start_method(), go, queue))
    process.start()
    process.join()
    go.put(None)
    assert queue.get(timeout=LIMIT) > 0
    queue.close()
    go.close()


def hand_on(method, go, queue):
    process = breakeven.get_context(method).Process(target=put_when_told, args=(go, queue))
    process.start()
    import multiprocessing.process

    multiprocessing.process._children.discard(process)  # do not wait for it at exit
    os._exit(0)


def test_fork_by_hand():
    queue = breakeven.Queue()
    pid = os.fork()
    if pid == 0:
        queue.put(("child", os.getpid()))
        os._exit(0)
    assert queue.get(timeout=LIMIT) == ("child", pid)
    os.waitpid(pid, 0)
    queue.close()


def test_order_of_one_producer(ctx):
    queue = ctx.Queue(7)
    processes = [ctx.Process(target=put_all, args=(queue, [(n, i) for i in range(300)])) for n in range(3)]
    for process in processes:
        process.start()
    got = [queue.get(timeout=LIMIT) for _ in range(900)]
    for n in range(3):
        assert [i for m, i in got if m == n] == list(range(300))
    for process in processes:
        process.join()
    queue.close()


@pytest.mark.parametrize("inside", ["get", "put"])
def test_fork_while_another_thread_is_inside(inside):
    """The child of such a fork must be able to use every queue, that one included."""
    queue = breakeven.Queue(1)
    if inside == "put":
        queue.put("first")
    stop = threading.Event()

    def work():
        while not stop.is_set():
            try:
                if inside == "get":
                    queue.get(timeout=0.001)
                else:
                    queue.put("again", timeout=0.001)
            except (std.Empty, std.Full):
                pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    own = breakeven.Queue()
                    own.put(b"x" * 100_000)
                    assert len(own.get(timeout=LIMIT)) == 100_000
                    queue.qsize(), queue.empty()
                    try:
                        queue.get(timeout=0.001) if inside == "put" else queue.put("child", timeout=0.001)
                    except (std.Empty, std.Full):
                        pass
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()
    queue.close()


def test_fork_while_threads_pass_large_messages():
    queue = breakeven.Queue(2)
    stop = threading.Event()

    def produce():
        while not stop.is_set():
            try:
                queue.put(b"x" * 300_000, timeout=0.01)
            except std.Full:
                pass

    def consume():
        while not stop.is_set():
            try:
                queue.get(timeout=0.01)
            except std.Empty:
                pass

    threads = [threading.Thread(target=target) for target in (produce, consume)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    own = breakeven.Queue()
                    own.put(b"y" * 200_000)
                    assert own.get(timeout=LIMIT) == b"y" * 200_000
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    queue.close()


def test_killed_while_waiting_in_get(ctx):
    queue, ready = ctx.Queue(), ctx.Queue()
    for _ in range(3):
        process = ctx.Process(target=hang_in_get, args=(queue, ready))
        process.start()
        ready.get(timeout=LIMIT)
        time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    queue.put("still works")
    assert queue.get(timeout=LIMIT) == "still works"
    queue.close()
    ready.close()


@pytest.mark.parametrize("method", methods.FRESH)
def test_child_that_never_takes_its_queue(method):
    """Its Process cannot be unpickled, so that what it was handed is never attached; nothing may leak."""
    ctx = breakeven.get_context(method)
    queue = ctx.Queue()
    queue.put(1)
    from tests.support import faults

    process = ctx.Process(target=put_all, args=(faults.KilledAtUnpickle(), queue))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert queue.get() == 1
    queue.close()


INTERRUPTED = """
import breakeven as mp, os, signal, sys, time

def work(q, ready):
    ready.put(os.getpid())
    {call}

if __name__ == "__main__":
    ctx = mp.get_context("{method}")
    q, ready = ctx.Queue(1), ctx.Queue()
    q.put("fills it") if "put" in "{call}" else None
    ps = [ctx.Process(target=work, args=(q, ready)) for _ in range(3)]
    for p in ps: p.start()
    pids = [ready.get() for _ in ps]
    print(*pids, flush=True)
    {call}
"""


@pytest.mark.parametrize("call", ["q.get()", "q.put('waits')"])
def test_keyboard_interrupt_ends_everything(method, call, tmp_path):
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED.format(call=call, method=method))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 3
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGINT, err
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}") or "Z" in open(f"/proc/{pid}/stat").read().rpartition(")")[2]
