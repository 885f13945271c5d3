"""`multiprocessing.managers`, with a `SyncManager` whose lists live in shared memory.

A list of the standard library's manager is a list in a server process, and each `l[i]` a message there and an answer
back. Here `manager.list()` is a list in shared memory that every process of the tree works on directly, and a manager
that is only asked for lists starts no process. For everything else (dict, Value, Namespace, Lock, Queue, types that the
program registers) the standard library's server is started when the first such thing is asked for, and serves it as
before. A manager with an address, one that connects to another's server, and `BaseManager` with its other subclasses
are the standard library's altogether.

What differs for lists, and why:

- `manager.shutdown()` does not take lists away from processes that still hold proxies: those work on, and the memory
  is given back with the last of them. (The standard library's raise some connection error from then on.)
- A key function given to `sort` runs in the calling process and need not be picklable. So do comparisons.
- `sort` and `remove` look at the list, work, and start again if it was changed meanwhile: atomic, as in the standard
  library, but next to others who never stop changing the list they may take long.
- A process that is killed in the middle of an operation leaves the list as it was before or after it.

A list is freed when nobody refers to it, as in the standard library; one that was stored in another list is kept until
its manager is shut down.
"""

from __future__ import annotations

import itertools
import operator
import os
import time
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import context as _context
from multiprocessing import managers as _managers
from multiprocessing import util
from multiprocessing.managers import BaseManager, BaseProxy, SharedMemoryManager, Token
from typing import Any

from . import _launch, _pickling
from ._native import SharedList, storing

_stdlib: Any = _managers  # whose private parts the type stubs do not know

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]


def __getattr__(name: str) -> Any:
    return getattr(_stdlib, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_stdlib)})


# The lists that this process holds, so that many proxies of one list share one handle.
_known: weakref.WeakValueDictionary[tuple[int, int, int], SharedList] = weakref.WeakValueDictionary()


class ListProxy(_stdlib.ListProxy):
    """A list in shared memory, with the methods of `multiprocessing.managers.ListProxy`.

    Proxies can be passed to other processes of the tree in any way: inherited by a fork, as arguments of a Process, in
    messages, inside other shared lists. Elements are copies, as in the standard library: changing what `l[0]` returned
    does not change the list, unless it is a proxy itself.
    """

    def __init__(self, shared: SharedList, manager: Any = None) -> None:
        # Not calling the inherited one, which talks to a server.
        self._shared = shared
        self._manager = manager  # which lives as long as its proxies in this process

    # What programs that look behind the proxies of the standard library may ask for.

    @property
    def _id(self) -> str:
        return f"{self._shared.name()[2]:x}"

    @property
    def _token(self) -> Token:
        return Token("list", None, self._id)

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006  (as inherited)
        if methodname == "#GETVALUE":
            return self._getvalue()
        if methodname in ("__repr__", "__str__"):
            return str(self)
        if methodname not in self._exposed_:
            raise AttributeError(f"method {methodname!r} of 'list' object is not in exposed={self._exposed_!r}")
        return getattr(self, methodname)(*args, **kwds)

    def _getvalue(self) -> list[Any]:
        """A copy of the list as a plain one."""
        return self._shared.snapshot()

    def __reduce__(self) -> Any:
        shared = self._shared
        if _context.get_spawning_popen() is not None:
            return _rebuild_in_child, (_launch.SharedFd.for_child(shared.arena_fd()), shared.lend())
        if storing():
            shared.pin()
        return _rebuild, (*shared.name(), os.getpid(), shared.arena_fd())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid 'list' at {id(self):#x}>"

    def __str__(self) -> str:
        return repr(self._getvalue())

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
        return self._getvalue() + _plain(other)

    def __mul__(self, times: Any) -> list[Any]:
        return self._getvalue() * times

    def __rmul__(self, times: Any) -> list[Any]:
        return times * self._getvalue()

    # Changing.

    def __setitem__(self, index: Any, value: Any) -> None:
        self._shared.set(index, _plain(value) if type(index) is slice else value)

    def __delitem__(self, index: Any) -> None:
        self._shared.delete(index)

    def append(self, value: Any) -> None:
        self._shared.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        self._shared.extend(_plain(values))

    def __iadd__(self, values: Iterable[Any]) -> ListProxy:  # type: ignore[misc]  # as for list
        self._shared.extend(_plain(values))
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


def _plain(values: Any) -> Any:
    """A proxy of a list as a plain list, in one step; anything else as it is."""
    return values._getvalue() if isinstance(values, _stdlib.ListProxy) else values


def _attempts() -> Iterator[int]:
    """Numbers of attempts at what others may get in the way of; gives way after the first few."""
    for attempt in itertools.count():
        if attempt > 3:
            time.sleep(0.0001)
        yield attempt


def _rebuild(device: int, inode: int, number: int, pid: int, fd: int) -> ListProxy:
    name = device, inode, number
    shared = _known.get(name)
    if shared is None:
        try:
            shared = SharedList.open(name)
        except LookupError:
            shared = _open_from(pid, fd, name)
        _known[name] = shared
    return ListProxy(shared)


def _open_from(pid: int, fd: int, name: tuple[int, int, int]) -> SharedList:
    """Opens a list of an arena that this process has not got, through the process that pickled the proxy.

    That is so where a process was started before breakeven was first used in its parent, and told of the list later.
    """
    device, inode, number = name
    try:
        found = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError("the shared list is gone, or of another tree of processes") from error
    status = os.fstat(found)
    if (status.st_dev, status.st_ino) != (device, inode):
        os.close(found)
        raise ValueError("the shared list is gone, or of another tree of processes")
    return SharedList.attach(found, number)


def _rebuild_in_child(arena: _launch.SharedFd, ticket: int) -> ListProxy:
    shared = SharedList.attach(arena.take(), ticket)
    return ListProxy(_known.setdefault(shared.name(), shared))


# Proxies of the standard library that are stored in a list of ours. What they stand for is freed by its server when the
# last process has dropped its proxy, and what is pickled in shared memory does not count.

_kept: set[tuple[int, Any, str]] = set()


def _keep(proxy: Any) -> None:
    """Have the server of a stored proxy keep what it stands for until the server ends."""
    key = os.getpid(), proxy._token.address, proxy._token.id
    if key in _kept:
        return
    connection = proxy._Client(proxy._token.address, authkey=proxy._authkey)
    try:
        _stdlib.dispatch(connection, None, "incref", (proxy._token.id,))
    finally:
        connection.close()
    _kept.add(key)


def _reduce_server_proxy(proxy: Any) -> Any:
    if storing():
        _keep(proxy)
    return proxy.__reduce__()


_LIST = _stdlib.SyncManager._registry["list"]

for _registered in _stdlib.SyncManager._registry.values():
    if isinstance(_registered[-1], type) and _registered is not _LIST:
        _pickling._ours[_registered[-1]] = _reduce_server_proxy
_pickling._ours[_stdlib.ListProxy] = _reduce_server_proxy

_groups = itertools.count(1)


def _let_go(state: Any, group: int) -> None:
    SharedList.release_group(group)
    state.value = _stdlib.State.SHUTDOWN


class SyncManager(_stdlib.SyncManager):
    """A manager whose lists live in shared memory, and whose server starts when something else is asked for.

    Takes the arguments of `multiprocessing.managers.SyncManager`. With an address, or another serializer, it is exactly
    that. In a forked child that inherited the manager, things other than lists are to be asked for only if the server
    was started before the fork; else the child starts one of its own, which ends with it.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._lazy = self._address is None and self._serializer == "pickle"
        self._server_shutdown: Callable[[], Any] | None = None
        self._initializer: tuple[Any, Any] = (None, ())
        self._mutex = util.ForkAwareThreadLock()

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Make the manager ready for use. An initializer is for the server, which it makes start at once."""
        if not self._lazy:
            return super().start(initializer, initargs)
        state = self._state.value
        if state == _stdlib.State.STARTED:
            raise _context.ProcessError("Already started server")
        if state != _stdlib.State.INITIAL:
            raise _context.ProcessError("Manager has shut down")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._initializer = initializer, initargs
        self._group = next(_groups)
        self._patron = SharedList.patron()
        self._process = None
        self._state.value = _stdlib.State.STARTED
        self._lists_shutdown = util.Finalize(self, _let_go, args=(self._state, self._group), exitpriority=0)
        if initializer is not None:
            self._serve()

    def connect(self) -> None:
        """Use the server at this manager's address."""
        self._lazy = False
        super().connect()

    def _serve(self) -> None:
        """Start the server, if it is not running and this manager is one that has been started."""
        if not self._lazy or self._server_shutdown is not None:
            return
        with self._mutex:
            states = _stdlib.State
            if self._server_shutdown is not None or self._state.value != states.STARTED:
                return
            self._state.value = states.INITIAL
            try:
                super().start(*self._initializer)
                self._server_shutdown = self.__dict__.pop("shutdown")
            finally:
                self._state.value = states.STARTED

    def shutdown(self) -> None:
        """End the server, if there is one. Lists go with the last process that uses them."""
        if self._server_shutdown is not None:
            self._server_shutdown()
        if hasattr(self, "_lists_shutdown"):
            self._lists_shutdown()

    def list(self, sequence: Iterable[Any] = (), /) -> ListProxy:
        """A list that all processes share, with the elements of `sequence` to begin with."""
        if not self._lazy or self._registry["list"] is not _LIST:
            return super().list(sequence)
        assert self._state.value == _stdlib.State.STARTED, "server not yet started"
        shared = SharedList(self._patron, self._group)
        shared.extend(_plain(sequence))
        _known[shared.name()] = shared
        return ListProxy(shared, self)

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> Any:
        self._serve()
        token, exposed = super()._create(typeid, *args, **kwds)
        if self._registry[typeid][-1] is _stdlib.AutoProxy:
            # A class made for the purpose, by the standard library, once for each set of methods.
            kind = _stdlib.MakeProxyType(f"AutoProxy[{typeid}]", exposed)
            _pickling._ours.setdefault(kind, _reduce_server_proxy)
        return token, exposed

    @property
    def address(self) -> Any:
        """Address of the server, which is started for it."""
        self._serve()
        return self._address

    def join(self, timeout: float | None = None) -> None:
        """Wait for the server to end, if one was started."""
        if self._process is not None:
            super().join(timeout)

    def _debug_info(self) -> Any:
        self._serve()
        return super()._debug_info()

    def _number_of_objects(self) -> Any:
        self._serve()
        return super()._number_of_objects()
