"""The error of a task that ran for longer than it may.

Apart from the other errors: its base class comes from `concurrent.futures` before CPython 3.11, which brings `logging`
with it, and nobody who does not set time limits needs that.
"""

from __future__ import annotations

from concurrent.futures import TimeoutError as _FuturesTimeout

from ._pool_errors import TaskError

__all__ = ["TaskTimeout"]

# One and the same from CPython 3.11 on.
_TIMEOUTS = tuple(dict.fromkeys((_FuturesTimeout, TimeoutError)))


class TaskTimeout(TaskError, *_TIMEOUTS):  # type: ignore[misc]
    """A task ran for longer than it may, and was stopped: its worker was killed and replaced.

    Attributes:
        task: the call as text, or its index within its call of `map`.
        limit: the seconds that it was given.
        pid: process id of the worker.
    """

    def __init__(self, task=None, limit=None, pid=None):
        super().__init__(task, limit, pid)
        self.task = task
        self.limit = limit
        self.pid = pid

    def __str__(self):
        return f"task {self.task} ran for longer than the {self.limit:g} s that it was given, and was stopped"
