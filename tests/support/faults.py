"""Objects and functions named for what goes wrong with them, and the table of all faults: fault x place.

A *fault* is one of `FAULTS`; `strike(fault)` lets it happen, here and now. A *place* is where that is: objects strike
when they are pickled, unpickled or collected, functions when they run. Whether that is in a worker or in the parent
depends on which way the object travels: an `AtUnpickle` that is an argument strikes in the worker, one that is a result
(`give(AtUnpickle, fault)`) in the parent.

`hang` lasts until somebody calls `release()` in that process, so that a test can also end one in its own process.
"""

import ctypes
import faulthandler
import gc
import os
import resource
import signal
import sys
import threading

EXIT_CODE = 41

# What may happen, and whether the process that it happens in lives on.
CRASHES = ("killed", "aborted", "segfault")  # a signal ends the process
EXITS = ("os._exit",)  # the process ends by itself, without a signal
ERRORS = ("error", "sys.exit", "interrupt", "base")  # an exception, of the ordinary kind or not
HANGS = ("hang", "stopped")  # the process lives, and nothing happens any more
FATAL = CRASHES + EXITS
FAULTS = FATAL + ERRORS + HANGS


class Fault(Exception):
    """The ordinary exception of the fault 'error'."""


class BaseFault(BaseException):
    """The exception of the fault 'base': not an Exception, and known to nobody."""


# The exceptions of ERRORS, by fault.
RAISED = {"error": Fault, "sys.exit": SystemExit, "interrupt": KeyboardInterrupt, "base": BaseFault}

# The exit codes that the faults of FATAL give a process, as Process.exitcode has them.
EXIT_CODES = {
    "killed": -signal.SIGKILL,
    "aborted": -signal.SIGABRT,
    "segfault": -signal.SIGSEGV,
    "os._exit": EXIT_CODE,
}

_released = threading.Event()


def release():
    """End the hangs of this process."""
    _released.set()


def hold():
    """Hangs last again."""
    _released.clear()


def strike(fault):
    """Let a fault happen. Raises, ends the process, or does not return for a long time."""
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "aborted":
        _quietly()
        os.abort()
    elif fault == "segfault":
        _quietly()
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "os._exit":
        os._exit(EXIT_CODE)
    elif fault == "error":
        raise Fault("struck")
    elif fault == "sys.exit":
        sys.exit(EXIT_CODE)
    elif fault == "interrupt":
        raise KeyboardInterrupt("struck")
    elif fault == "base":
        raise BaseFault("struck")
    elif fault == "hang":
        _released.wait()
    elif fault == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault is not None:
        raise ValueError(f"no such fault: {fault!r}")


def _quietly():
    """No core file, and no report of faulthandler's, which would only confuse the log."""
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


# --- objects, by the place at which they strike ---


class AtPickle:
    """Strikes in the process that pickles it."""

    def __init__(self, fault):
        self.fault = fault

    def __reduce__(self):
        strike(self.fault)
        return AtPickle, (None,)  # after a hang that was released


class AtUnpickle:
    """Strikes in the process that unpickles it."""

    def __init__(self, fault):
        self.fault = fault

    def __reduce__(self):
        return _unpickled, (self.fault,)


def _unpickled(fault):
    strike(fault)
    return AtUnpickle(None)


class AtCollection:
    """Strikes in the process that it was sent to, when the last reference to it goes or the collector takes its cycle.

    Not in the process that made it, nor in forks of either.
    """

    def __init__(self, fault, cycle=False):
        self.fault = fault
        self.cycle = self if cycle else None
        self.armed = None

    def arm(self):
        """Strike in this process."""
        self.armed = os.getpid()
        return self

    def __reduce__(self):
        return _collectable, (self.fault, self.cycle is not None)

    def __del__(self):
        if os.getpid() == self.armed:
            strike(self.fault)


def _collectable(fault, cycle):
    return AtCollection(fault, cycle).arm()


# --- tasks ---


def run(fault):
    """A task that strikes while it runs."""
    strike(fault)
    return fault


def give(kind, fault):
    """A task whose result is an `AtPickle` (strikes in the worker) or an `AtUnpickle` (strikes in the parent)."""
    return kind(fault)


def throw(kind, fault):
    """A task that raises an exception which holds such an object."""
    raise Fault(kind(fault))


def take(argument):
    """A task that drops its argument, and has everything collected that can be."""
    del argument
    gc.collect()
    return "taken"


def initialize(fault, once=None):
    """An initializer that strikes: in every worker, or only in the first one that makes the file `once`."""
    if once is not None:
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    strike(fault)


def without_the_gil(seconds=3600):
    """A task in native code that never lets go of the interpreter lock: no Python signal handler can run."""
    ctypes.PyDLL(None).sleep(seconds)


# --- the single faults that older tests name ---


class ErrorAtPickle:
    def __reduce__(self):
        raise AttributeError("refuses to be pickled")


class ErrorAtUnpickle:
    def __reduce__(self):
        return _raise, (RuntimeError, "refuses to be unpickled")


class ExitAtUnpickle:
    def __reduce__(self):
        return _raise, (SystemExit, "exits when unpickled")


class KilledAtPickle:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)


class KilledAtUnpickle:
    def __reduce__(self):
        return _kill_self, ()


class Unpicklable:
    """Holds a lock a few levels down: the error should say where."""

    def __init__(self):
        self.callbacks = [1, 2, {"guard": threading.Lock()}]


class UnpicklableError(Exception):
    """An exception whose arguments do not fit its constructor, the classic that cannot be unpickled."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


def _raise(kind, message):
    raise kind(message)


def _kill_self():
    os.kill(os.getpid(), signal.SIGKILL)
