"""Helpers of a map that are threads of this process: for work that sleeps, or lets go of the interpreter's lock."""

from __future__ import annotations

import contextvars
import queue
import threading
import time

from ._map_teams import Team

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._map_work import Call

# Set in a thread that is a helper, and in a thread that runs items while it has helpers: maps in these items share.
local = threading.local()


class ThreadTeam(Team):
    """Threads that take chunks from one queue.

    They end with the map. One that is in the middle of an item when the map is broken off ends after that item; nobody
    waits for it.
    """

    kind = "threads"

    def __init__(self, call: Call, source: Any, initializer: Any, initargs: tuple[Any, ...]) -> None:
        self._call = call
        self._source = source
        self._initializer = initializer
        self._initargs = initargs
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self.outstanding = 0
        self._ups = 0

    def awaited(self) -> bool:
        return self._ups < len(self._threads)

    def size(self) -> int:
        return len(self._threads)

    def start(self, count: int) -> int:
        started = 0
        for _ in range(count):
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(self._main,), name="breakeven-map", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                break  # no more threads to be had
            self._threads.append(thread)
            started += 1
        return started

    def send(self, start: int, items: Any, count: int) -> int:
        self.outstanding += 1
        self._tasks.put((start, items))
        return 0

    def take(self) -> tuple[Any, ...] | None:
        try:
            taken = self._tasks.get_nowait()
        except queue.Empty:
            return None
        self.outstanding -= 1
        return taken  # type: ignore[no-any-return]

    def poll(self, timeout: float) -> list[tuple[Any, ...]]:
        results = self._results
        found = []
        try:
            found.append(results.get(True, timeout) if timeout > 0 else results.get_nowait())
            while True:
                found.append(results.get_nowait())
        except queue.Empty:
            pass
        self.outstanding -= sum(1 for event in found if event[0] == "ran")
        self._ups += sum(1 for event in found if event[0] == "up")
        return found

    def finish(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def abort(self) -> None:
        self._stopped = True
        while self.take() is not None:
            pass
        for _ in self._threads:
            self._tasks.put(None)

    def _main(self) -> None:
        local.helper = True
        results = self._results
        try:
            if self._initializer is not None:
                self._initializer(*self._initargs)
        except BaseException as error:
            results.put(("unfit", error))
            return
        results.put(("up",))
        tasks, run, source = self._tasks, self._call.run, self._source
        clock, cpu = time.perf_counter, time.thread_time
        while True:
            task = tasks.get()
            if task is None or self._stopped:
                return
            start, items = task
            if type(items) is int:
                items = source.batch(start, start + items)
            began, used = clock(), cpu()
            values, caught, ended = run(iter(items))
            results.put(("ran", start, values, caught, ended, clock() - began, cpu() - used, 0))
            del task, items, values, caught, ended
