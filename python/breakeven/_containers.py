"""What a manager shares without a server: lists, dicts, namespaces, values and arrays in shared memory.

The proxies have the methods of those of `multiprocessing.managers`, whose subclasses they are. They can be passed to
other processes of the tree in any way: inherited by a fork, as arguments of a Process, in messages, inside each other.
Elements are copies, as in the standard library: changing what `l[0]` returned does not change the list, unless it is a
proxy itself.
"""

from __future__ import annotations

import array
import itertools
import operator
import os
import time
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import context as _context
from multiprocessing import managers as _managers
from multiprocessing.managers import Token
from typing import Any

from . import _launch
from ._native import SharedDict, SharedList, storing

_stdlib: Any = _managers  # whose private parts the type stubs do not know

__all__ = ["ArrayProxy", "DictProxy", "ListProxy", "NamespaceProxy", "ValueProxy", "known", "plain"]

# The lists and dicts that this process holds, so that many proxies of one share one handle.
_known: weakref.WeakValueDictionary[tuple[int, int, int], Any] = weakref.WeakValueDictionary()


def known(shared: Any) -> Any:
    """The handle that this process has on a list or dict already, or this one from now on."""
    return _known.setdefault(shared.name(), shared)


class _SharedProxy:
    """What the proxies have in common."""

    _typeid: str
    _kind: Any  # SharedList or SharedDict
    _exposed_: Any
    _more: tuple[Any, ...] = ()  # what the constructor takes after the handle

    def __init__(self, shared: Any, *more: Any, manager: Any = None) -> None:
        # Not calling the inherited one, which talks to a server.
        self._shared = shared
        if more:
            self._more = more
        self._manager = manager  # which lives as long as its proxies in this process

    # What programs that look behind the proxies of the standard library may ask for.

    @property
    def _id(self) -> str:
        return f"{self._shared.name()[2]:x}"

    @property
    def _token(self) -> Token:
        return Token(self._typeid, None, self._id)

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006  (as inherited)
        if methodname == "#GETVALUE":
            return self._getvalue()
        if methodname in ("__repr__", "__str__"):
            return str(self)
        if methodname not in self._exposed_:
            raise AttributeError(
                f"method {methodname!r} of {self._typeid!r} object is not in exposed={self._exposed_!r}"
            )
        return getattr(self, methodname)(*args, **kwds)

    def _getvalue(self) -> Any:
        raise NotImplementedError

    def __reduce__(self) -> Any:
        shared = self._shared
        if _context.get_spawning_popen() is not None:
            arena = _launch.SharedFd.for_child(shared.arena_fd())
            return _rebuild_in_child, (type(self), arena, shared.lend(), *self._more)
        if storing():
            shared.pin()
        return _rebuild, (type(self), shared.name(), os.getpid(), shared.arena_fd(), *self._more)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        return repr(self._getvalue())


class ListProxy(_SharedProxy, _stdlib.ListProxy):
    """A list in shared memory, with the methods of `multiprocessing.managers.ListProxy`."""

    _typeid = "list"
    _kind = SharedList
    _shared: SharedList

    def _getvalue(self) -> list[Any]:
        """A copy of the list as a plain one."""
        return self._shared.snapshot()

    # Reading.

    def __len__(self) -> int:
        return len(self._shared)

    def __getitem__(self, index: Any) -> Any:
        return self._shared.get(index)

    def __iter__(self) -> Iterator[Any]:
        get = self._shared.get
        for index in itertools.count():
            try:
                item = get(index)
            except IndexError:
                return
            yield item

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._getvalue())

    def __contains__(self, value: Any) -> bool:
        found = self._shared.find(value)
        return value in self._getvalue() if found is None else found[1] >= 0

    def count(self, value: Any) -> int:
        count = self._shared.count(value)
        return self._getvalue().count(value) if count is None else count

    def index(self, value: Any, *args: Any) -> int:
        found = None if args else self._shared.find(value)
        if found is not None and found[1] >= 0:
            return found[1]
        return self._getvalue().index(value, *args)

    def copy(self) -> list[Any]:
        return self._getvalue()

    def __add__(self, other: Any) -> list[Any]:
        return self._getvalue() + plain(other)

    def __mul__(self, times: Any) -> list[Any]:
        return self._getvalue() * times

    def __rmul__(self, times: Any) -> list[Any]:
        return times * self._getvalue()

    # Changing.

    def __setitem__(self, index: Any, value: Any) -> None:
        self._shared.set(index, plain(value) if type(index) is slice else value)

    def __delitem__(self, index: Any) -> None:
        self._shared.delete(index)

    def append(self, value: Any) -> None:
        self._shared.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        self._shared.extend(plain(values))

    def __iadd__(self, values: Iterable[Any]) -> ListProxy:  # type: ignore[misc]  # as for list
        self._shared.extend(plain(values))
        return self

    def __imul__(self, times: Any) -> ListProxy:
        times = operator.index(times)
        if times <= 0:
            self._shared.clear()
            return self
        for _ in _attempts():
            version, values = self._shared.versioned()
            if self._shared.extend(values * (times - 1), version):
                break
        return self

    def insert(self, index: Any, value: Any) -> None:
        self._shared.insert(index, value)

    def pop(self, index: Any = -1) -> Any:
        return self._shared.pop(index)

    def remove(self, value: Any) -> None:
        for _ in _attempts():
            found = self._shared.find(value)
            if found is None:
                version, values = self._shared.versioned()
                index = values.index(value) if value in values else -1
            else:
                version, index = found
            if index < 0:
                raise ValueError("list.remove(x): x not in list")
            if self._shared.remove_at(index, version):
                return

    def clear(self) -> None:
        self._shared.clear()

    def reverse(self) -> None:
        self._shared.reverse()

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        for _ in _attempts():
            version, values = self._shared.versioned()
            keys = values if key is None else [key(value) for value in values]
            order = sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)
            if self._shared.reorder(version, order):
                return

    __class_getitem__ = classmethod(types.GenericAlias)


class DictProxy(_SharedProxy, _stdlib.DictProxy):
    """A dict in shared memory, with the methods of `multiprocessing.managers.DictProxy`.

    `keys`, `values` and `items` are lists, as there: how the dict was at one moment.
    """

    _typeid = "dict"
    _kind = SharedDict
    _shared: SharedDict

    def _getvalue(self) -> dict[Any, Any]:
        """A copy of the dict as a plain one."""
        return self._shared.snapshot()

    # Reading.

    def __len__(self) -> int:
        return len(self._shared)

    def __contains__(self, key: Any) -> bool:
        return self._shared.contains(key)

    def __getitem__(self, key: Any) -> Any:
        return self._shared.get(key)

    def get(self, key: Any, default: Any = None) -> Any:
        return self._shared.get(key, default)

    def __iter__(self) -> Iterator[Any]:
        return _iterate(self._shared, self._shared.keys())

    def copy(self) -> dict[Any, Any]:
        return self._shared.snapshot()

    def keys(self) -> list[Any]:
        return self._shared.keys()

    def values(self) -> list[Any]:
        return self._shared.values()

    def items(self) -> list[tuple[Any, Any]]:
        return list(self._shared.snapshot().items())

    # Changing.

    def __setitem__(self, key: Any, value: Any) -> None:
        self._shared.set(key, value)

    def __delitem__(self, key: Any) -> None:
        self._shared.pop(key)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        return self._shared.setdefault(key, default)

    def pop(self, key: Any, *default: Any) -> Any:
        return self._shared.pop(key, *default)

    def popitem(self) -> tuple[Any, Any]:
        return self._shared.popitem()

    def update(self, *others: Any, **named: Any) -> None:
        """As `dict.update`, in one step: other processes see all of it or nothing."""
        self._shared.update(dict(*map(plain, others), **named))

    def clear(self) -> None:
        self._shared.clear()

    __class_getitem__ = classmethod(types.GenericAlias)


def _iterate(shared: SharedDict, keys: list[Any]) -> Iterator[Any]:
    for key in keys:
        if len(shared) != len(keys):
            raise RuntimeError("dictionary changed size during iteration")
        yield key


class NamespaceProxy(_SharedProxy, _stdlib.NamespaceProxy):
    """A namespace in shared memory, with the meaning of `multiprocessing.managers.NamespaceProxy`."""

    _typeid = "Namespace"
    _kind = SharedDict
    _shared: SharedDict

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006  (as inherited)
        if methodname == "__getattribute__":
            return self.__getattr__(*args, **kwds)
        return super()._callmethod(methodname, args, kwds)

    def _getvalue(self) -> Any:
        """A copy of the namespace as a plain one."""
        return _stdlib.Namespace(**self._shared.snapshot())

    def __getattr__(self, name: str) -> Any:
        if name[0] == "_":
            return object.__getattribute__(self, name)
        try:
            return self._shared.get(name)
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}", name=name, obj=self) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] == "_":
            object.__setattr__(self, name, value)
        else:
            self._shared.set(name, value)

    def __delattr__(self, name: str) -> None:
        if name[0] == "_":
            return object.__delattr__(self, name)
        try:
            self._shared.pop(name)
        except KeyError:
            raise AttributeError(f"'Namespace' object has no attribute {name!r}", name=name, obj=self) from None


class ValueProxy(_SharedProxy, _stdlib.ValueProxy):
    """A value in shared memory, with the meaning of `multiprocessing.managers.ValueProxy`: any object, of no type."""

    _typeid = "Value"
    _kind = SharedList
    _shared: SharedList

    def _getvalue(self) -> Any:
        return _stdlib.Value(*self._more, self.get())

    def get(self) -> Any:
        return self._shared.get(0)

    def set(self, value: Any) -> None:
        self._shared.set(0, value)

    value = property(get, set)

    __class_getitem__ = classmethod(types.GenericAlias)


class ArrayProxy(_SharedProxy, _stdlib.ArrayProxy):
    """An array of numbers in shared memory, with the meaning of `multiprocessing.managers.ArrayProxy`.

    Elements are of the type that the code says, as in `array.array`; slices are arrays.
    """

    _typeid = "Array"
    _kind = SharedList
    _shared: SharedList

    def _getvalue(self) -> array.array[Any]:
        """A copy of the array as a plain one."""
        return self._plain(self._shared.snapshot())

    def _plain(self, values: list[Any]) -> array.array[Any]:
        (typecode,) = self._more
        return array.array(typecode, values)

    def __len__(self) -> int:
        return len(self._shared)

    def __getitem__(self, index: Any) -> Any:
        try:
            found = self._shared.get(index)
        except IndexError:
            raise IndexError("array index out of range") from None
        return self._plain(found) if isinstance(index, slice) else found

    def __setitem__(self, index: Any, value: Any) -> None:
        (typecode,) = self._more
        if not isinstance(index, slice):
            value = array.array(typecode, (value,))[0]
        elif not isinstance(value, array.array):
            raise TypeError(f'can only assign array (not "{type(value).__name__}") to array slice')
        elif value.typecode != typecode:
            raise TypeError("bad argument type for built-in operation")
        try:
            self._shared.set(index, value)
        except IndexError:
            raise IndexError("array assignment index out of range") from None


def plain(values: Any) -> Any:
    """A proxy of a list or dict as a plain one, in one step; anything else as it is."""
    return values._getvalue() if isinstance(values, (_stdlib.ListProxy, _stdlib.DictProxy)) else values


def _attempts() -> Iterator[int]:
    """Numbers of attempts at what others may get in the way of; gives way after the first few."""
    for attempt in itertools.count():
        if attempt > 3:
            time.sleep(0.0001)
        yield attempt


def _rebuild(proxy: type[_SharedProxy], name: tuple[int, int, int], pid: int, fd: int, *more: Any) -> _SharedProxy:
    shared = _known.get(name)
    if shared is None:
        try:
            shared = proxy._kind.open(name)
        except LookupError:
            shared = _open_from(proxy._kind, pid, fd, name)
    return proxy(known(shared), *more)


def _open_from(kind: Any, pid: int, fd: int, name: tuple[int, int, int]) -> Any:
    """Opens a list or dict in an arena that this process has not got, through the process that pickled the proxy.

    That is so where a process was started before breakeven was first used in its parent, and told of the list later.
    """
    device, inode, number = name
    try:
        found = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError("the shared list or dict is gone, or of another tree of processes") from error
    status = os.fstat(found)
    if (status.st_dev, status.st_ino) != (device, inode):
        os.close(found)
        raise ValueError("the shared list or dict is gone, or of another tree of processes")
    return kind.attach(found, number)


def _rebuild_in_child(proxy: type[_SharedProxy], arena: _launch.SharedFd, ticket: int, *more: Any) -> _SharedProxy:
    return proxy(known(proxy._kind.attach(arena.take(), ticket)), *more)


for _proxy in (ArrayProxy, DictProxy, ListProxy, NamespaceProxy, ValueProxy):
    _proxy.__module__ = "breakeven.managers"  # where they are found
