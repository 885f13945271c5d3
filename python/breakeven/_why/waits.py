"""Hooks: waits for what is not Python's: an event loop's, and for commands."""

from __future__ import annotations

from . import kinds
from .hooks import hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# Shorter waits are not worth a record; nanoseconds.
_LONG = 1_000_000


def hook_selectors(module: ModuleType) -> None:
    # asyncio's. (multiprocessing, subprocess and socket servers use other classes of it.)
    if hasattr(module, "EpollSelector"):
        hook(module.EpollSelector, "select", kinds.POLL, "bare", at_least=_LONG, name="asyncio")


def hook_subprocess(module: ModuleType) -> None:
    for name in ("wait", "communicate"):
        hook(
            module.Popen,
            name,
            kinds.JOIN,
            site=True,
            outermost=True,
            at_least=_LONG,
            before=_before_wait,
            after=_after_wait,
        )


def _before_wait(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    return getattr(args[0], "pid", 0) or 0, 0, 1 << 62, "subprocess"


def _after_wait(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    process = args[0]
    code = process.returncode
    return process.pid, 0, 1 << 62 if code is None else code & 0xFFFF_FFFF_FFFF_FFFF, "subprocess"
