"""Hooks: threads and what they are for."""

from __future__ import annotations

import sys

from .. import _native
from . import kinds
from .hooks import hook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# Who a thread's target belongs to: (module, qualified name) -> a role's name.
_ROLES = {
    ("multiprocessing.queues", "Queue._feed"): "feeder",
    ("multiprocessing.pool", "Pool._handle_workers"): "worker_handler",
    ("multiprocessing.pool", "Pool._handle_tasks"): "task_handler",
    ("multiprocessing.pool", "Pool._handle_results"): "result_handler",
    ("multiprocessing.pool", "worker"): "thread_worker",
    ("concurrent.futures.thread", "_worker"): "thread_worker",
    ("multiprocessing.managers", "Server.accepter"): "manager_server",
    ("multiprocessing.managers", "Server.handle_request"): "manager_server",
    ("multiprocessing.managers", "Server.serve_client"): "manager_server",
}


# A thread that waits for less is not worth a record; nanoseconds.
_LONG = 1_000_000


def hook_threading(module: ModuleType) -> None:
    hook(module.Thread, "start", kinds.SILENT, before=_before_start)
    hook(module.Thread, "_bootstrap_inner", kinds.SILENT, before=_before_thread)
    hook(module.Thread, "join", kinds.JOIN, site=True, before=_before_join)
    # Events, barriers and queues of threads are made of conditions.
    hook(module.Condition, "wait", kinds.POLL, "thread_wait", outermost=True, at_least=_LONG, after=_name_of_wait)


# What a wait is called, by the function of the standard library's that the program has called.
_WAITS = {
    ("queue", "get"): "queue.Queue.get",
    ("queue", "put"): "queue.Queue.put",
    ("queue", "join"): "queue.Queue.join",
    ("threading", "_wait"): "threading.Barrier",
    ("threading", "wait"): "threading.Event",
}


def _name_of_wait() -> str:
    """What the caller's frames wait for: the outermost of those that have a name."""
    frame = sys._getframe(1)
    found = "threading.Condition"
    for _ in range(4):
        named = _WAITS.get((frame.f_globals.get("__name__", ""), frame.f_code.co_name))
        if named is None and frame.f_globals.get("__name__") != "threading":
            break
        # Barrier.wait calls Barrier._wait, which calls Condition.wait_for.
        found = found if found == "threading.Barrier" else named or found
        if frame.f_back is None:
            break
        frame = frame.f_back
    return found


def _before_start(args: tuple[Any, ...], kwargs: Any) -> None:
    # The line that starts it is known here only.
    args[0]._breakeven_site = _native.trace_site()


def _before_thread(args: tuple[Any, ...], kwargs: Any) -> None:
    thread = args[0]
    target = getattr(thread, "_target", None)
    function = getattr(target, "__func__", target)
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", None) or ""
    role = _ROLES.get((module, name))
    if role is None and type(thread).__name__ == "_ExecutorManagerThread":
        role = "executor_manager"
    if role is not None:
        _native.trace_point(kinds.THREAD, name=role)
        _set_context(role, thread)
    else:
        site = getattr(thread, "_breakeven_site", None)
        _native.trace_point(kinds.THREAD, value=1, name=name or type(thread).__qualname__, site=site)


def _set_context(role: str, thread: Any) -> None:
    from . import pools

    arguments: Any = getattr(thread, "_args", ())
    if role == "feeder":
        # (buffer, notempty, send_bytes, ...): a bound method of the queue's writing end
        # An executor's messages have numbers of their own.
        of_executor = any(type(getattr(one, "__self__", None)).__name__ == "_SafeQueue" for one in arguments[3:])
        _native.trace_context(_number_behind(arguments[2]), not of_executor)
    elif role == "task_handler":
        _native.trace_context(pools.number_of(getattr(arguments[1], "__self__", None)))
    elif role == "result_handler":
        _native.trace_context(pools.pool_of_results(arguments[0]))
    elif role == "executor_manager":
        _native.trace_context(_native.trace_number(thread.call_queue))


def _number_behind(method: Any) -> int:
    owner = getattr(method, "__self__", None)
    return _native.trace_number(owner) if owner is not None else 0


def _before_join(args: tuple[Any, ...], kwargs: Any) -> tuple[Any, ...] | None:
    thread = args[0]
    return getattr(thread, "native_id", None) or 0, 0, 1 << 62, thread.name
