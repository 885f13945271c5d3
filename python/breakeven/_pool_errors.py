"""What can go wrong with a task, as exceptions that say so.

Errors that the standard library already has a name for keep that name (``RemoteTraceback``, ``MaybeEncodingError``), so
that an ``except`` clause written for it works here too. The others exist because the standard pool has no answer: it
hangs.
"""

from __future__ import annotations

import pickle
import signal as _signal
import threading

# What is needed only when something has gone wrong is imported then: `multiprocessing.pool`, for one, costs as much as
# starting a pool.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.pool import MaybeEncodingError, RemoteTraceback  # type: ignore[attr-defined]
    from typing import Any

__all__ = [
    "MaybeEncodingError",
    "PoolTerminated",
    "RemoteTraceback",
    "TaskAborted",
    "TaskError",
    "TaskPanicked",
    "UnreadableError",
    "WorkerDied",
]


def _stdlib(name: str) -> Any:
    """An exception class of the standard library's pool."""
    from multiprocessing import pool

    return getattr(pool, name)


def __getattr__(name: str) -> Any:
    if name in ("MaybeEncodingError", "RemoteTraceback"):
        return _stdlib(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class TaskError(RuntimeError):
    """Base of the errors that breakeven itself raises about a task."""


class WorkerDied(TaskError):
    """A worker process ended in the middle of a task; the task has no result and was not tried again.

    Attributes:
        task: index of the task within its call (for a chunk: of its first item), or None where there is no index.
        pid: process id of the worker.
        exitcode: its exit code as ``Process.exitcode`` gives it (negative: killed by that signal).
        signal: number of the signal that killed it, or None.
        peak_memory: largest resident memory of the worker in bytes, or None where it is not known.
    """

    def __init__(self, task=None, pid=None, exitcode=None, peak_memory=None, where="running"):
        super().__init__(task, pid, exitcode, peak_memory, where)
        self.task = task
        self.pid = pid
        self.exitcode = exitcode
        self.signal = -exitcode if exitcode is not None and exitcode < 0 else None
        self.peak_memory = peak_memory
        self.where = where

    def __str__(self):
        if self.signal is not None:
            try:
                how = f"was killed by {_signal.Signals(self.signal).name} ({self.signal})"
            except ValueError:
                how = f"was killed by signal {self.signal}"
        elif self.exitcode is None:
            how = "disappeared"
        else:
            how = f"ended with exit code {self.exitcode}"
        task = "" if self.task is None else f" task {self.task}"
        memory = ""
        if self.peak_memory is not None:
            memory = f"; its peak memory was {self.peak_memory / 1e6:.1f} MB"
        hint = ""
        if self.signal == _signal.SIGKILL:
            hint = " (SIGKILL without anybody sending it is usually the kernel's out-of-memory killer)"
        return f"worker {self.pid} {how} while {self.where}{task}{memory}{hint}"


class TaskAborted(TaskError):
    """A task raised something that is not an ``Exception``: ``SystemExit``, ``KeyboardInterrupt``, ``GeneratorExit``...

    Raising that very object at the caller would end the caller, so it comes wrapped; ``exception`` holds it.
    """

    def __init__(self, message, exception=None):
        super().__init__(message, exception)
        self.exception = exception

    def __str__(self):
        return self.args[0]


def unsent(error):
    """The error for a task that could not be pickled: `error`, wrapped if raising it would end the caller."""
    if isinstance(error, Exception):
        return error
    said = TaskAborted(f"pickling the task raised {error!r}, which ends only the task here", error)
    said.__cause__ = error
    return said


class TaskPanicked(TaskError):
    """Native (Rust) code that a task called panicked; the message holds what it said."""


class UnreadableError(TaskError):
    """A result or an exception arrived, but unpickling it here failed; the message holds its text and the reason."""


class PoolTerminated(TaskError):
    """The pool was terminated before this task had finished."""


# --- how an exception travels ---------------------------------------------------------------------------------------
#
# As a tuple of plain values: (pickle or None, remote traceback or None, kind, text, reason). The exception itself is a
# pickle inside, so that one which does not unpickle cannot make the message that carries it unreadable.

ORDINARY, ABORTED, PANICKED, AS_IS, UNREAD = range(5)


class Family:
    """Which classes the errors have that breakeven raises: a pool's and an executor's callers know different ones."""

    def __init__(self, died, unreadable, remote):
        """
        Args:
            died: for the tasks of a dead worker; see `WorkerDied`.
            unreadable: for what does not unpickle; see `UnreadableError`.
            remote: for the text of a traceback in another process.
        """
        self.died = died
        self.unreadable = unreadable
        self.remote = remote


def _text(value, limit=2000):
    """repr() of anything, whatever its ``__repr__`` does."""
    try:
        text = repr(value)
    except BaseException as error:  # a broken __repr__ must not hide the error that we report
        return f"<{type(value).__name__} object whose repr raised {type(error).__name__}>"
    return text if len(text) <= limit else text[:limit] + "..."


def _remote_text(error, skip):
    trace = error.__traceback__
    for _ in range(skip):
        if trace is None or trace.tb_next is None:
            break
        trace = trace.tb_next
    import traceback

    try:
        lines = traceback.format_exception(type(error), error, trace)
    except BaseException as failure:  # an exception whose __str__ raises
        lines = [f"{type(error).__qualname__} (formatting it raised {type(failure).__name__})\n"]
    return '\n"""\n' + "".join(lines) + '"""'


def pack_error(error, dumps, *, skip=1, as_is=False, unread=False):
    """Turn an exception into plain values.

    Args:
        error: the exception, with its traceback.
        dumps: function that pickles one object to bytes.
        skip: how many of the outermost traceback entries are ours and not the user's.
        as_is: send back even ``SystemExit`` and the like unwrapped (what an executor's contract asks for).
        unread: it comes from unpickling the task, not from the task.
    """
    trace = _remote_text(error, skip)
    name = type(error).__module__ + "." + type(error).__qualname__
    if name.startswith("pyo3_runtime."):
        # PanicException cannot be pickled at all: its module does not exist for import.
        return (None, trace, PANICKED, str(error), "")
    kind = UNREAD if unread else ORDINARY if isinstance(error, Exception) else (AS_IS if as_is else ABORTED)
    try:
        return (dumps(error), trace, kind, _text(error), "")
    except BaseException as failure:  # __reduce__ is the user's code
        return (None, trace, kind, _text(error), _text(failure))


def may_be_the_users(error):
    """Has this error come from outside, by Ctrl-C or a signal's handler, and not from what was being done?"""
    if threading.current_thread() is not threading.main_thread():
        return False
    if isinstance(error, KeyboardInterrupt):
        return True
    handlers = set()
    for number in _signal.valid_signals():
        handler: Any = _signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # functools.partial
        if not hasattr(handler, "__code__") and callable(handler):
            handler = type(handler).__call__
        handlers.add(getattr(handler, "__code__", None))
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


# The pickle whose reading was broken off last.
_broken_off: Any = None


def breaks_off(error, data, again):
    """Shall this error of reading `data` be raised as it is? See `_pool_wire.loads`."""
    global _broken_off
    if again or not may_be_the_users(error):
        return False
    if _broken_off is data:
        _broken_off = None
        return False  # it was not the user's: unpickling this raises it each time
    _broken_off = data
    return True


def unpack_error(packed, family=None, again=False):
    """The exception to raise here for a packed one. Raises nothing but the user's KeyboardInterrupt, if not `again`."""
    family = family or POOL
    data, trace, kind, text, reason = packed
    error: Any
    if kind == PANICKED:
        error = TaskPanicked(f"native code panicked in a task: {text}")
    elif data is None:
        error = _stdlib("MaybeEncodingError")(_Said(reason), _Said(text))
    else:
        try:
            error = pickle.loads(data)
            if not isinstance(error, BaseException):
                raise TypeError(f"unpickling it gave {type(error).__name__}, not an exception")
        except BaseException as failure:  # __setstate__ and __init__ are the user's code
            if breaks_off(failure, data, again):
                raise
            error = family.unreadable(
                f"the task raised {text}, but this exception cannot be unpickled here: {_text(failure)}. "
                "Give its class an __init__ that accepts self.args, or a __reduce__."
            )
    if kind == ABORTED:
        said = error if not isinstance(error, TaskError) else None
        error = TaskAborted(f"the task raised {text}, which ends only the task here", said)
    elif kind == UNREAD:
        said = family.unreadable(f"the arguments of this task could not be unpickled in the worker: {text}")
        said.__context__ = error
        error = said
    if trace is not None:
        error.__cause__ = family.remote(trace)
    return error


POOL = Family(WorkerDied, UnreadableError, lambda text: _stdlib("RemoteTraceback")(text))


class _Said:
    """Text that is its own repr: MaybeEncodingError takes the repr of what it is given."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def encoding_error(failure, value):
    """The error for a result that could not be pickled."""
    return _stdlib("MaybeEncodingError")(_Said(_text(failure)), _Said(_text(value)))
