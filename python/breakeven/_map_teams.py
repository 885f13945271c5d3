"""What a map asks of its helpers, and helpers that are an executor of the user's.

`Team` is the seam for other places where items can run: a cluster's client, for example, becomes a backend by one such
class. `_map_threads.ThreadTeam` and `_map_helpers.ProcessTeam` are the others.
"""

from __future__ import annotations

import queue
import time

from . import _pool_errors as errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._map_work import Call


class Team:
    """Helpers of one kind, for one map at a time. Used by the thread that runs the map, and by no other.

    Attributes:
        kind: what they are to the planner: "threads" are handed objects as they are; "fork" have the items already;
            "warm" get everything by message.
        outstanding: how many chunks have been sent of which no outcome has been reported.
    """

    kind: str
    outstanding: int

    def start(self, count: int) -> int:
        """Order so many helpers without waiting for them; returns how many there will be. `poll` tells of each that is
        ready."""
        raise NotImplementedError

    def size(self) -> int:
        """How many helpers there are, ready or on their way."""
        raise NotImplementedError

    def awaited(self) -> bool:
        """Is a helper on its way of whom `poll` will tell?"""
        return False

    def send(self, start: int, items: Any, count: int) -> int:
        """Give out the chunk of `count` items that begins at place `start`; returns the bytes that this takes.

        `items` are the items (any iterable with a length); None for helpers that have them already. Raises why they
        cannot be sent; then nothing was.
        """
        raise NotImplementedError

    def take(self) -> tuple[Any, ...] | None:
        """A chunk that nobody has begun, back from where it waits: a tuple that begins with its place; None if none."""
        return None

    def poll(self, timeout: float) -> list[tuple[Any, ...]]:
        """What has happened since, after waiting at most so many seconds for the first of it:

        ("up",)                                                       a helper is ready
        ("gone", was it ready, death)                                 a helper is no more
        ("unfit", exception)                                          a helper's initializer has failed
        ("ran", start, results, caught, ended, wall, cpu, bytes)      a chunk's outcome; see `Call.run`
        ("unread", start, exception)                                  a chunk that did not unpickle there; not begun
        ("unbegun", start)                                            a chunk whose helper died before it began
        ("lost", start, begun, death)                                 a chunk whose helper died at the begun-th item

        `death` is called as death(index of the item) and gives the exception for it.
        """
        raise NotImplementedError

    def look(self) -> list[tuple[Any, ...]]:
        """As `poll`, for what only shows when one looks: called now and then, also while nobody waits."""
        return []

    def finish(self) -> None:
        """The map has all its results."""

    def abort(self) -> None:
        """The map is broken off: stop what can be stopped, and wait for nothing."""


def run_sealed(call: bytes, items: Any) -> Any:
    """Run a chunk in another process; the exceptions are packed, so that they arrive with their tracebacks."""
    import pickle

    from ._map_helpers import seal

    values, caught, ended, wall, cpu = run_here(pickle.loads(call), items)
    packed = [(index, errors.pack_error(error, seal, skip=1, as_is=True)) for index, error in caught]
    if ended is not None:
        ended = ended[0], errors.pack_error(ended[1], seal, skip=1, as_is=True)
    return values, packed, ended, wall, cpu


def run_here(call: Call, items: Any) -> Any:
    """Run a chunk in this process."""
    began, used = time.perf_counter(), time.thread_time()
    values, caught, ended = call.run(iter(items))
    return values, caught, ended, time.perf_counter() - began, time.thread_time() - used


class ExecutorTeam(Team):
    """The workers of a `concurrent.futures` executor of the user's; it stays his."""

    def __init__(self, executor: Any, workers: int, call: Call, source: Any) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._executor = executor
        self._workers = workers
        self._call = call
        self._source = source
        self._local = isinstance(executor, ThreadPoolExecutor)
        self.kind = "threads" if self._local else "warm"
        self._started = 0
        self._futures: dict[Any, int] = {}
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sealed: bytes | None = None

    @property
    def outstanding(self) -> int:  # type: ignore[override]
        return len(self._futures)

    def start(self, count: int) -> int:
        count = min(count, self._workers - self._started)
        self._started += count
        for _ in range(count):
            self._done.put(None)
        return count

    def size(self) -> int:
        return self._started

    def send(self, start: int, items: Any, count: int) -> int:
        if type(items) is int:
            items = self._source.batch(start, start + items)
        if self._local:
            future = self._executor.submit(run_here, self._call, items)
        else:
            from ._map_helpers import seal

            if self._sealed is None:
                self._sealed = seal(self._call)
            seal(items)  # what cannot be sent shows here, and not later in a thread of the executor's
            future = self._executor.submit(run_sealed, self._sealed, items)
        self._futures[future] = start
        future.add_done_callback(self._done.put)
        return 0

    def take(self) -> tuple[Any, ...] | None:
        for future in reversed(self._futures):
            if future.cancel():
                return (self._futures.pop(future),)
        return None

    def poll(self, timeout: float) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        try:
            self._outcome(self._done.get(timeout > 0, timeout if timeout > 0 else None), found)
            while True:
                self._outcome(self._done.get_nowait(), found)
        except queue.Empty:
            return found

    def _outcome(self, future: Any, found: list[tuple[Any, ...]]) -> None:
        if future is None:
            found.append(("up",))
            return
        start = self._futures.pop(future, None)
        if start is None:
            return  # taken back
        error = future.exception()
        if error is not None:
            found.append(("ran", start, None, [], (0, error), 0.0, 0.0, 0))
            return
        values, caught, ended, wall, cpu = future.result()
        if not self._local:
            caught = [(index, errors.unpack_error(packed)) for index, packed in caught]
            if ended is not None:
                ended = ended[0], errors.unpack_error(ended[1])
        found.append(("ran", start, values, caught, ended, wall, cpu, 0))

    def abort(self) -> None:
        while self.take() is not None:
            pass
