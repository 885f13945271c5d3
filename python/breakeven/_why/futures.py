"""Hooks: `concurrent.futures`."""

from __future__ import annotations

from .. import _native
from . import arguments, kinds
from .hooks import change, hook
from .pools import initializer, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def hook_concurrent_futures__base(module: ModuleType) -> None:
    hook(module.Future, "result", kinds.RESULT, "future", site=True, outermost=True)
    hook(module.Future, "exception", kinds.RESULT, "future", site=True, outermost=True)
    hook(module, "_create_and_install_waiters", kinds.SILENT, after=_after_waiter)
    hook(module.Executor, "__exit__", kinds.CLOSE, site=True, outermost=True, before=before_close)


def _after_waiter(args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    # What `wait` and `as_completed` wait for: an event of this very call.
    event = result.event
    object = next((getattr(future, "_breakeven_task", (0, 0))[0] for future in args[0]), 0)

    def before(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
        return object, 0, 0, None

    event.wait = _native.Hook(event.wait, kinds.RESULT, binds=False, site=True, before=before)


def before_close(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    return _executor_number(args[0]), 0, 0, type(args[0]).__name__


def _executor_number(executor: Any) -> int:
    queue = getattr(executor, "_call_queue", None)
    if queue is None:
        queue = getattr(executor, "_work_queue", None)
    if queue is None:
        return getattr(executor, "_breakeven_number", 0)
    return number_of(queue)


def note_number(executor: Any) -> int:
    """The number of an executor, which is from now on kept in it: its queue goes when it is shut down."""
    executor._breakeven_number = number = _executor_number(executor)
    return number


def before_init(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    return 0, 0, 0, type(args[0]).__name__


def after_init(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    executor = args[0]
    return note_number(executor), 0, executor._max_workers, type(executor).__name__


# --- processes


def hook_concurrent_futures_process(module: ModuleType) -> None:
    executor = module.ProcessPoolExecutor
    hook(executor, "__init__", kinds.POOL, cpu=True, site=True, before=before_init, after=after_init)
    hook(executor, "submit", kinds.SUBMIT, "submit", site=True, before=note_number, after=arguments.record)
    hook(executor, "shutdown", kinds.CLOSE, site=True, outermost=True, before=before_close)
    change(
        module,
        "_process_worker",
        _native.Hook(module._process_worker, kinds.SILENT, binds=False, before=before_worker),
    )


def before_worker(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    call_queue, result_queue, *rest = args
    number = number_of(call_queue)
    _native.trace_context(number)
    if rest and rest[0] is not None:
        rest[0] = initializer(rest[0], number)
    return 0, 0, 0, None, (_native.TaskSource(call_queue, number), result_queue, *rest), kwargs


# --- threads


def hook_concurrent_futures_thread(module: ModuleType) -> None:
    executor = module.ThreadPoolExecutor
    hook(executor, "__init__", kinds.POOL, cpu=True, site=True, before=before_init, after=after_init)
    hook(executor, "submit", kinds.SUBMIT, "submit_thread", site=True, before=note_number, after=arguments.record)
    hook(executor, "shutdown", kinds.CLOSE, site=True, outermost=True, before=before_close)
    hook(module._WorkItem, "__init__", kinds.SILENT, "work_item")
