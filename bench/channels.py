"""Rivals that carry messages, behind one shape.

A rival makes a `Line` before the processes of a sample are forked. Each process then asks the line for the bound
function that it will call once a message, so that a measured loop runs nothing of ours between the rival's calls.

Some rivals carry bytes only. They get their messages encoded beforehand and hand them over undecoded: that flatters
them, since the others encode and decode each message while the clock runs. Their row says so.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

Put = Callable[[Any], Any]
Get = Callable[[], Any]


class Line:
    """One channel between processes. `put` and `get` are called in the process that uses them, after the fork."""

    def put(self) -> Put:
        raise NotImplementedError

    def get(self) -> Get:
        raise NotImplementedError

    def put_many(self) -> Put | None:
        """A function that takes a list; None where the rival has none."""
        return None

    def get_many(self) -> Callable[[int], list[Any]] | None:
        """A function that takes the most it may return, and returns at least one; None where the rival has none."""
        return None

    def close(self) -> None:
        """Leaves nothing behind, names in /dev/shm included."""


class ChannelRival:
    name: ClassVar[str]
    distribution: ClassVar[str | None] = None
    carries: ClassVar[str] = "objects"
    note: ClassVar[str] = ""
    # Whether put has read the object when it returns. If not, the sender must not write to it, and the check that a
    # message is the one that was sent cannot be made.
    reads_in_put: ClassVar[bool] = True
    # Two senders and two receivers may share it, and each message goes to one of them.
    shared: ClassVar[bool] = True

    def context(self) -> Any:
        """Where Process comes from."""
        return multiprocessing.get_context("fork")

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        """A channel for messages of about `nbytes`, of which at most `maxsize` wait in it; 0 is "as many as come"."""
        raise NotImplementedError

    def message(self, value: Any) -> Any:
        """What is passed to put so that `value` arrives."""
        return value

    def array(self, message: Any) -> Any:
        """The received message as a NumPy array, without copying it again."""
        return message


class _QueueLine(Line):
    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def put(self) -> Put:
        return self.queue.put

    def get(self) -> Get:
        return self.queue.get


class Stdlib(ChannelRival):
    """multiprocessing.Queue, as in most programs: a pipe, a lock at each end, a feeder thread."""

    name = "stdlib"
    reads_in_put = False

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        return _QueueLine(self.context().Queue(maxsize))


class StdlibSimple(ChannelRival):
    """multiprocessing.SimpleQueue: the same pipe without the thread; holds what the pipe's buffer holds."""

    name = "stdlib SimpleQueue"
    note = "holds 64 KiB, whatever maxsize"

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        return _QueueLine(self.context().SimpleQueue())


class _PipeLine(Line):
    def __init__(self, context: Any) -> None:
        self.reader, self.writer = context.Pipe(duplex=False)

    def put(self) -> Put:
        return self.writer.send

    def get(self) -> Get:
        return self.reader.recv


class StdlibPipe(ChannelRival):
    """multiprocessing.Pipe: no lock at all, so one sender and one receiver."""

    name = "stdlib Pipe"
    note = "one sender, one receiver; holds 64 KiB, whatever maxsize"
    shared = False

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        return _PipeLine(self.context())


class _BatchLine(_QueueLine):
    def put_many(self) -> Put:
        return self.queue.put_many

    def get_many(self) -> Callable[[int], list[Any]]:
        return self.queue.get_many


class Breakeven(ChannelRival):
    name = "breakeven"
    distribution = "breakeven"

    def context(self) -> Any:
        import breakeven

        return breakeven.get_context("fork")

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        return _BatchLine(self.context().Queue(maxsize))


class _FasterFifoLine(_BatchLine):
    def get_many(self) -> Callable[[int], list[Any]]:
        get_many = self.queue.get_many
        return lambda most: get_many(max_messages_to_get=most)


class FasterFifo(ChannelRival):
    """faster-fifo: a ring in shared memory under one mutex, objects pickled."""

    name = "faster-fifo"
    distribution = "faster-fifo"

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        import faster_fifo

        if nbytes < 10_000:
            queue = faster_fifo.Queue(maxsize=maxsize or 1_000_000_000)  # its own default ring of 1 MB
        else:
            # Its ring is sized in bytes; a quarter more than the payload for what pickle adds and for wrapping round.
            queue = faster_fifo.Queue(
                max_size_bytes=int(nbytes * (maxsize or 4) * 1.25), maxsize=maxsize or 1_000_000_000
            )
        return _FasterFifoLine(queue)


class _Bytes(ChannelRival):
    """What the rivals that carry bytes only have in common."""

    carries = "bytes"

    def message(self, value: Any) -> Any:
        if type(value).__module__ == "numpy":
            return value
        return pickle.dumps(value, 5)

    def array(self, message: Any) -> Any:
        import numpy

        return numpy.frombuffer(message, dtype=numpy.float64)


class _ZooLine(Line):
    def __init__(self, megabytes: int) -> None:
        import zooparallel

        self.unlink = zooparallel.ZooQueue.unlink
        self.name = f"bench{os.getpid()}_{os.urandom(4).hex()}"
        self.queue = zooparallel.ZooQueue(self.name, size_mb=megabytes)
        self.attach = lambda: zooparallel.ZooQueue(self.name, size_mb=megabytes)

    def put(self) -> Put:
        queue = self.attach()
        return lambda message: queue.put_bytes(message if type(message) is bytes else message.tobytes())

    def get(self) -> Get:
        return self.attach().get_bytes

    def close(self) -> None:
        self.unlink(self.name)


class _ZooSmallLine(_ZooLine):
    def put(self) -> Put:
        return self.attach().put_bytes


class ZooParallel(_Bytes):
    """zooparallel: a ring of bytes in shared memory under a robust mutex, written in Rust."""

    name = "zooparallel"
    distribution = "zooparallel"
    note = "bytes only"

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        if nbytes < 10_000:
            return _ZooSmallLine(10)  # its default
        return _ZooLine(max(10, int(nbytes * (maxsize or 4) * 1.25) >> 20))


class _PickledLine(_ZooSmallLine):
    def put(self) -> Put:
        put, dumps = super().put(), pickle.dumps
        return lambda message: put(dumps(message, 5))

    def get(self) -> Get:
        get, loads = super().get(), pickle.loads
        return lambda: loads(get())


class ZooParallelPickle(ChannelRival):
    """zooparallel as a program with objects has to use it: pickle on both sides, while the clock runs."""

    name = "zooparallel + pickle"
    distribution = "zooparallel"
    note = "the same with objects, pickled by the program"

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        return _PickledLine(10)


class _ZeroqLine(Line):
    def __init__(self, nbytes: int, capacity: int) -> None:
        import zeroq

        self.name = f"bench-{os.getpid()}-{os.urandom(4).hex()}"
        self.queue = zeroq.Queue(self.name, element_size=nbytes, capacity=capacity, create=True)
        self.small = nbytes < 10_000

    def put(self) -> Put:
        put = self.queue.put
        return put if self.small else (lambda message: put(message.tobytes()))

    def get(self) -> Get:
        return self.queue.get

    def close(self) -> None:
        self.queue.close()


class Zeroq(_Bytes):
    """zeroq: a ring of slots of one fixed size in shared memory, written in Rust."""

    name = "zeroq"
    distribution = "zeroq"
    note = "bytes only, slots of one size, capacity a power of two"

    def message(self, value: Any) -> Any:
        message = super().message(value)
        return message.ljust(64, b"\0") if type(message) is bytes else message  # a slot is filled or refused

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        return _ZeroqLine(nbytes, 1 << ((maxsize or (1024 if nbytes < 10_000 else 4)) - 1).bit_length())


class _IceoryxLine(Line):
    """A service of iceoryx2: publish and subscribe, nothing lost, the receiver asks again and again.

    Ports are made in the process that uses them: iceoryx2's are not meant to be forked.
    """

    def __init__(self, nbytes: int, depth: int) -> None:
        self.nbytes, self.depth = nbytes, depth
        self.service_name = f"bench/{os.getpid()}/{os.urandom(4).hex()}"

    def service(self) -> Any:
        import ctypes

        import iceoryx2

        iceoryx2.set_log_level(iceoryx2.LogLevel.Fatal)
        node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
        service = (
            node.service_builder(iceoryx2.ServiceName.new(self.service_name))
            .publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(1)
            .subscriber_max_buffer_size(self.depth)
            .open_or_create()
        )
        self.node = node  # the service ends with it
        return service

    def put(self) -> Put:
        import ctypes

        import iceoryx2

        service = self.service()
        publisher = (
            service.publisher_builder()
            .initial_max_slice_len(self.nbytes)
            .backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )

        def put(message: Any) -> None:
            if type(message) is bytes:
                sample = publisher.loan_slice_uninit(len(message))
                ctypes.memmove(sample.payload_ptr, message, len(message))
            else:
                sample = publisher.loan_slice_uninit(message.nbytes)
                ctypes.memmove(sample.payload_ptr, message.ctypes.data, message.nbytes)
            sample.assume_init().send()

        return put

    def get(self) -> Get:
        service = self.service()
        subscriber = service.subscriber_builder().create()
        receive = subscriber.receive
        held = None

        def get() -> Any:
            # The view does not keep its sample, whose block is written again once it is gone: held until the next call.
            nonlocal held
            while (sample := receive()) is None:
                pass
            held = sample
            return sample.payload().as_memory_view()

        return get


class Iceoryx2(_Bytes):
    """iceoryx2: publish and subscribe over shared memory, written in Rust."""

    name = "iceoryx2"
    distribution = "iceoryx2"
    note = "bytes only; the receiver spins; one sender, one receiver"
    shared = False

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        return _IceoryxLine(nbytes, maxsize or (1024 if nbytes < 10_000 else 4))


class InProcess(ChannelRival):
    """queue.SimpleQueue, for threads of one process: what put and get cost when nothing has to be encoded."""

    name = "queue.SimpleQueue"
    note = "within one process only: the limit"
    shared = False

    def line(self, maxsize: int, nbytes: int = 64) -> Line:
        import queue

        return _QueueLine(queue.SimpleQueue())


CHANNELS: dict[str, ChannelRival] = {
    rival.name: rival
    for rival in (
        Stdlib(),
        Breakeven(),
        StdlibSimple(),
        StdlibPipe(),
        FasterFifo(),
        ZooParallel(),
        ZooParallelPickle(),
        Zeroq(),
        Iceoryx2(),
        InProcess(),
    )
}
