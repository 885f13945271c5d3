"""Hooks: pickling, and pipes."""

from __future__ import annotations

from .. import _native
from . import kinds
from .hooks import change, hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def hook_multiprocessing_reduction(module: ModuleType) -> None:
    pickler = module.ForkingPickler
    hook(pickler, "dumps", kinds.DUMP, "dump")
    change(pickler, "loads", _native.Hook(pickler.loads, kinds.LOAD, "load", binds=False))
    # What a spawned child is sent: its preparation data and its process object.
    hook(module, "dump", kinds.DUMP, before=_before_dump, after=_after_dump)
    change(module, "pickle", _Pickle(module.pickle))


def _before_dump(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    obj, file = args[0], args[1]
    _dumped.append(_position(file))
    return 0, 0, 0, type(obj).__name__


def _after_dump(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    obj, file = args[0], args[1]
    return 0, 0, max(_position(file) - _dumped.pop(), 0), type(obj).__name__


_dumped: list[int] = []


def _position(file: Any) -> int:
    try:
        return int(file.tell())
    except (OSError, AttributeError):
        return 0


class _Pickle:
    """The module `pickle`, as `multiprocessing.spawn` looks it up in `reduction` to read what its parent sent."""

    def __init__(self, module: Any) -> None:
        self.__dict__.update(module.__dict__)
        self.load = _native.Hook(module.load, kinds.LOAD, binds=False, before=_before_load, after=_after_load)


def _before_load(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    return 0, 0, 0, None


def _after_load(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    return 0, 0, 0, type(result).__name__


def hook_multiprocessing_connection(module: ModuleType) -> None:
    connection = module.Connection
    hook(connection, "_send_bytes", kinds.SEND, "send")
    hook(connection, "_recv_bytes", kinds.RECV, "recv")
    # Pool's handler of workers asks again and again while there are results: only what really waits is worth a record.
    hook(module, "wait", kinds.POLL, "wait", at_least=20_000)
    hook(module, "Pipe", kinds.SILENT, after=_after_pipe)


def _number(thing: Any) -> int:
    if getattr(thing, "_handle", None) is None:
        return 0
    return _native.trace_number(thing)


def _after_pipe(args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    one, other = result
    _native.trace_point(kinds.PIPE, _number(one), _number(other), site=_native.trace_site())
