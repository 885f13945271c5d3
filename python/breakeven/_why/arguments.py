"""What is handed to tasks: for the first few submissions of a place, each argument with its name, type and size."""

from __future__ import annotations

import sys

from .. import _native
from . import kinds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType
    from typing import Any

# How many submissions of a place are looked at, and how many arguments of one.
_SUBMISSIONS = 3
_ARGUMENTS = 12

# What a record's link says beside the position and the object's identity (`Argument` of crates/trace/src/record.rs).
_CAPTURED = 1 << 8
_OF_MAP = 1 << 9

_seen: dict[int, int] = {}


def name_of(function: Any) -> str | None:
    """A function's name as its author would say it."""
    for _ in range(8):
        name = getattr(function, "__qualname__", None)
        if isinstance(name, str):
            return name
        inner = _inner(function)
        if inner is None:
            break
        function = inner
    return type(function).__qualname__ if function is not None else None


def _inner(function: Any) -> Any:
    """What a partial calls. An executor's map wraps the program's function twice: its own helper is given it."""
    inner = getattr(function, "func", None)
    if getattr(inner, "__qualname__", None) == "_process_chunk" and getattr(function, "args", ()):
        return function.args[0]
    return inner


def record(pool: int, site: int, function: Any, arguments: Any) -> None:
    """One of the first tasks of a place is handed over with these arguments."""
    things = list(_captured(function))
    if isinstance(arguments, (tuple, list)):  # what else there is may be gone when it has been looked at
        things += [(at, None, argument) for at, argument in enumerate(arguments[:_ARGUMENTS])]
    _write(pool, site, things)


def record_items(pool: int, function: Any, items: Any) -> None:
    """A function is mapped over these items."""
    site = _first_few()
    if site:
        things = list(_captured(function))
        if isinstance(items, (list, tuple)) and items:
            things.append((_OF_MAP, "items[0]", items[0]))
        things.append((1 | _OF_MAP, None, items))
        _write(pool, site, things)


def _first_few() -> int:
    site = _native.trace_site()
    count = _seen.get(site, 0)
    if site == 0 or count >= _SUBMISSIONS:
        return 0
    _seen[site] = count + 1
    return site


def _captured(function: Any) -> Iterator[tuple[int, str | None, Any]]:
    """What a function brings along, as `_write` takes it."""
    return ((min(at, 0xFF) | _CAPTURED, name, value) for at, (name, value) in enumerate(_brought(function)))


def _brought(function: Any) -> Iterator[tuple[str | None, Any]]:
    """A method's object, a partial's arguments, a closure's variables."""
    for _ in range(8):
        inner = _inner(function)
        if inner is None or not hasattr(function, "keywords"):
            break
        if inner is getattr(function, "func", None):
            for argument in getattr(function, "args", ()):
                yield None, argument
            yield from function.keywords.items()
        function = inner
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type(sys)):
        yield "self", owner
        values = getattr(owner, "__dict__", None)
        if isinstance(values, dict):
            for name, value in list(values.items())[:_ARGUMENTS]:
                yield f"self.{name}", value
    cells = getattr(function, "__closure__", None)
    if cells:
        for name, cell in zip(function.__code__.co_freevars, cells, strict=False):
            try:
                yield name, cell.cell_contents
            except ValueError:
                pass


def _write(pool: int, site: int, things: list[tuple[int, str | None, Any]]) -> None:
    """`things`: (position and flags, name if it is known, value)."""
    frame = _user_frame()
    for at, name, value in things[: 2 * _ARGUMENTS]:
        name = name or (_name_in(frame, value) if frame is not None else None) or f"argument {at & 0xFF}"
        at |= (id(value) & 0xFFFF_FFFF_FFFF) << 16
        kind = type(value)
        text = (
            kind.__qualname__
            if kind.__module__ in ("builtins", "__main__")
            else f"{kind.__module__.split('.')[0]}.{kind.__qualname__}"
        )
        _native.trace_point(kinds.ARGUMENT, pool, at, _size(value), f"{name}: {text}", site)


def _user_frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and _native.trace_distance(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _name_in(frame: FrameType, value: Any) -> str | None:
    """What the submitting code calls a value."""
    if value is None or isinstance(value, (int, float, bool)):
        return None
    code: CodeType = frame.f_code
    for name, known in list(frame.f_locals.items()):
        if known is value and not name.startswith("__"):
            return name
    for name in code.co_names:
        if frame.f_globals.get(name) is value:
            return name
    return None


def _size(value: Any) -> int:
    """Bytes of a value: an array's data, or what Python says without what it refers to."""
    try:
        size = getattr(value, "nbytes", None)
        if not isinstance(size, int):
            usage = getattr(value, "memory_usage", None)  # pandas
            size = None
            if callable(usage) and type(value).__module__.startswith("pandas"):
                used = usage(deep=False)
                size = int(used.sum() if hasattr(used, "sum") else used)
        if size is None:
            size = sys.getsizeof(value)
        return max(int(size), 0)
    except Exception:  # the program's own classes can do anything here
        return 0
