"""A recorder process hands its buffer of samples (32 MB) to the main process with Pipe and send_bytes, no pickle
involved, and still each hand-over takes ages. The main process only looks at the loudest sample of each second."""

import sys
from multiprocessing import Pipe, Process, RawArray

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
TAKES = 24 // SHRINK
SIZE = 32 << 20
SECOND = 1 << 16


def record(buffer, take):
    for second in range(0, SIZE, SECOND):
        buffer[second + take] = take * 7 % 256
    return buffer


def loudest(buffer):
    return sum(max(buffer[second : second + 64]) for second in range(0, SIZE, SECOND))


def recorder(connection):
    buffer = bytearray(SIZE)
    for take in range(TAKES):
        connection.send_bytes(record(buffer, take))  # <- here
    connection.close()


def asked():
    here, there = Pipe(duplex=False)
    process = Process(target=recorder, args=(there,))
    process.start()
    there.close()
    total = 0
    for _ in range(TAKES):
        total += loudest(here.recv_bytes())  # <- here
    process.join()
    return total


def recorder_into(samples, connection):
    buffer = memoryview(samples).cast("B")
    for take in range(TAKES):
        record(buffer, take)
        connection.send(take)
        connection.recv()


def fixed():
    here, there = Pipe()
    samples = RawArray("B", SIZE)
    process = Process(target=recorder_into, args=(samples, there))
    process.start()
    buffer = memoryview(samples).cast("B")
    total = 0
    for _ in range(TAKES):
        here.recv()
        total += loudest(buffer)
        here.send(True)
    process.join()
    return total


def serial():
    buffer = bytearray(SIZE)
    return sum([loudest(record(buffer, take)) for take in range(TAKES)])


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
