"""Keeps the threads of numerical libraries, times the workers, within the cores.

OpenBLAS, MKL and the OpenMP runtimes start one thread a core, in each worker. Four workers on four cores are then
sixteen threads, which is slower than four; so each worker gets its share of the cores: cores // workers, and at least
1. A pool inside a worker divides the share of that worker.

How a library learns its share:

- In a worker process, if it is loaded later, or by a program that a task starts: by its environment variable.
- In a worker that was forked from a process that had it loaded: by its own function, which the parent calls around the
  fork.
- In other worker processes that have it loaded when they start: by its own function, at that moment.
- In worker threads: by its own function; while the pool has work, where the number of threads is the process's
  (OpenBLAS), and in each worker thread for good, where it is the thread's own (OpenMP, MKL).

A library is left alone if the user has decided about it: by its environment variable, by `OMP_NUM_THREADS`, which
counts for all, or at run time (threadpoolctl, `mkl.set_num_threads`), which shows in a number of threads other than the
one that the library starts with. Numbers are only lowered, never raised. `BREAKEVEN_BLAS_THREADS`, or
`breakeven.configure(blas_threads=...)`, chooses: `auto`; `off`; or a number of threads for each worker.

Who is there is looked up when a pool is made, if modules were imported since the last time: the memory map is read, if
there is any extension module but the interpreter's own.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from functools import partial

from ._cores import usable_cores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["Limit", "Team", "choose", "for_fork", "limit_worker", "share"]

SETTING = "BREAKEVEN_BLAS_THREADS"

# In a worker: its share of the cores, for the pools that its tasks make, and which of the variables below were set by
# us and not by the user, all separated by blanks. Programs that its tasks start find it too.
_SHARE = "_BREAKEVEN_CORES"

_ALL = "OMP_NUM_THREADS"
_OWN = {
    "openblas": ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS", "MKL_DOMAIN_NUM_THREADS"),
    "blis": ("BLIS_NUM_THREADS",),
    "veclib": ("VECLIB_MAXIMUM_THREADS",),
    "numexpr": ("NUMEXPR_NUM_THREADS", "NUMEXPR_MAX_THREADS"),
    "openmp": (_ALL,),
}


def choose(threads: int | str) -> None:
    """For `breakeven.configure`: "auto", "off" or a number of threads. Raises ValueError for anything else."""
    text = str(threads)
    _parse(text, "blas_threads")
    os.environ[SETTING] = text  # where children started afresh find it too


def _parse(text: str, name: str) -> int | None:
    """A number; 0 for off; None for automatic."""
    text = text.strip().lower()
    if text in ("", "auto"):
        return None
    if text in ("off", "0"):
        return 0
    if text.isdecimal():
        return int(text)
    raise ValueError(f'{name} must be "auto", "off" or a number of threads, not {text!r}')


# The cores that cgroups allow change rarely, and to find out takes longer than everything else here.
_cores_seen = (0, 0)


def _cores() -> int:
    global _cores_seen
    affinity = len(os.sched_getaffinity(0))
    if _cores_seen[0] != affinity:
        _cores_seen = affinity, usable_cores()
    return _cores_seen[1]


def share(workers: int) -> int | None:
    """How many threads each of so many workers may use; None if that is nobody's business here."""
    environ = os.environ
    chosen = _parse(environ.get(SETTING, ""), SETTING)
    if chosen is not None:
        return chosen or None
    here = environ.get(_SHARE, "").partition(" ")[0]
    return max(1, (int(here) if here.isdecimal() else _cores()) // max(1, workers))


def _set_by_user(variables: tuple[str, ...]) -> bool:
    environ = os.environ
    ours = environ.get(_SHARE, "").split()
    return any(name in environ and name not in ours for name in variables)


class _Library:
    """One loaded library.

    `get`, `set`: its number of threads. `initial`: the number that it starts with. `local`: the number is the calling
    thread's own.
    """

    def __init__(
        self, kind: str, get: Callable[[], int], set: Callable[[int], object], initial: Callable[[], int], local: bool
    ) -> None:
        self.kind = kind
        self.get = get
        self.set = set
        self.initial = initial
        self.local = local
        self.ours: int | None = None  # what we set last
        self.holds: list[int] = []  # limits in force, if the number is the process's
        self.before = 0

    def is_the_users(self) -> bool:
        """Has the user decided how many threads it uses?"""
        if _set_by_user((_ALL,)) or _set_by_user(_OWN[self.kind]):
            return True
        now = self.get()
        return now != self.initial() and now != self.ours

    def lower(self, threads: int) -> bool:
        """Set the number if it is larger, and the user's not. Was it?"""
        if self.get() <= threads or self.is_the_users():
            return False
        self.set(threads)
        self.ours = threads
        return True

    # The number of a process can be limited by several at a time: the smallest counts. Under `_lock`.

    def hold(self, threads: int) -> bool:
        if not self.holds:
            self.before = self.get()
            if self.before <= threads or self.is_the_users():
                return False
        self.holds.append(threads)
        self.ours = min(self.holds)
        self.set(self.ours)
        return True

    def release(self, threads: int) -> None:
        if threads not in self.holds:  # emptied by a fork
            return
        now, expected = self.get(), self.ours
        self.holds.remove(threads)
        if now != expected:
            return  # set by the user meanwhile
        self.ours = min(self.holds) if self.holds else None
        self.set(self.before if self.ours is None else self.ours)


def _openblas(library: Any) -> _Library | None:
    import ctypes

    for prefix in ("scipy_", ""):
        for suffix in ("64_", "_64", ""):
            if not hasattr(library, f"{prefix}openblas_set_num_threads{suffix}"):
                continue
            get, set_, cores, config = (
                getattr(library, f"{prefix}openblas_{what}{suffix}", None)
                for what in ("get_num_threads", "set_num_threads", "get_num_procs", "get_config")
            )
            if get is None or set_ is None or cores is None or config is None:
                return None
            # It starts with as many threads as it sees cores, but not with more than it was built for.
            config.restype = ctypes.c_char_p
            digits = (config() or b"").partition(b"MAX_THREADS=")[2].partition(b" ")[0]
            most = int(digits) if digits.isdigit() else sys.maxsize
            setter = _openblas_set(library, get, set_)
            return _Library("openblas", get, setter, partial(_least_of, cores, most), local=False)
    return None


def _openblas_set(library: Any, get: Callable[[], int], set_: Callable[[int], object]) -> Callable[[int], object]:
    """OpenBLAS's own function, but for a process in which its threads do not run.

    They end at each fork, in parent and child, and its own function would start them first, also to say that there is
    to be one thread: each then spins for some 30 ms, on a core that somebody else could use. Its number of threads is
    a variable, which has to be told the same; the threads come when they are needed.
    """
    import ctypes

    try:
        running, number, most = (
            ctypes.c_int.in_dll(library, f"blas_{what}") for what in ("server_avail", "cpu_number", "num_threads")
        )
    except ValueError:  # this build keeps its variables to itself
        return set_

    def set_number(threads: int) -> None:
        if running.value == 0 and number.value == get() and 0 < threads <= most.value:
            number.value = threads
            if get() == threads:
                return
        set_(threads)

    return set_number


def _least_of(count: Callable[[], int], most: int) -> int:
    return min(count(), most)


def _mkl(library: Any) -> _Library | None:
    if not hasattr(library, "MKL_Set_Num_Threads_Local"):
        return None
    now = library.MKL_Get_Max_Threads
    # It starts with the number of physical cores, which it does not tell: taken as it is when it is found.
    first = now()
    physical = {_cores(), max(1, _cores() // 2)}
    return _Library(
        "mkl", now, library.MKL_Set_Num_Threads_Local, lambda: first if first in physical else -1, local=True
    )


def _openmp(library: Any) -> _Library | None:
    names = ("omp_get_max_threads", "omp_set_num_threads", "omp_get_num_procs")
    if not all(hasattr(library, name) for name in names):
        return None
    return _Library("openmp", library[names[0]], library[names[1]], library[names[2]], local=True)


# Parts of file names, and what is made of such a file. (BLIS uses one thread unless it is told otherwise.)
_KINDS: tuple[tuple[str, Callable[[Any], _Library | None]], ...] = (
    ("openblas", _openblas),
    ("libmkl_rt", _mkl),
    ("libgomp", _openmp),
    ("libiomp5", _openmp),
    ("libomp", _openmp),
)
_PARTS = [part.encode() for part, _ in _KINDS]

_lock = threading.RLock()  # never held while anything is started
_loaded: dict[str, _Library | None] = {}
_modules_seen = -1


def _libraries() -> list[_Library]:
    """The libraries that are loaded now. They come with modules: if no module came, none of them did."""
    global _modules_seen
    # Not counting the script, which a process that is forked from a template runs as a module.
    modules = len(sys.modules) - ("__mp_main__" in sys.modules)
    if modules != _modules_seen:
        with _lock:
            _scan()
        _modules_seen = modules
    return [library for library in _loaded.values() if library is not None] if _loaded else []


def _may_have_any() -> bool:
    """Is there an extension module but the interpreter's and ours, or `ctypes`? Else nothing has loaded a library."""
    own = os.path.dirname(__file__)
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and file.endswith(".so") and "/lib-dynload/" not in file and not file.startswith(own):
            return True
    return "ctypes" in sys.modules


def _scan() -> None:
    if not _may_have_any():
        return
    try:
        with open("/proc/self/maps", "rb") as file:
            maps = file.read()
    except OSError:
        return
    found = {}
    for name in _PARTS:
        at = maps.find(name)
        while at >= 0:
            begin, end = maps.rfind(b"\n", 0, at) + 1, maps.find(b"\n", at)
            fields = maps[begin:end].split(maxsplit=5)
            if len(fields) == 6:
                found[os.fsdecode(fields[5])] = None
            at = maps.find(name, end)
    for path in found:
        if path in _loaded:
            continue
        import ctypes

        _loaded[path] = None
        try:
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        except OSError:
            continue  # mapped, but not loaded as a library
        for part, make in _KINDS:
            if part in os.path.basename(path):
                _loaded[path] = make(library)
                break


def _forked() -> None:
    """In a forked child: the limits that were in force at the fork stay, and are nobody's to lift."""
    global _lock
    _lock = threading.RLock()
    for library in _loaded.values():
        if library is not None:
            library.holds.clear()


os.register_at_fork(after_in_child=_forked)


class Limit:
    """What one of a pool's worker processes is told. Made in the parent; `limit_worker` takes it."""

    def __init__(self, workers: int) -> None:
        self.threads = share(workers)
        # What the user has decided for this process holds for its workers, also for those that are not forked from it.
        self.kinds: list[str] = []
        if self.threads is not None:
            self.kinds = [library.kind for library in _libraries() if library.is_the_users()]


@contextmanager
def for_fork(limit: Limit) -> Iterator[None]:
    """What is forked in this context inherits loaded libraries that use no more threads than this."""
    threads = limit.threads
    libraries = _libraries() if threads is not None else []
    held, lowered = [], []
    if threads is not None:
        for library in libraries:
            if library.local:
                before, ours = library.get(), library.ours
                if library.lower(threads):
                    lowered.append((library, before, ours))
            else:
                with _lock:
                    if library.hold(threads):
                        held.append(library)
    try:
        yield
    finally:
        for library, before, ours in lowered:
            library.set(before)
            library.ours = ours
        for library in held:
            with _lock:
                library.release(threads)  # type: ignore[arg-type]  # nothing is held without a number


def limit_worker(limit: Limit) -> None:
    """To be called first in a worker process."""
    threads = limit.threads
    if threads is None:
        return
    left = set(limit.kinds)
    for library in _libraries():
        if library.kind not in left and not library.lower(threads) and library.is_the_users():
            left.add(library.kind)
    environ = os.environ
    ours = environ.get(_SHARE, "").split()[1:]
    if not _set_by_user((_ALL,)):
        for kind, variables in _OWN.items():
            if kind not in left and not _set_by_user(variables):
                environ[variables[0]] = str(threads)
                ours.append(variables[0])
    environ[_SHARE] = " ".join([str(threads), *dict.fromkeys(ours)])


class Team:
    """The worker threads of a pool, whose libraries are limited while it has work."""

    def __init__(self) -> None:
        self._held: list[tuple[_Library, int]] = []
        self._workers = 0  # for so many it is engaged
        self._local: list[_Library] = []
        self._threads = 0
        self._calls = 0

    def engage(self, workers: int) -> None:
        """There is work now, for so many threads. May be repeated, also with more threads, until `rest`."""
        if workers > self._workers:
            libraries = _libraries()
            with _lock:
                self._engage(workers, libraries)

    def _engage(self, workers: int, libraries: list[_Library]) -> None:
        if workers <= self._workers:
            return
        self._workers = workers
        threads = share(workers) if libraries and workers > 1 else None
        if threads is None:
            return
        self._threads = threads
        self._local = [library for library in libraries if library.local]
        before, self._held = self._held, []
        for library in libraries:
            if not library.local and library.hold(threads):
                self._held.append((library, threads))
        for library, held in before:
            library.release(held)

    def rest(self) -> None:
        """There is none any more."""
        self._workers = 0
        if self._held:
            with _lock:
                self._release()

    def _release(self) -> None:
        held, self._held = self._held, []
        self._workers = 0
        for library, threads in held:
            library.release(threads)

    def limit_thread(self) -> None:
        """To be called in a worker thread before a task, for libraries whose number of threads is each thread's own."""
        for library in self._local:
            library.lower(self._threads)

    # For an executor: the same by calls.

    def submit(self, submit: Callable[..., Any], most: int, fn: Any, args: Any, keywords: Any) -> Any:
        """`submit(fn, *args, **keywords)`, with libraries limited until its future is done. `most`: threads at most."""
        libraries = _libraries()
        if not libraries:
            return submit(fn, *args, **keywords)
        with _lock:
            self._calls += 1
            self._engage(min(self._calls, most), libraries)
        try:
            if self._local:
                future = submit(self._limited, fn, args, keywords)
            else:
                future = submit(fn, *args, **keywords)
        except BaseException:
            self._done(None)
            raise
        future.add_done_callback(self._done)
        return future

    def _limited(self, fn: Any, args: Any, keywords: Any) -> Any:
        self.limit_thread()
        return fn(*args, **keywords)

    def _done(self, _: object) -> None:
        with _lock:
            self._calls -= 1
            if not self._calls:
                self._release()
