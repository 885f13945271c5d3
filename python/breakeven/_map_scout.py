"""Looks after the caller of a map while it is in its first item.

Nobody knows how long an item takes before one has run. Where there are few, the others should not wait for that: if the
first is not done after some milliseconds, and the interpreter's lock is free meanwhile, which shows that it sleeps or
computes without it, this thread starts helpers and gives them chunks, as the planner says. It touches the map only
while the caller is inside of its item, and the caller does not go on before it has let go.
"""

from __future__ import annotations

import _thread
import contextvars
import sys
import time

from . import _map_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Scout"]

# When a first item counts as long.
PATIENCE = 0.003
# It is looked so often, with so long between, whether the lock is free.
LOOKS = 3
BETWEEN = 0.0003
# If it is not, it is looked again, after twice the time, up to this.
LONGEST = 0.1


class Scout:
    """For the first batch of one map: made before it, `dismiss`ed after it, whatever became of it.

    Args:
        run: the map (`_map_engine.Run`).
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._caller = _thread.get_ident()
        self._busy = _thread.allocate_lock()  # held while the caller is in its batch
        self._map = _thread.allocate_lock()  # held by whoever of the two may touch the map
        self._over = False
        self._busy.acquire()
        self._sharing = getattr(_map_threads.local, "sharing", 0)
        self.error: BaseException | None = None
        try:
            _thread.start_new_thread(contextvars.copy_context().run, (self._look,))
        except RuntimeError:
            pass  # no more threads to be had

    def dismiss(self) -> None:
        """The batch is over: returns when the scout has let go of the map, if it has it; it ends by itself."""
        self._busy.release()
        interrupt: BaseException | None = None
        while not self._over:
            try:
                with self._map:
                    self._over = True
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt
        if self.error is not None:
            raise self.error

    def _look(self) -> None:
        try:
            self._run.planner.enlist()
            _map_threads.local.sharing = self._sharing
            began = time.perf_counter()
            cpu_clock = time.pthread_getcpuclockid(self._caller)
            cpu = time.clock_gettime(cpu_clock)
            patience = PATIENCE
            while not self._busy.acquire(True, patience):
                if all(self._is_free() for _ in range(LOOKS)):
                    wall, cpu = time.perf_counter() - began, time.clock_gettime(cpu_clock) - cpu
                    with self._map:
                        if not self._over:
                            self._help(wall, cpu)
                    return
                patience = min(2 * patience, LONGEST)
        except BaseException as error:
            self.error = error

    def _is_free(self) -> bool:
        """Whether the interpreter's lock is there when it is wanted: if another thread holds it, it lets go of it only
        after the switch interval."""
        began = time.perf_counter()
        time.sleep(BETWEEN)
        return time.perf_counter() - began < BETWEEN + 0.4 * sys.getswitchinterval()

    def _help(self, wall: float, cpu: float) -> None:
        run = self._run
        run.planner.long(wall, cpu)
        while True:
            command = run.planner.meanwhile(time.perf_counter())
            if command is None:
                return
            if command[0] == "start":
                run._start(command[1], command[2])
            elif command[0] == "send":
                run._send(command[1], command[2])
            else:
                return
            if self._busy.acquire(False):  # the caller waits
                return
