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
from . import entering, kinds

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
    "multiprocessing.popen_fork": "processes",
    "multiprocessing.popen_forkserver": "processes",
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
    "selectors": "waits",
    "subprocess": "waits",
    "joblib.parallel": "loky",
    **{
        f"{package}.{module}": "loky"
        for package in ("loky", "joblib.externals.loky")
        for module in (
            "process_executor",
            "backend.spawn",
            "backend.reduction",
            "backend.queues",
            "backend.synchronize",
            "backend.popen_loky_posix",
        )
    },
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


def start(path: str, parent: int = 0, method: str = "main", name: str = "", *, imports: bool = True) -> None:
    """Record this process into the memory file at `path`. Raises OSError if it cannot be had.

    `imports`: also the imports; else from `watch_imports()` on.
    """
    global _path, _began, _finished
    if _path is not None:
        return
    _finished = 0
    begin = _native.trace_now()
    _native.trace_start(path, parent, method, name)
    _path, _began = path, begin
    if method == "main":
        _measure_calls()
    _native.trace_files(_own_folders(), _package_folders())
    _native.trace_point(kinds.BORN, parent, name=name)
    for module, file in SEAMS.items():
        _seams[module] = _Seam(module, file)
    change(os, "_exit", _native.Hook(os._exit, kinds.SILENT, before=_before_exit))
    _hook_imported()
    if imports:
        watch_imports()
    _register_once()


def watch_imports() -> None:
    """From now on imports are recorded, and modules get their hooks when they are imported."""
    bootstrap: Any = sys.modules["_frozen_importlib"]  # `importlib._bootstrap` is another name of it
    change(bootstrap, "_find_and_load", _native.ImportHook(bootstrap._find_and_load, _seams, 200_000))
    _hook_imported()


def _hook_imported() -> None:
    for module in SEAMS:
        if module in sys.modules and module in _seams:
            _seams[module](sys.modules[module])


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
        name = self.module.removeprefix("joblib.externals.").replace(".", "_")
        getattr(file, "hook_" + name)(module)


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
        _native.trace_identity("fork")  # one that multiprocessing made says its name in a moment
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


def begin_program() -> None:
    """The program's first instruction comes next."""
    watch_imports()
    close_boot()


def close_boot() -> None:
    """The process begins with what it is there for."""
    global _booting
    if _booting:
        _booting = False
        _native.trace_close()
        _native.trace_span(kinds.BOOT, _began, _native.trace_now(), cpu=_native.trace_thread()[1])
        note_libraries()


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
    note_libraries()
    if code is not None:
        _native.trace_point(kinds.EXIT, value=code & 0xFF)
        _native.trace_finish(code & 0xFF)
    else:
        _native.trace_finish()


_libraries_told: tuple[int, list[tuple[str, int]]] = (0, [])


def note_libraries() -> None:
    """Note the BLAS and OpenMP libraries of this process and their numbers of threads, unless that is noted already."""
    global _libraries_told
    if not any(name in sys.modules for name in ("numpy", "scipy", "torch", "sklearn")):
        return
    from .. import _blas

    try:
        libraries = [(library.kind, library.get()) for library in _blas._libraries()]
    except Exception:  # they are called as they happen to be there
        return
    if _libraries_told == (os.getpid(), libraries):
        return
    _libraries_told = os.getpid(), libraries
    for kind, threads in libraries:
        _native.trace_point(kinds.BLAS, value=threads, name=kind)


def _measure_calls() -> None:
    """Measure what a hooked call costs beside what its hook can see: the call of the hook itself."""
    hooked = _native.Hook(_nothing, kinds.DUMP, "bare", binds=False, at_least=2**63)
    plain_time = min(_time(_nothing) for _ in range(4))
    calls, seen = _native.trace_cost(kinds.DUMP)
    hooked_time = min(_time(hooked) for _ in range(4))
    more_calls, more_seen = _native.trace_cost(kinds.DUMP)
    seen_each = (more_seen - seen) / max(more_calls - calls, 1)
    _native.trace_per_call(max(int(hooked_time - plain_time - seen_each), 0))


def _nothing() -> None:
    pass


def _time(function: Callable[[], object]) -> float:
    begin = _native.trace_now()
    for _ in range(50):
        function()
    return (_native.trace_now() - begin) / 50


# ---------------------------------------------------------------------------------------------------------------------
# Children with an interpreter of their own


class Enter:
    """Unpickling this records the process that does so. `method`: how it is started; by default that is seen there."""

    def __init__(self, method: str = "") -> None:
        self.method = method

    def __reduce__(self) -> tuple[Any, ...]:
        # The child unpickles this before it takes the parent's sys.path over.
        call = f"enter({_path!r}, {os.getpid()}, {self.method!r})"
        code = entering("hooks", call)
        return exec, (code, {})


def enter(path: str, parent: int, method: str = "") -> None:
    """Record this child. Without the recorder, which may have ended, it runs unrecorded.

    `parent`: who asked for it. `method`: how it was started; by default "spawn" or "forkserver", whichever it was.
    """
    try:
        start(path, parent, method or ("spawn" if os.getppid() == parent else "forkserver"))
    except OSError:
        return
    open_boot()
