"""Importable classes and functions that the codec tests send."""

import enum
import gc
import threading
from collections import namedtuple
from dataclasses import dataclass, field


class IntSubclass(int):
    pass


class StrSubclass(str):
    pass


class ListSubclass(list):
    pass


class TupleSubclass(tuple):
    pass


class DictSubclass(dict):
    pass


class FloatSubclass(float):
    pass


Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Node:
    name: str
    children: list = field(default_factory=list)
    payload: object = None


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a = a
        self.b = b

    def __eq__(self, other):
        return (self.a, self.b) == (other.a, other.b)


class Lock:
    """Has something in it that nothing can pickle."""

    def __init__(self):
        self.callbacks = [1, 2, threading.Lock()]


class RaisesInReduce:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


class RaisesInSetstate:
    def __setstate__(self, state):
        raise RuntimeError("setstate refused")

    def __getstate__(self):
        return {"x": 1}


class Registered:
    """Pickled by a reducer that the test registers with multiprocessing."""

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        raise AssertionError("the registered reducer must be used")


def make_registered(value):
    made = Registered(value)
    made.through_reducer = True
    return made


def reduce_registered(obj):
    return make_registered, (obj.value,)


def module_level(x):
    return x + 1


class PutsWhilePickled:
    """Uses a channel from inside pickling."""

    channel = None

    def __getstate__(self):
        if PutsWhilePickled.channel is not None:
            PutsWhilePickled.channel.put([{"inner"}, object])
        return {"outer": True}


class CollectorState:
    """Arrives as what `gc.isenabled()` says while the pickle is read."""

    def __reduce__(self):
        return gc.isenabled, ()


class FailsToUnpickle:
    def __reduce__(self):
        return divmod, (1, 0)
