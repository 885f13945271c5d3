"""Objects named for what goes wrong with them."""

import os
import signal
import threading


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
