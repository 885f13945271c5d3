"""`multiprocessing.connection`, with a `Pipe` whose large messages go through shared memory.

Everything but `Pipe` is the standard library's own: `Connection`, `Listener`, `Client`, `wait`.

The two ends of a `Pipe` are connections of the standard library in all respects: descriptors, `poll`, order, end of
file and broken pipes, bytes. What changes is the way of a message of 32 KiB or more. It is put into the tree's shared
memory, and a note of some hundred bytes goes through the pipe in its place; arrays arrive as the receiver's own,
writable views on the very block that the sender filled. Up to eight such messages are under way in one direction; then
`send` waits for the reader, as it waits for room in the pipe otherwise.

A large message goes through the pipe after all, as the standard library would send it,

- if the reading end may be read by something else than these connections: its `fileno()` was given to other code than
  `select`-like modules of the standard library, and nobody has called `recv` on it since; or it was sent, other than as
  an argument of a `Process`, to a process that has not unpickled it yet, or that is not of this tree of processes;
- if shared memory is at its limit: the pipe then makes the sender wait for the reader, as it always does;
- for `send_bytes`, if such other code was ever given the reading end's `fileno()`.
"""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing import connection as _stdlib
from multiprocessing import context as _context
from multiprocessing import reduction
from multiprocessing.connection import Client, Listener, wait

from ._native import PipeEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Client", "Listener", "Pipe", "wait"]

# Modules that ask for a descriptor in order to wait on it.
_WAITERS = frozenset({"selectors", "multiprocessing.connection", "asyncio.selector_events"})

# What `_launch` calls `forget_ended`, once an end was handed to a child: with the launch goes what was kept for it.
_forget_ended_launches: Callable[[], None] | None = None


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_stdlib, name)


class ArenaConnection(_stdlib.Connection):
    """One end of a `Pipe`. A `multiprocessing.connection.Connection`, whose methods it has."""

    _end: PipeEnd | None = None  # None: as the standard library's
    _handle: int
    _readable: bool
    _writable: bool

    def __init__(self, handle: int, readable: bool = True, writable: bool = True, _end: PipeEnd | None = None) -> None:
        super().__init__(handle, readable, writable)
        self._end = _end

    def _close(self, _close: Callable[[int], None] = os.close) -> None:
        self._end = None
        if _forget_ended_launches is not None:
            _forget_ended_launches()
        _close(self._handle)

    def fileno(self) -> int:
        """The descriptor. Asking for it is taken as a sign that other code may read from it; see the module."""
        self._check_closed()  # type: ignore[attr-defined]
        end = self._end
        if end is not None and sys._getframe(1).f_globals.get("__name__") not in _WAITERS:
            end.doubt()
        return self._handle

    def send(self, obj: Any) -> None:
        """Send a (picklable) object."""
        end = self._end
        if end is None or not self._writable or not end.send(self._handle, obj):
            super().send(obj)

    def recv(self) -> Any:
        """Receive an object; wait for one. Raises EOFError if there is none and the other end is closed."""
        end = self._end
        if end is None or not self._readable:
            return super().recv()
        return end.recv(self._handle)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive a message of bytes. Raises OSError if it is longer than `maxlength`, EOFError as `recv` does."""
        end = self._end
        if end is None or not self._readable or maxlength is not None:
            return super().recv_bytes(maxlength)
        return end.recv_bytes(self._handle)  # type: ignore[return-value]  # never None without a limit

    # What the inherited methods do their work with.

    def _send_bytes(self, buf: Any) -> None:
        end = self._end
        if end is None or not end.send_bytes(self._handle, buf):
            super()._send_bytes(buf)  # type: ignore[misc]

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO | None:
        end = self._end
        if end is None:
            return super()._recv_bytes(maxsize)  # type: ignore[misc,no-any-return]
        content = end.recv_bytes(self._handle, maxsize)
        if content is None:
            return None
        file = io.BytesIO(content)
        file.seek(0, os.SEEK_END)  # where the inherited methods expect it
        return file


def Pipe(duplex: bool = True) -> tuple[_stdlib.Connection, _stdlib.Connection]:
    """Two connected ends. Without `duplex` the first one can only receive and the second one only send."""
    first: PipeEnd | None
    second: PipeEnd | None
    try:
        first, second = PipeEnd.pair(duplex, os.urandom(16))
    except (MemoryError, OSError):
        first = second = None  # no room for even a pipe's shared half: it does without
    if duplex:
        ours, theirs = socket.socketpair()
        ours.setblocking(True)
        theirs.setblocking(True)
        return ArenaConnection(ours.detach(), _end=first), ArenaConnection(theirs.detach(), _end=second)
    reader, writer = os.pipe()
    return ArenaConnection(reader, writable=False, _end=first), ArenaConnection(writer, readable=False, _end=second)


def _reduce(connection: ArenaConnection) -> tuple[Any, ...]:
    connection._check_closed()  # type: ignore[attr-defined]
    end = connection._end
    duplicate = reduction.DupFd(connection._handle)
    ends = (connection.readable, connection.writable)
    popen = _context.get_spawning_popen()
    if end is None:
        return _rebuild, (duplicate, *ends, None, None)
    if popen is None:
        # To whoever reads it: maybe none of this tree, who cannot take messages from its memory.
        name = end.lend()
        end.depart()
        return _rebuild, (duplicate, *ends, name, None)
    from . import _launch

    global _forget_ended_launches
    _forget_ended_launches = _launch.forget_ended
    name = end.name()
    # As with queues: this process may close its end before the child has opened its own.
    _launch.keep(("pipe", name), end.copy())
    return _rebuild, (duplicate, *ends, name, _launch.SharedFd.for_child(end.arena_fd))


def _rebuild(duplicate: Any, readable: bool, writable: bool, name: Any, arena_fd: Any) -> _stdlib.Connection:
    handle = duplicate.detach()
    try:
        end = None if name is None else PipeEnd.attach(None if arena_fd is None else arena_fd.take(), name)
    except BaseException:
        os.close(handle)
        raise
    if end is None:
        return _stdlib.Connection(handle, readable, writable)
    if arena_fd is None:
        end.arrive()
    return ArenaConnection(handle, readable, writable, end)


reduction.register(ArenaConnection, _reduce)
