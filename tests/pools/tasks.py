"""What the tests let workers do. A module of its own, so that workers of every start method can import it."""

import copy
import os
import signal
import sys
import threading
import time

from tests.support.faults import ErrorAtUnpickle, Unpicklable, UnpicklableError

mark = None


def square(x):
    return x * x


def add(a, b=0):
    return a + b


def append_and_count(values):
    values.append(0)
    return len(values)


def copied(value, _):
    return copy.deepcopy(value)


def kinds(*args, more=None):
    return [type(arg).__name__ for arg in args] + ([] if more is None else [type(more).__name__])


def identity(x):
    return x


def pid(_=None):
    return os.getpid()


def pid_and_nap(seconds):
    time.sleep(seconds)
    return os.getpid()


def nap(seconds):
    time.sleep(seconds)
    return seconds


def pass_gate(path):
    """Returns when there is a file of this name: the test says when."""
    deadline = time.monotonic() + 120
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.005)
    return path


def meet(args):
    """(folder, number): returns when so many processes are in here at a time."""
    folder, number = args
    with open(os.path.join(folder, str(os.getpid())), "w"):
        pass
    deadline = time.monotonic() + 120
    while len(os.listdir(folder)) < number and time.monotonic() < deadline:
        time.sleep(0.005)
    return os.getpid()


class Failing:
    """A callable with state: fails for some items."""

    def __init__(self, *bad):
        self.bad = bad

    def __call__(self, x):
        if x in self.bad:
            raise ValueError(x)
        return x


class Counter:
    """Counts its calls: state that a worker must not keep from chunk to chunk."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _):
        self.calls += 1
        return self.calls

    def method(self, _):
        return self(_)


def append_one(items):
    items.append(1)
    return len(items)


remembered = []


def remember(x):
    """The same list each time, longer by one: results must be taken as they are when the task returns."""
    remembered.append(x)
    return remembered


def set_mark(value):
    global mark
    mark = value


def get_mark(_=None):
    return mark


def pass_mark():
    """Wait for the event that the mark is."""
    return mark.wait(60)


def record(args):
    """Append a line to a file, then return: tells how often a task has run."""
    path, number, seconds = args
    with open(path, "ab", buffering=0) as file:
        file.write(b"%d\n" % number)
    if seconds:
        time.sleep(seconds)
    return number


def die(x, number=signal.SIGKILL):
    os.kill(os.getpid(), number)
    time.sleep(60)


def die_at(args):
    """(item, victim): the worker kills itself at the victim."""
    item, victim = args
    if item == victim:
        die(item)
    return item


def leave(code):
    os._exit(code)


def call_exit(code):
    sys.exit(code)


def raise_it(error):
    raise error


def raise_generator_exit():
    raise GeneratorExit("from a task")


def raise_interrupt():
    raise KeyboardInterrupt("from a task")


class Base(BaseException):
    pass


def raise_base():
    raise Base("neither an Exception nor known to anybody")


def give_unpicklable(_=None):
    return {"deep": [Unpicklable()]}


def give_error_at_unpickle(_=None):
    return [ErrorAtUnpickle()]


def raise_unpicklable_exception(_=None):
    error = ValueError("holds a lock")
    error.lock = threading.Lock()
    error.args = (threading.Lock(),)
    raise error


def raise_unreadable_exception(_=None):
    raise UnpicklableError("first", "second")


def panic(_=None):
    """What a panic of a Rust extension looks like from Python."""

    class PanicException(BaseException):
        pass

    PanicException.__module__ = "pyo3_runtime"
    raise PanicException("called `Option::unwrap()` on a `None` value")


def failing_initializer(path=None):
    if path is not None:
        with open(path, "ab", buffering=0) as file:
            file.write(b"x")
    raise KeyError("the initializer's own error")


def failing_at_gate(path):
    pass_gate(path)
    failing_initializer()


def dying_initializer():
    die(None)


class BadRepr:
    def __reduce__(self):
        raise ValueError("no pickle")

    def __repr__(self):
        raise RuntimeError("no repr")


def give_bad_repr():
    return BadRepr()


def big_sum(args):
    array, number = args
    array[0] += 1  # its own: nobody else may see this
    return float(array[0]), len(array), number


def array_of(n):
    import numpy

    return numpy.full(n, 7.0)


def catches_interrupt(path):
    """Announces itself, then naps until interrupted."""
    try:
        with open(path, "w") as file:
            file.write("ready")
        time.sleep(30)
    except KeyboardInterrupt:
        return "interrupted"
    return "slept"
