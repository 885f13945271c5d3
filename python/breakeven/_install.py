"""`install()` and `uninstall()`: breakeven's classes under the standard library's names.

What programs do with the names, and what each must get:

- They call them, mostly through a context (`multiprocessing.Queue()`, `get_context("spawn").Pool(4)`), also through the
  classes (`multiprocessing.pool.ThreadPool(8)`). That makes breakeven's objects. The contexts' methods look the classes
  up when they are called, so `from multiprocessing import Queue` before `install()` is no exception.
- They ask `isinstance(q, multiprocessing.queues.Queue)`. Both kinds are instances.
- They derive from the classes, and then override and reach into their private parts: loky's and torch's queues, the
  pools without daemons. A class derived from a name that breakeven has taken derives from the standard library's class.
- Parts of the standard library itself reach into a queue's private parts: its own Pool and ProcessPoolExecutor, which
  such derived classes use. They are handed the standard library's queues.

Spawn and forkserver children are reached through the preparation data that the standard library sends them before
anything else: it contains an object whose unpickling installs.
"""

from __future__ import annotations

import abc
import importlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection as _connection
from multiprocessing import context as _context
from multiprocessing import pool as _pool
from multiprocessing import queues as _queues
from multiprocessing import reduction as _reduction
from multiprocessing import spawn as _spawn

from . import context, queues

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["install", "is_installed", "replaced_names", "uninstall"]

_MISSING = object()

# What install() did, last change last: (object, attribute, its value before, what it is called in the receipt).
_changes: list[tuple[Any, str, Any, str]] = []
_lock = threading.Lock()

# Modules of the standard library that use private parts of the queues which they ask a context for.
_USERS_OF_PRIVATE_PARTS = frozenset({"multiprocessing.pool", "concurrent.futures.process"})


class _TakenName(abc.ABCMeta):
    """Metaclass of the classes that stand under the standard library's names while breakeven is installed.

    Such a class derives from the standard library's, for its attributes: `Queue.__init__(self, ...)` in a derived class
    has to go on working. (ABCMeta and not type, so that programs may list an abstract class beside it as a base.)
    """

    _stdlib: type
    _make: Callable[..., Any]
    _ours: Callable[[], type]

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any) -> Any:
        bases = tuple(base._stdlib if isinstance(base, _TakenName) else base for base in bases)
        return type.__new__(type, name, bases, namespace, **keywords)

    @classmethod
    def take(mcls, stdlib: type, make: Callable[..., Any], ours: Callable[[], type]) -> type:
        """The class to put in the place of `stdlib`. Calling it calls `make`; instances of `ours()` are its own too."""
        namespace = {
            "__module__": stdlib.__module__,
            "__qualname__": stdlib.__qualname__,
            "__doc__": stdlib.__doc__,
            "__slots__": (),
            "_stdlib": stdlib,
            "_make": staticmethod(make),
            "_ours": staticmethod(ours),
        }
        return super().__new__(mcls, stdlib.__name__, (stdlib,), namespace)

    def __call__(cls, *args: Any, **keywords: Any) -> Any:
        return cls._make(*args, **keywords)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._stdlib) or isinstance(instance, cls._ours())

    def __subclasscheck__(cls, subclass: type) -> bool:
        if subclass is cls:
            return True
        return issubclass(subclass, cls._stdlib) or issubclass(subclass, cls._ours())


def _keeping_contract(queue: queues.Queue) -> queues.Queue:
    queue._keep_stdlib_contract()
    return queue


def _queue(maxsize: int = 0, *, ctx: Any) -> queues.Queue:
    return _keeping_contract(queues.Queue(maxsize, ctx=ctx))


def _joinable_queue(maxsize: int = 0, *, ctx: Any) -> queues.Queue:
    return _keeping_contract(queues.JoinableQueue(maxsize, ctx=ctx))


def _simple_queue(*, ctx: Any) -> queues.SimpleQueue:
    return queues.SimpleQueue(ctx=ctx)


def _asked_by_stdlib() -> bool:
    return sys._getframe(2).f_globals.get("__name__") in _USERS_OF_PRIVATE_PARTS


# Methods that stand in multiprocessing.context.BaseContext, and are not those of our own contexts.


def Queue(self: Any, maxsize: int = 0) -> Any:
    """Returns a queue object"""
    if _asked_by_stdlib():
        return _original(_queues, "Queue")(maxsize, ctx=self.get_context())
    return _queue(maxsize, ctx=self.get_context())


def JoinableQueue(self: Any, maxsize: int = 0) -> Any:
    """Returns a queue object"""
    return _joinable_queue(maxsize, ctx=self.get_context())


def SimpleQueue(self: Any) -> Any:
    """Returns a queue object"""
    if _asked_by_stdlib():
        return _original(_queues, "SimpleQueue")(ctx=self.get_context())
    return _simple_queue(ctx=self.get_context())


def Pipe(self: Any, duplex: bool = True) -> Any:
    """Returns two connection object connected by a pipe"""
    if _asked_by_stdlib():
        return _original(_connection, "Pipe")(duplex)
    from .connection import Pipe

    return Pipe(duplex)


def _pipe(duplex: bool = True) -> Any:
    """Returns pair of connection objects at either end of a pipe"""
    # The standard library's own parts keep its own pipes: what they send is small, or bytes that others may read.
    caller = str(sys._getframe(1).f_globals.get("__name__"))
    if caller.startswith("multiprocessing.") and caller != "multiprocessing.context":
        return _original(_connection, "Pipe")(duplex)
    from .connection import Pipe

    return Pipe(duplex)


_pipe.__name__ = _pipe.__qualname__ = "Pipe"


def _original(owner: Any, attribute: str) -> Any:
    """The standard library's own value of a name, whether or not it is replaced at the moment."""
    for changed, name, value, _ in _changes:
        if changed is owner and name == attribute:
            return value
    return getattr(owner, attribute)


def _change(owner: Any, attribute: str, value: Any, label: str = "") -> None:
    _changes.append((owner, attribute, vars(owner).get(attribute, _MISSING), label))
    setattr(owner, attribute, value)


def is_installed() -> bool:
    """Is `install()` in force in this process?"""
    return bool(_changes)


def replaced_names() -> list[str]:
    """The public names that stand for breakeven's classes at the moment, without the contexts' methods."""
    return list(dict.fromkeys(label for *_, label in _changes if label))


def install() -> None:
    """See `breakeven.install`."""
    with _lock:
        if _changes:
            return
        try:
            _install_queues()
            _install_locks()
            _install_pools()
            _install_executor()
            _install_method(_of_ours("Manager"))
            _install_method(Pipe)
            _change(_connection, "Pipe", _pipe, "multiprocessing.connection.Pipe")
            _change(_spawn, "get_preparation_data", _with_install(_spawn.get_preparation_data))
            for name in ("ForkProcess", "SpawnProcess", "ForkServerProcess"):
                _change(getattr(_context, name), "_Popen", vars(getattr(context, name))["_Popen"])
        except BaseException:
            _restore()
            raise


def uninstall() -> None:
    """See `breakeven.uninstall`."""
    with _lock:
        _restore()


def _restore() -> None:
    while _changes:
        owner, attribute, value, _ = _changes.pop()
        if value is _MISSING:
            delattr(owner, attribute)
        else:
            setattr(owner, attribute, value)
    for stdlib in _reduced:
        _reduction.ForkingPickler._extra_reducers.pop(stdlib, None)  # type: ignore[attr-defined]
    _reduced.clear()


def _install_method(method: Any) -> None:
    name = method.__name__
    _change(_context.BaseContext, name, method)
    # multiprocessing's functions are bound methods of its default context, made when it was imported.
    _change(multiprocessing, name, getattr(_context._default_context, name), f"multiprocessing.{name}")  # type: ignore[attr-defined]


def _of_ours(name: str) -> Any:
    """A method of our contexts, which serves the standard library's as well."""
    return vars(context.BaseContext)[name]


def _install_queues() -> None:
    for method, make, ours in (
        (Queue, _queue, queues.Queue),
        (JoinableQueue, _joinable_queue, queues.JoinableQueue),
        (SimpleQueue, _simple_queue, queues.SimpleQueue),
    ):
        name = method.__name__
        stdlib = getattr(_queues, name)
        _install_method(method)
        _change(
            _queues,
            name,
            _TakenName.take(stdlib, make, lambda ours=ours: ours),  # type: ignore[misc]
            f"multiprocessing.queues.{name}",
        )
        _reduced[stdlib] = (_queues, name)
        _reduction.ForkingPickler.register(stdlib, _reduce_stdlib)


def _install_locks() -> None:
    from multiprocessing import synchronize

    for name in ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier"):
        _install_method(_of_ours(name))
        stdlib = getattr(synchronize, name)
        _change(synchronize, name, _take_lazily(stdlib, "synchronize"), f"multiprocessing.synchronize.{name}")
        # Those that were made before, and those that derived classes make, still travel to children.
        _reduced[stdlib] = (synchronize, name)
        _reduction.ForkingPickler.register(stdlib, _reduce_stdlib)


def _take_lazily(stdlib: type, module: str, made: str = "") -> type:
    """Like `take`, for a class of ours that need not be loaded before somebody uses it.

    `made`: the name of the class that is made, if it is not the standard library's own name for it.
    """

    def ours() -> type:
        return getattr(importlib.import_module(f".{module}", __package__), stdlib.__name__)

    def make(*args: Any, **keywords: Any) -> Any:
        name = made or stdlib.__name__
        return getattr(importlib.import_module(f".{module}", __package__), name)(*args, **keywords)

    return _TakenName.take(stdlib, make, ours)


def _install_pools() -> None:
    _install_method(_of_ours("Pool"))
    for name in ("Pool", "ThreadPool"):
        _change(_pool, name, _take_lazily(getattr(_pool, name), "pool"), f"multiprocessing.pool.{name}")
    for name in ("ApplyResult", "MapResult", "IMapIterator", "IMapUnorderedIterator"):
        _change(_pool, name, _take_result(getattr(_pool, name)))
    _change(_pool, "AsyncResult", _pool.ApplyResult)


def _take_result(stdlib: type) -> type:
    """For the classes of results, which programs ask `isinstance` for, and only pools make."""

    def ours() -> type:
        return getattr(importlib.import_module(".pool", __package__), stdlib.__name__)

    def make(*args: Any, **keywords: Any) -> Any:
        return stdlib(*args, **keywords)  # a pool of the standard library's, which a derived class's is

    return _TakenName.take(stdlib, make, ours)


def _install_executor() -> None:
    import concurrent.futures as futures

    name = "ProcessPoolExecutor"

    def take() -> type:
        from concurrent.futures import process

        taken = _take_lazily(process.ProcessPoolExecutor, "executor", "StrictProcessPoolExecutor")
        _change(process, name, taken)
        _change(futures, name, taken, f"concurrent.futures.{name}")
        return taken

    if "concurrent.futures.process" in sys.modules:
        take()
        return

    # It is loaded when a program asks for the name, and so is the replacement: a program that uses no executor does not
    # pay for the import.
    stdlib_getattr = futures.__getattr__

    def __getattr__(attribute: str) -> Any:
        if attribute == name and is_installed():
            with _lock:
                return vars(futures).get(name) or take()
        return stdlib_getattr(attribute)

    _change(futures, "__getattr__", __getattr__, f"concurrent.futures.{name}")


# The standard library's queue and lock classes do not stand under their own names meanwhile, which is where pickle
# looks for them; their instances still travel to spawn and forkserver children, as parts of its own executor.
_reduced: dict[type, tuple[Any, str]] = {}


def _reduce_stdlib(obj: Any) -> tuple[Any, ...]:
    module, name = _reduced[type(obj)]
    return _blank_stdlib, (module.__name__, name), obj.__getstate__()


def _blank_stdlib(module: str, name: str) -> Any:
    cls = _original(importlib.import_module(module), name)
    return cls.__new__(cls)


class _InstallInChild:
    """Unpickling this installs breakeven in the process that does so."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The child unpickles its preparation data before it takes the parent's sys.path over from them, so breakeven
        # may have to be found where the parent found it.
        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        code = (
            "try:\n"
            " import breakeven\n"
            "except ModuleNotFoundError:\n"
            " import sys\n"
            f" sys.path.append({home!r})\n"
            " import breakeven\n"
            "breakeven.install()\n"
        )
        return exec, (code, {})


def _with_install(get_preparation_data: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    def get_preparation_data_and_install(name: str) -> dict[str, Any]:
        data = get_preparation_data(name)
        data["breakeven"] = _InstallInChild()
        return data

    return get_preparation_data_and_install
