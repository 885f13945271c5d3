"""SIGKILL at random moments: no hang, nothing torn, and all memory accounted for."""

import gc
import os
import random
import signal
import time

import breakeven
import numpy as np
import pytest
from breakeven import _native

pytestmark = pytest.mark.kill

LIMIT = 60


def in_use():
    gc.collect()
    _native.reap()
    return _native.arena_statistics()["in_use"]


def wait_for_memory(before):
    deadline = time.monotonic() + 10
    while (now := in_use()) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert now <= before, f"{now - before} bytes of the arena are not accounted for: {_native.arena_statistics()}"


def message(n):
    return n, np.full(10_000 + n % 1000, n)


def check(got, expected):
    n, array = got
    assert n == expected
    assert len(array) == 10_000 + n % 1000
    assert array[0] == array[-1] == n


def send_for_ever(writer, reader):
    if reader is not None:
        reader.close()
    n = 0
    while True:
        writer.send(message(n))
        n += 1


def receive_for_ever(reader, writer):
    if writer is not None:
        writer.close()
    n = 0
    while True:
        check(reader.recv(), n)
        n += 1


def others(ctx, end):
    return end if ctx.get_start_method() == "fork" else None


def kill(process):
    process.kill()
    process.join(LIMIT)
    assert process.exitcode == -signal.SIGKILL
    process.close()


@pytest.mark.parametrize("duplex", [True, False])
def test_a_killed_writer(method, duplex, seed):
    chance = random.Random(f"{seed} {method} {duplex}")
    ctx = breakeven.get_context(method)
    before = in_use()
    for _ in range(12 if method == "fork" else 4):
        reader, writer = ctx.Pipe(duplex)
        process = ctx.Process(target=send_for_ever, args=(writer, others(ctx, reader)))
        process.start()
        writer.close()
        stop = chance.randrange(40)
        n = 0
        while True:
            try:
                check(reader.recv(), n)
            except (EOFError, ConnectionResetError):
                break
            except OSError as error:
                # Killed in the middle of a message that went through the pipe itself.
                assert "end of file" in str(error)
                break
            n += 1
            if n == stop + 1:
                time.sleep(chance.uniform(0, 0.002))
                kill(process)
        assert n > stop
        reader.close()
    wait_for_memory(before)


@pytest.mark.parametrize("duplex", [True, False])
def test_a_killed_reader(method, duplex, seed):
    chance = random.Random(f"{seed} {method} {duplex}")
    ctx = breakeven.get_context(method)
    before = in_use()
    for _ in range(12 if method == "fork" else 4):
        reader, writer = ctx.Pipe(duplex)
        process = ctx.Process(target=receive_for_ever, args=(reader, others(ctx, writer)))
        process.start()
        reader.close()
        stop, n = chance.randrange(40), 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                writer.send(message(n))
                n += 1
                if n == stop + 1:
                    time.sleep(chance.uniform(0, 0.002))
                    kill(process)
                assert n < stop + 1000, "a dead reader goes unnoticed"
        assert writer._end is not None
        writer.close()
    wait_for_memory(before)


def test_both_killed(method, seed):
    chance = random.Random(f"{seed} {method}")
    ctx = breakeven.get_context(method)
    before = in_use()
    for _ in range(8 if method == "fork" else 3):
        reader, writer = ctx.Pipe(False)
        first = ctx.Process(target=send_for_ever, args=(writer, others(ctx, reader)))
        second = ctx.Process(target=receive_for_ever, args=(reader, others(ctx, writer)))
        first.start()
        second.start()
        reader.close()
        writer.close()
        time.sleep(chance.uniform(0, 0.1))
        kill(first)
        # The reader ends by itself, with the end of the file, or in the middle of what it did.
        if chance.random() < 0.5:
            second.kill()  # it may have ended by itself
        second.join(LIMIT)
        assert second.exitcode is not None
        second.close()
    wait_for_memory(before)


def send_and_stop(writer, reader):
    if reader is not None:
        reader.close()
    for n in range(8):
        writer.send(message(n))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_writer_had_sent_still_arrives(method):
    ctx = breakeven.get_context(method)
    before = in_use()
    reader, writer = ctx.Pipe(False)
    process = ctx.Process(target=send_and_stop, args=(writer, others(ctx, reader)))
    process.start()
    writer.close()
    process.join(LIMIT)
    _native.reap()
    for n in range(8):
        check(reader.recv(), n)
    with pytest.raises(EOFError):
        reader.recv()
    reader.close()
    process.close()
    wait_for_memory(before)


def test_writers_that_are_killed_and_replaced_on_one_pipe(seed):
    """Each in turn has the writing end; what one left behind unannounced does not stop the next."""
    chance = random.Random(str(seed))
    ctx = breakeven.get_context("fork")
    before = in_use()
    reader, writer = ctx.Pipe(False)
    for number in range(20):
        process = ctx.Process(target=send_marked, args=(writer, number))
        process.start()
        time.sleep(chance.uniform(0, 0.02))
        kill(process)
    process = ctx.Process(target=send_last, args=(writer,))
    process.start()
    while (got := reader.recv()) is not None:
        assert got[0] == got[-1]
    process.join(LIMIT)
    process.close()
    reader.close()
    writer.close()
    wait_for_memory(before)


def send_marked(writer, number):
    while True:
        writer.send(np.full(10_000, number))


def send_last(writer):
    writer.send(np.full(10_000, -1))
    writer.send(None)
