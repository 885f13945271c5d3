"""The contract of multiprocessing's pipes, kept by ours: each test runs with the standard library's and with ours."""

import asyncio
import gc
import multiprocessing
import multiprocessing.connection
import os
import pickle
import select
import selectors
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler

import breakeven
import breakeven.connection
import numpy as np
import pytest
from breakeven import _native

LARGE = 200_000
# What takes the pipe, and what takes shared memory.
OBJECTS = {
    "none": lambda: None,
    "int": lambda: 2**70,
    "text": lambda: "ü" * 300,
    "dict": lambda: {"a": [1, 2.5, None], ("b",): {"c"}},
    "long bytes": lambda: b"x" * LARGE,
    "long text": lambda: "ü" * LARGE,
    "list of numbers": lambda: list(range(LARGE)),
    "tuple of numbers": lambda: tuple(float(n) for n in range(LARGE)),
    "list of lists": lambda: [[n, str(n)] for n in range(10_000)],
    "long pickle": lambda: {n: str(n) for n in range(20_000)},
    "many buffers": lambda: [bytearray(b"x" * 40_000) for _ in range(100)],
    "the same twice": lambda: [[1, 2]] * 5000,
}


@pytest.fixture(params=[multiprocessing, breakeven], ids=["stdlib", "ours"])
def mp(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["duplex", "simplex"])
def pipe(mp, request):
    """Reader and writer."""
    reader, writer = mp.Pipe(request.param)
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def ours():
    reader, writer = breakeven.Pipe(False)
    yield reader, writer
    reader.close()
    writer.close()


def sending(act, *arguments):
    """Sends from a thread: a plain pipe holds less than a large message."""
    thread = threading.Thread(target=act, args=arguments)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_arrive_as_they_were(pipe, kind):
    reader, writer = pipe
    obj = OBJECTS[kind]()
    thread = sending(writer.send, obj)
    got = reader.recv()
    thread.join()
    assert got == obj
    assert type(got) is type(obj)


def test_one_object_twice_is_one_object(pipe):
    reader, writer = pipe
    inner = [1]
    thread = sending(writer.send, [inner, inner, b"x" * LARGE])
    first, second, _ = reader.recv()
    thread.join()
    assert first is second


def test_arrays_are_the_receivers_own(pipe):
    reader, writer = pipe
    array = np.arange(100_000.0)
    thread = sending(writer.send, array)
    got = reader.recv()
    thread.join()
    array[0] = -1
    assert got[0] == 0
    got[1] = -2
    assert array[1] == 1
    assert got.flags.writeable


def test_order_is_that_of_sending(pipe):
    reader, writer = pipe

    def send_all():
        for n in range(300):
            writer.send(n if n % 3 else np.full(20_000, n))

    thread = sending(send_all)
    for n in range(300):
        got = reader.recv()
        assert n == (got if n % 3 else got[0])
    thread.join()


@pytest.mark.parametrize("size", [0, 1, 20_000, LARGE, 3_000_000])
def test_bytes(pipe, size):
    reader, writer = pipe
    data = os.urandom(size)
    thread = sending(lambda: [writer.send_bytes(data) for _ in range(3)])
    assert reader.recv_bytes() == data
    assert reader.recv_bytes(size) == data
    space = bytearray(size + 7)
    assert reader.recv_bytes_into(space, 7) == size
    assert space[7:] == data
    thread.join()


def test_parts_of_buffers(pipe):
    reader, writer = pipe
    array = np.arange(50_000, dtype="i8")
    thread = sending(lambda: [writer.send_bytes(array, 80, 320_000), writer.send_bytes(memoryview(array)[:3])])
    assert np.frombuffer(reader.recv_bytes(), "i8").tolist() == array[10:40_010].tolist()
    assert np.frombuffer(reader.recv_bytes(), "i8").tolist() == [0, 1, 2]
    thread.join()


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_message_that_is_too_long(mp, size):
    reader, writer = mp.Pipe(False)

    def send():
        try:
            writer.send_bytes(b"x" * size)
        except BrokenPipeError:
            pass  # where the reader closed before all of it was in the pipe

    thread = sending(send)
    with pytest.raises(OSError, match="bad message length"):
        reader.recv_bytes(size - 1)
    assert reader.closed
    thread.join()
    writer.close()


@pytest.mark.parametrize("size", [100, LARGE])
def test_a_buffer_that_is_too_short(pipe, size):
    reader, writer = pipe
    thread = sending(writer.send_bytes, b"x" * size)
    with pytest.raises(multiprocessing.BufferTooShort) as caught:
        reader.recv_bytes_into(bytearray(size - 1))
    assert caught.value.args[0] == b"x" * size
    thread.join()


def test_wrong_arguments(pipe):
    reader, writer = pipe
    for offset, size in ((-1, None), (5, None), (0, 5), (0, -1), (3, 2)):
        with pytest.raises(ValueError):
            writer.send_bytes(b"1234", offset, size)
    with pytest.raises(ValueError):
        reader.recv_bytes(-1)
    writer.send_bytes(b"1234")
    with pytest.raises(ValueError):
        reader.recv_bytes_into(bytearray(4), -1)
    with pytest.raises(ValueError):
        reader.recv_bytes_into(bytearray(4), 5)
    assert reader.recv_bytes() == b"1234"


def test_bytes_of_an_object_are_its_pickle_and_the_other_way_round(pipe):
    reader, writer = pipe
    for obj in ([1, 2], list(range(LARGE)), np.arange(30_000)):
        thread = sending(writer.send, obj)
        assert np.array_equal(pickle.loads(reader.recv_bytes()), obj)
        thread.join()
        thread = sending(writer.send_bytes, ForkingPickler.dumps(obj))
        assert np.array_equal(reader.recv(), obj)
        thread.join()


def test_the_end_of_the_file(pipe):
    reader, writer = pipe
    writer.send(1)
    writer.close()
    assert reader.poll()
    assert reader.recv() == 1
    assert reader.poll()
    with pytest.raises(EOFError):
        reader.recv()
    with pytest.raises(EOFError):
        reader.recv_bytes()


def test_large_messages_outlive_their_sender(ours):
    reader, writer = ours
    for n in range(3):
        writer.send(np.full(50_000, n))
    writer.close()
    assert [reader.recv()[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(EOFError):
        reader.recv()


@pytest.mark.parametrize("obj", [1, b"x" * LARGE], ids=["small", "large"])
def test_a_pipe_without_a_reader(pipe, obj):
    reader, writer = pipe
    reader.close()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        writer.send(obj)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        writer.send_bytes(b"x" * LARGE)


def test_an_end_that_is_closed(pipe):
    for end in pipe:
        end.close()
        end.close()
        assert end.closed
        for act, *args in (
            (end.send, 1),
            (end.recv,),
            (end.poll,),
            (end.fileno,),
            (end.recv_bytes,),
            (end.send_bytes, b""),
        ):
            with pytest.raises(OSError, match="handle is closed"):
                act(*args)


def test_an_end_for_one_direction(mp):
    reader, writer = mp.Pipe(False)
    with reader, writer:
        assert (reader.readable, reader.writable, writer.readable, writer.writable) == (True, False, False, True)
        for act in (writer.recv, writer.recv_bytes, writer.poll, lambda: writer.recv_bytes_into(bytearray(1))):
            with pytest.raises(OSError, match="connection is write-only"):
                act()
        for act in (lambda: reader.send(1), lambda: reader.send(b"x" * LARGE), lambda: reader.send_bytes(b"")):
            with pytest.raises(OSError, match="connection is read-only"):
                act()
    assert reader.closed and writer.closed


def test_a_message_cut_off_in_the_middle(pipe):
    reader, writer = pipe
    os.write(writer.fileno(), b"\0\0\0\x64abc")
    writer.close()
    with pytest.raises(OSError, match="got end of file during message"):
        reader.recv_bytes()


def test_what_cannot_be_pickled_raises_and_sends_nothing(pipe):
    reader, writer = pipe
    with pytest.raises(TypeError):
        writer.send([threading.Lock(), b"x" * LARGE])
    assert not reader.poll()


def test_what_cannot_be_unpickled_raises_and_the_next_message_comes(pipe):
    reader, writer = pipe
    writer.send_bytes(b"no pickle")
    thread = sending(lambda: [writer.send_bytes(b"no pickle" * LARGE), writer.send(3)])
    for _ in range(2):
        with pytest.raises(pickle.UnpicklingError):
            reader.recv()
    assert reader.recv() == 3
    thread.join()


@pytest.mark.parametrize("obj", [1, b"x" * LARGE], ids=["small", "large"])
def test_waiting_by_descriptor(pipe, obj):
    reader, writer = pipe
    poller = select.poll()
    poller.register(reader.fileno(), select.POLLIN)
    assert not reader.poll() and not reader.poll(0.01) and wait([reader], 0) == [] and poller.poll(0) == []
    for _ in range(3):
        thread = sending(writer.send, obj)
        assert wait([reader]) == [reader]
        assert select.select([reader], [], [])[0] == [reader]
        with selectors.DefaultSelector() as selector:
            selector.register(reader, selectors.EVENT_READ)
            assert selector.select()
        assert poller.poll()
        assert reader.poll(None)
        assert reader.recv() == obj
        thread.join()
        assert not reader.poll()


def test_asyncio(pipe):
    reader, writer = pipe

    async def main():
        loop, got = asyncio.get_running_loop(), []
        done = loop.create_future()

        def readable():
            got.append(reader.recv())
            if len(got) == 5:
                loop.remove_reader(reader.fileno())
                done.set_result(None)

        loop.add_reader(reader, readable)
        await loop.run_in_executor(None, lambda: [writer.send(np.full(20_000, n)) for n in range(5)])
        await done
        return [array[0] for array in got]

    assert asyncio.run(main()) == list(range(5))


def test_a_bare_connection_over_a_duplicate(mp):
    """Whoever reads or writes the descriptor in the standard library's way gets what it would get from its own pipe."""
    reader, writer = mp.Pipe()
    with reader, writer, Connection(os.dup(reader.fileno())) as plain:
        for obj in (1, np.arange(100_000), list(range(LARGE))):
            thread = sending(writer.send, obj)
            assert np.array_equal(plain.recv(), obj)
            thread.join()
            thread = sending(plain.send, obj)
            assert np.array_equal(writer.recv(), obj)
            thread.join()
        for size in (10, LARGE):
            thread = sending(writer.send_bytes, b"x" * size)
            assert plain.recv_bytes() == b"x" * size
            thread.join()
        # also in turns with the connection itself
        for end in (reader, plain, reader, plain):
            thread = sending(writer.send, np.arange(100_000))
            assert end.recv()[-1] == 99_999
            thread.join()
            thread = sending(writer.send_bytes, b"x" * LARGE)
            assert end.recv_bytes() == b"x" * LARGE
            thread.join()


STRANGER = """
import sys
from multiprocessing.connection import Connection
sys.modules["breakeven"] = None
with Connection(int(sys.argv[1])) as connection:
    try:
        while True:
            obj = connection.recv()
            connection.send((len(obj), obj[-1]))
            connection.send_bytes(connection.recv_bytes())
    except EOFError:
        pass
"""


def test_a_program_that_was_given_the_descriptor(mp):
    """It has no access to our memory; it does not even have breakeven."""
    here, there = mp.Pipe()
    here.send("a message before")
    assert there.recv() == "a message before"
    fd = there.fileno()
    with subprocess.Popen([sys.executable, "-c", STRANGER, str(fd)], pass_fds=[fd]) as program:
        there.close()
        for _ in range(3):
            here.send(list(range(LARGE)))
            assert here.recv() == (LARGE, LARGE - 1)
            here.send_bytes(b"x" * LARGE)
            assert here.recv_bytes() == b"x" * LARGE
        here.close()
        assert program.wait(60) == 0


def test_a_reader_of_another_tree_of_processes():
    """An end that is sent to a stranger over a socket reaches it as a plain connection."""
    code = (
        "import sys, breakeven\n"
        "from multiprocessing.connection import Client\n"
        "with Client(sys.argv[1], authkey=b'key') as client:\n"
        "    with client.recv() as end:\n"
        "        print(type(end).__name__, sum(end.recv()))\n"
    )
    with multiprocessing.connection.Listener(authkey=b"key") as listener:
        program = subprocess.Popen([sys.executable, "-c", code, listener.address], stdout=subprocess.PIPE, text=True)
        with program, listener.accept() as client:
            reader, writer = breakeven.Pipe(False)
            key = bytes(multiprocessing.current_process().authkey)
            client.send(FromTree(key, reader))
            reader.close()
            writer.send([1] * LARGE)
            assert program.stdout.read().split() == ["Connection", str(LARGE)]
            writer.close()
    from multiprocessing import resource_sharer

    resource_sharer.stop(5)


class FromTree:
    """Makes the receiver one of this tree as far as the standard library's resource sharer asks; unpickles to `end`."""

    def __init__(self, key, end):
        self.key, self.end = key, end

    def __reduce__(self):
        return _second, (_Key(self.key), self.end)


class _Key:
    def __init__(self, key):
        self.key = key

    def __reduce__(self):
        code = f"__import__('multiprocessing').current_process().authkey = {self.key!r}"
        return exec, (code, {})


def _second(_, end):
    return end


def test_isinstance_and_repr(ours):
    for end in ours:
        assert isinstance(end, Connection)
        assert isinstance(end, breakeven.connection.Connection)
        assert breakeven.connection.Listener is multiprocessing.connection.Listener
        assert "Connection object" in repr(end)
    assert breakeven.connection.Pipe is not multiprocessing.connection.Pipe


def test_a_connection_made_of_a_descriptor():
    reader, writer = breakeven.Pipe(False)
    with reader, writer, type(reader)(os.dup(reader.fileno()), writable=False) as again:
        writer.send(1)
        assert again.recv() == 1


def test_listener_and_client_are_the_standard_librarys():
    with breakeven.connection.Listener(("localhost", 0), "AF_INET") as listener:
        thread = threading.Thread(target=lambda: breakeven.connection.Client(listener.address).send([1] * LARGE))
        thread.start()
        with listener.accept() as connection:
            assert connection.recv() == [1] * LARGE
        thread.join()


# Shared memory: what goes there, what comes back.


def under_way(end):
    return int(repr(end._end).split(",")[1].split()[0])


def in_use():
    gc.collect()
    return _native.arena_statistics()["blocks_in_use"]


def test_large_messages_take_shared_memory_and_small_ones_do_not(ours):
    reader, writer = ours
    writer.send([1, 2])
    writer.send_bytes(b"x" * 1000)
    assert under_way(writer) == 0
    writer.send(np.zeros(10_000))
    writer.send_bytes(b"x" * LARGE)
    assert under_way(writer) == 2
    assert [len(reader.recv()), len(reader.recv_bytes()), len(reader.recv()), len(reader.recv_bytes())] == [
        2,
        1000,
        10_000,
        LARGE,
    ]
    assert under_way(writer) == 0


@pytest.mark.parametrize("first", [0, 1], ids=["reader first", "writer first"])
def test_messages_that_nobody_received_go_with_the_pipe(first):
    before = in_use()
    for duplex in (True, False):
        ends = breakeven.Pipe(duplex)
        for _ in range(8):
            ends[1].send(np.zeros(10_000))
        assert in_use() >= before + 8
        ends[first].close()
        ends[1 - first].close()
        assert in_use() == before


def test_messages_that_nobody_can_receive_any_more_go_with_the_next_send():
    before = in_use()
    reader, writer = breakeven.Pipe(False)
    empty = in_use()
    for obj in (1, np.zeros(10_000)):
        for _ in range(5):
            writer.send(np.zeros(10_000))
        reader.close()
        with pytest.raises(BrokenPipeError):
            writer.send(obj)
        assert in_use() == empty
        writer.close()
        reader, writer = breakeven.Pipe(False)
    reader.close()
    writer.close()
    assert in_use() == before


def test_a_sender_that_is_ahead_waits(ours):
    reader, writer = ours
    sent = []

    def send_all():
        for n in range(50):
            writer.send(np.full(10_000, n))
            sent.append(n)

    thread = sending(send_all)
    for n in range(50):
        assert len(sent) <= n + 9
        assert reader.recv()[0] == n
    thread.join()


def test_a_sender_that_waits_learns_that_the_reader_is_gone(ours):
    reader, writer = ours
    for _ in range(8):
        writer.send(np.zeros(10_000))
    thread = sending(reader.close)
    with pytest.raises(BrokenPipeError):
        writer.send(np.zeros(10_000))
    thread.join()
    assert under_way(writer) == 0


def test_a_lane_full_of_messages_that_were_never_announced_heals(ours):
    """As senders leave it that die between putting a message there and saying so."""
    reader, writer = ours
    null = os.open(os.devnull, os.O_WRONLY)
    for _ in range(8):
        assert writer._end.send(null, np.zeros(10_000))
    os.close(null)
    writer.send(np.full(10_000, 7))
    assert reader.recv()[0] == 7
    assert under_way(writer) == 0


MEMORY = """
import breakeven, numpy as np, threading
from breakeven import _native
breakeven.configure(memory_limit=4_000_000)
reader, writer = breakeven.Pipe(False)
held = []
thread = threading.Thread(target=lambda: [writer.send(np.full(200_000, n)) for n in range(20)])
thread.start()
for n in range(20):
    held.append(reader.recv())
thread.join()
assert [array[0] for array in held] == list(range(20)), held
assert all(len(array) == 200_000 and array.flags.writeable for array in held)
figures = _native.arena_statistics()
assert figures["peak"] <= 4_000_000, figures
del held
thread = threading.Thread(target=writer.send_bytes, args=(b"x" * 5_000_000,))
thread.start()
assert reader.recv_bytes() == b"x" * 5_000_000
thread.join()
breakeven.configure(memory_limit=1)
_native.trim()
pipes = [breakeven.Pipe() for _ in range(100)]
for first, second in pipes:
    first.send(1)
    assert second.recv() == 1
"""


def test_at_the_memory_limit_messages_go_through_the_pipe(python):
    done = python("-c", MEMORY)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("full", [False, True], ids=["recv", "send"])
def test_ctrl_c_in_a_wait(ours, full):
    reader, writer = ours
    if full:
        for _ in range(8):
            writer.send(np.zeros(10_000))
    main, arrived = threading.get_ident(), threading.Event()

    class Interrupted(Exception):
        pass

    def handler(signum, frame):
        if not arrived.is_set():
            arrived.set()
            raise Interrupted

    def interrupt():
        # Again and again: a signal that comes right before the system call would not end it.
        while not arrived.wait(0.02):
            signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        thread = sending(interrupt)
        with pytest.raises(Interrupted):
            writer.send(np.zeros(10_000)) if full else reader.recv()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    if not full:
        writer.send(np.zeros(10_000))
    assert len(reader.recv()) == 10_000


def test_threads_with_pipes_of_their_own():
    def exchange(n):
        reader, writer = breakeven.Pipe()
        with reader, writer:
            for k in range(50):
                writer.send((n, k, np.full(10_000, n)))
                m, j, array = reader.recv()
                results.append((m, j, array[0], array[-1]) == (n, k, n, n))

    results = []
    threads = [sending(exchange, n) for n in range(8)]
    for thread in threads:
        thread.join()
    assert len(results) == 400 and all(results)


def test_threads_that_take_turns_on_one_pipe(ours):
    reader, writer = ours
    sending_lock, receiving_lock, got = threading.Lock(), threading.Lock(), []

    def send_some(n):
        for k in range(50):
            with sending_lock:
                writer.send((n, k, b"x" * (40_000 if k % 2 else 10)))

    def receive_some():
        for _ in range(100):
            with receiving_lock:
                n, k, _ = reader.recv()
            got.append((n, k))

    threads = [sending(send_some, n) for n in range(4)] + [sending(receive_some) for _ in range(2)]
    for thread in threads:
        thread.join()
    assert sorted(got) == [(n, k) for n in range(4) for k in range(50)]


def test_what_looks_like_a_note_but_is_the_programs_own(ours):
    """The notes for large messages hold a secret; the same bytes in another pipe mean nothing."""
    reader, writer = ours
    other_reader, other_writer = breakeven.Pipe(False)
    with other_reader, other_writer:
        writer.send(np.zeros(10_000))
        size = int.from_bytes(os.read(reader._handle, 4), "big")
        note = os.read(reader._handle, size)
        other_writer.send_bytes(note)
        assert other_reader.recv_bytes() == note
        assert len(pickle.loads(note)) == 10_000


def test_installed():
    breakeven.install()
    try:
        for make in (multiprocessing.Pipe, multiprocessing.connection.Pipe, multiprocessing.get_context("spawn").Pipe):
            reader, writer = make(duplex=False)
            with reader, writer:
                assert type(reader) is breakeven.connection.ArenaConnection
                assert isinstance(reader, multiprocessing.connection.Connection)
                writer.send(np.arange(10_000))
                assert under_way(writer) == 1
                assert reader.recv()[-1] == 9999
    finally:
        breakeven.uninstall()
    reader, writer = multiprocessing.Pipe()
    with reader, writer:
        assert type(reader) is Connection
