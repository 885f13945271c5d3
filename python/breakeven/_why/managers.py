"""Hooks: `multiprocessing.managers`."""

from __future__ import annotations

import zlib

from .. import _native
from . import kinds
from .hooks import hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def hook_multiprocessing_managers(module: ModuleType) -> None:
    hook(module.BaseProxy, "_callmethod", kinds.CALL, site=True, before=_before_call)
    hook(module.Server, "serve_client", kinds.SILENT, before=_before_serve)


def _number(address: Any) -> int:
    return (zlib.crc32(repr(address).encode()) << 16) | 2


def _before_call(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    proxy = args[0]
    method = args[1] if len(args) > 1 else (kwargs or {}).get("methodname")
    return _number(proxy._token.address), 0, 0, method


def _before_serve(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    server, connection = args[0], args[1]
    return 0, 0, 0, None, (server, _native.ServedConnection(connection, _number(server.address))), kwargs
