"""Starting processes of `spawn` and `forkserver` contexts from a warm template; the owner's side.

The template (`_template`) is started on first need, is no child that the program could see, and ends with this process.
It keeps spare processes in stock. To start a process is to send a spare what the standard library would send to a new
interpreter. docs/design/warm-start.md has the protocol, the failure table and the reasons.

`BREAKEVEN_WARM=0` in the environment starts processes as the standard library does; `BREAKEVEN_WARM_IDLE` is the number
of seconds after which a template without work ends (300).
"""

from __future__ import annotations

import io
import marshal
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from multiprocessing import (
    forkserver,
    popen_fork,
    popen_forkserver,
    popen_spawn_posix,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from multiprocessing.context import set_spawning_popen

from . import _native
from ._cores import usable_cores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Unavailable", "ahead", "popen", "stop"]

# The descriptors that the template is started with, besides 0 to 2.
CONTROL, OWNER, CONFIG = 3, 4, 5

# A start: length of the settings, then they, then the preparation data and the process object as pickles. Or in two
# parts, each with a length and settings first.
START = struct.Struct("=I")
# An end: exit code as `Process.exitcode` has it, largest resident memory in bytes.
END = struct.Struct("=qq")

# The most descriptors that one message carries (SCM_MAX_FD of Linux is 253).
MAX_FDS = 240

# How long a start waits for the template before it goes the standard library's way.
PATIENCE = 10.0

# How long to wait for an exit code after the process has ended; the template reports it at once, if it lives.
CODE_PATIENCE = 2.0

# Seconds between templates that are started because the program has imported more; doubles each time.
REFRESH = 2.0

# So many templates in a row that had to be given up after fewer starts than that: not worth it for a while.
WASTED, FEW, A_WHILE = 3, 4, 50

# Rounds of leaving out modules that taint the template, before it is tried with fewer of them.
ROUNDS = 4

# Variables that are read by the interpreter, the C library and numerical libraries when they start.
_PREFIXES = (
    b"PYTHON",
    b"LD_",
    b"LC_",
    b"LANG",
    b"TZ",
    b"GLIBC_",
    b"MALLOC_",
    b"OMP_",
    b"GOMP_",
    b"KMP_",
    b"OPENBLAS_",
    b"GOTO_",
    b"MKL_",
    b"BLIS_",
    b"VECLIB_",
    b"NUMEXPR_",
    b"NPY_",
    b"NUMBA_",
    b"CUDA_",
    b"BREAKEVEN_",
)

_RLIMITS = tuple(value for name, value in sorted(vars(resource).items()) if name.startswith("RLIMIT_"))

# The lines of /proc/self/status that a forked child cannot be given afterwards.
_STATUS = (b"Uid", b"Gid", b"Groups", b"CapEff", b"CapBnd", b"NoNewPrivs", b"Seccomp", b"Cpus_allowed")


class Unavailable(Exception):
    """There is no template to be had; the reason is the argument."""


class _Surroundings:
    """What a new process inherits and what the template was started with, so far as it can be told apart."""

    __slots__ = ("blocked", "environment", "fixed", "ignored", "umask")

    def __init__(self) -> None:
        with open("/proc/thread-self/status", "rb", 0) as file:
            lines = file.read(1 << 16).split(b"\n")
        status = dict(line.split(b":\t", 1) for line in lines if b":\t" in line)
        self.umask = int(status[b"Umask"], 8)
        self.ignored = _signals(status[b"SigIgn"])
        self.blocked = _signals(status[b"SigBlk"])
        data = getattr(os.environ, "_data", None)  # what os.environ is made of; asking it goes key by key
        self.environment = dict(os.environb if data is None else data)
        self.fixed = (
            tuple(status.get(name) for name in _STATUS),
            os.getpgrp(),
            os.getsid(0),
            os.getpriority(os.PRIO_PROCESS, 0),
            os.sched_getscheduler(0),
            tuple(map(resource.getrlimit, _RLIMITS)),
            tuple(forkserver._forkserver._preload_modules),  # type: ignore[attr-defined]
        )


def _signals(mask: bytes) -> list[int]:
    """The signals of a set as the kernel prints it, but for those that an interpreter ignores by itself."""
    bits = int(mask, 16) & _SETTABLE
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length())
        bits ^= low
    return found


_SETTABLE = sum(
    1 << number - 1
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSTOP}
)


class _Spare:
    """A process that waits to be told what it is."""

    __slots__ = ("apart", "pid", "pidfd", "sock")

    def __init__(self, pid: int, sock: int, pidfd: int) -> None:
        self.apart = False  # was it kept off a CPU of ours?
        self.pid = pid
        self.sock = sock
        self.pidfd = pidfd

    def dead(self) -> bool:
        waiting = select.poll()
        waiting.register(self.pidfd, select.POLLIN)
        return bool(waiting.poll(0))

    def discard(self) -> None:
        os.close(self.sock)
        os.close(self.pidfd)


class _Control(socket.socket):
    """The socket by which a template knows its owner.

    It stays open to the end of the program, on purpose: nothing is to be said when the interpreter clears it away.
    (Closing it in a `util.Finalize` would show in multiprocessing's registry, where programs look.)
    """

    __slots__ = ()

    def __del__(self) -> None:
        self.close()  # instead of the warning about an unclosed socket


class _Template:
    """The owner's end of a template process."""

    def __init__(self, surroundings: _Surroundings, preparation: dict[str, Any], level: int) -> None:
        self.base = surroundings
        self.spares: deque[_Spare] = deque()
        self.ready = False
        self.complete = False  # has all modules that it was to have
        self.harmless = False  # running the script shows nowhere, so it can be run before it is certain that it must be
        self.gone: str | None = None  # why it is of no use any more
        self.failed = False  # and another would not be either
        self.starts = 0
        self.asked = 0  # forks asked for and not yet come
        self.refused: OSError | None = None
        self.learned: int | None = None  # bytes that a spare copies ahead, when that is known
        self.watched: frozenset[bytes] = frozenset()
        self.files: list[tuple[str, tuple[int, int]]] = []
        self.modules = len(sys.modules)
        names, own = _importable()
        self.names = frozenset(sys.modules)
        self.main_path = preparation.get("init_main_from_path")
        explicit = [str(name) for name in surroundings.fixed[-1]]
        if level == 1:
            names = [name for name in names if name not in own]
        elif level == 2:
            names = []
        config = {
            "sys_path": [os.path.abspath(entry) if entry else os.getcwd() for entry in preparation["sys_path"]],
            "argv": [str(argument) for argument in preparation["sys_argv"]],
            "main_path": self.main_path,
            "main_name": preparation.get("init_main_from_name"),
            "main_search": list(preparation["sys_path"]),
            "explicit": explicit,
            "modules": names,
            "own": own,
            "skip": list(_guilty),
            "installed": "breakeven" in preparation,
            "spares": min(2 * usable_cores(), 8),
            "idle": float(os.environ.get("BREAKEVEN_WARM_IDLE") or 300),
        }
        self.control, self.pid = _start(surroundings, config)
        self.alive = select.poll()
        self.alive.register(self.control, select.POLLIN)

    def hear(self, timeout: float) -> None:
        """Take in what the template says, waiting at most so many seconds for the first of it."""
        wait: float | None = timeout
        while self.gone is None and self.alive.poll(wait and wait * 1000):
            wait = 0
            try:
                data, fds, _, _ = socket.recv_fds(self.control, 1 << 20, 2, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                self.gone = str(error)
                return
            for fd in fds:
                os.set_inheritable(fd, False)
            if not data:
                self.gone = "it has ended"
                self.failed = not self.ready
                return
            kind, *arguments = marshal.loads(data)
            if kind == "spare":
                self.asked = max(0, self.asked - 1)
                if len(fds) == 2:
                    self.spares.append(_Spare(arguments[0], *fds))
                else:
                    # No descriptors left here. The process ends when its socket closes.
                    for fd in fds:
                        os.close(fd)
                    self.refused = OSError(24, "Too many open files")
            elif kind == "ready":
                self.ready = True
                watched, self.files, self.complete, self.harmless = arguments
                self.watched = frozenset(watched)
            elif kind == "learned":
                (self.learned,) = arguments
            elif kind == "failed":
                self.asked = max(0, self.asked - 1)
                self.refused = OSError(*arguments)
            elif kind == "tainted":
                _guilty.update(arguments[0])
                for name, reason in arguments[0].items():
                    util.info("breakeven: %s is not preloaded, for its import %s", name, reason)
                self.gone = "tainted"
            else:
                self.failed = True
                self.gone = arguments[0]

    def stale(self, now: _Surroundings, main_path: Any) -> bool:
        """Would a process forked from it differ from one that is started now?"""
        if now.fixed != self.base.fixed or main_path != self.main_path:
            return True
        if now.environment != self.base.environment:
            changed = {key for key, _ in _difference(self.base.environment, now.environment)}
            if not self.watched.isdisjoint(changed) or b"*" in self.watched:
                return True
            if any(key.startswith(_PREFIXES) for key in changed):
                return True
        for path, signature in self.files:
            try:
                status = os.stat(path)
            except OSError:
                return True
            if (status.st_mtime_ns, status.st_size) != signature:
                return True
        return False

    def take(self, deadline: float) -> _Spare | None:
        """A spare; None if the template is gone. Raises Unavailable if it does not answer."""
        while True:
            self.hear(0)
            if self.gone is not None:
                return None
            if self.refused is not None:
                error, self.refused = self.refused, None
                raise error
            while self.spares:
                spare = self.spares.popleft()
                if not spare.dead():
                    return spare
                spare.discard()
            if self.ready and not self.asked:
                if not self._say("fork"):
                    return None
                self.asked += 1
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unavailable("the template does not answer")
            # In slices: a signal handler may have started a process, and heard what was meant for us.
            self.hear(min(left, 0.25))

    def tell_taken(self, spare: _Spare, tied: bool, worker: bool) -> bool:
        """Says who is at work now, whether it ends with this process, and whether it is a worker of ours.

        False if nobody hears it.
        """
        # Before this wakes the template.
        try:
            spare.apart = _native.keep_apart(spare.pid)
        except OSError:
            pass  # it has just been killed
        return self._say("taken", spare.pid, tied, worker)

    def put_back(self, spare: _Spare) -> None:
        """It was not needed after all."""
        if self.gone is None:
            self.spares.appendleft(spare)
        else:
            spare.discard()

    def _say(self, *message: Any) -> bool:
        try:
            self.control.send(marshal.dumps(message), socket.MSG_NOSIGNAL)
        except OSError as error:
            self.gone = self.gone or str(error)
            return False
        return True

    def retire(self) -> None:
        """No more starts from it. It ends when those that it has started have ended."""
        self.gone = self.gone or "given up"
        self.control.close()
        while self.spares:
            self.spares.popleft().discard()
        try:
            # Where orphans come to this process, the template is its child.
            os.waitpid(self.pid, os.WNOHANG)
        except OSError:
            pass


def _difference(before: dict[bytes, bytes], now: dict[bytes, bytes]) -> list[tuple[bytes, bytes | None]]:
    return [(key, now.get(key)) for key in {**before, **now} if before.get(key) != now.get(key)]


_stdlib_names = sys.stdlib_module_names
_UNFIT = frozenset({"__main__", "__mp_main__", "sitecustomize", "usercustomize", "antigravity", "this", "idlelib"})


def _importable() -> tuple[list[str], list[str]]:
    """The modules that this process has imported and another could, and those of them that are the program's own.

    Its own are those that come from neither the standard library nor an installed package.
    """
    names, own = [], []
    prefixes = tuple({os.path.join(prefix, "") for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)})
    packages = os.path.dirname(os.path.abspath(__file__)) + os.sep
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name in _UNFIT or type(name) is not str or getattr(spec, "name", None) != name:
            continue
        origin = getattr(spec, "origin", None)
        if origin in ("built-in", "frozen", None) or not getattr(spec, "has_location", False):
            continue
        names.append(name)
        inside = origin.startswith(prefixes) or "/site-packages/" in origin or "/dist-packages/" in origin
        if not inside and not origin.startswith(packages) and name.partition(".")[0] not in _stdlib_names:
            own.append(name)
    return names, own


_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_CODE = """\
try:
 from breakeven._template import main
except ModuleNotFoundError:
 import sys
 sys.path.append({home!r})
 from breakeven._template import main
main()
"""


def _start(surroundings: _Surroundings, config: dict[str, Any]) -> tuple[socket.socket, int]:
    """Start a template; returns the socket to it and its pid."""
    executable = os.fsencode(spawn.get_executable())
    arguments = [executable, *map(os.fsencode, util._args_from_interpreter_flags())]  # type: ignore[attr-defined]
    arguments += [b"-c", os.fsencode(_CODE.format(home=_HOME))]
    environment = [key + b"=" + value for key, value in surroundings.environment.items()]
    plain, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours = _Control(fileno=plain.detach())
    opened = []
    try:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        opened.append(os.memfd_create("breakeven-output"))
        opened.append(os.pidfd_open(os.getpid(), 0))
        opened.append(os.memfd_create("breakeven-template"))
        null, output, owner, settings = opened
        with open(settings, "wb", closefd=False) as file:
            marshal.dump(config, file)
        os.lseek(settings, 0, os.SEEK_SET)
        descriptors = [null, output, output, theirs.fileno(), owner, settings]
        pid = _native.start_detached(executable, arguments, environment, descriptors)
    except OSError as error:
        ours.close()
        raise Unavailable(f"it cannot be started: {error}") from error
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        for fd in opened:
            os.close(fd)
    return ours, pid


# What follows is this process's; a forked child begins with its own.
_lock = threading.RLock()
_current: _Template | None = None
_coming: _Template | None = None  # started because the program has imported more; takes over when it is ready
_guilty: dict[str, str] = {}  # modules that must not be preloaded, and why
_rounds = 0
_wasted = 0
_rest = 0  # starts that go the standard library's way, since templates would not last
_rest_reason = ""
_refresh_at = 0.0
_refresh_wait = REFRESH


def _usable() -> bool:
    """Is a template what the program wants, and can it be had?"""
    executable = spawn.get_executable()
    return (
        os.environ.get("BREAKEVEN_WARM") != "0"
        and executable is not None
        and bool(sys.executable)
        and os.fsencode(executable) == os.fsencode(sys.executable)
        and not getattr(sys, "frozen", False)
        and hasattr(os, "pidfd_open")
    )


def _give_up(template: _Template) -> None:
    global _wasted, _rest, _rest_reason, _rounds, _current
    stale = template.gone is None
    reason = template.gone or "its surroundings have changed"
    util.debug("breakeven: template %d is given up: %s", template.pid, reason)
    template.retire()
    if template is _current:
        _current = None
    if reason == "tainted":
        _rounds += 1
    elif stale:
        _wasted = _wasted + 1 if template.starts < FEW else 0
        if _wasted >= WASTED:
            _wasted, _rest = 0, A_WHILE
            _rest_reason = "the program changes too often what its processes inherit"


def _level() -> int:
    """How many of the modules to preload: all, only installed ones, none."""
    return min(2, _rounds // ROUNDS)


def _look_ahead(now: _Surroundings, preparation: dict[str, Any]) -> None:
    """Let a template with more modules take over, or start one, if the program has imported more."""
    global _coming, _current, _rounds, _refresh_at, _refresh_wait
    coming = _coming
    if coming is not None:
        coming.hear(0)
        if coming.gone is not None or coming.stale(now, preparation.get("init_main_from_path")):
            if coming.gone == "tainted":
                _rounds += 1
            coming.retire()
            _coming = None
        elif coming.ready and coming.complete:
            if _current is not None:
                _current.retire()
            _current, _coming = coming, None
        return
    current = _current
    if current is None or not current.complete or len(sys.modules) == current.modules:
        return
    current.modules = len(sys.modules)
    more = {name.partition(".")[0] for name in sys.modules if name not in current.names}
    if not more - _stdlib_names - {"breakeven"} or _level() > 0:
        return
    clock = time.monotonic()
    if clock < _refresh_at:
        current.modules = -1  # look again later
        return
    _refresh_at, _refresh_wait = clock + _refresh_wait, _refresh_wait * 2
    _coming = _Template(now, preparation, _level())


def _reserve(now: _Surroundings, preparation: dict[str, Any]) -> tuple[_Template, _Spare]:
    """A spare process and its template. Raises Unavailable, and OSError for want of processes or descriptors."""
    global _current, _rest, _rest_reason
    if _rest > 0:
        _rest -= 1
        raise Unavailable(_rest_reason)
    deadline = time.monotonic() + PATIENCE
    failures = 0
    main_path = preparation.get("init_main_from_path")
    while True:
        template = _current
        if template is not None:
            template.hear(0)
            if template.gone is not None or template.stale(now, main_path):
                _give_up(template)
                if _rest:
                    raise Unavailable(_rest_reason)
                continue
            _look_ahead(now, preparation)
            template = _current or template
        else:
            template = _current = _Template(now, preparation, _level())
        spare = template.take(deadline)
        if spare is not None:
            return template, spare
        if template is _current:
            _give_up(template)
        failures += template.failed
        if failures > 1:
            _rest, _rest_reason = A_WHILE, f"it has failed: {template.gone}"
            raise Unavailable(_rest_reason)


def stop() -> None:
    """Give up the template, if there is one: it ends when the processes that it has started have ended."""
    global _current, _coming
    with _lock:
        for template in (_current, _coming):
            if template is not None:
                template.retire()
        _current = _coming = None


def descriptors() -> set[int]:
    """The descriptors that this process keeps for the template and its spares; for tests that look for leaks."""
    with _lock:
        kept = {template for template in (_current, _coming) if template is not None and template.gone is None}
        found = {template.control.fileno() for template in kept}
        for template in kept:
            for spare in template.spares:
                found |= {spare.sock, spare.pidfd}
        return found


def _after_fork_in_child() -> None:
    # The sockets are the parent's: what two processes read from one of them would be torn between them.
    global _lock, _current, _coming
    _lock = threading.RLock()
    for template in (_current, _coming):
        if template is not None:
            template.control.close()
            while template.spares:
                template.spares.popleft().discard()
    _current = _coming = None


os.register_at_fork(after_in_child=_after_fork_in_child)


def _standard_descriptors() -> tuple[int, list[int]]:
    """Which of the descriptors 0 to 2 are open, as bits, and they."""
    bits, fds = 0, []
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            continue
        fds.append(fd)
        bits |= 1 << fd
    return bits, fds


class _Ahead:
    """A worker that is coming up while its pool is still being made: it waits for its process object."""

    __slots__ = ("_pid", "_spare")

    def __init__(self, spare: _Spare) -> None:
        self._spare: _Spare | None = spare
        self._pid = os.getpid()

    def take(self) -> _Spare | None:
        """The process, for whoever describes it; None in a fork of the one that has started it."""
        spare, self._spare = self._spare, None
        if spare is not None and self._pid != os.getpid():
            spare.discard()
            return None
        return spare

    def discard(self) -> None:
        """It is not needed after all, and ends."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.discard()

    def __del__(self) -> None:
        self.discard()


def ahead(method: str) -> _Ahead | None:
    """Let a worker of a pool come up that is to be started in a moment, as far as it can without its process object.

    Its process is the next that takes this as its attribute `_ahead`. None if that is not possible, or might show: for
    a script that does more than define things when it is run, or without a spare.
    """
    template = _current
    if template is None or not template.harmless or not template.spares or not _usable():
        return None
    try:
        preparation = spawn.get_preparation_data("")
        if "breakeven_why" in preparation:
            return None  # in a recording, a process begins after its start
        tracker = _tracker_descriptor()
        now = _Surroundings()
        with _lock:
            template, spare = _reserve(now, preparation)
            if not template.harmless or not template.tell_taken(spare, True, True):
                template.put_back(spare)
                return None
            template.starts += 1
    except (OSError, RuntimeError, Unavailable):
        return None  # a start will meet that, too, and say so
    found = _Ahead(spare)
    try:
        buffer = _pickled(found, preparation)
        standard, fds = _standard_descriptors()
        fds.append(int(tracker or 0))
        settings = _settings(method, template, spare, now, standard, len(buffer.getbuffer()))
        _send(spare.sock, settings, buffer, fds)
    except BaseException:
        found.discard()
        raise
    return found


def _settings(
    method: str, template: _Template, spare: _Spare, now: _Surroundings, standard: int, preparation: int
) -> bytes:
    """What a spare is to change to be a process of this moment.

    `preparation`: how many bytes of preparation data come with it; 0 if all comes at once.
    """
    before = template.base.environment
    changed = _difference(before, now.environment) if now.environment != before else []
    return marshal.dumps((method, spare.apart, now.umask, now.ignored, now.blocked, changed, standard, preparation))


def _pickled(popen: Any, *objects: Any) -> io.BytesIO:
    """What a process is told, one pickle after the other; `popen` takes the descriptors that belong to it."""
    buffer = io.BytesIO()
    set_spawning_popen(popen)
    try:
        for value in objects:
            reduction.dump(value, buffer)
    finally:
        set_spawning_popen(None)  # type: ignore[arg-type]
    return buffer


def _send(to: int, settings: bytes, buffer: io.BytesIO, fds: list[int]) -> None:
    """A part of a start. That nobody is there any more is told by the exit code."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(to)) as sock:
        data = memoryview(START.pack(len(settings)) + settings + buffer.getbuffer())
        try:
            sent = socket.send_fds(sock, [data], fds, socket.MSG_NOSIGNAL)
            if sent < len(data):
                sock.sendall(data[sent:], socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            pass


def _tracker_descriptor() -> int | None:
    """The descriptor of the standard library's resource tracker, which is started if there is none.

    The tracker's own way to ask whether it lives wakes it up each time; the pipe to it knows as well.
    """
    fd = resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
    if fd is not None:
        asking = select.poll()
        asking.register(fd, 0)
        if not asking.poll(0):
            return fd
    return resource_tracker.getfd()


class _Popen(popen_fork.Popen):
    """A process forked from the template."""

    DupFd = popen_forkserver._DupFd  # type: ignore[attr-defined]

    sentinel: int

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        self.peak_rss: int | None = None
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: Any) -> None:
        begun = process_obj.__dict__.pop("_ahead", None)
        spare = begun and begun.take()
        if spare is not None:
            self._complete(process_obj, spare)
            return
        preparation = spawn.get_preparation_data(process_obj._name)
        tracker = _tracker_descriptor()
        now = _Surroundings()
        with _lock:
            template, spare = _reserve(now, preparation)
        try:
            buffer = _pickled(self, preparation, process_obj)
            standard, fds = _standard_descriptors()
            fds += [int(tracker or 0), *self._fds]
            if len(fds) > MAX_FDS:
                raise ValueError("too many fds")
        except BaseException:
            with _lock:
                template.put_back(spare)
            raise
        target = getattr(process_obj, "_target", None)
        worker = bool(getattr(target, "_ends_with_parent", False))
        tied = worker or bool(process_obj.daemon)
        with _lock:
            while not template.tell_taken(spare, tied, worker):
                # It has ended, or was given up, just now; and so has the spare.
                spare.discard()
                if template is _current:
                    _give_up(template)
                template, spare = _reserve(now, preparation)
            template.starts += 1
        self._is(spare)
        _send(spare.sock, _settings(self.method, template, spare, now, standard, 0), buffer, fds)

    def _complete(self, process_obj: Any, spare: _Spare) -> None:
        """Let a worker that is coming up know what it is."""
        try:
            buffer = _pickled(self, process_obj)
            if len(self._fds) > MAX_FDS:
                raise ValueError("too many fds")
        except BaseException:
            spare.discard()
            raise
        self._is(spare)
        settings = marshal.dumps((process_obj._name, len(buffer.getbuffer())))
        _send(spare.sock, settings, buffer, self._fds)

    def _is(self, spare: _Spare) -> None:
        """This process is what was that spare."""
        self.pid = spare.pid
        self.sentinel = spare.pidfd
        self._socket = spare.sock
        self.finalizer = util.Finalize(self, util.close_fds, (spare.pidfd, spare.sock))  # type: ignore[attr-defined]

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            waiting = select.poll()
            waiting.register(self.sentinel, select.POLLIN)
            if not waiting.poll(0 if flag == os.WNOHANG else None):
                return None
            self._read_end()
        return self.returncode

    def _read_end(self) -> None:
        """The process has ended; find out how. 255 if its template has gone before it could tell."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        code, memory = 255, 0
        # Only looked at, not taken: another thread may be asking as well.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(self._socket)) as sock:
            try:
                if waiting.poll(CODE_PATIENCE * 1000):
                    data = sock.recv(END.size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                    if len(data) == END.size:
                        code, memory = END.unpack(data)
                        sock.shutdown(socket.SHUT_WR)  # taken note of; the process number is free
            except OSError:
                pass
        self.peak_rss = memory or None
        self.returncode = code

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            try:
                signal.pidfd_send_signal(self.sentinel, sig)
            except ProcessLookupError:
                pass


class _SpawnPopen(_Popen, popen_spawn_posix.Popen):  # type: ignore[misc]
    method = "spawn"


class _ForkServerPopen(_Popen, popen_forkserver.Popen):
    method = "forkserver"


def popen(process_obj: Any) -> Any:
    """The Popen object of a process that is to be started, by the method of its class."""
    spawned = process_obj._start_method == "spawn"
    if _usable():
        try:
            return (_SpawnPopen if spawned else _ForkServerPopen)(process_obj)
        except Unavailable as reason:
            util.info("breakeven: %s is started without the template: %s", process_obj.name, reason)
    process_obj.__dict__.pop("_ahead", None)
    stdlib: Any = popen_spawn_posix if spawned else popen_forkserver
    return stdlib.Popen(process_obj)
