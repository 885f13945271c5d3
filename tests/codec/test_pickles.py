"""What travels as a pickle: arrays and frames, reducers, functions by value, and what goes wrong."""

import copyreg
import functools
import gc
import pickle
import sys
import threading
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from breakeven._native import Channel, _decode, _encode, set_pickle_mode

from tests.codec import things

PICKLE, SPILLED = 2, 1 << 15


def roundtrip(obj):
    channel = Channel()
    channel.put(obj)
    result = channel.get(timeout=10)
    channel.close()
    return result


def in_heap(obj):
    return _decode(*_encode(obj))


ARRAYS = {
    "small": np.arange(10.0),
    "large": np.arange(100_000.0),
    "two-dimensional": np.arange(40_000.0).reshape(200, 200),
    "Fortran order": np.asfortranarray(np.arange(40_000.0).reshape(200, 200)),
    "zero size": np.empty((0, 3)),
    "zero-dimensional": np.array(5.0),
    "big-endian": np.arange(20_000, dtype=">f8"),
    "big-endian small": np.arange(20, dtype=">i2"),
    "bool": np.ones(50_000, dtype=bool),
    "complex": np.ones(10_000, dtype=complex),
    "strings": np.array(["ab", "cde"] * 10_000),
    "bytes": np.array([b"ab", b"cde"] * 10_000),
    "datetime": np.arange("2020-01-01", "2030-01-01", dtype="M8[h]"),
    "structured": np.zeros(5000, dtype=[("a", "i4"), ("b", "f8", (3,)), ("c", "S5")]),
    "structured, padded": np.zeros(5000, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "object": np.array([1, "a", None, [1, 2]] * 100, dtype=object),
    "object, large": np.array(["text"] * 50_000, dtype=object),
    "structured with objects": np.array([(1, "a"), (2, None)], dtype=[("a", "i4"), ("b", "O")]),
    "non-contiguous": np.arange(100_000.0)[::2],
    "transposed view": np.arange(40_000.0).reshape(100, 400).T[::3],
    "negative stride": np.arange(100_000.0)[::-1],
    "broadcast": np.broadcast_to(np.arange(1000.0), (50, 1000)),
    "half": np.arange(20_000, dtype="f2"),
    "long double": np.arange(20_000, dtype="g"),
    "void": np.zeros(5000, dtype="V16"),
    "exactly 32 KiB": np.zeros(4096),
    "just below 32 KiB": np.zeros(4095),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("nested", [False, True])
def test_array_comes_back_as_pickle_gives_it(name, nested):
    array = ARRAYS[name]
    obj = {"key": (array, 1)} if nested else array
    result = roundtrip(obj)
    result = result["key"][0] if nested else result
    expected = pickle.loads(pickle.dumps(array, 5))
    assert type(result) is type(expected)
    assert result.dtype == expected.dtype and result.dtype.byteorder == expected.dtype.byteorder
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result, expected)
    for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE", "ALIGNED"):
        assert result.flags[flag] == expected.flags[flag], flag
    assert result.strides == expected.strides


def test_a_received_array_is_writable_and_the_receivers_own():
    array = np.zeros(100_000)
    channel = Channel()
    channel.put(array)
    array[:] = 1  # after the put: must not show
    received = channel.get()
    assert received.sum() == 0
    received[:] = 2
    assert array.sum() == 100_000
    channel.put(received)
    again = channel.get()
    again[:] = 3
    assert received.sum() == 200_000


def test_the_read_only_flag_is_kept_as_pickle_keeps_it():
    for size in (10, 100_000):
        array = np.zeros(size)
        array.flags.writeable = False
        buffers = []
        stream = pickle.dumps(array, 5, buffer_callback=buffers.append)
        expected = pickle.loads(stream, buffers=buffers).flags.writeable
        if size > 10:
            assert not expected and not roundtrip(array).flags.writeable
        else:
            assert roundtrip(array).flags.writeable == pickle.loads(pickle.dumps(array, 5)).flags.writeable


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("size", [3, 10_000])
def test_array_subclasses(size):
    matrix = np.matrix(np.zeros((size, 2)))
    assert type(roundtrip(matrix)) is np.matrix
    record = np.zeros(size, dtype=[("a", "f8"), ("b", "i4")]).view(np.recarray)
    result = roundtrip(record)
    assert type(result) is np.recarray and result.a.shape == (size,)
    masked = np.ma.masked_array(np.arange(float(size)), mask=[i % 2 for i in range(size)])
    result = roundtrip(masked)
    assert type(result) is np.ma.MaskedArray
    np.testing.assert_array_equal(result.mask, masked.mask)
    np.testing.assert_array_equal(result.data, masked.data)


def test_memmap(tmp_path):
    array = np.memmap(tmp_path / "file", dtype="f8", mode="w+", shape=(50_000,))
    array[:] = 7
    result = roundtrip(array)
    assert (np.asarray(result) == 7).all()


def test_scalars_and_dtypes():
    for obj in (np.float64(1.5), np.int8(3), np.datetime64("2020-01-01"), np.dtype("f4"), np.random.default_rng(1)):
        result = roundtrip(obj)
        assert type(result) is type(obj)
        if not isinstance(obj, np.random.Generator):
            assert result == obj


def test_one_array_twice_is_one_array():
    array = np.zeros(50_000)
    first, second = roundtrip([array, array])
    assert first is second


def test_more_arrays_than_a_message_has_blocks():
    arrays = [np.full(5000, i, dtype="f8") for i in range(200)]
    for way in roundtrip, in_heap:
        result = way(arrays)
        assert len(result) == 200
        for i, array in enumerate(result):
            assert (array == i).all()
            if way is roundtrip:
                array += 1  # each has its own memory
        if way is roundtrip:
            assert [int(array[0]) for array in result] == list(range(1, 201))


def test_a_long_stream_beside_buffers():
    obj = (np.arange(50_000.0), {str(i): object for i in range(5000)}, np.arange(60_000.0))
    for way in roundtrip, in_heap:
        first, table, second = way(obj)
        assert (first == obj[0]).all() and (second == obj[2]).all() and table == obj[1]


def test_frames_and_arrow():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "a": np.arange(20_000),
            "b": np.arange(20_000) * 0.5,
            "c": [f"row {i}" for i in range(20_000)],
            "d": pandas.Categorical(["x", "y"] * 10_000),
            "e": pandas.date_range("2020-01-01", periods=20_000, freq="h"),
        }
    )
    result = roundtrip(frame)
    pandas.testing.assert_frame_equal(result, frame)
    result.loc[0, "a"] = 99
    assert frame.loc[0, "a"] == 0
    pandas.testing.assert_series_equal(roundtrip(frame["b"]), frame["b"])
    pandas.testing.assert_frame_equal(roundtrip(frame[::3]), frame[::3])


def test_arrow():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": list(range(50_000)), "b": [f"text {i}" for i in range(50_000)]})
    assert roundtrip(table).equals(table)
    array = pyarrow.array(range(100_000))
    result = roundtrip(array)
    assert result.equals(array)
    buffer = pyarrow.py_buffer(b"x" * 100_000)
    assert roundtrip(buffer).to_pybytes() == buffer.to_pybytes()


@pytest.mark.parametrize("size", [0, 1, 100, 40_000, 1_000_000])
def test_bytes_bytearray_memoryview(size):
    content = bytes(i % 251 for i in range(size))
    assert roundtrip(content) == content and type(roundtrip(content)) is bytes
    result = roundtrip(bytearray(content))
    assert result == content and type(result) is bytearray
    result.append(1)  # owns its memory
    view = roundtrip(memoryview(content))
    assert type(view) is memoryview and view == content and view.readonly
    view = roundtrip(memoryview(bytearray(content)))
    assert view == content and not view.readonly
    assert roundtrip((memoryview(content), [memoryview(content)]))[1][0] == content


def test_memoryview_formats():
    array = np.arange(60_000, dtype="i4").reshape(200, 300)
    view = roundtrip(memoryview(array))
    assert view.format == "i" and view.shape == (200, 300) and view == memoryview(array)
    strided = memoryview(array[::2, ::3])
    assert roundtrip(strided).tolist() == strided.tolist()
    empty = memoryview(np.empty((0, 5)))
    assert len(roundtrip(empty)) == 0
    assert roundtrip(memoryview(np.array(3.5)))[()] == 3.5


def test_a_pickle_buffer():
    buffer = pickle.PickleBuffer(bytearray(b"x" * 100_000))
    assert bytes(roundtrip(buffer)) == b"x" * 100_000


def test_registered_reducers_are_used():
    ForkingPickler.register(things.Registered, things.reduce_registered)
    try:
        for obj in (things.Registered(5), things.Registered(lambda: 6)):  # by name, and by value
            result = roundtrip(obj)
            assert result.through_reducer
    finally:
        del ForkingPickler._extra_reducers[things.Registered]
    copyreg.pickle(things.Registered, things.reduce_registered)
    try:
        assert roundtrip([things.Registered(7)])[0].through_reducer
    finally:
        del copyreg.dispatch_table[things.Registered]
    with pytest.raises(AssertionError):
        roundtrip(things.Registered(5))


def test_functions():
    def local(x):
        return x * factor

    factor = 3

    class Local:
        attribute = np.zeros(50_000)

        def method(self):
            return "here"

    assert roundtrip(lambda x: x + 1)(1) == 2
    assert roundtrip(local)(2) == 6
    assert roundtrip([1, {"f": local}])[1]["f"](3) == 9
    assert roundtrip(Local().method)() == "here"
    assert roundtrip(functools.partial(local, 5))() == 15
    assert roundtrip(things.module_level) is things.module_level
    assert roundtrip(sys) is sys
    data = np.arange(100_000.0)
    assert roundtrip(lambda: data.sum())() == data.sum()


def test_a_closures_large_array_goes_out_of_band():
    data = np.arange(100_000.0)
    tag, payload, blocks = _encode(lambda: data)
    assert any(len(block) == data.nbytes for block in blocks)
    assert sum(map(len, blocks)) < data.nbytes + 20_000


def test_functions_of_main_by_value_when_asked(monkeypatch):
    main = sys.modules["__main__"]

    def defined_later():
        return "value"

    defined_later.__module__ = "__main__"
    defined_later.__qualname__ = "defined_later"
    monkeypatch.setattr(main, "defined_later", defined_later, raising=False)
    assert roundtrip(defined_later) is defined_later
    for switch in ("always", "auto"):
        set_pickle_mode(switch)
        try:
            if switch == "auto":
                monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
            result = roundtrip(defined_later)
            assert result is not defined_later and result() == "value"
        finally:
            set_pickle_mode("auto")
    with pytest.raises(ValueError, match="main_by_value"):
        set_pickle_mode("sometimes")


class TestErrors:
    @pytest.mark.parametrize(
        "obj, path",
        [
            (threading.Lock(), "obj"),
            ([1, threading.Lock()], "obj[1]"),
            ({"a": (1, [threading.Lock()])}, "obj['a'][1][0]"),
            (things.Lock(), "obj.callbacks[2]"),
            (things.Node("n", [things.Node("m", payload=things.Lock())]), "obj.children[0].payload.callbacks[2]"),
            (things.Slotted(1, things.Lock()), "obj.b.callbacks[2]"),
            (functools.partial(things.module_level, 1, key=things.Lock()), "obj.keywords['key'].callbacks[2]"),
            (things.Point(1, things.Lock()), "obj.y.callbacks[2]"),
            ((lambda lock: lambda: lock)(threading.Lock()), "obj.<closure lock>"),
            (things.DictSubclass(k=things.Lock()), "obj['k'].callbacks[2]"),
        ],
        ids=lambda o: o if isinstance(o, str) else "",
    )
    def test_the_path_to_the_culprit_is_named(self, obj, path):
        channel = Channel()
        with pytest.raises(Exception, match=r"_thread\.lock") as caught:
            channel.put(obj)
        assert str(caught.value).startswith(f"{path}: cannot pickle '_thread.lock' object")
        assert type(caught.value) in (TypeError, pickle.PicklingError, AttributeError)
        assert channel.empty()
        channel.put("works on")
        assert channel.get() == "works on"

    def test_a_lock_among_very_many_objects(self):
        obj = [[i] for i in range(200)] + [threading.Lock()]
        with pytest.raises(TypeError, match=r"obj\[200\]: cannot pickle"):
            Channel().put(obj)

    @pytest.mark.parametrize("error", [ValueError("own"), KeyError("own"), ZeroDivisionError("own")])
    def test_an_objects_own_error_is_raised_as_it_is(self, error):
        with pytest.raises(type(error)) as caught:
            Channel().put([things.RaisesInReduce(error)])
        assert caught.value is error

    def test_an_objects_own_type_error_keeps_its_text(self):
        with pytest.raises(TypeError, match=r"obj\[0\]: own text"):
            Channel().put([things.RaisesInReduce(TypeError("own text"))])

    def test_deep_recursion(self):
        obj = None
        for _ in range(100_000):
            obj = [obj]
        with pytest.raises(RecursionError):
            Channel().put(obj)
        while obj:  # taken apart here, since freeing it in one go is a recursion too
            obj = obj.pop()

    def test_what_does_not_unpickle_is_taken_all_the_same(self):
        channel = Channel()
        channel.put(things.RaisesInSetstate())
        channel.put("next")
        with pytest.raises(RuntimeError, match="setstate refused"):
            channel.get()
        assert channel.get() == "next"

    def test_the_exceptions_can_be_pickled(self):
        from breakeven import _native

        for class_ in (_native.MemoryLimitError, _native.StaleBlob, _native.CorruptMessage):
            again = pickle.loads(pickle.dumps(class_("text")))
            assert type(again) is class_ and again.args == ("text",)


def test_pickling_may_put_on_the_same_channel():
    channel = Channel()
    things.PutsWhilePickled.channel = channel
    try:
        channel.put(things.PutsWhilePickled())
    finally:
        things.PutsWhilePickled.channel = None
    assert channel.get() == [{"inner"}, object]
    assert channel.get().outer is True


def test_nothing_that_was_pickled_is_kept_alive():
    import gc
    import weakref

    class Thing(things.Node):
        pass

    channel = Channel()
    for make in (lambda: things.Node("a", [bytearray(100_000)]), lambda: Thing("local")):
        obj = make()
        ref = weakref.ref(obj)
        channel.put({"deep": [obj]})
        del obj
        gc.collect()
        assert ref() is None
    with pytest.raises(TypeError):
        lock = things.Lock()
        ref = weakref.ref(lock)
        channel.put(lock)
    del lock
    gc.collect()
    assert ref() is None
    channel.close()


def test_threads_pickle_side_by_side():
    channel = Channel()
    failures = []

    def work(number):
        try:
            for i in range(200):
                channel.put({"number": number, "i": i, "set": {number, i + 1000}, "array": np.full(5000, i)})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    seen = dict.fromkeys(range(4), 0)
    for _ in range(800):
        message = channel.get(timeout=20)
        assert message["i"] == seen[message["number"]]  # in order, for each producer
        assert (message["array"] == message["i"]).all()
        seen[message["number"]] += 1
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_runs_before_and_after_but_not_during_a_long_pickle(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        long = [[number] for number in range(50_000)]
        received = roundtrip([long, things.CollectorState()])
        assert (received, gc.isenabled()) == ([long, False], enabled)
        assert (roundtrip([[1], things.CollectorState()]), gc.isenabled()) == ([[1], enabled], enabled)
        with pytest.raises(ZeroDivisionError):
            roundtrip([long, things.FailsToUnpickle()])
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
