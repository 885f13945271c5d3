"""Lists of short lists, tuples and texts travel as columns; slices of lists travel without being copied first."""

import gc
import itertools
import struct

import pytest
from breakeven import _native
from breakeven._native import Channel, Items, Slice, _decode, _encode
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codec import things
from tests.codec.test_values import PICKLE, VALUE, kind, roundtrip, same, through_channel

ROWS, ROWS_FAR = 0x11, 0x12

ROW_KINDS = {
    "ints": lambda n, i: list(range(i, i + n)),
    "tuples": lambda n, i: tuple(range(i, i + n)),
    "floats": lambda n, i: [i + k / 7 for k in range(n)],
    "flags": lambda n, i: [(None, True, False)[(i + k) % 3] for k in range(n)],
    "text": lambda n, i: "".join(chr(0x61 + (i + k) % 26) for k in range(n)),
    "wide text": lambda n, i: "".join("aäß€𝄞"[(i + k) % 5] for k in range(n)),
    "bytes": lambda n, i: bytes((i + k) % 256 for k in range(n)),
}


@pytest.mark.parametrize("outer", [list, tuple])
@pytest.mark.parametrize("count", [8, 9, 1000])
@pytest.mark.parametrize("lengths", [(0,), (1,), (2,), (4, 4, 0, 3), (300, 0)], ids=str)
@pytest.mark.parametrize("row", ROW_KINDS)
def test_rows_come_back(row, lengths, count, outer):
    make = ROW_KINDS[row]
    lengths = itertools.cycle(lengths)
    obj = outer(make(next(lengths), i) for i in range(count))
    assert same(roundtrip(obj), obj)
    assert same(through_channel(obj), obj)


def test_long_rows():
    for make in ROW_KINDS.values():
        obj = [make(70_000, 0), *(make(1, i) for i in range(8))]
        assert same(roundtrip(obj), obj)


@pytest.mark.parametrize("row", ROW_KINDS)
def test_rows_need_no_pickle(row):
    obj = [ROW_KINDS[row](i % 5 + 2, i) for i in range(1000)]
    tag, payload, _ = _encode(obj)
    assert (tag, payload[0]) == (VALUE, ROWS_FAR)
    obj = [ROW_KINDS[row](3, i) for i in range(10)]
    tag, payload, _ = _encode(obj)
    assert (tag, payload[0]) == (VALUE, ROWS)


def test_equally_long_rows_of_small_ints_take_a_byte_each():
    _, _, blocks = _encode([[i % 7, i % 11, i % 13, i % 17] for i in range(10_000)])
    assert list(map(len, blocks)) == [40_000]


@pytest.mark.parametrize("high", [127, 128, 2**15 - 1, 2**15, 2**31 - 1, 2**31, 2**63 - 1])
@pytest.mark.parametrize("place", [0, 1, 50, 99])
def test_the_width_grows_with_the_ints(high, place):
    """An int that does not fit is met after so many rows that did."""
    for value in (high, -high - 1):
        obj = [[i % 5, 1] for i in range(100)]
        obj[place] = [3, value]
        assert kind(obj) == VALUE
        assert same(roundtrip(obj), obj)
        obj[(place + 40) % 100] = [2**20, -(2**20)]
        obj[(place + 41) % 100] = [-(2**40), 2]
        assert same(roundtrip(obj), obj)


@pytest.mark.parametrize(
    "odd",
    [
        [2**63],
        [1.5],
        [True],
        [None],
        ["x"],
        [[1]],
        (1,),
        things.ListSubclass([1]),
        [things.IntSubclass(1)],
        None,
        5,
        "x",
        {"a": 1},
    ],
    ids=repr,
)
@pytest.mark.parametrize("place", [0, 1, 999])
def test_one_odd_row(odd, place):
    obj = [[i, i + 1] for i in range(1000)]
    obj[place] = odd
    assert same(roundtrip(obj), obj)
    assert same(through_channel(obj), obj)


@pytest.mark.parametrize("odd", ["lone \ud800 surrogate", "x" * 2000, b"x", 1, things.StrSubclass("s")], ids=str)
def test_one_odd_text(odd):
    obj = [f"text {i}" for i in range(1000)]
    obj[500] = odd
    assert same(roundtrip(obj), obj)


def test_a_row_that_occurs_twice_stays_one():
    twice = [1, 2]
    rows = [[i, i] for i in range(100)]
    for obj, first, second in [
        ([*rows, twice, twice], lambda o: o[100], lambda o: o[101]),
        ([twice, *rows, twice], lambda o: o[0], lambda o: o[101]),
        (((*rows, twice), twice), lambda o: o[0][100], lambda o: o[1]),
        ((twice, [*rows, twice]), lambda o: o[0], lambda o: o[1][100]),
        (([*rows, twice], [*rows[:50], twice]), lambda o: o[0][100], lambda o: o[1][50]),
        (([*rows, twice], [[i] for i in range(100)], {"k": twice}), lambda o: o[0][100], lambda o: o[2]["k"]),
    ]:
        assert kind(obj) == PICKLE
        result = roundtrip(obj)
        assert first(result) is second(result)
        first(result).append("seen through both")
        assert second(result)[-1] == "seen through both"


def test_rows_in_a_tuple_that_occurs_twice_stay_one():
    inner = tuple([i] for i in range(100))
    result = roundtrip((inner, inner))
    assert result[0][3] is result[1][3]


def test_rows_that_others_know_are_no_trouble():
    """Two references are a reason to look, not to pickle."""
    rows = [[i, i] for i in range(1000)]
    others = rows[:]
    assert kind(rows) == VALUE
    assert same(roundtrip(rows), others)
    rows.reverse()
    assert same(roundtrip((rows, [others[0][0]])), (rows, [0]))


def test_a_row_that_holds_its_list():
    rows = [[i] for i in range(100)]
    rows[50].append(rows)
    result = roundtrip(rows)
    assert result[50][1] is result


def test_texts_that_occur_again_and_again_are_made_once():
    words = [f"word {i}" for i in range(10)]
    obj = [words[i % 10] for i in range(1000)]
    result = roundtrip(obj)
    assert result == obj
    assert len(set(map(id, result))) == 10


def test_texts_keep_no_second_form_of_themselves():
    texts = [f"wide € {i}" for i in range(1000)]
    size = texts[0].__sizeof__()
    assert roundtrip(texts) == texts
    assert texts[0].__sizeof__() == size


def test_the_collector_is_left_as_it_was():
    obj = [[i] for i in range(10_000)]
    assert gc.isenabled()
    roundtrip(obj)
    assert gc.isenabled()
    gc.disable()
    try:
        roundtrip(obj)
        assert not gc.isenabled()
    finally:
        gc.enable()


def header(element=0, width=1, row=0, outer=0, length=1, lazy=0, zero=0, rows=2, elements=3):
    return struct.pack("<BBBBBBBHQQ", ROWS, element, width, row, outer, length, lazy, zero, rows, elements)


@pytest.mark.parametrize(
    "payload",
    [
        header() + b"\1\1\7\7\7",  # the lengths add up to less than there is
        header() + b"\2\2\7\7\7",  # to more
        header() + b"\xff\xff\7\7\7",
        header() + b"\1\2\7\7",
        header() + b"\1\2\7\7\7\7",
        header(element=2) + b"\1\2\0\1\3",  # a flag that stands for nothing
        header(row=2) + b"\1\2a\xff\xff",  # not UTF-8
        header(row=2) + b"\1\2\xc3\xa4a",  # a character in two texts
        header(row=2, element=1, width=8) + b"\1\2" + bytes(24),
        header(row=4) + b"\1\2\7\7\7",
        header(outer=2) + b"\1\2\7\7\7",
        header(lazy=2) + b"\1\2\7\7\7",
        header(zero=1) + b"\1\2\7\7\7",
        header(width=3) + b"\1\2" + bytes(9),
        header(length=3) + bytes(6) + b"\7\7\7",
        header(length=0, rows=2, elements=3) + b"\7\7\7",
        header(length=0, rows=2**62, elements=0),
        header(length=0, rows=2**62, elements=2**62),
        header(length=1, rows=2**62, elements=0),
        header(length=4, rows=2**62, elements=2**63) + bytes(100),
    ],
)
def test_damaged_rows(payload):
    with pytest.raises(_native.CorruptMessage):
        _decode(VALUE, payload, [])


def test_a_good_header_is_good():
    assert _decode(VALUE, header() + b"\1\2\7\7\xff", []) == [[7], [7, -1]]


rows = st.one_of(
    st.lists(st.lists(st.integers(min_value=-(2**63), max_value=2**63 - 1), max_size=5), min_size=6, max_size=40),
    st.lists(st.lists(st.integers(min_value=-200, max_value=200), max_size=5).map(tuple), min_size=6, max_size=40),
    st.lists(st.lists(st.floats(), max_size=5), min_size=6, max_size=40),
    st.lists(st.lists(st.sampled_from([None, True, False]), max_size=5), min_size=6, max_size=40),
    st.lists(st.text(max_size=8), min_size=6, max_size=40),
    st.lists(st.binary(max_size=8), min_size=6, max_size=40),
    st.lists(st.lists(st.integers() | st.floats() | st.none(), max_size=3), min_size=6, max_size=40),
)


@given(rows | rows.map(tuple), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_rows_come_back(obj, twice):
    if twice:
        obj = (obj, 1, obj[:])
    assert same(roundtrip(obj), obj)


class TestSlice:
    def test_it_is_like_a_list(self):
        items = list(range(100))
        part = Slice(items)[10:50]
        assert len(part) == 40 and part[0] == 10 and part[-1] == 49
        assert list(part) == items[10:50]
        assert list(part[5:7]) == [15, 16] and list(part[30:]) == items[40:50] and list(part[::2]) == items[10:50:2]
        assert len(part[40:]) == 0 and len(part[7:3]) == 0
        for index in (40, -41):
            with pytest.raises(IndexError):
                part[index]

    def test_it_is_made_of_lists_only(self):
        for obj in ((1, 2), range(3), things.ListSubclass()):
            with pytest.raises(TypeError):
                Slice(obj)

    @pytest.mark.parametrize(
        "items",
        [
            list(range(3)),
            list(range(2000)),
            [0.5] * 2000,
            [[i] for i in range(3)],
            [[i] for i in range(2000)],
            [f"{i}" for i in range(2000)],
            ["same"] * 2000,
            [things.Point(1, i) for i in range(300)],
            [[[i]] for i in range(300)],
        ],
        ids=lambda items: repr(items)[:20],
    )
    @pytest.mark.parametrize("bounds", [(0, None), (1, -1), (0, 0), (2, 3)])
    def test_it_arrives_as_a_list(self, items, bounds):
        part = items[bounds[0] : bounds[1]]
        cut = Slice(items)[bounds[0] : bounds[1]]
        assert same(roundtrip((1, cut)), (1, part))
        assert same(roundtrip(cut), part)
        channel = Channel()
        channel.put((1, cut))
        assert same(channel.get(), (1, part))
        channel.put((1, cut))
        head, got = channel.get_lazily()
        assert head == 1 and len(got) == len(part)
        assert same(list(got), part) and same(list(got), part)
        channel.close()

    def test_a_row_that_occurs_twice_in_it_stays_one(self):
        twice = [1]
        items = [*([i] for i in range(1000)), twice, twice]
        (result,) = roundtrip((Slice(items),))
        assert result[1000] is result[1001]

    def test_a_list_that_became_shorter(self):
        items = [[i] for i in range(100)]
        part = Slice(items)
        del items[50:]
        with pytest.raises(RuntimeError, match="shorter"):
            list(part)
        with pytest.raises(RuntimeError, match="shorter"):
            _encode((1, part))

    def test_a_cycle_through_it_is_collected(self):
        class Canary:
            pass

        items = [Canary()]
        items.append(Slice(items))
        alive = things_alive(Canary)
        del items
        gc.collect()
        assert things_alive(Canary) == alive - 1


def things_alive(cls):
    return sum(type(obj) is cls for obj in gc.get_objects())


class TestItems:
    def test_only_a_slice_comes_lazily(self):
        """Arguments of a call are lists, whatever their length."""
        channel = Channel()
        numbers, lists = list(range(5000)), [[i] for i in range(5000)]
        channel.put((1, numbers, lists))
        assert channel.get_lazily() == (1, numbers, lists)
        channel.put((1, Slice(numbers), Slice(lists)))
        _, first, second = channel.get_lazily()
        assert type(first) is type(second) is Items
        channel.close()

    def test_items_are_made_while_somebody_iterates(self):
        channel = Channel()
        channel.put((1, Slice([[i] for i in range(5000)])))
        _, items = channel.get_lazily()
        gc.collect()
        before = len(gc.get_objects())
        most = 0
        for index, row in enumerate(items):
            assert row == [index]
            if index % 100 == 0:
                most = max(most, len(gc.get_objects()) - before)
        assert most < 1000
        channel.close()

    def test_what_an_iteration_made_is_the_takers_own(self):
        channel = Channel()
        channel.put((1, Slice([[i] for i in range(1000)])))
        _, items = channel.get_lazily()
        first = list(items)
        first[0].append("mine")
        assert next(iter(items)) == [0]
        del items
        assert first[999] == [999]
        channel.close()

    def test_damage_is_found_where_it_is(self):
        """Lengths that add up to less than there is."""
        rows = [[i % 100] * (1 + i % 2) for i in range(1000)]
        channel = Channel()
        channel.put((1, Slice(rows)))
        _, items = channel.get_lazily()
        assert list(items) == rows
        channel.close()


def test_put_plain_puts_what_needs_no_pickle():
    channel = Channel()
    good = [None, 1, "x", "x" * 100_000, (1, [2, {"k": b"v"}]), [[i] for i in range(5000)], list(range(5000))]
    for number, obj in enumerate(good):
        assert channel.put_plain(obj) == number
        assert same(channel.get(), obj)
    twice = [1]
    for obj in (things.Point(1, 2), [twice, twice], [[twice]] * 100, things.module_level, {1}, 2**200):
        assert channel.put_plain(obj) is None
        assert channel.empty()
    channel.close()
