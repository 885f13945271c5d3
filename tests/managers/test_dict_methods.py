"""Each method of a shared dict against the same operation on a plain one: result, error, what the dict then holds."""

import copy
import datetime
import decimal
import enum
import fractions
import random
from collections import namedtuple

import breakeven
import pytest

np = pytest.importorskip("numpy")

Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    """Text that is equal to what is equal to it in small letters."""

    def __eq__(self, other):
        return self.lower() == other.lower()

    def __hash__(self):
        return hash(self.lower())


START = {"one": 1, 2: "two", None: [3], (4, "four"): 4.0, b"five": {5: 5}, 6.5: "x" * 400, "long " * 300: "key"}


@pytest.fixture
def manager():
    with breakeven.Manager() as manager:
        yield manager


def outcome(operation, target):
    try:
        return operation(target)
    except Exception as error:
        return type(error), str(error)


OPERATIONS = {
    "len": len,
    "str": str,
    "bool": bool,
    "list": list,
    "dict": lambda d: dict(d),
    "get": lambda d: d["one"],
    "get what is not there": lambda d: d["two"],
    "get by an equal number": lambda d: (d[2.0], d[6.5]),
    "get by an equal tuple": lambda d: d[4.0, "four"],
    "get by a long key": lambda d: d["long " * 300],
    "get unhashable": lambda d: d[[1]],
    "get or": lambda d: (d.get("one"), d.get("two"), d.get("two", 2), d.get(b"five", 0)),
    "contains": lambda d: ("one" in d, "two" in d, 2 in d, True in d, None in d, b"one" in d),
    "contains unhashable": lambda d: {} in d,
    "keys": lambda d: list(d.keys()),
    "values": lambda d: list(d.values()),
    "items": lambda d: list(d.items()),
    "copy": lambda d: d.copy(),
    "set": lambda d: d.__setitem__("one", 11),
    "set new": lambda d: d.__setitem__("new", [1, 2]),
    "set by an equal number": lambda d: d.__setitem__(2.0, "the key stays 2"),
    "set unhashable": lambda d: d.__setitem__([], 1),
    "set longer": lambda d: d.__setitem__("one", "y" * 5000),
    "delete": lambda d: d.__delitem__("one"),
    "delete what is not there": lambda d: d.__delitem__("two"),
    "delete twice": lambda d: [d.__delitem__(None), d.__delitem__(None)],
    "pop": lambda d: d.pop("one"),
    "pop what is not there": lambda d: d.pop(("two", 2)),
    "pop or": lambda d: (d.pop("two", 5), d.pop("one", 5)),
    "popitem": lambda d: [d.popitem() for _ in range(2)],
    "popitem from nothing": lambda d: (d.clear(), d.popitem()),
    "setdefault": lambda d: (d.setdefault("one", 5), d.setdefault("two", 5), d.setdefault("three")),
    "update": lambda d: d.update({"one": 10, "new": 20, 2: 30}),
    "update with new ones": lambda d: d.update({n: str(n) for n in range(100, 130)}),
    "update by pairs and names": lambda d: d.update([("one", 10), ("new", 1), ("new", 2)], one=12, more=3),
    "update with nothing": lambda d: d.update(),
    "update with what has no length": lambda d: d.update(5),
    "update with two": lambda d: d.update({}, {}),
    "update with an unhashable": lambda d: d.update([([], 1)]),
    "clear": lambda d: d.clear(),
    "clear and go on": lambda d: (d.clear(), d.__setitem__("a", 1), d["a"]),
    "delete and set again": lambda d: (d.pop("one"), d.__setitem__("one", "last now")),
    "remove while iterating": lambda d: [d.pop(key) for key in d],
    "add while iterating": lambda d: [d.__setitem__(key + 1, 0) for key in d if isinstance(key, int)],
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("start", [START, {}], ids=["full", "empty"])
def test_operation(manager, name, start):
    plain, shared = copy.deepcopy(start), manager.dict(copy.deepcopy(start))
    said = outcome(OPERATIONS[name], shared)
    wanted = outcome(OPERATIONS[name], plain)
    if isinstance(wanted, tuple) and wanted and wanted[0] is TypeError:
        assert said[0] is TypeError
    else:
        assert said == wanted
    assert list(shared.items()) == list(plain.items()), "in the same order"


SAME = [
    [1, 1.0, True, np.int64(1), np.float64(1), decimal.Decimal(1), fractions.Fraction(1), Number.ONE, 1 + 0j],
    ["text", np.str_("text")],
    [(1, 2), (1.0, 2), (True, fractions.Fraction(2)), Point(1, 2)],
    [Colour.RED],
    [datetime.date(2024, 2, 29)],
    [frozenset([1, 2]), frozenset([2, 1])],
    [(Colour.RED, 1), (Colour.RED, 1.0)],
    [2**80, float(2**80), decimal.Decimal(2**80)],
    [b"bytes"],
    ["\ud800 is no text in UTF-8"],
    [Text("Words"), Text("WORDS")],
    ["ü" * 2000],
    [()],
    [..., Ellipsis],
    [int],
]


@pytest.mark.parametrize("same", SAME, ids=lambda same: repr(same[0])[:20])
def test_equal_keys_are_one(manager, same):
    shared = manager.dict({others[0]: "another" for others in SAME if others is not same})
    size = len(shared)
    for n, key in enumerate(same):
        assert (key in shared) == (n > 0)
        shared[key] = n
    assert len(shared) == size + 1
    for key in same:
        assert shared[key] == len(same) - 1
    [stored] = [key for key in shared.keys() if shared[key] != "another"]
    assert type(stored) is type(same[0]), "the first one stays"
    shared.update({same[-1]: "updated"})
    assert shared[same[0]] == "updated" and len(shared) == size + 1
    assert shared.pop(same[-1]) == "updated"
    assert same[0] not in shared and len(shared) == size


def test_not_a_number_is_equal_to_nothing(manager):
    shared = manager.dict()
    for _ in range(3):
        shared[float("nan")] = 1
        shared[(float("nan"),)] = 2
    assert len(shared) == 6 and float("nan") not in shared


def test_errors_while_comparing_arrive(manager):
    class Difficult:
        def __hash__(self):
            return 5

        def __eq__(self, other):
            raise ZeroDivisionError("equal?")

    shared = manager.dict({Difficult(): 1})
    with pytest.raises(ZeroDivisionError, match=r"equal\?"):
        shared[Difficult()]
    assert len(shared) == 1


MUTATIONS = [
    lambda d, keys, value: d.__setitem__(keys[0], value),
    lambda d, keys, value: d.pop(keys[0], "nothing"),
    lambda d, keys, value: d.get(keys[0]),
    lambda d, keys, value: d.setdefault(keys[0], value),
    lambda d, keys, value: d.popitem(),
    lambda d, keys, value: d.update(dict.fromkeys(keys, value)),
    lambda d, keys, value: keys[0] in d,
    lambda d, keys, value: d.__delitem__(keys[0]),
    lambda d, keys, value: d.clear() if len(d) > 14 else None,
]


@pytest.mark.parametrize("seed", range(4))
def test_many_random_operations(manager, seed):
    choose = random.Random(seed)
    plain, shared = {}, manager.dict()
    names = [*range(12), *"abcdef", (1, "x"), Colour.BLUE, datetime.date(2025, 1, 1), "k" * 2000, None]
    values = [1, "text", None, [1, 2], "y" * 3000, 2.5, np.arange(3000)]
    for _ in range(600):
        operation, keys, value = choose.choice(MUTATIONS), choose.sample(names, 5), choose.choice(values)
        said, wanted = [outcome(lambda d: operation(d, keys, value), d) for d in (shared, plain)]  # noqa: B023
        assert repr(said) == repr(wanted)
        assert len(shared) == len(plain)
    assert repr(shared.copy()) == repr(plain)


def test_large_dicts(manager):
    numbers = {n: n * n for n in range(50_000)}
    shared = manager.dict(numbers)
    assert shared.copy() == numbers
    assert all(shared[n] == n * n for n in range(0, 50_000, 7))
    for n in range(0, 50_000, 2):
        del shared[n]
    assert shared.keys() == list(range(1, 50_000, 2))


def test_elements_are_copies(manager):
    shared = manager.dict(a=[1], b=np.zeros(100_000))
    shared["a"].append(2)
    shared["b"][0] = 1
    assert shared["a"] == [1] and shared["b"][0] == 0


def test_containers_in_containers(manager):
    shared = manager.dict()
    shared["list"] = manager.list([1])
    shared["dict"] = manager.dict(x=manager.list())
    shared["list"].append(2)
    shared["dict"]["x"].append("deep")
    assert shared["list"][:] == [1, 2] and shared["dict"]["x"][0] == "deep"
    rows = manager.list([manager.dict()])
    rows[0]["a"] = 1
    assert rows[0].copy() == {"a": 1}


def test_looks(manager):
    shared = manager.dict(a=1)
    assert repr(shared).startswith("<DictProxy object, typeid 'dict' at 0x")
    assert str(shared) == "{'a': 1}"
    assert shared._getvalue() == {"a": 1} and type(shared._getvalue()) is dict
    assert shared._callmethod("get", ("b", 5)) == 5
    with pytest.raises(AttributeError, match="'__or__' of 'dict' object is not in exposed"):
        shared._callmethod("__or__", ({},))


def test_a_namespace(manager):
    space = manager.Namespace(x=1, y="why")
    space.z = [1, 2]
    space._private = "the proxy's own"
    assert (space.x, space.y, space.z, space._private) == (1, "why", [1, 2], "the proxy's own")
    assert str(space) == "Namespace(x=1, y='why', z=[1, 2])"
    assert repr(space).startswith("<NamespaceProxy object, typeid 'Namespace' at 0x")
    del space.x
    for missing in (lambda: space.x, lambda: delattr(space, "x")):
        with pytest.raises(AttributeError, match="'Namespace' object has no attribute 'x'"):
            missing()
    assert not hasattr(space, "nothing") and space._getvalue().y == "why"


def test_a_value(manager):
    value = manager.Value("i", 5)
    value.value += 1
    assert value.value == value.get() == 6
    value.set("of no type")
    assert value.value == "of no type"
    assert str(value) == "Value('i', 'of no type')"


def test_an_array(manager):
    numbers = manager.Array("h", range(5))
    numbers[1] = -7
    assert list(numbers) == [0, -7, 2, 3, 4] and len(numbers) == 5 and numbers[-1] == 4
    assert str(numbers[1:3]) == "array('h', [-7, 2])" and str(numbers) == "array('h', [0, -7, 2, 3, 4])"
    numbers[:2] = numbers[3:]
    assert list(numbers) == [3, 4, 2, 3, 4]
    for error, act in [
        (TypeError, lambda: numbers.__setitem__(0, "text")),
        (OverflowError, lambda: numbers.__setitem__(0, 40_000)),
        (TypeError, lambda: numbers.__setitem__(slice(0, 1), [1])),
        (IndexError, lambda: numbers[5]),
        (IndexError, lambda: numbers.__setitem__(-6, 1)),
        (ValueError, lambda: manager.Array("?", [])),
        (TypeError, lambda: manager.Array("h", ["text"])),
    ]:
        with pytest.raises(error):
            act()
    assert list(numbers) == [3, 4, 2, 3, 4]
