"""Hooks: processes, their beginning, their work and their end."""

from __future__ import annotations

from .. import _native
from . import kinds
from .hooks import Enter, change, close_boot, finish, hook, is_active, open_boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# Targets that take tasks in a loop, and others that are not the program's: what such a process does is not one `Run`.
_WORKERS = {
    ("multiprocessing.pool", "worker"),
    ("concurrent.futures.process", "_process_worker"),
    ("multiprocessing.managers", "BaseManager._run_server"),
}
_POOLS = {("multiprocessing.pool", "worker"), ("concurrent.futures.process", "_process_worker")}


def target_of(process: Any) -> tuple[str, str]:
    target = getattr(process, "_target", None)
    target = getattr(target, "__func__", target)
    module = getattr(target, "__module__", None) or ""
    name = getattr(target, "__qualname__", None) or type(target).__name__
    if module.startswith(("joblib.externals.loky", "loky")) and name == "_process_worker":
        module = "concurrent.futures.process"
    return module, name


def hook_multiprocessing_process(module: ModuleType) -> None:
    process = module.BaseProcess
    hook(process, "start", kinds.START, cpu=True, site=True, before=_before_start, after=_after_start)
    hook(process, "join", kinds.JOIN, site=True, before=_before_join, after=_after_join)
    hook(process, "_bootstrap", kinds.SILENT, before=_before_bootstrap, after=_after_bootstrap)


def _before_start(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> tuple[Any, ...] | None:
    process = args[0]
    if type(process).__module__.startswith("multiprocessing.dummy"):
        return None  # a thread
    return 0, 0, int(target_of(process) in _POOLS), _method_of(process)


def _method_of(process: Any) -> str:
    popen = type(process)._Popen
    method = getattr(type(process), "_start_method", None)
    if method is None:  # multiprocessing.Process: the default context's
        from multiprocessing import context

        method = context._default_context.get_start_method(allow_none=True)  # type: ignore[attr-defined]
    return str(method or getattr(popen, "method", "") or "fork")


def _after_start(args: tuple[Any, ...], kwargs: Any, result: Any) -> int:
    return args[0].pid or 0


def _before_join(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...] | None:
    process = args[0]
    popen = getattr(process, "_popen", None)
    if popen is None:
        return None
    return getattr(popen, "pid", 0) or 0, 0, 0, process.name


def _after_join(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    process = args[0]
    popen = process._popen
    code = popen.returncode
    value = (code & 0xFFFF_FFFF_FFFF_FFFF) if code is not None else 1 << 62
    return popen.pid, 0, value, process.name


def _before_bootstrap(args: tuple[Any, ...], kwargs: Any) -> None:
    process = args[0]
    _native.trace_identity(process._name)
    open_boot()
    run = process.run
    process.run = _native.Hook(
        run, kinds.SILENT if target_of(process) in _WORKERS else kinds.RUN, binds=False, cpu=True, before=_before_run
    )
    _running.append((process, run))


# The process object whose `run` is about to be called.
_running: list[tuple[Any, Any]] = []


def _before_run(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    close_boot()
    process, _ = _running.pop()
    process.__dict__.pop("run", None)  # seen by nobody: it was looked up, and is being called
    name = target_of(process)[1] if process._target is not None else type(process).__qualname__ + ".run"
    return 0, 0, 0, name


def _after_bootstrap(args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    if type(args[0])._Popen is not None and isinstance(result, int):
        finish(result)


def hook_multiprocessing_popen_fork(module: ModuleType) -> None:
    hook(module.Popen, "poll", kinds.SILENT, after=after_poll)


def hook_multiprocessing_popen_forkserver(module: ModuleType) -> None:
    hook(module.Popen, "poll", kinds.SILENT, after=after_poll)


def after_poll(args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    # A worker that its pool has ended is asked for its exit code, but not joined.
    popen = args[0]
    if result is not None and not hasattr(popen, "_breakeven_told"):
        popen._breakeven_told = True
        _native.trace_point(kinds.JOIN, popen.pid, value=result & 0xFFFF_FFFF_FFFF_FFFF)


def hook_multiprocessing_spawn(module: ModuleType) -> None:
    get_preparation_data = module.get_preparation_data

    def with_recording(name: str) -> dict[str, Any]:
        data: dict[str, Any] = get_preparation_data(name)
        if is_active():
            data["breakeven_why"] = Enter()
        return data

    change(module, "get_preparation_data", with_recording)
    hook(module, "prepare", kinds.IMPORT, cpu=True, before=before_prepare)


def before_prepare(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    _native.trace_identity(args[0].get("name"))
    return 0, 0, 0, "__main__"
