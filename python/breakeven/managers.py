"""`multiprocessing.managers`, with a `SyncManager` whose containers live in shared memory.

A list of the standard library's manager is a list in a server process, and each `l[i]` a message there and an answer
back. Here `manager.list()` is a list in shared memory that every process of the tree works on directly, and so are
`dict()`, `Namespace()`, `Value()` and `Array()`. A manager that is only asked for these starts no process. For
everything else (Lock, Queue, Pool, types that the program registers) the standard library's server is started when the
first such thing is asked for, and serves it as before. A manager with an address, one that connects to another's
server, and `BaseManager` with its other subclasses are the standard library's altogether.

What differs for what is shared here, and why:

- `manager.shutdown()` does not take it away from processes that still hold proxies: those work on, and the memory
  is given back with the last of them. (The standard library's raise some connection error from then on.)
- A key function given to `sort` runs in the calling process and need not be picklable. So do comparisons.
- `sort` and `remove` look at the list, work, and start again if it was changed meanwhile: atomic, as in the standard
  library, but next to others who never stop changing the list they may take long. So do keys of a dict that are neither
  None, numbers, text, bytes nor tuples of these.
- A key that is none of these is not found to be equal to one that is.
- A process that is killed in the middle of an operation leaves the container as it was before or after it.

A container is freed when nobody refers to it, as in the standard library; one that was stored in another is kept until
its manager is shut down.
"""

from __future__ import annotations

import array
import builtins
import itertools
import os
from collections.abc import Callable, Iterable
from multiprocessing import context as _context
from multiprocessing import managers as _managers
from multiprocessing import util
from multiprocessing.managers import BaseManager, BaseProxy, SharedMemoryManager, Token
from typing import Any

from . import _pickling
from ._containers import ArrayProxy, DictProxy, ListProxy, NamespaceProxy, ValueProxy, known, plain
from ._native import SharedDict, SharedList, release_group, storing

_stdlib: Any = _managers  # whose private parts the type stubs do not know

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]


def __getattr__(name: str) -> Any:
    return getattr(_stdlib, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_stdlib)})


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


# How the standard library makes what is shared here without a server, where a program has not registered its own.
_OURS = {typeid: _stdlib.SyncManager._registry[typeid] for typeid in ("Array", "Namespace", "Value", "dict", "list")}

for _registered in _stdlib.SyncManager._registry.values():
    if isinstance(_registered[-1], type):
        _pickling._ours[_registered[-1]] = _reduce_server_proxy

_groups = itertools.count(1)


def _let_go(state: Any, group: int) -> None:
    release_group(group)
    state.value = _stdlib.State.SHUTDOWN


class SyncManager(_stdlib.SyncManager):
    """A manager whose containers live in shared memory, and whose server starts when something else is asked for.

    Takes the arguments of `multiprocessing.managers.SyncManager`. With an address, or another serializer, it is exactly
    that. In a forked child that inherited the manager, what needs the server is to be asked for only if the server
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
        self._containers_shutdown = util.Finalize(self, _let_go, args=(self._state, self._group), exitpriority=0)
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
        """End the server, if there is one. Containers go with the last process that uses them."""
        if self._server_shutdown is not None:
            self._server_shutdown()
        if hasattr(self, "_containers_shutdown"):
            self._containers_shutdown()

    def _shares(self, typeid: str) -> bool:
        """Is this typeid's object one in shared memory?"""
        if not self._lazy or self._registry[typeid] is not _OURS[typeid]:
            return False
        assert self._state.value == _stdlib.State.STARTED, "server not yet started"
        return True

    def _list_of(self, values: Iterable[Any]) -> SharedList:
        shared: SharedList = known(SharedList(self._patron, self._group))
        shared.extend(values)
        return shared

    def _dict_of(self, values: dict[Any, Any]) -> SharedDict:
        shared: SharedDict = known(SharedDict(self._patron, self._group))
        shared.update(values)
        return shared

    def list(self, sequence: Iterable[Any] = (), /) -> Any:
        """A list that all processes share, with the elements of `sequence` to begin with."""
        if not self._shares("list"):
            return super().list(sequence)
        return ListProxy(self._list_of(plain(sequence)), manager=self)

    def dict(self, *args: Any, **keywords: Any) -> Any:
        """A dict that all processes share; the arguments are those of `dict`."""
        if not self._shares("dict"):
            return super().dict(*args, **keywords)
        return DictProxy(self._dict_of(builtins.dict(*map(plain, args), **keywords)), manager=self)

    def Namespace(self, /, **attributes: Any) -> Any:
        """An object whose attributes all processes share; those whose names begin with `_` are the proxy's own."""
        if not self._shares("Namespace"):
            return super().Namespace(**attributes)
        return NamespaceProxy(self._dict_of(attributes), manager=self)

    def Value(self, typecode: Any, value: Any, lock: bool = True) -> Any:
        """A value that all processes share. Its type is only for show, as in the standard library."""
        if not self._shares("Value"):
            return super().Value(typecode, value, lock)
        return ValueProxy(self._list_of([value]), typecode, manager=self)

    def Array(self, typecode: str, sequence: Any, lock: bool = True) -> Any:
        """An array of numbers that all processes share; see `array.array` for the code and what the sequence may be."""
        if not self._shares("Array"):
            return super().Array(typecode, sequence, lock)
        return ArrayProxy(self._list_of(array.array(typecode, sequence).tolist()), typecode, manager=self)

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
