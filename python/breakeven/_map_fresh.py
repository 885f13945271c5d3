"""Whether processes that were forked earlier would still run a function as this one does.

A kept helper has the modules as they were when it was forked. Results must not depend on that: `SCALE = 3` between two
maps must reach the second. So what a function can see in the program's own modules is compared with what was there at
the fork; if anything has changed, or cannot be compared, helpers are forked anew.

Compared are functions, classes, modules, and plain values. What changes inside of installed packages and the standard
library (caches, random generators) is not looked at.
"""

from __future__ import annotations

import functools
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Snapshot"]

_ATOMS = frozenset({int, float, complex, str, bytes, bool, type(None), type(Ellipsis)})
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
# Containers with more elements are not compared, and as good as changed.
MOST = 64
_UNKNOWN: Any = object()

_own_known: dict[str, bool] = {}
_PREFIXES = tuple({f"{prefix.rstrip('/')}/" for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)})


def _is_own(name: str) -> bool:
    """Is this one of the program's own modules, neither the standard library's nor of an installed package?"""
    known = _own_known.get(name)
    if known is None:
        root = name.partition(".")[0]
        file = getattr(sys.modules.get(name), "__file__", None) or ""
        installed = "/site-packages/" in file or "/dist-packages/" in file or file.startswith(_PREFIXES)
        known = name in ("__main__", "__mp_main__") or not (
            root == "breakeven" or root in sys.stdlib_module_names or installed
        )
        _own_known[name] = known
    return known


def _token(value: Any, depth: int = 2) -> Any:
    """Something that is equal as long as a value has not changed; `_UNKNOWN` if that cannot be told."""
    kind = type(value)
    if kind in _ATOMS:
        return kind, value
    if kind is types.FunctionType:
        # The code object is kept, so the comparison is by identity or by content.
        cells = tuple(_cell(cell, depth) for cell in value.__closure__ or ())
        defaults = _token(value.__defaults__, depth - 1) if value.__defaults__ and depth else None
        if _UNKNOWN in cells or defaults is _UNKNOWN:
            return _UNKNOWN
        return value.__code__, cells, defaults
    if kind is types.ModuleType:
        return "module", value.__name__
    if isinstance(value, type):
        if not _is_own(value.__module__):
            return "class", value.__module__, value.__qualname__
        if not depth:
            return _UNKNOWN
        return "class", id(value), tuple((name, _member(part, depth - 1)) for name, part in vars(value).items())
    if kind in _CONTAINERS:
        if len(value) > MOST or not depth:
            return _UNKNOWN
        parts = [*value.keys(), *value.values()] if kind is dict else sorted(value, key=repr) if kind is set else value
        tokens = tuple(_token(part, depth - 1) for part in parts)
        return _UNKNOWN if _UNKNOWN in tokens else (kind, tokens)
    if kind is types.BuiltinFunctionType:
        return "builtin", value.__module__, value.__qualname__
    module = kind.__module__
    if not _is_own(module) and module in ("re", "functools", "operator", "pathlib", "posixpath", "typing"):
        return kind, id(value)
    return _UNKNOWN


def _cell(cell: Any, depth: int) -> Any:
    try:
        return _token(cell.cell_contents, depth - 1) if depth else _UNKNOWN
    except ValueError:
        return None


def _member(value: Any, depth: int) -> Any:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    elif isinstance(value, property):
        return tuple(_token(part, depth) for part in (value.fget, value.fset))
    elif type(value) in (types.GetSetDescriptorType, types.MemberDescriptorType):
        return None
    token = _token(value, depth) if type(value) in _ATOMS or type(value) is types.FunctionType else id(value)
    return id(value) if token is _UNKNOWN else token


class Snapshot:
    """The program's own modules as they are now."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str], Any] = {}
        for name, module in list(sys.modules.items()):
            if not _is_own(name) or type(module) is not types.ModuleType:
                continue
            for key, value in list(vars(module).items()):
                if not key.startswith("__"):
                    try:
                        token = _token(value)
                    except Exception:  # attributes are the program's code
                        token = _UNKNOWN
                    self._tokens[name, key] = token

    def still_holds(self, function: Any) -> bool:
        """Does everything that this function can see look as it did?"""
        try:
            return self._holds(function, set(), 0)
        except Exception:  # attributes are the program's code
            return False

    def _holds(self, value: Any, seen: set[int], depth: int) -> bool:
        if id(value) in seen:
            return True
        seen.add(id(value))
        if len(seen) > 500:
            return False
        kind = type(value)
        if kind is types.MethodType:
            return self._holds(value.__func__, seen, depth) and self._holds(type(value.__self__), seen, depth)
        if kind is functools.partial:
            return self._holds(value.func, seen, depth)
        if kind is types.FunctionType:
            if not _is_own(value.__module__ or ""):
                return True
            return all(self._holds(cell.cell_contents, seen, depth) for cell in value.__closure__ or ()) and (
                self._code_holds(value.__code__, value.__globals__, seen)
            )
        if isinstance(value, type):
            if not _is_own(value.__module__):
                return True
            parts = [getattr(part, "__func__", part) for part in vars(value).values()]
            return all(self._holds(part, seen, depth) for part in parts if type(part) is types.FunctionType) and all(
                self._holds(base, seen, depth) for base in value.__bases__
            )
        if kind.__call__ is not types.BuiltinFunctionType and callable(value):
            return self._holds(kind, seen, depth)
        return True

    def _code_holds(self, code: Any, names: dict[str, Any], seen: set[int]) -> bool:
        module = names.get("__name__", "")
        for name in code.co_names:
            if name in names:
                value = names[name]
                token = _token(value)
                if token is _UNKNOWN or self._tokens.get((module, name), _UNKNOWN) != token:
                    return False
                if type(value) is types.ModuleType and _is_own(value.__name__):
                    if not self._module_holds(value, code.co_names, seen):
                        return False
                elif not self._holds(value, seen, 0):
                    return False
        return all(
            self._code_holds(constant, names, seen) for constant in code.co_consts if type(constant) is types.CodeType
        )

    def _module_holds(self, module: Any, names: Any, seen: set[int]) -> bool:
        for name in names:
            if name in vars(module):
                value = vars(module)[name]
                token = _token(value)
                if token is _UNKNOWN or self._tokens.get((module.__name__, name), _UNKNOWN) != token:
                    return False
                if not self._holds(value, seen, 0):
                    return False
        return True
