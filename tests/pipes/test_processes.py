"""Pipes between processes, under each start method, the standard library's and ours."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection, wait

import breakeven
import numpy as np
import pytest

from tests.support import programs

LARGE = 200_000


@pytest.fixture(params=[multiprocessing, breakeven], ids=["stdlib", "ours"])
def ctx(request, method):
    return request.param.get_context(method)


@pytest.fixture
def ours(method):
    return breakeven.get_context(method)


def echo(end, *unused):
    for other in unused:
        other.close()
    with end:
        while True:
            try:
                end.send(end.recv())
            except EOFError:
                return


def started(ctx, target, *args):
    process = ctx.Process(target=target, args=args)
    process.start()
    return process


def ended(process):
    process.join(60)
    assert process.exitcode == 0
    process.close()


def for_child(ctx, end):
    """A forked child has the parent's end too, and must close it."""
    return (end,) if ctx.get_start_method() == "fork" else ()


def test_there_and_back(ctx):
    here, there = ctx.Pipe()
    process = started(ctx, echo, there, *for_child(ctx, here))
    there.close()
    with here:
        for obj in (1, "text", list(range(LARGE)), b"x" * LARGE):
            here.send(obj)
            assert here.recv() == obj
        for n in range(5):
            here.send(np.full(100_000, n))
            got = here.recv()
            assert got[0] == got[-1] == n
            got[0] = 9
    ended(process)


def squares(end, count):
    with end:
        for n in range(count):
            end.send((n, np.full(20_000, n * n)))


def test_many_writers_and_one_who_waits(ctx):
    readers, processes = {}, []
    for index in range(3):
        reader, writer = ctx.Pipe(duplex=False)
        processes.append(started(ctx, squares, writer, 20))
        writer.close()
        readers[reader] = index
    got = {index: [] for index in readers.values()}
    while readers:
        for reader in wait(list(readers)):
            try:
                n, array = reader.recv()
            except EOFError:
                readers.pop(reader).__index__()
                reader.close()
            else:
                got[readers[reader]].append((n, array[0], array[-1]))
    for process in processes:
        ended(process)
    assert all(some == [(n, n * n, n * n) for n in range(20)] for some in got.values())


def test_a_childs_last_words_outlive_it(ctx):
    """All that it sent can be received after it has ended, as far as it did not have to wait."""
    reader, writer = ctx.Pipe(duplex=False)
    process = started(ctx, squares, writer, 1)
    writer.close()
    with reader:
        assert reader.poll(60)
        if isinstance(ctx, breakeven.context.BaseContext):
            ended(process)
        n, array = reader.recv()
        assert (n, len(array)) == (0, 20_000)
        with pytest.raises(EOFError):
            reader.recv()
    if isinstance(ctx, multiprocessing.context.BaseContext) and not isinstance(ctx, breakeven.context.BaseContext):
        ended(process)


def receive_and_use(end):
    """Receives ends, through `end`, and says through each what it got there."""
    with end:
        while True:
            try:
                other = end.recv()
            except EOFError:
                return
            with other:
                obj = other.recv()
                other.send((type(other).__name__, float(np.sum(obj))))


def test_ends_sent_through_a_pipe(ctx):
    here, there = ctx.Pipe()
    process = started(ctx, receive_and_use, there)
    there.close()
    with here:
        for _ in range(2):
            first, second = ctx.Pipe()
            with first:
                here.send(second)
                first.send(np.ones(LARGE))
                assert first.recv()[1] == LARGE
                second.close()
    if ctx.get_start_method() == "fork":
        process.terminate()  # it has the parent's end too
        process.join()
    else:
        ended(process)
    from multiprocessing import resource_sharer

    resource_sharer.stop(5)


def take(queue):
    with queue.get() as end:
        kind = type(end).__name__
        end.send([kind, *(len(end.recv()) for _ in range(3))])


def test_ends_sent_through_a_queue(ctx):
    queue = ctx.Queue()
    first, second = ctx.Pipe()
    process = started(ctx, take, queue)
    with first, second:
        queue.put(second)
        for _ in range(3):
            first.send(b"x" * LARGE)
        kind, *got = first.recv()
        assert got == [LARGE] * 3
        assert kind == type(first).__name__
    ended(process)
    queue.close()
    queue.join_thread()
    from multiprocessing import resource_sharer

    resource_sharer.stop(5)


def test_both_ends_and_the_same_end_twice_for_one_child(ours):
    first, second = ours.Pipe()
    reader, writer = ours.Pipe(False)
    process = started(ours, use_both, first, second, [second], writer)
    for end in (first, second, writer):
        end.close()
    with reader:
        assert reader.recv() == (LARGE, True)
    ended(process)


def use_both(first, second, again, writer):
    with first, second, writer:
        first.send(b"x" * LARGE)
        writer.send((len(second.recv()), again[0] is second))


def test_the_parent_may_drop_its_end_before_the_child_has_opened_its_own(ours):
    reader, writer = ours.Pipe(False)
    writer.send(np.arange(LARGE))
    result, said = ours.Pipe(False)
    process = started(ours, say_sum, reader, said)
    reader.close()
    writer.close()
    said.close()
    with result:
        assert result.recv() == LARGE * (LARGE - 1) // 2
    ended(process)


def say_sum(reader, said):
    with reader, said:
        said.send(int(reader.recv().sum()))


def test_grandchildren(ours):
    here, there = ours.Pipe()
    process = started(ours, grandchild_of, ours.get_start_method(), there, *for_child(ours, here))
    there.close()
    with here:
        here.send(np.arange(LARGE))
        assert here.recv()[-1] == LARGE - 1
    ended(process)


def grandchild_of(method, end, *unused):
    for other in unused:
        other.close()
    process = started(breakeven.get_context(method), echo, end)
    end.close()
    ended(process)


def test_a_fork_that_nobody_announced():
    """`os.fork` in the program itself."""
    here, there = breakeven.Pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            here.close()
            echo(there)
            status = 0
        finally:
            os._exit(status)
    there.close()
    with here:
        here.send(np.arange(LARGE))
        assert here.recv()[-1] == LARGE - 1
    assert os.waitpid(pid, 0)[1] == 0


def test_a_child_that_took_an_array_keeps_it_when_the_pipe_is_gone(ours):
    reader, writer = ours.Pipe(False)
    writer.send(np.arange(LARGE))
    array = reader.recv()
    reader.close()
    writer.close()
    assert array.sum() == LARGE * (LARGE - 1) // 2


def interrupted(end):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with end:
        end.send("ready")
        try:
            while True:
                end.recv()
        except KeyboardInterrupt:
            end.send("interrupted")


def test_ctrl_c_in_a_child_that_receives(ctx):
    here, there = ctx.Pipe()
    process = started(ctx, interrupted, there)
    there.close()
    with here:
        assert here.recv() == "ready"
        # Again if need be: a signal that comes right before the system call does not end it.
        while not here.poll(0.2):
            os.kill(process.pid, signal.SIGINT)
        assert here.recv() == "interrupted"
    ended(process)


def test_plain_connections_still_travel():
    ctx = breakeven.get_context("spawn")
    first, second = multiprocessing.get_context("spawn").Pipe()
    assert type(first) is Connection
    process = started(ctx, echo, second)
    second.close()
    with first:
        first.send(1)
        assert first.recv() == 1
    ended(process)


FIRST = """
import sys, breakeven

def child(depth, end):
    if depth:
        process = breakeven.get_context(sys.argv[1]).Process(target=child, args=(depth - 1, end))
        process.start()
        end.close()
        process.join()
    else:
        end.send([1] * 100_000)
        end.close()

if __name__ == "__main__":
    for duplex in (False, True):
        reader, writer = breakeven.Pipe(duplex)
        process = breakeven.get_context(sys.argv[1]).Process(target=child, args=(2, writer))
        process.start()
        writer.close()
        print(sum(reader.recv()))
        process.join()
        reader.close()
"""


def test_a_pipe_as_the_first_thing_in_shared_memory(method, tmp_path):
    """Its name is all zeros; and an end is handed on from child to child."""
    path = tmp_path / "program.py"
    path.write_text(FIRST)
    done = programs.python(path, method)
    assert (done.code, done.err, done.out.split()) == (0, "", ["100000", "100000"])
