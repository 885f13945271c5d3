"""Hooks: loky, by itself and inside joblib."""

from __future__ import annotations

from .. import _native
from . import arguments, futures, kinds, locks, processes, queues
from .hooks import Enter, change, hook, is_active

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def hook_loky_process_executor(module: ModuleType) -> None:
    executor = module.ProcessPoolExecutor
    hook(executor, "__init__", kinds.POOL, cpu=True, site=True, before=futures.before_init, after=futures.after_init)
    hook(executor, "submit", kinds.SUBMIT, "submit", site=True, before=futures.note_number, after=arguments.record)
    hook(executor, "shutdown", kinds.CLOSE, site=True, outermost=True, before=futures.before_close)
    worker = module._process_worker
    change(module, "_process_worker", _native.Hook(worker, kinds.SILENT, binds=False, before=futures.before_worker))


def hook_loky_backend_spawn(module: ModuleType) -> None:
    get_preparation_data = module.get_preparation_data

    def with_recording(*args: Any, **kwargs: Any) -> dict[str, Any]:
        data: dict[str, Any] = get_preparation_data(*args, **kwargs)
        if is_active():
            data["breakeven_why"] = Enter("loky")
        return data

    change(module, "get_preparation_data", with_recording)
    hook(module, "prepare", kinds.IMPORT, cpu=True, before=processes.before_prepare)


def hook_loky_backend_reduction(module: ModuleType) -> None:
    hook(module, "dumps", kinds.DUMP, "dump")


def hook_loky_backend_queues(module: ModuleType) -> None:
    # It has taken `dumps` from the module above by name, hooked or not.
    if not isinstance(module.dumps, _native.Hook):
        hook(module, "dumps", kinds.DUMP, "dump")
    hook(module.SimpleQueue, "put", kinds.PUT, "put", site=True)
    hook(module.Queue, "__init__", kinds.SILENT, after=queues.after_init)
    hook(module.SimpleQueue, "__init__", kinds.SILENT, after=queues.after_init)


def hook_loky_backend_synchronize(module: ModuleType) -> None:
    locks.hook_semaphores(module)


def hook_loky_backend_popen_loky_posix(module: ModuleType) -> None:
    hook(module.Popen, "poll", kinds.SILENT, after=processes.after_poll)


def hook_joblib_parallel(module: ModuleType) -> None:
    hook(module.Parallel, "_initialize_backend", kinds.POOL, site=True, before=_before_backend, after=_after_backend)


def _before_backend(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    return 0, 0, 0, "joblib.Parallel"


def _after_backend(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    return 0, 0, int(result) if isinstance(result, int) else 0, "joblib.Parallel"
