"""Each method of a shared list against the same operation on a plain one: result, error, what the list then holds."""

import copy
import random

import breakeven
import pytest

START = [3, 1.5, "two", 2, None, (1, 2), [7, 8], 2, b"bytes", "a longer text that does not fit into a cell", -(2**70)]


@pytest.fixture
def manager():
    with breakeven.Manager() as manager:
        yield manager


def outcome(operation, target):
    try:
        result = operation(target)
    except Exception as error:
        return type(error), str(error)
    # `l += x` and `l *= x` give the list itself.
    return "self" if result is target else result


OPERATIONS = {
    "len": len,
    "str": str,
    "bool": bool,
    "list": list,
    "sum of lengths": lambda l: sum(1 for _ in l),
    "reversed": lambda l: list(reversed(l)),
    "get": lambda l: l[2],
    "get negative": lambda l: l[-3],
    "get beyond": lambda l: l[100],
    "get before": lambda l: l[-100],
    "get huge": lambda l: l[2**80],
    "get by bool": lambda l: l[True],
    "get by text": lambda l: l["x"],
    "slice": lambda l: l[2:5],
    "slice of all": lambda l: l[:],
    "slice backwards": lambda l: l[::-2],
    "slice outside": lambda l: l[50:60],
    "slice with huge bounds": lambda l: l[-(2**80) : 2**80 : 3],
    "slice with step 0": lambda l: l[::0],
    "contains": lambda l: "two" in l,
    "contains not": lambda l: "three" in l,
    "contains equal": lambda l: 2.0 in l,
    "count": lambda l: l.count(2),
    "index": lambda l: l.index(2),
    "index from": lambda l: l.index(2, 4),
    "index from to": lambda l: l.index(2, 4, 6),
    "index of nothing": lambda l: l.index("three"),
    "add": lambda l: l + [1],
    "add tuple": lambda l: l + (1,),
    "mul": lambda l: l * 2,
    "rmul": lambda l: 2 * l,
    "mul by text": lambda l: l * "x",
    "copy": lambda l: l.copy(),
    "deepcopy": lambda l: copy.deepcopy(l),
    "set": lambda l: l.__setitem__(1, "one"),
    "set long": lambda l: l.__setitem__(-1, "y" * 5000),
    "set beyond": lambda l: l.__setitem__(11, 0),
    "set slice": lambda l: l.__setitem__(slice(2, 5), [9]),
    "set slice to more": lambda l: l.__setitem__(slice(2, 3), range(100)),
    "set slice crossed": lambda l: l.__setitem__(slice(5, 2), "ab"),
    "set slice at the end": lambda l: l.__setitem__(slice(100, 200), [1, "2"]),
    "set slice to itself": lambda l: l.__setitem__(slice(2, 4), l),
    "set extended slice": lambda l: l.__setitem__(slice(None, None, 4), "xyz"),
    "set extended slice backwards": lambda l: l.__setitem__(slice(None, None, -4), "xyz"),
    "set extended slice badly": lambda l: l.__setitem__(slice(None, None, 2), [1]),
    "set slice to no iterable": lambda l: l.__setitem__(slice(1, 2), 5),
    "del": lambda l: l.__delitem__(1),
    "del first": lambda l: l.__delitem__(0),
    "del last": lambda l: l.__delitem__(-1),
    "del beyond": lambda l: l.__delitem__(11),
    "del slice": lambda l: l.__delitem__(slice(1, 4)),
    "del extended slice": lambda l: l.__delitem__(slice(None, None, 3)),
    "del extended slice backwards": lambda l: l.__delitem__(slice(None, None, -3)),
    "del nothing": lambda l: l.__delitem__(slice(5, 2)),
    "del all": lambda l: l.__delitem__(slice(None)),
    "append": lambda l: l.append("new"),
    "append list": lambda l: l.append([1, [2]]),
    "extend": lambda l: l.extend(["a", 1]),
    "extend by generator": lambda l: l.extend(i * i for i in range(50)),
    "extend by text": lambda l: l.extend("abc"),
    "extend by itself": lambda l: l.extend(l),
    "extend by number": lambda l: l.extend(5),
    "iadd": lambda l: l.__iadd__([1, 2]),
    "imul": lambda l: l.__imul__(3),
    "imul by zero": lambda l: l.__imul__(0),
    "imul by less": lambda l: l.__imul__(-1),
    "insert": lambda l: l.insert(2, "new"),
    "insert first": lambda l: l.insert(0, "new"),
    "insert last": lambda l: l.insert(100, "new"),
    "insert before": lambda l: l.insert(-100, "new"),
    "insert huge": lambda l: l.insert(2**80, "new"),
    "insert at text": lambda l: l.insert("x", 1),
    "pop": lambda l: l.pop(),
    "pop first": lambda l: l.pop(0),
    "pop inside": lambda l: l.pop(5),
    "pop negative": lambda l: l.pop(-2),
    "pop beyond": lambda l: l.pop(100),
    "remove": lambda l: l.remove(2),
    "remove equal": lambda l: l.remove(2.0),
    "remove nothing": lambda l: l.remove("three"),
    "reverse": lambda l: l.reverse(),
    "sort": lambda l: l.sort(key=str),
    "sort backwards": lambda l: l.sort(key=lambda value: len(str(value)), reverse=True),
    "sort mixed": lambda l: l.sort(),
    "clear": lambda l: l.clear(),
    "change of a copy": lambda l: l[6].append(9) if len(l) > 6 and type(l) is not list else None,
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("start", [START, []], ids=["full", "empty"])
def test_operation(manager, name, start):
    operation = OPERATIONS[name]
    plain, shared = copy.deepcopy(start), manager.list(start)
    expected, result = outcome(operation, plain), outcome(operation, shared)
    if name in ("insert at text", "set slice to no iterable"):
        assert result[0] is expected[0]  # worded differently by different versions of Python
    else:
        assert result == expected
    assert shared._getvalue() == plain
    assert len(shared) == len(plain)
    shared.append("works on")
    assert shared.pop() == "works on"


def any_operation(chance, values):
    value, index, other = chance.choice(values), chance.randint(-15, 15), chance.randint(-15, 15)
    step = chance.choice([1, 1, 1, 2, -1, -3])
    some = [chance.choice(values) for _ in range(chance.randint(0, 4))]
    return chance.choice(
        [
            lambda l: l.append(value),
            lambda l: l.insert(index, value),
            lambda l: l.pop(index),
            lambda l: l.pop(),
            lambda l: l.pop(0),
            lambda l: l.__setitem__(index, value),
            lambda l: l.__setitem__(slice(index, other, step), some),
            lambda l: l.__delitem__(slice(index, other, step)),
            lambda l: l.__delitem__(index),
            lambda l: l.extend(some),
            lambda l: l.remove(value),
            lambda l: l[index:other:step],
            lambda l: l[index],
            lambda l: l.reverse(),
            lambda l: l.sort(key=repr),
            lambda l: l.index(value),
            lambda l: l.__imul__(2) if len(l) < 10 else l.clear(),
        ]
    )


def test_many_random_operations(manager, seed):
    chance = random.Random(seed)
    values = [0, -5, 2**40, 1.25, "", "short", "long" * 20, b"x" * 3000, None, True, (1, "a"), {"a": [1]}]
    plain, shared = [], manager.list()
    for _ in range(3000):
        operation = any_operation(chance, values)
        assert outcome(operation, shared) == outcome(operation, plain)
        assert shared._getvalue() == plain


EQUAL = [
    0,
    False,
    0.0,
    -0.0,
    1,
    True,
    1.0,
    2**53,
    float(2**53),
    2**53 + 1,
    2**70,
    float(2**70),
    2**200,
    "1",
    b"1",
    None,
]
EQUAL += [None, "x" * 500, "x" * 5000, b"x" * 5000, (), (1,), [1], {1: 1}, range(1), float("inf"), 1 + 0j, "", b""]


class EqualToOne:
    def __eq__(self, other):
        return other == 1

    __hash__ = None


@pytest.mark.parametrize("value", [*EQUAL, EqualToOne()], ids=lambda value: repr(value)[:20])
def test_what_is_equal_is_found(manager, value):
    for others in ([], ["a", 7], [EqualToOne()]):
        for element in [*EQUAL, EqualToOne()]:
            plain = [*others, element, 2.5, element]
            shared = manager.list(plain)
            for operation in (
                lambda l: value in l,
                lambda l: l.count(value),
                lambda l: l.index(value),
                lambda l: l.remove(value),
            ):
                assert outcome(operation, shared) == outcome(operation, plain), (plain, value)
            assert len(shared) == len(plain)


def test_not_a_number_is_equal_to_nothing(manager):
    nan = float("nan")
    shared = manager.list([nan])
    assert nan not in shared and shared.count(nan) == 0


def test_equal_elements_keep_their_order_when_sorted(manager):
    pairs = [(i % 3, i) for i in range(50)]
    for reverse in (False, True):
        shared = manager.list(pairs)
        shared.sort(key=lambda pair: pair[0], reverse=reverse)
        assert list(shared) == sorted(pairs, key=lambda pair: pair[0], reverse=reverse)


def test_long_lists(manager):
    plain = list(range(100_000))
    shared = manager.list(plain)
    assert shared._getvalue() == plain
    shared.reverse()
    shared.sort()
    del shared[::2]
    assert shared[:] == plain[1::2]
    shared *= 2
    assert len(shared) == 100_000


def test_errors_of_elements(manager):
    class Local:
        def __reduce__(self):
            raise RuntimeError("refuses to be pickled")

    shared = manager.list([1])
    for store in (shared.append, lambda v: shared.extend([2, v]), lambda v: shared.insert(0, v)):
        with pytest.raises(RuntimeError, match="refuses"):
            store(Local())
    with pytest.raises(RuntimeError, match="refuses"):
        shared[0] = Local()
    assert shared._getvalue() == [1]


def test_looks(manager):
    import multiprocessing.managers as stdlib

    shared = manager.list([1])
    assert isinstance(shared, stdlib.ListProxy) and isinstance(shared, stdlib.BaseProxy)
    assert repr(shared).startswith("<ListProxy object, typeid 'list' at 0x")
    assert str(shared) == "[1]"
    assert shared._callmethod("append", (2,)) is None
    assert shared._callmethod("#GETVALUE") == [1, 2]
    with pytest.raises(AttributeError):
        shared._callmethod("__class__")
    assert shared._token.typeid == "list"
    assert shared != [1, 2]  # identity, as in the standard library
    public = {name for name in dir(stdlib.ListProxy) if not name.startswith("_")}
    assert public <= set(dir(shared))


def test_changes_while_iterating(manager):
    shared = manager.list(range(10))
    seen = []
    for value in shared:
        seen.append(value)
        if value == 3:
            del shared[:3]
        if value == 9:
            shared.append("more")
    plain, expected = list(range(10)), []
    for value in plain:
        expected.append(value)
        if value == 3:
            del plain[:3]
        if value == 9:
            plain.append("more")
    assert seen == expected
