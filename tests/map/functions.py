"""What the tests map over items."""

import os
import signal
import sys
import threading
import time

CALLER = os.getpid()


def square(x):
    return x * x


def add(x, y):
    return x + y


def kind_of(x):
    return type(x).__name__, repr(x)


def where(_):
    """The process and the thread that ran this."""
    return os.getpid(), threading.get_ident()


def odd_fails(x):
    if x % 2:
        raise ValueError(f"odd: {x}")
    return x


def fails_from_50(x):
    if x >= 50:
        raise KeyError(x)
    return x


def exits_at_50(x):
    if x == 50:
        sys.exit(7)
    return x


def interrupts_at_50(x):
    if x == 50:
        raise GeneratorExit
    return x


def killed_at_50(x):
    if x == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def ends_at_50(x):
    if x == 50:
        os._exit(9)
    return x


class Unsendable(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, one, two):
        super().__init__(one)


def unsendable_error_at_50(x):
    if x == 50:
        raise Unsendable(1, 2)
    return x


def lock_at_50(x):
    return threading.Lock() if x == 50 else x


def sleeps_long(x):
    time.sleep(600)
    return x


class Argument:
    """An argument that cannot be pickled if its value is 50."""

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        if self.value == 50:
            raise RuntimeError("this one does not pickle")
        return type(self), (self.value,)


class Arrival(Argument):
    """An argument that cannot be unpickled if its value is 50."""

    def __reduce__(self):
        return _arrive, (self.value,)


def _arrive(value):
    if value == 50:
        raise RuntimeError("this one does not unpickle")
    return Arrival(value)


def value_of(argument):
    return argument.value


def tries(argument):
    """Fails until it has been called `times` times; the calls are counted in a file."""
    path, times = argument
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < times:
        raise OSError(f"try {os.path.getsize(path)}")
    return os.path.getsize(path)


def dies_once(path):
    """Kills its process when called for the first time."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "lived"
    os.kill(os.getpid(), signal.SIGKILL)


state = None


def set_state(value):
    global state
    state = value


def get_state(_):
    return state


def initializer_fails():
    raise RuntimeError("no such device")


def inner_map(x):
    import breakeven

    return sum(breakeven.map(square, range(x)))
