"""Four Processes ask a slow device over TCP and send what it says through a Pipe. All four are asleep in top, so
are both cores; how do I get more out of them? More processes need so much memory.

(The device is a process that answers each request after 20 ms.)"""

import asyncio
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe, Process

SHRINK = int(sys.argv[2]) if len(sys.argv) > 2 else 1
PROCESSES = 4
REQUESTS = 120 // SHRINK


def device(ready):
    async def answer(reader, writer):
        while request := await reader.readline():
            await asyncio.sleep(0.02)
            writer.write(b"%d\n" % (int(request) * 37 % 101))
        writer.close()

    async def serve():
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=200)
        ready.send(server.sockets[0].getsockname())
        async with server:
            await server.serve_forever()

    asyncio.run(serve())


def ask(address, requests):
    total = 0
    with socket.create_connection(address) as connection, connection.makefile("rwb") as stream:
        for request in requests:
            stream.write(b"%d\n" % request)
            stream.flush()
            total += int(stream.readline())  # <- here
    return total


def ask_and_send(address, requests, results):
    results.send(ask(address, requests))


def in_processes(address):
    here, there = Pipe(duplex=False)
    processes = [
        Process(target=ask_and_send, args=(address, range(first, REQUESTS, PROCESSES), there))
        for first in range(PROCESSES)
    ]
    for process in processes:
        process.start()  # <- here
    total = sum([here.recv() for _ in processes])
    for process in processes:
        process.join()
    return total


def in_threads(address):
    with ThreadPoolExecutor(REQUESTS) as threads:
        return sum(threads.map(lambda request: ask(address, [request]), range(REQUESTS)))


def with_device(asking):
    here, there = Pipe(duplex=False)
    process = Process(target=device, args=(there,), daemon=True)
    process.start()
    total = asking(here.recv())
    process.terminate()
    process.join()
    return total


def asked():
    return with_device(in_processes)


def fixed():
    return with_device(in_threads)


def serial():
    return with_device(lambda address: ask(address, range(REQUESTS)))


if __name__ == "__main__":
    variant = sys.argv[1] if len(sys.argv) > 1 else "asked"
    print({"asked": asked, "fixed": fixed, "serial": serial}[variant]())
