"""What in an object cannot be pickled, and where: `args[0].callbacks[2]: cannot pickle '_thread.lock' object`.

Runs only after pickling has failed. Walks the object from outside in, trying each part by itself, and follows the first
part that fails until nothing inside of it does: that is the culprit. Depth, breadth and number of tries are bounded,
since parts can be many, large, and slow to pickle; if a bound is met, the path found so far is still right.
"""

from __future__ import annotations

import functools
import io
import pickle
import types
from collections.abc import Iterator
from typing import Any

MOST_STEPS = 40  # along one path
MOST_PARTS = 1000  # of one object
MOST_TRIES = 5000  # in all
LONGEST_KEY = 40  # characters of a dict's key that are shown


def explain(obj: Any, by_name: BaseException, by_value: BaseException | None = None) -> BaseException:
    """An exception of `by_name`'s type that says where in `obj` the culprit is.

    `by_name` is what pickle raised, `by_value` what cloudpickle raised thereafter; it decides what counts as a culprit,
    unless cloudpickle is missing. Where no path can be found, or the type of the exception cannot be made from a
    message alone, `by_name` itself comes back.
    """
    if by_value is None or isinstance(by_value, ImportError):
        reason = by_name
        attempt = _try_by_name
    else:
        reason = by_value
        attempt = _try_by_value
    try:
        path, found = _walk(obj, reason, attempt)
        if type(by_name) not in (pickle.PicklingError, TypeError, AttributeError):
            return by_name
        error = type(by_name)(f"{path}: {found}")
    except RecursionError:
        return by_name
    # The first error has the traceback into the object's own code, if it was that which raised.
    error.__cause__ = by_name
    return error


def _walk(obj: Any, reason: BaseException, attempt: Any) -> tuple[str, BaseException]:
    path = "obj"
    tries = MOST_TRIES
    seen: set[int] = set()
    for _ in range(MOST_STEPS):
        seen.add(id(obj))
        for step, part in _parts(obj):
            if id(part) in seen:
                continue
            if tries == 0:
                return path, reason
            tries -= 1
            error = attempt(part)
            if error is not None:
                obj, reason = part, error
                path += step
                break
        else:
            return path, reason
    return path, reason


def _try_by_value(obj: Any) -> BaseException | None:
    import cloudpickle

    return _try(lambda sink: cloudpickle.Pickler(sink, protocol=5, buffer_callback=_keep_none), obj)


def _try_by_name(obj: Any) -> BaseException | None:
    return _try(lambda sink: pickle.Pickler(sink, protocol=5, buffer_callback=_keep_none), obj)


def _keep_none(buffer: pickle.PickleBuffer) -> None:
    """Leaves every buffer out of the stream: its content cannot be a reason, and may be large."""


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def _try(pickler: Any, obj: Any) -> BaseException | None:
    from . import _pickling

    if type(obj) in _pickling.multiprocessings or type(obj) in _pickling._ours:
        return None
    try:
        pickler(_Nowhere()).dump(obj)
    except Exception as error:
        return error
    return None


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """What an object consists of, as far as pickling goes, with the text that leads there."""
    kind = type(obj)
    if isinstance(obj, (str, bytes, bytearray, int, float, complex, type(None), types.ModuleType)):
        return
    parts = 0
    for step, part in _all_parts(obj, kind):
        yield step, part
        parts += 1
        if parts == MOST_PARTS:
            return


def _all_parts(obj: Any, kind: type) -> Iterator[tuple[str, Any]]:
    if isinstance(obj, dict):
        for key, value in list(obj.items()):
            yield f"[{_short(key)}]", value
            yield f".keys()[{_short(key)}]", key
    elif isinstance(obj, (list, tuple)):
        names = getattr(kind, "_fields", ()) if isinstance(obj, tuple) else ()
        for index, item in enumerate(obj):
            yield (f".{names[index]}" if index < len(names) else f"[{index}]"), item
    elif isinstance(obj, (set, frozenset)):
        for item in list(obj):
            yield f"[{_short(item)}]", item
    elif isinstance(obj, functools.partial):
        yield ".func", obj.func
        yield from ((f".args{step}", part) for step, part in _all_parts(obj.args, tuple))
        yield from ((f".keywords{step}", part) for step, part in _all_parts(obj.keywords, dict))
    elif isinstance(obj, types.MethodType):
        yield ".__self__", obj.__self__
        yield ".__func__", obj.__func__
    elif isinstance(obj, types.FunctionType):
        yield from _function_parts(obj)
    if isinstance(obj, type):
        if obj.__module__ == "__main__" or "<locals>" in obj.__qualname__:
            for name, value in list(vars(obj).items()):
                if name not in ("__dict__", "__weakref__", "__doc__", "__module__"):
                    yield f".{name}", value
        return
    if not isinstance(obj, (types.FunctionType, types.MethodType, types.BuiltinFunctionType)):
        yield from _state_parts(obj, kind)


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function that goes by value takes along: closure, defaults, and the globals it uses."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f".<closure {name}>", cell.cell_contents
        except ValueError:  # an empty cell
            continue
    for index, value in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{index}]", value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", value
    for name in _global_names(function.__code__):
        if name in function.__globals__ and not isinstance(function.__globals__[name], types.ModuleType):
            yield f".<global {name}>", function.__globals__[name]


def _global_names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.extend(_global_names(constant))
    return names


def _state_parts(obj: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """An instance's attributes: the state that it gives to pickle, or its dict and slots."""
    state: Any = None
    if kind.__dict__.get("__getstate__") is not None or any(
        "__getstate__" in base.__dict__ for base in kind.__mro__[:-1]
    ):
        try:
            state = obj.__getstate__()
        except Exception:
            return
        if isinstance(state, dict):
            for name, value in list(state.items()):
                yield f".{name}", value
            return
        if state is not None:
            yield ".__getstate__()", state
            return
    for name, value in list(getattr(obj, "__dict__", {}).items()):
        yield f".{name}", value
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in ("__dict__", "__weakref__"):
                continue
            attribute = f"_{base.__name__.lstrip('_')}{name}" if name.startswith("__") and name[-2:] != "__" else name
            try:
                yield f".{name}", getattr(obj, attribute)
            except AttributeError:
                continue
    if "__reduce__" in kind.__dict__ or "__reduce_ex__" in kind.__dict__:
        try:
            reduced = obj.__reduce_ex__(5)
        except Exception:
            return
        if isinstance(reduced, tuple):
            for index, part in enumerate(reduced[1:3], start=1):
                yield f".__reduce__()[{index}]", part


def _short(key: Any) -> str:
    try:
        text = repr(key)
    except Exception:
        text = f"<{type(key).__name__}>"
    return text if len(text) <= LONGEST_KEY else text[: LONGEST_KEY - 3] + "..."
