"""Processes of one sample: started together, measured from a common start line, each handing back one dict.

The control (start line, results) is the standard library's and plain pipes for every rival alike, so that it is no
part of what is compared. Only the processes themselves come from the rival's own module where it has one.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Any

Ready = Callable[[], None]
Role = Callable[[Ready], "dict[str, Any]"]

# How long a role may take to come up before the sample counts as failed (seconds).
START_LIMIT = 30.0


class RoleFailed(RuntimeError):
    """A process of the sample raised or died; the text is its own traceback."""


def run_roles(context: Any, *roles: Role) -> list[dict[str, Any]]:
    """Runs each role in a process of its own and returns what they returned, in order.

    A role gets `ready`, which it calls exactly once, when it is set up and about to start: it returns when all are.
    """
    start_line = multiprocessing.get_context("fork").Barrier(len(roles))

    def ready() -> None:
        start_line.wait(START_LIMIT)

    def body(role: Role, out: int) -> None:
        try:
            answer: Any = role(ready)
        except BaseException:
            start_line.abort()
            answer = traceback.format_exc()
        with os.fdopen(out, "wb") as pipe:
            pickle.dump(answer, pipe)

    ends, processes = [], []
    for role in roles:
        reader, writer = os.pipe()
        process = context.Process(target=body, args=(role, writer))
        process.start()
        os.close(writer)
        ends.append(reader)
        processes.append(process)
    answers: list[Any] = []
    for reader in ends:
        with os.fdopen(reader, "rb") as pipe:
            data = pipe.read()
        answers.append(pickle.loads(data) if data else "the process ended without an answer")
    failures = [text for text in answers if isinstance(text, str)]
    if failures:
        # A role that merely found the start line broken hides the one that broke it.
        raise RoleFailed(next((text for text in failures if "BrokenBarrierError" not in text), failures[0]))
    for process in processes:
        process.join()
    return answers
