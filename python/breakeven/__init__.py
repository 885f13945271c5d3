"""Parallel Python that never loses to serial: `import breakeven as mp`.

Every public name of `multiprocessing` is here and means the same. Queues, pools, pipes and locks are breakeven's:
messages travel through shared memory, and a killed process neither hangs nor corrupts anything. The rest is the
standard library's own.

`install()` puts breakeven's classes under the standard library's names, for programs that shall stay as they are;
`breakeven run script.py` does so from the command line.
"""

from __future__ import annotations

import importlib
import os
import sys

try:
    from . import _native
except ImportError as error:  # says what is missing, since "No module named" does not help whoever installed it
    if sys.platform != "linux":
        _reason = f"breakeven runs on Linux only so far; this is {sys.platform}"
    else:
        _reason = (
            f"breakeven's native module cannot be loaded by this interpreter "
            f"({sys.implementation.name} {sys.version.split()[0]}): {error}. "
            "Install a wheel built for it, or build one with `make build`"
        )
    raise ImportError(_reason, name="breakeven._native") from error

from . import context

# Only to have it: this takes 5 ms, which the program's first pool would take longer otherwise.
from . import pool as pool
from .context import AuthenticationError, BufferTooShort, Process, ProcessError, TimeoutError

TYPE_CHECKING = False  # type checkers know the name; importing typing would cost more than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from . import connection as connection
    from . import dummy as dummy
    from . import executor as executor
    from . import forkserver as forkserver
    from . import heap as heap
    from . import managers as managers
    from . import popen_fork as popen_fork
    from . import popen_forkserver as popen_forkserver
    from . import popen_spawn_posix as popen_spawn_posix
    from . import process as process
    from . import queues as queues
    from . import reduction as reduction
    from . import resource_sharer as resource_sharer
    from . import resource_tracker as resource_tracker
    from . import shared_memory as shared_memory
    from . import sharedctypes as sharedctypes
    from . import spawn as spawn
    from . import synchronize as synchronize
    from . import util as util
    from ._map import imap as imap
    from ._map import imap_unordered as imap_unordered
    from ._map import map as map
    from ._map import starmap as starmap
    from ._plan import Plan as Plan
    from ._plan import explain as explain
    from ._plan import last as last
    from ._why.block import Block
    from .executor import ProcessPoolExecutor, ThreadPoolExecutor
    from .pool import TaskError, ThreadPool, WorkerDied

del TYPE_CHECKING  # not a name of this package

__version__: str = _native.__version__

MemoryLimitError = _native.MemoryLimitError

# The functions of multiprocessing are bound methods of its default context; so are these, of ours.
_context = context._default_context
Array = _context.Array
Barrier = _context.Barrier
BoundedSemaphore = _context.BoundedSemaphore
Condition = _context.Condition
Event = _context.Event
JoinableQueue = _context.JoinableQueue
Lock = _context.Lock
Manager = _context.Manager
Pipe = _context.Pipe
Pool = _context.Pool
Queue = _context.Queue
RLock = _context.RLock
RawArray = _context.RawArray
RawValue = _context.RawValue
Semaphore = _context.Semaphore
SimpleQueue = _context.SimpleQueue
Value = _context.Value
active_children = _context.active_children
allow_connection_pickling = _context.allow_connection_pickling
cpu_count = _context.cpu_count
current_process = _context.current_process
freeze_support = _context.freeze_support
get_all_start_methods = _context.get_all_start_methods
get_context = _context.get_context
get_logger = _context.get_logger
get_start_method = _context.get_start_method
log_to_stderr = _context.log_to_stderr
parent_process = _context.parent_process
reducer = _context.reducer
set_executable = _context.set_executable
set_forkserver_preload = _context.set_forkserver_preload
set_start_method = _context.set_start_method

# Log levels of `get_logger()`; undocumented in multiprocessing, and used.
SUBDEBUG = 5
SUBWARNING = 25

__all__ = [
    # as in multiprocessing
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "TimeoutError",
    "Value",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "log_to_stderr",
    "parent_process",
    "reducer",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    # as in multiprocessing.pool and concurrent.futures
    "ThreadPool",
    "ProcessPoolExecutor",
    "ThreadPoolExecutor",
    # breakeven's own
    "MemoryLimitError",
    "Plan",
    "TaskError",
    "WorkerDied",
    "configure",
    "explain",
    "imap",
    "imap_unordered",
    "install",
    "last",
    "starmap",
    "uninstall",
    "why",
]
# `map` is not listed: `from breakeven import *` shall not take the builtin's place.

# Where the names that are not worth loading at import come from.
_LAZY = {
    "Plan": "_plan",
    "ProcessPoolExecutor": "executor",
    "TaskError": "pool",
    "ThreadPool": "pool",
    "ThreadPoolExecutor": "executor",
    "WorkerDied": "pool",
    "explain": "_plan",
    "imap": "_map",
    "imap_unordered": "_map",
    "last": "_plan",
    "map": "_map",
    "starmap": "_map",
}
_SUBMODULES = {
    "cli",
    "connection",
    "dummy",
    "executor",
    "forkserver",
    "heap",
    "managers",
    "pool",
    "popen_fork",
    "popen_forkserver",
    "popen_spawn_posix",
    "process",
    "queues",
    "reduction",
    "resource_sharer",
    "resource_tracker",
    "shared_memory",
    "sharedctypes",
    "spawn",
    "synchronize",
    "util",
}


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY:
        value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_SUBMODULES})


def configure(memory_limit: int | None = None, *, blas_threads: int | str | None = None) -> None:
    """Set limits for this process and its children; what is not given stays as it is.

    `memory_limit`: most bytes of shared memory that messages may take in this tree of processes; by default
    `BREAKEVEN_MEMORY_LIMIT`, or half of what the control group, or the machine, allows.

    `blas_threads`: how many threads the numerical libraries (OpenBLAS, MKL, OpenMP) may use in each worker of a pool or
    executor that is made from now on: a number; "auto", which is the usable cores divided by the workers; or "off", to
    leave them alone. By default `BREAKEVEN_BLAS_THREADS`, or "auto". A number of threads that the program or its
    environment has set for a library is left alone in any case.

    Raises ValueError for what is no such limit.
    """
    if memory_limit is not None:
        _native.configure(memory_limit)
    if blas_threads is not None:
        from . import _blas

        _blas.choose(blas_threads)


def install() -> None:
    """Put breakeven's queues, pools and executors under the standard library's names.

    Acts on this process and on every child that it starts from now on, whatever the start method. Queues that are then
    made through `multiprocessing`'s names keep the standard library's contract where breakeven's own differs: an object
    that cannot be pickled is reported on stderr and dropped, and `put` returns. Calling it again changes nothing.
    """
    from . import _install

    _install.install()


def uninstall() -> None:
    """Give the standard library its own names back. Objects made in the meantime go on working."""
    from . import _install

    _install.uninstall()


def why(*, quick: bool = False) -> Block:
    """Say where the time of a block goes, and what to change: `with breakeven.why() as report: ...`.

    Records this process and the children that it starts within the block; afterwards `report` has what
    `breakeven why script.py` would say (`report.primary.headline`; docs/why.md), prints as its summary, and shows as a
    page in a notebook. With `quick` the machine's charges are not measured if they have not been before (about two
    seconds, after the block).

    Raises RuntimeError, when the block is entered, inside of another one or under `breakeven why`.
    """
    from ._why.block import Block

    return Block(quick)


# Once per process, however often this file runs (importlib.reload, a second copy in sys.modules): the hooks cannot be
# unregistered, and taking a participant slot twice in a forked child would leak one.
if not getattr(_native, "_fork_hooks_registered", False):
    os.register_at_fork(
        before=_native.fork_before,
        after_in_parent=_native.fork_parent,
        after_in_child=_native.fork_child,
    )
    _native._fork_hooks_registered = True  # type: ignore[attr-defined]
