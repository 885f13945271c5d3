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
    hook(module.Future, "result", kinds.RESULT, site=True, outermost=True, before=_before_result)
    hook(module.Future, "exception", kinds.RESULT, site=True, outermost=True, before=_before_result)
    hook(module, "_create_and_install_waiters", kinds.SILENT, after=_after_waiter)
    hook(module.Executor, "__exit__", kinds.CLOSE, site=True, outermost=True, before=before_close)


def _before_result(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    object, link = getattr(args[0], "_breakeven_task", (0, 0))
    return object, link, 0, None


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


def _note(executor: Any) -> int:
    number = _executor_number(executor)
    executor._breakeven_number = number  # its queue goes when it is shut down
    return number


def before_init(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    return 0, 0, 0, type(args[0]).__name__


def after_init(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    executor = args[0]
    return _note(executor), 0, executor._max_workers, type(executor).__name__


def _after_submit(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    object, link = getattr(result, "_breakeven_task", (_executor_number(args[0]), 0))
    function, *given = args[1:]
    arguments.record(object, function, given)
    return object, link, 1, arguments.name_of(function)


# --- processes


def hook_concurrent_futures_process(module: ModuleType) -> None:
    executor = module.ProcessPoolExecutor
    hook(executor, "__init__", kinds.POOL, cpu=True, site=True, before=before_init, after=after_init)
    hook(executor, "submit", kinds.SUBMIT, site=True, before=before_process_submit, after=after_process_submit)
    hook(executor, "shutdown", kinds.CLOSE, site=True, outermost=True, before=before_close)
    change(
        module,
        "_process_worker",
        _native.Hook(module._process_worker, kinds.SILENT, binds=False, before=before_worker),
    )


def before_process_submit(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...] | None:
    if len(args) < 2:
        return None  # raises
    executor = args[0]
    return _executor_number(executor), executor._queue_count + 1, 1, arguments.name_of(args[1])


def after_process_submit(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    executor, function, *given = args
    number = _executor_number(executor)
    link = executor._queue_count
    for work_id, item in reversed(executor._pending_work_items.items()):
        if item.future is result:
            link = work_id + 1
            break
        if work_id + 64 < executor._queue_count:
            break
    result._breakeven_task = (number, link)
    arguments.record(number, function, given)
    return number, link, 1, arguments.name_of(function)


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
    hook(executor, "submit", kinds.SUBMIT, site=True, before=_before_thread_submit, after=_after_submit)
    hook(executor, "shutdown", kinds.CLOSE, site=True, outermost=True, before=before_close)
    hook(module._WorkItem, "__init__", kinds.SILENT, after=_after_work_item)


def _before_thread_submit(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...] | None:
    if len(args) < 2:
        return None  # raises
    executor = args[0]
    number = _executor_number(executor)
    executor._breakeven_tasks = link = getattr(executor, "_breakeven_tasks", 0) + 1
    _submitting.append((number, link))
    return number, link, 1, arguments.name_of(args[1])


# What the work item that is made next belongs to; made under the executor's lock.
_submitting: list[tuple[int, int]] = []


def _after_work_item(args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    item = args[0]
    if _submitting:
        number, link = _submitting.pop()
        item.future._breakeven_task = (number, link)
        function = getattr(item, "fn", None)
        if function is not None:
            item.fn = _native.TaskCall(function, number, link)
