"""Pipes, listeners and clients, connections and file descriptors that travel, barriers and conditions."""

import multiprocessing as mp
import os
import sys
import threading
from multiprocessing.connection import Client, Listener, wait
from multiprocessing.reduction import recv_handle, send_handle


def echo(connection):
    while (message := connection.recv()) != "stop":
        connection.send(message * 2)
    connection.close()


def answer_on(connection):
    inner = connection.recv()  # a connection that came over a connection
    inner.send("through the inner one")
    inner.close()


def write_to_handle(connection):
    handle = recv_handle(connection)
    os.write(handle, b"by a handle")
    os.close(handle)


def client(address):
    with Client(address, authkey=b"key") as connection:
        connection.send([1, {"two": 2}])
        connection.send_bytes(b"bytes")
        assert connection.recv() == "thanks"


def meet(barrier, condition, numbers):
    barrier.wait(60)
    with condition:
        numbers[0] += 1
        condition.notify_all()


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    ours, theirs = mp.Pipe()
    process = mp.Process(target=echo, args=(theirs,))
    process.start()
    theirs.close()
    for message in (4, "ab", b"x" * 1_000_000):
        ours.send(message)
        assert ours.poll(60) and ours.recv() == message * 2
    ours.send("stop")
    process.join()
    try:
        ours.recv()
    except EOFError:
        pass
    else:
        raise AssertionError("no end")

    outer, theirs = mp.Pipe()
    inner, other = mp.Pipe()
    process = mp.Process(target=answer_on, args=(theirs,))
    process.start()
    outer.send(other)
    other.close()
    assert wait([inner], 60) == [inner] and inner.recv() == "through the inner one"
    process.join()

    read, write = os.pipe()
    outer, theirs = mp.Pipe()
    process = mp.Process(target=write_to_handle, args=(theirs,))
    process.start()
    send_handle(outer, write, process.pid)
    os.close(write)
    assert os.read(read, 100) == b"by a handle"
    os.close(read)
    process.join()

    with Listener(("127.0.0.1", 0), authkey=b"key") as listener:
        process = mp.Process(target=client, args=(listener.address,))
        process.start()
        with listener.accept() as connection:
            assert connection.recv() == [1, {"two": 2}] and connection.recv_bytes() == b"bytes"
            connection.send("thanks")
        process.join()
        assert process.exitcode == 0

    barrier, condition, numbers = mp.Barrier(3), mp.Condition(), mp.Array("i", 1)
    processes = [mp.Process(target=meet, args=(barrier, condition, numbers)) for _ in range(2)]
    for process in processes:
        process.start()
    barrier.wait(60)
    with condition:
        assert condition.wait_for(lambda: numbers[0] == 2, 60)
    for process in processes:
        process.join()
    assert threading.active_count() <= 2  # multiprocessing may share descriptors from a thread
    print("done")
