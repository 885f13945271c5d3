"""Hooks: `multiprocessing.pool`."""

from __future__ import annotations

from collections.abc import Iterator

from .. import _native
from . import arguments, kinds
from .hooks import change, hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# Number of the queue that a pool's results come by -> the pool's number.
_results: dict[int, int] = {}


def number_of(queue: Any) -> int:
    """The number of a task queue, of processes or of threads."""
    if queue is None:
        return 0
    if hasattr(queue, "_reader") or hasattr(queue, "_handle"):
        return _native.trace_number(queue)
    return id(queue) & 0xFFFF_FFFF_FFFF


def pool_number(pool: Any) -> int:
    """The number of a pool, which is from now on kept in it."""
    pool._breakeven_number = number = number_of(pool._inqueue)
    return number


def pool_of_results(queue: Any) -> int:
    """The number of the pool whose results come by a queue."""
    return _results.get(number_of(queue), 0)


def hook_multiprocessing_pool(module: ModuleType) -> None:
    pool = module.Pool
    hook(pool, "__init__", kinds.POOL, cpu=True, site=True, before=_before_init, after=_after_init)
    hook(pool, "_setup_queues", kinds.SILENT, after=_after_setup_queues)
    hook(module.ThreadPool, "_setup_queues", kinds.SILENT, after=_after_setup_queues)
    hook(pool, "apply_async", kinds.SUBMIT, "apply", site=True, before=pool_number, after=arguments.record)
    hook(pool, "_map_async", kinds.SUBMIT, site=True, before=_before_map, after=_after_map)
    for name in ("imap", "imap_unordered"):
        hook(pool, name, kinds.SUBMIT, site=True, before=_before_imap, after=_after_imap)
    for name in ("join", "terminate", "__exit__"):
        hook(pool, name, kinds.CLOSE, site=True, outermost=True, before=_before_close)
    for name in ("get", "wait"):
        hook(module.ApplyResult, name, kinds.RESULT, "result", site=True, outermost=True, before=pool_number)
    next_hook = _native.Hook(module.IMapIterator.next, kinds.RESULT, "next", site=True, before=pool_number)
    for name in ("next", "__next__"):
        change(module.IMapIterator, name, next_hook)
    change(module, "worker", _native.Hook(module.worker, kinds.SILENT, binds=False, before=_before_worker))
    _worker_helpers.append(getattr(module, "_helper_reraises_exception", None))


_worker_helpers: list[Any] = []


def _after_setup_queues(args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
    pool = args[0]
    _results[number_of(pool._outqueue)] = pool_number(pool)


def _before_init(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    return 0, 0, 0, type(args[0]).__name__


def _after_init(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    pool = args[0]
    return number_of(pool._inqueue), 0, pool._processes, type(pool).__name__


def _job(result: Any) -> int:
    return (result._job + 1) << 32


def _before_map(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    return _with_items(args, kwargs, arguments.name_of(args[1]))


def _with_items(args: tuple[Any, ...], kwargs: Any, name: str | None) -> tuple[Any, ...]:
    # A generator runs within the submission (map), or in the pool's handler of tasks (imap): the program's own code.
    number = number_of(args[0]._inqueue)
    if len(args) > 2 and isinstance(args[2], Iterator):
        return number, 0, 0, name, (*args[:2], _native.ProducedItems(args[2], number), *args[3:]), kwargs
    return number, 0, 0, name


def _after_map(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    number, link = number_of(args[0]._inqueue), _job(result)
    length, size = len(result._value) if isinstance(result._value, list) else 0, max(result._chunksize, 1)
    arguments.record_items(number, args[1], args[2])
    return number, link, (length + size - 1) // size, arguments.name_of(args[1])


def _before_imap(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    function = args[1] if len(args) > 1 else (kwargs or {}).get("func")
    return _with_items(args, kwargs, arguments.name_of(function))


def _after_imap(args: tuple[Any, ...], kwargs: Any, result: Any) -> tuple[Any, ...]:
    function = args[1] if len(args) > 1 else (kwargs or {}).get("func")
    items = args[2] if len(args) > 2 else (kwargs or {}).get("iterable")
    number = number_of(args[0]._inqueue)
    # With chunks it is a generator around the iterator; what its first step will look at is its first argument.
    inner = result if hasattr(result, "_job") else result.gi_frame.f_locals.get(".0")
    link = _job(inner) if hasattr(inner, "_job") else 0
    try:
        length = len(items)  # type: ignore[arg-type]
    except TypeError:
        length = 0
    size = args[3] if len(args) > 3 else (kwargs or {}).get("chunksize", 1)
    arguments.record_items(number, function, items)
    return number, link, (length + size - 1) // size, arguments.name_of(function)


def _before_close(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    return number_of(args[0]._inqueue), 0, 0, type(args[0]).__name__


def _before_worker(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
    inqueue, outqueue, *rest = args
    number = number_of(inqueue)
    _native.trace_context(number)
    if rest and rest[0] is not None:
        rest[0] = initializer(rest[0], number)
    source = _native.TaskSource(inqueue, number, _worker_helpers[0])
    return 0, 0, 0, None, (source, outqueue, *rest), kwargs


def initializer(function: Any, number: int) -> Any:
    """An initializer that is recorded."""
    name = arguments.name_of(function)

    def before(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...]:
        return number, 0, 0, name

    return _native.Hook(function, kinds.INITIALIZER, binds=False, cpu=True, before=before)
