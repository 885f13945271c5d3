"""How objects are pickled for the way through shared memory: used by the native module's codec.

Protocol 5, so that large buffers need not be copied into the stream; with the reducers that programs have registered
with `multiprocessing` (`ForkingPickler.register`) and `copyreg`; and with cloudpickle for what pickle cannot name.
"""

from __future__ import annotations

import copyreg
import pickle
from multiprocessing.reduction import ForkingPickler

TYPE_CHECKING = False  # importing typing takes longer than the rest of this module
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROTOCOL = 5


def _reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    """pickle has no way for a memoryview; as a buffer it travels out of band when it is large."""
    if not view.c_contiguous:
        # Its bytes in C order. Writable, whatever the original was: the copy is the receiver's own.
        content: Any = bytearray(view.tobytes())
    else:
        content = view
    return _rebuild_memoryview, (pickle.PickleBuffer(content), view.format, view.shape)


def _rebuild_memoryview(content: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    view: Any = memoryview(content)
    if view.ndim != 1 or view.format != "B":
        view = view.cast("B")
    if format == "B" and len(shape) == 1:
        return view
    if 0 in shape:
        # `cast` refuses shapes without elements; only the length of such a view can be kept.
        return view.cast(format)
    return view.cast(format, shape)


# Reducers of our own; those that programs register come first.
_ours: dict[type, Callable[[Any], Any]] = {memoryview: _reduce_memoryview}

# What programs registered with multiprocessing; the attribute is as old as the class, and typeshed does not know it.
multiprocessings: dict[type, Callable[[Any], Any]] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]

_table_type: Callable[..., Any]
_reducers: Any
_Pickler: type[pickle.Pickler]
_CloudPickler: Any = None


def initialise(table_type: Callable[..., Any]) -> Any:
    """Called by the native module when it is imported, with its type for a dict made of several registries.

    Returns the one for pickling by name; the native module refreshes it before each pickle.
    """
    global _table_type, _reducers, _Pickler
    _table_type = table_type
    _reducers = reducers = table_type(multiprocessings, _ours, copyreg.dispatch_table)

    class Pickler(pickle.Pickler):
        dispatch_table = reducers.table

    _Pickler = Pickler
    return reducers


def new_pickler(collector: Any) -> pickle.Pickler:
    """A pickler that writes to `collector` and offers it the buffers."""
    return _Pickler(collector, PROTOCOL, buffer_callback=collector)


def pickler_by_name(file: Any, buffer_callback: Callable[[Any], Any] | None = None) -> pickle.Pickler:
    """A pickler that writes to `file`, with the reducers that are registered now."""
    _reducers.refresh()
    return _Pickler(file, PROTOCOL, buffer_callback=buffer_callback)


def new_cloud_pickler(collector: Any) -> Any:
    """The same, pickling by value what pickle cannot name. Raises ImportError if cloudpickle is not installed."""
    global _CloudPickler
    if _CloudPickler is None:
        import cloudpickle

        maps = getattr(cloudpickle.Pickler.dispatch_table, "maps", [cloudpickle.Pickler.dispatch_table])

        class CloudPickler(cloudpickle.Pickler):
            reducers = _table_type(multiprocessings, _ours, *maps)
            dispatch_table = reducers.table

        _CloudPickler = CloudPickler
    _CloudPickler.reducers.refresh()
    return _CloudPickler(collector, protocol=PROTOCOL, buffer_callback=collector)


def names_main(stream: bytes) -> bool:
    """Whether a pickle refers to something in `__main__`. (A string of that content counts too, and does no harm.)"""
    return b"\x08__main__" in stream


def explain(obj: Any, by_name: BaseException, by_value: BaseException) -> BaseException:
    """The exception to raise for an object that can be pickled neither by name nor by value."""
    from . import _diagnose

    return _diagnose.explain(obj, by_name, by_value)
