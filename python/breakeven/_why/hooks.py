"""The seams of the standard library: what is put in their place while a run is recorded.

`start(path)` begins to record this process into a memory file and puts the hooks in; `stop()` takes them out. Modules
get their hooks when they are imported (a program without a pool does not pay for one); `SEAMS` says which file of this
package knows them. A hook is a native callable (`_native.Hook`) and shows in no traceback.

Forked children go on by themselves (`os.register_at_fork`); spawned ones, forkserver's and loky's unpickle `Enter` with
what multiprocessing sends them before anything else.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig

from .. import _native
from . import kinds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

__all__ = ["change", "identity", "is_active", "start", "stop"]

_MISSING = object()
# What was changed, last change last: (object, attribute, its value before).
_changes: list[tuple[Any, str, Any]] = []

# Module -> the file of this package that has its hooks, which defines `hook_MODULE` with dots as underscores.
SEAMS = {
    "multiprocessing.process": "processes",
    "multiprocessing.spawn": "processes",
    "multiprocessing.reduction": "messages",
    "multiprocessing.connection": "messages",
    "multiprocessing.queues": "queues",
    "multiprocessing.synchronize": "locks",
    "multiprocessing.pool": "pools",
    "multiprocessing.managers": "managers",
    "concurrent.futures._base": "futures",
    "concurrent.futures.process": "futures",
    "concurrent.futures.thread": "futures",
    "threading": "threads",
}

_seams: dict[str, Callable[[ModuleType], None]] = {}

# The memory file's path; None while nothing is recorded.
_path: str | None = None
# Monotonic nanosecond at which this process began to be recorded.
_began = 0


def identity(value: Any) -> Any:
    """The value itself. Tasks that a worker sends on become what they stand for."""
    return value


def is_active() -> bool:
    """Is this process recorded?"""
    return _path is not None and _native.trace_active()


def change(owner: Any, attribute: str, value: Any) -> None:
    """Replace an attribute until `stop()`."""
    _changes.append((owner, attribute, vars(owner).get(attribute, _MISSING)))
    setattr(owner, attribute, value)


def hook(owner: Any, attribute: str, kind: int, mode: str = "plain", **options: Any) -> None:
    """Put a hook in the place of a function, method, static or class method of `owner`, if it is there."""
    value = vars(owner).get(attribute, _MISSING)
    if value is _MISSING:
        return
    binds = isinstance(owner, type) and not isinstance(value, (staticmethod, classmethod))
    # What a static or class method's hook calls is bound already.
    function = value if binds else getattr(owner, attribute)
    change(owner, attribute, _native.Hook(function, kind, mode, binds=binds, **options))


def start(path: str, parent: int = 0, method: str = "main", name: str = "") -> None:
    """Record this process into the memory file at `path`. Raises OSError if it cannot be had."""
    global _path, _began
    if _path is not None:
        return
    begin = _native.trace_now()
    _native.trace_start(path, parent, method, name)
    _path, _began = path, begin
    _native.trace_files(_own_folders(), _package_folders())
    _native.trace_point(kinds.BORN, parent, name=name)
    for module, file in SEAMS.items():
        _seams[module] = _Seam(module, file)
    bootstrap = sys.modules["importlib._bootstrap"] if "importlib._bootstrap" in sys.modules else None
    for owner in {
        id(module): module for module in (bootstrap, sys.modules.get("_frozen_importlib")) if module
    }.values():
        change(owner, "_find_and_load", _native.ImportHook(owner._find_and_load, _seams, 200_000))
    change(os, "_exit", _native.Hook(os._exit, kinds.SILENT, before=_before_exit))
    for module in SEAMS:
        if module in sys.modules:
            _seams[module](sys.modules[module])
    _register_once()


def stop() -> None:
    """Take the hooks out; this process is recorded no more. What goes through them at the moment goes on."""
    global _path
    if _path is None:
        return
    _path = None
    while _changes:
        owner, attribute, value = _changes.pop()
        if value is _MISSING:
            delattr(owner, attribute)
        else:
            setattr(owner, attribute, value)
    _seams.clear()
    _native.trace_stop()


class _Seam:
    """Puts a module's hooks in, once."""

    def __init__(self, module: str, file: str) -> None:
        self.module = module
        self.file = file

    def __call__(self, module: ModuleType) -> None:
        _seams.pop(self.module, None)
        file = importlib.import_module(f"{__package__}.{self.file}")
        getattr(file, "hook_" + self.module.replace(".", "_").strip("_"))(module)


def _own_folders() -> list[str]:
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), own, os.path.dirname(os.__file__)}
    return [path + os.sep for path in paths if path]


def _package_folders() -> list[str]:
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return [path + os.sep for path in paths if path]


# ---------------------------------------------------------------------------------------------------------------------
# The beginning and the end of processes

_registered = False


def _register_once() -> None:
    global _registered
    if _registered:
        return
    _registered = True
    import atexit

    os.register_at_fork(after_in_child=_after_fork)
    # Last in, first out: after everything that the program registers.
    atexit.register(_at_exit)


def _after_fork() -> None:
    global _path, _began, _booting
    if _path is None:
        return
    _booting = False
    _began = _native.trace_now()
    if _native.trace_after_fork("fork"):
        _native.trace_point(kinds.BORN, os.getppid())
    else:
        stop()


_booting = False


def open_boot() -> None:
    """The process begins to get ready for what it is there for; more than once is the same."""
    global _booting
    if not _booting:
        _booting = True
        _native.trace_open(kinds.BOOT)


def close_boot() -> None:
    """The process begins with what it is there for."""
    global _booting
    if _booting:
        _booting = False
        _native.trace_close()
        _native.trace_span(kinds.BOOT, _began, _native.trace_now(), cpu=_native.trace_thread()[1])


def _before_exit(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
    finish(args[0] if args and isinstance(args[0], int) else None)


def _at_exit() -> None:
    if _path is not None:
        finish(None)


_finished = 0


def finish(code: int | None) -> None:
    """This process is about to end, with this exit code if it is known."""
    global _finished
    if _finished == os.getpid():
        _native.trace_finish(None if code is None else code & 0xFF)
        return
    _finished = os.getpid()
    written, _, free = _native.trace_counts()
    if free:
        _native.trace_point(kinds.LOCK_FREE, value=free)
    _native.trace_point(kinds.COST, value=int(written * _cost()), link=written)
    if code is not None:
        _native.trace_point(kinds.EXIT, value=code & 0xFF)
        _native.trace_finish(code & 0xFF)
    else:
        _native.trace_finish()


_cost_of_a_record = 0.0


def _cost() -> float:
    """Nanoseconds that a record costs, measured once in a process tree."""
    global _cost_of_a_record
    if not _cost_of_a_record:
        _cost_of_a_record = 600.0
    return _cost_of_a_record


# ---------------------------------------------------------------------------------------------------------------------
# Children with an interpreter of their own


class Enter:
    """Unpickling this records the process that does so."""

    def __init__(self, method: str) -> None:
        self.method = method

    def __reduce__(self) -> tuple[Any, ...]:
        # The child unpickles this before it takes the parent's sys.path over.
        home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        code = (
            "try:\n"
            " from breakeven._why import hooks\n"
            "except ModuleNotFoundError:\n"
            " import sys\n"
            f" sys.path.append({home!r})\n"
            " from breakeven._why import hooks\n"
            f"hooks.enter({_path!r}, {os.getpid()}, {self.method!r})\n"
        )
        return exec, (code, {})


def enter(path: str, parent: int, method: str) -> None:
    """Record this child. Without the recorder, which may have ended, it runs unrecorded."""
    try:
        start(path, parent, method)
    except OSError:
        return
    open_boot()
