"""`Queue`, `JoinableQueue` and `SimpleQueue` with the contract of `multiprocessing.queues`, on shared-memory channels.

What differs from the standard library, and why:

- `put` is synchronous: the object is encoded before `put` returns. What the sender changes afterwards cannot show, and
  an object that cannot be pickled raises at the line that put it. (Queues made through `multiprocessing`'s names while
  breakeven is installed keep the old contract: traceback on stderr, the item is dropped, `put` returns.)
- There is no feeder thread. Nothing has to be flushed at exit, so joining a process before its queue is drained does
  not deadlock, and `join_thread()` has nothing to wait for.
- A process killed in the middle of `put` or `get` takes along nothing but the message it had in hand.

The classes derive from the standard library's, for the sake of `isinstance` checks; they share no code with them.
"""

from __future__ import annotations

import os
import select
import types
import weakref
from _multiprocessing import SemLock  # type: ignore[import-not-found]
from collections.abc import Callable, Iterable
from multiprocessing import context as _context
from multiprocessing import queues as _stdlib
from multiprocessing import reduction
from queue import Empty, Full

from . import _launch
from ._native import Channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SEM_VALUE_MAX: int = SemLock.SEM_VALUE_MAX

__all__ = ["Empty", "Full", "JoinableQueue", "Queue", "SimpleQueue"]


def __getattr__(name: str) -> Any:
    # What multiprocessing.queues has beside its classes (Finalize, debug, ...): programs import it from there.
    if not name.startswith("_") and hasattr(_stdlib, name):
        return getattr(_stdlib, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_CHANNEL_ONLY = 2**64 - 1  # the rest of a handle's number says who keeps the channel alive for the child


def _share(channel: Channel) -> tuple[Any, ...]:
    """What a child needs to open the channel, as something that can be pickled for it."""
    arena_fd, handle, event_fd = channel.handle()
    number = handle & _CHANNEL_ONLY
    # A handle of its own: this process may close the queue.
    _launch.keep(("channel", number), Channel.attach(os.dup(arena_fd), handle, os.dup(event_fd)))
    return _launch.SharedFd.for_child(arena_fd), number, _launch.SharedFd.for_child(event_fd)


def _attach(shared: tuple[Any, ...]) -> Channel:
    arena_fd, channel_id, event_fd = shared
    return Channel.attach(arena_fd.take(), channel_id, event_fd.take())


def _reduce_channel(channel: Channel) -> tuple[Any, ...]:
    # `Process(target=queue.put)`: what is pickled there is a method of the channel.
    _context.assert_spawning(channel)
    return _attach, (_share(channel),)


reduction.ForkingPickler.register(Channel, _reduce_channel)


class _End:
    """One end of a queue, as the private parts of the standard library's queues are: a file-like thing.

    It refers to the channel and not to the queue, which refers to it: a queue is to release its memory as soon as it
    is out of scope.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed or self._channel.closed

    def close(self) -> None:
        self._closed = True

    def _open(self) -> Channel:
        if self.closed:
            raise OSError("handle is closed")
        return self._channel


class _Reader(_End):
    """What the standard library's users find under `queue._reader`: something to wait on and to receive from."""

    def fileno(self) -> int:
        """A descriptor that is readable while the queue is not empty (`multiprocessing.connection.wait`, `select`)."""
        return self._open().fileno()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Is there a message, now or within `timeout` seconds (None: however long it takes)?"""
        channel = self._open()
        if not channel.empty():
            return True
        if timeout is not None and timeout <= 0:
            return False
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        poll.poll(None if timeout is None else timeout * 1000)
        return not channel.empty()

    def recv(self) -> Any:
        return self._open().get()


class _Writer(_End):
    """What the standard library's users find under `queue._writer`."""

    def send(self, obj: Any) -> None:
        self._open().send(obj)


class _Ends:
    """The private ends, made when somebody asks: an event descriptor that is in use costs every message something."""

    _channel: Channel
    _closed: bool

    @property
    def _reader(self) -> Any:
        return self.__dict__.get("_breakeven_reader") or self.__dict__.setdefault(
            "_breakeven_reader", _Reader(self._channel)
        )

    @property
    def _writer(self) -> Any:
        return self.__dict__.get("_breakeven_writer") or self.__dict__.setdefault(
            "_breakeven_writer", _Writer(self._channel)
        )

    @property
    def _poll(self) -> Any:
        return self._reader.poll


class Queue(_Ends, _stdlib.Queue):  # type: ignore[misc]
    """A first-in, first-out queue between processes.

    `maxsize` is the number of messages that the queue holds before `put` waits; 0 or less means without limit.
    `ctx` is accepted for the sake of the standard library's signature.

    Instances are inherited by forked children, and can be arguments of a `Process` under every start method; they
    cannot be pickled otherwise (RuntimeError).
    """

    # Instances carry the channel's own bound methods under these names, so that a call costs nothing but the channel.
    # The methods of this class stand in after close(), and for subclasses that override some and call the others.
    _DIRECT = ("get", "qsize", "empty", "full")

    _ignore_epipe = False  # assigned by concurrent.futures on the queues that it makes

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        self._maxsize = maxsize if maxsize > 0 else SEM_VALUE_MAX
        # A subclass that overrides the hook for feeder errors wants it called.
        self._drops_unpicklable = type(self)._on_queue_feeder_error is not Queue._on_queue_feeder_error
        self._connect(Channel(maxsize if maxsize > 0 else 0))

    def _connect(self, channel: Channel) -> None:
        self._channel = channel
        self._closed = False
        self._bind()

    def _bind(self) -> None:
        cls, channel, attributes = type(self), self._channel, self.__dict__
        for name in Queue._DIRECT:
            if getattr(cls, name) is getattr(Queue, name):
                attributes[name] = getattr(channel, name)
        if cls.put is Queue.put:
            attributes["put"] = channel.send
        channel.set_error_hook(self._hook() if self._drops_unpicklable else None)

    def _hook(self) -> Callable[[Exception, object], None]:
        """What the channel calls with an object that cannot be encoded, and the reason, instead of raising it."""
        # Weak: the channel keeps the hook, and a queue is to let go of its memory as soon as it is out of scope.
        reference = weakref.ref(self)

        def hook(error: Exception, obj: object) -> None:
            queue = reference()
            if queue is None:
                return
            try:
                raise error  # the hook may ask for the exception being handled, as the standard library's own does
            except Exception:
                queue._dropped(error, obj)

        return hook

    def _dropped(self, error: Exception, obj: object) -> None:
        self._on_queue_feeder_error(error, obj)

    def _keep_stdlib_contract(self) -> None:
        """From now on an object that cannot be pickled goes to `_on_queue_feeder_error` instead of raising."""
        self._drops_unpicklable = True
        self._bind()

    def __getstate__(self) -> tuple[Any, ...]:
        _context.assert_spawning(self)
        return (_share(self._open()), self._maxsize, self._drops_unpicklable, self._ignore_epipe)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shared, self._maxsize, self._drops_unpicklable, self._ignore_epipe = state
        self._connect(_attach(shared))

    def _open(self) -> Channel:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        return self._channel

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put `obj` on the queue.

        If the queue is full: wait for a free place, for at most `timeout` seconds if that is given; with `block` false
        do not wait. Raises `queue.Full` if there was no place, ValueError if the queue is closed, the pickling error
        (which names the path to the culprit inside `obj`) if `obj` cannot be sent, and MemoryLimitError if it does not
        fit into shared memory.
        """
        self._open().send(obj, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest object off the queue.

        If there is none: wait, for at most `timeout` seconds if that is given; with `block` false do not wait. Raises
        `queue.Empty` if there was none, ValueError if the queue is closed.
        """
        return self._open().get(block, timeout)

    def put_nowait(self, obj: Any) -> None:
        """`put(obj, False)`."""
        self.put(obj, False)

    def get_nowait(self) -> Any:
        """`get(False)`."""
        return self.get(False)

    def put_many(self, items: Iterable[Any], block: bool = True, timeout: float | None = None) -> int:
        """Put each of `items`, in order and next to each other as far as there is room; return how many that were.

        Takes the arguments of `put`; `timeout` is for all of them together. Raises what `put` raises. `queue.Full` then
        has an attribute `put` with the number of items that are on the queue.
        """
        return self._open().put_many(items, block, timeout)

    def get_many(
        self,
        max_items: int | None = None,
        block: bool = True,
        timeout: float | None = None,
        *,
        max_messages_to_get: int | None = None,
    ) -> list[Any]:
        """Take what is there, at most `max_items`, as a list; wait for the first one as `get` does.

        `max_messages_to_get` is what faster-fifo calls `max_items`. Raises `queue.Empty` if there was none, ValueError
        if the queue is closed.
        """
        return self._open().get_many(max_messages_to_get if max_items is None else max_items, block, timeout)

    def qsize(self) -> int:
        """The number of messages on the queue."""
        return self._remaining if self._closed else self._channel.qsize()

    def empty(self) -> bool:
        """Is nothing on the queue? Never true while a finished `put` has not been taken."""
        if self._closed and self._was_used:
            raise OSError("handle is closed")
        return True if self._closed else self._channel.empty()

    def full(self) -> bool:
        """Would a `put` have to wait? Never, for a queue without limit."""
        return self._remaining >= self._maxsize if self._closed else self._channel.full()

    def statistics(self) -> dict[str, Any]:
        """Counts of this queue since it was made, over all processes: puts, gets, bytes, waits, wake-ups."""
        return self._open().statistics()

    def close(self) -> None:
        """Let this process's hold on the queue go; using it afterwards raises ValueError.

        Messages that were put stay there for the other processes.
        """
        if self._closed:
            return
        self._closed = True
        for name in (*Queue._DIRECT, "put"):
            self.__dict__.pop(name, None)
        # The standard library answers these after close(), and its empty() raises if the queue had been used.
        self._remaining = self._channel.qsize()
        self._was_used = self._channel.puts() > 0
        self._channel.close()
        _launch.forget_ended()

    def join_thread(self) -> None:
        """Nothing to wait for, as there is no feeder thread; as in the standard library, only after close()."""
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Nothing to cancel, as there is no feeder thread."""

    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: object) -> None:
        import traceback

        traceback.print_exc()

    def _terminate_broken(self) -> None:
        self.close()
        self.join_thread()

    __class_getitem__ = classmethod(types.GenericAlias)  # type: ignore[assignment]


class JoinableQueue(Queue, _stdlib.JoinableQueue):  # type: ignore[misc]
    """A `Queue` that knows how many of its objects are not dealt with yet: `task_done()` and `join()`.

    What is on the queue is what counts: an object whose sender was killed before it was there is not waited for.
    """

    def close(self) -> None:
        """As for `Queue`; `task_done()` and `join()` go on working."""
        if not self._closed:
            arena_fd, handle, event_fd = self._channel.handle()
            self._counter = Channel.attach(os.dup(arena_fd), handle, os.dup(event_fd))
        Queue.close(self)

    def task_done(self) -> None:
        """Say that one object that was taken off the queue has been dealt with.

        Raises ValueError if that was said more often than objects were put.
        """
        if not (self._counter if self._closed else self._channel).task_done():
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        """Wait until `task_done()` has been called for every object that was put."""
        (self._counter if self._closed else self._channel).join()


class SimpleQueue(_Ends, _stdlib.SimpleQueue):  # type: ignore[misc]
    """A queue without limit that has `put`, `get`, `empty` and `close` only. What cannot be pickled raises."""

    _DIRECT = ("get", "empty")

    def __init__(self, *, ctx: Any = None) -> None:
        self._connect(Channel())

    def _connect(self, channel: Channel) -> None:
        self._channel = channel
        self._closed = False
        cls, attributes = type(self), self.__dict__
        for name in SimpleQueue._DIRECT:
            if getattr(cls, name) is getattr(SimpleQueue, name):
                attributes[name] = getattr(channel, name)
        if cls.put is SimpleQueue.put:
            attributes["put"] = channel.send

    def __getstate__(self) -> tuple[Any, ...]:
        _context.assert_spawning(self)
        return _share(self._open())

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._connect(_attach(state))

    def _open(self) -> Channel:
        if self._closed:
            raise OSError("handle is closed")  # what the standard library's raises here
        return self._channel

    def put(self, obj: Any) -> None:
        """Put `obj` on the queue. Raises the pickling error if it cannot be sent, OSError if the queue is closed."""
        self._open().send(obj)

    def get(self) -> Any:
        """Take the oldest object off the queue; wait for one if there is none. Raises OSError if it is closed."""
        return self._open().get()

    def empty(self) -> bool:
        """Is nothing on the queue? Raises OSError if it is closed."""
        return self._open().empty()

    def close(self) -> None:
        """Let this process's hold on the queue go. Messages that were put stay there for the other processes."""
        if self._closed:
            return
        self._closed = True
        for name in (*SimpleQueue._DIRECT, "put"):
            self.__dict__.pop(name, None)
        self._channel.close()
        _launch.forget_ended()

    __class_getitem__ = classmethod(types.GenericAlias)  # type: ignore[assignment]
