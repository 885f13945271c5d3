"""The template process: an interpreter with the program's modules imported, from which workers are forked.

What runs here runs in the template and in the children that it forks. `_warm` starts it and speaks to it;
docs/design/warm-start.md has the protocol, the failure table and the reasons.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import io
import marshal
import os
import pickle
import pkgutil
import random
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing import forkserver, popen_forkserver, process, reduction, resource_tracker, spawn, util

# The first two are what a process of ours needs before it comes to its target.
from . import (
    _blas,
    _native,
    _pool_worker,  # noqa: F401
    context,
    queues,  # noqa: F401
)
from ._pool_engine import ProcessTransport
from ._template_main import MainModule, signature
from ._warm import CONFIG, CONTROL, END, MAX_FDS, OWNER, START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NOTHING = compile("import sys\n\ndef nothing():\n    pass\n", "<nothing>", "exec")

# Signals that are sent to whole process groups, or by accident, and do not concern the template: it ends when its
# owner does, and not before its children have told how they ended.
IGNORED = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")
)
# Signals that an interpreter ignores from its start on.
PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)

# Spare processes are forked when nothing has been asked for so long: not while those just started need the cores.
SPARE_DELAY = 0.004

# How long children that end with the owner may take to end by SIGTERM.
GRACE = 0.4

# What a worker's start writes to is found out when nothing has been asked for so long, or after so many starts.
LESSON_DELAY = 0.02
LESSON_STARTS = 4
# How long it may take to see what a worker's start writes to; spares then go without.
LESSON_PATIENCE = 2.0
# The CPUs that the template and its children may use; a child is kept off one of them until it has come up.
_cpus: set[int] = set()

# More memory than this is not copied ahead.
LESSON_BYTES = 16 << 20


class _NotPreloaded(BaseException):
    """Ends the import of a module that needs one which must not be preloaded; programs do not catch it."""


class _Blocker:
    """A finder of modules that finds nothing, and stops where a module is wanted that must not be preloaded."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self._names:
            raise _NotPreloaded(name)


class _Pickled:
    """Pickles as a process object does; that itself refuses outside of a start, for the key in it."""

    def __init__(self, process: Any) -> None:
        self._state = {name: value for name, value in vars(process).items() if name != "_config"}

    def __reduce__(self) -> Any:
        return object.__new__, (context.SpawnProcess,), self._state


class _Watch:
    """What of the surroundings the modules look at while they are imported."""

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self.asked_pid: set[str] = set()
        self._environ = os._Environ  # type: ignore[attr-defined]

    def __enter__(self) -> _Watch:
        cls, keys = self._environ, self.keys
        getitem, iterate, getpid = cls.__getitem__, cls.__iter__, os.getpid
        self._before = (getitem, iterate, getpid)

        def __getitem__(environ: Any, key: Any) -> Any:
            keys.add(os.fsencode(key) if isinstance(key, str) else bytes(key))
            return getitem(environ, key)

        def __iter__(environ: Any) -> Any:
            keys.add(b"*")
            return iterate(environ)

        def asked() -> int:
            self.asked_pid.add(sys._getframe(1).f_globals.get("__name__", ""))
            return getpid()

        cls.__getitem__, cls.__iter__ = __getitem__, __iter__  # type: ignore[method-assign]
        os.getpid = asked  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        self._environ.__getitem__, self._environ.__iter__, os.getpid = self._before  # type: ignore[method-assign]


class Preload:
    """Imports the program's modules, and finds those whose import does more than define things.

    A child of the template must find what it would find in a fresh interpreter. So a module is not preloaded if its
    import starts a thread (which a fork would lose) or a process, opens a descriptor (which all children would share),
    writes to the standard streams (which each child would do), or, in a module of the program itself, keeps a random
    generator or asks for the process number. Such a module taints the template, which is given up for one without it.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.skip = set(config["skip"])
        self.own = set(config["own"])
        self.explicit = list(config["explicit"])
        self.modules = list(config["modules"])
        self.main = MainModule(config["main_path"], config["main_name"], config["main_search"])
        self.installed = config["installed"]
        self.guilty: dict[str, str] = {}
        process = context.SpawnProcess(target=len, args=((),), name="SpawnProcess-1")
        settings = {"name": "", "sys_path": sys.path, "sys_argv": sys.argv, "start_method": "spawn", "dir": "/"}
        self._pickles = pickle.dumps(settings) + pickle.dumps(_Pickled(process))
        self.watch = _Watch()
        self.pages = b""  # what becoming a worker writes to, if that is known: see `_native.make_own`
        self._seen_threads = 1
        self._written = 0

    def first(self) -> None:
        """What a child needs to come up: the modules asked for by name, and those that the script imports."""
        wanted = [name for name in self.explicit if name != "__main__"]
        for name in wanted:
            self.load(name)
        known = set(self.modules)
        package = (self.main.name or "").rpartition(".")[0]
        if package in known:
            self.load(package)
        self.main.read()
        for name in self.main.wanted:
            if name in known:
                self.load(name)

    def rest(self) -> list[str]:
        """The program's other modules: installed ones first, then its own, those that others import before these."""
        foreign = [name for name in self.modules if name not in self.own]
        return foreign + [name for name in reversed(self.modules) if name in self.own]

    def run_main(self) -> None:
        """The script, when its modules are there, if that makes no difference to those that would run it."""
        self.main.look()
        if self.installed or "__mp_main__" in self.skip:
            return  # it would find other modules than in a process of this program
        lowest, parent = _lowest_descriptor(), _has_children()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.main.run()
        except BaseException:
            pass  # the process that runs it meets the error itself
        reason = self._trace(lowest, parent)
        if reason is not None:
            self.guilty["__mp_main__"] = reason

    def load(self, name: str) -> None:
        """Import one module and look at what that did."""
        if name in sys.modules or name in self.skip:
            return
        before = set(sys.modules)
        lowest, parent = _lowest_descriptor(), _has_children()
        blocker = _Blocker(self.skip)
        sys.meta_path.insert(0, blocker)  # type: ignore[arg-type]
        try:
            with self.watch, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except BaseException:
            pass  # whoever needs it meets the error himself
        finally:
            if blocker in sys.meta_path:
                sys.meta_path.remove(blocker)  # type: ignore[arg-type]
        new = [module for module in sys.modules if module not in before]
        reason = self._trace(lowest, parent)
        if reason is not None:
            self.guilty[name] = reason
            for module in new:
                if module in self.own:
                    self.guilty[module] = reason
        for module in new:
            if module in self.own:
                reason = self._state(module)
                if reason is not None:
                    self.guilty[module] = reason

    def _trace(self, lowest: int, parent: bool) -> str | None:
        if _threads() > self._seen_threads:
            # OpenBLAS has its threads from the start; they end at a fork, and come back when they are needed.
            settle()
            if _threads() > self._seen_threads:
                self._seen_threads = _threads()
                return "starts a thread"
        if not parent and _has_children():
            return "starts a process"
        if _lowest_descriptor() != lowest:
            return "opens a file or socket"
        _flush()
        written = os.fstat(1).st_size
        if written != self._written:
            self._written = written
            return "writes to the standard streams"
        return None

    def _state(self, name: str) -> str | None:
        if name in self.watch.asked_pid:
            return "asks for the process number"
        for value in list(vars(sys.modules[name]).values()):
            kind = type(value)
            if isinstance(value, random.Random) and kind is not random.SystemRandom and value is not random._inst:  # type: ignore[attr-defined]
                return "keeps a random generator"
            if kind.__module__.startswith("numpy.random") and kind.__name__ in ("Generator", "RandomState"):
                return "keeps a random generator"
        return None

    def rehearse(self) -> None:
        """Do, as far as it has no effect, what becoming a process does.

        After a fork the first write to each page costs a fault and a copy. A spare has the time to take those for the
        pages that a start needs, which is half of what a start takes.
        """
        if self.pages:
            try:
                _native.make_own(self.pages)
            except OSError:
                pass  # a kernel before 5.14
            else:
                return
        try:
            loaded = io.BytesIO(self._pickles)
            with io.BufferedReader(loaded) as file:  # type: ignore[arg-type]
                for _ in range(2):
                    pickle.load(file)
            if self.main.module is None:
                if self.main.code is not None and self.main.path is not None:
                    pkgutil.get_importer(self.main.path)
                runpy._run_module_code(_NOTHING, None, "__mp_main__", pkg_name="", script_name=os.devnull)  # type: ignore[attr-defined]
            spawn.prepare({})
            _open_streams()
            util._close_stdin()  # type: ignore[attr-defined]
            os.close(sys.stdin.fileno())  # opened by the former; a new process does not have it twice
            util.info("a rehearsal")
            util._flush_std_streams()  # type: ignore[attr-defined]
            signal.pthread_sigmask(signal.SIG_BLOCK, ())
            forkserver._forkserver._inherited_fds = []  # type: ignore[attr-defined]
        except Exception:
            pass  # a program has changed what is used here; the real thing will tell

    def own_files(self) -> list[tuple[str, tuple[int, int]]]:
        """Files of the program's own modules that are loaded, with what tells whether they have been changed."""
        found = []
        for name in self.own:
            path = getattr(sys.modules.get(name), "__file__", None)
            if isinstance(path, str):
                try:
                    found.append((path, signature(path)))
                except OSError:
                    pass
        if self.main.module is not None and self.main.file is not None:
            found.append((self.main.file, self.main.signature))
        return found


def _threads() -> int:
    return os.stat("/proc/self/task").st_nlink - 2


def _lowest_descriptor() -> int:
    fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.close(fd)
    return fd


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            pass


def settle() -> None:
    """Fork once, for what libraries do before a fork; and give their threads a moment to be gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 0.1
    while _threads() > 1 and time.monotonic() < deadline:
        time.sleep(0.001)


class _Child:
    __slots__ = ("pid", "pidfd", "sock", "taken", "tied", "worker")

    def __init__(self, pid: int, pidfd: int, sock: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.sock = sock
        self.taken = False
        self.tied = True  # ends with the owner; spares do
        self.worker = False  # of a pool or executor, which nobody knows by its number


class _Lesson:
    """Finding out what a worker writes to."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.data = b""
        self.pids: list[int] = []
        self.deadline = time.monotonic() + LESSON_PATIENCE


class Template:
    """Forks children on request, keeps some in stock, and tells the owner how they end."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.control: socket.socket | None = socket.socket(fileno=CONTROL)
        self.control.setblocking(False)
        self.preload = Preload(config)
        self.todo: list[str] = []
        self.installed = config["installed"]
        self.want = config["spares"]
        self.idle = config["idle"]
        self.children: dict[int, _Child] = {}  # by pidfd
        self.kept: dict[int, _Child] = {}  # that have ended, by socket, until the owner has taken note
        self.owner_gone = False
        self.closing = False
        self.poll = select.poll()
        self.poll.register(CONTROL, select.POLLIN)
        self.poll.register(OWNER, select.POLLIN)
        self.active = time.monotonic()  # when something was last asked for, or a child ended
        self.next_spare = self.active
        self.starts = 0
        self.lesson: _Lesson | None = None
        self.learned = False
        self.learned_bytes = 0

    # --- coming up ---

    def come_up(self) -> None:
        preload = self.preload
        preload.first()
        if _threads() > 1:
            settle()
        self.todo = preload.rest()
        if not self.todo:
            preload.run_main()
        self.tell_taint()
        self.tell_ready()

    def tell_taint(self) -> None:
        guilty, self.preload.guilty = self.preload.guilty, {}
        if guilty:
            self.todo = []
            self.want = 0
            self.say("tainted", guilty)

    def tell_ready(self) -> None:
        preload = self.preload
        self.say("ready", sorted(preload.watch.keys), preload.own_files(), not self.todo, preload.main.harmless)

    def say(self, *message: Any, fds: Any = ()) -> bool:
        if self.control is None:
            return False
        data = marshal.dumps(message)
        try:
            self.control.setblocking(True)
            if fds:
                socket.send_fds(self.control, [data], fds)
            else:
                self.control.send(data)
        except OSError:
            return False
        else:
            return True
        finally:
            self.control.setblocking(False)

    # --- serving ---

    def serve(self) -> None:
        while not self.owner_gone:
            if self.closing and not self.children and not self.kept:
                return
            for fd, _ in self.poll.poll(self.patience()):
                if fd == OWNER:
                    self.owner_gone = True
                elif fd == CONTROL:
                    self.hear()
                elif self.lesson is not None and fd == self.lesson.fd:
                    self.hear_lesson(self.lesson)
                elif fd in self.children:
                    self.ended(self.children[fd])
                elif fd in self.kept:
                    self.noted(self.kept[fd])
            self.work_ahead()
        self.end_tied()

    def patience(self) -> int | None:
        """Milliseconds to sleep at most."""
        if self.closing:
            return None
        if self.todo:
            return 0
        now = time.monotonic()
        if self.lesson is not None:
            return max(0, int((self.lesson.deadline - now) * 1000) + 1)
        if self.spares() < self.want:
            return max(0, int((self.next_spare - now) * 1000) + 1)
        if self.lesson_due() < self.active + self.idle:
            return max(0, int((self.lesson_due() - now) * 1000) + 1)
        if self.kept or any(child.taken for child in self.children.values()):
            return None
        return max(0, int((self.active + self.idle - now) * 1000) + 1)

    def spares(self) -> int:
        return sum(not child.taken for child in self.children.values())

    def work_ahead(self) -> None:
        """Something that has not been asked for yet: a module, a spare, or the end."""
        if self.closing or self.owner_gone:
            return
        if self.todo:
            self.preload.load(self.todo.pop(0))
            if not self.todo and not self.preload.guilty:
                self.preload.run_main()
            if self.preload.guilty:
                self.tell_taint()
            if not self.todo:
                self.tell_ready()
                tidy()
            return
        now = time.monotonic()
        if self.lesson is not None:
            if now >= self.lesson.deadline:
                self.end_lesson(self.lesson)
            return
        if self.lesson_due() <= now:
            self.learn()
            return
        if self.spares() < self.want:
            if now >= self.next_spare:
                self.fork(asked=False)
            return
        busy = self.kept or any(child.taken for child in self.children.values())
        if now - self.active >= self.idle and not busy:
            self.close_shop()

    def close_shop(self) -> None:
        """End for want of work, unless the owner is asking for something at this moment.

        After the shutdown the owner cannot send anything any more, and learns so. What it has sent before is still
        there to be read, and then this template serves that.
        """
        assert self.control is not None
        self.control.shutdown(socket.SHUT_RD)
        self.hear()
        self.leave()

    def leave(self) -> None:
        """No more requests: let the spares go, and wait for those that are at work."""
        self.closing = True
        self.todo = []
        if self.lesson is not None:
            self.end_lesson(self.lesson)
        if self.control is not None:
            self.poll.unregister(CONTROL)
            self.control.close()
            self.control = None
        for child in self.children.values():
            if not child.taken:
                _kill(child, signal.SIGKILL)

    def hear(self) -> None:
        while self.control is not None:
            try:
                data = self.control.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.leave()
                return
            self.active = time.monotonic()
            self.next_spare = self.active + SPARE_DELAY
            kind, *arguments = marshal.loads(data)
            if kind == "fork":
                self.fork(asked=True)
            else:
                self.starts += 1
                pid, tied, worker = arguments
                for child in self.children.values():
                    if child.pid == pid:
                        child.taken, child.tied, child.worker = True, tied, worker

    def fork(self, asked: bool) -> None:
        ours, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pidfd = -1
        try:
            # In the child it would cost ten times as much. (`random` sees to itself.)
            numpy_random = sys.modules.get("numpy.random")
            if numpy_random is not None:
                numpy_random.seed()
            # Blocked until the child has its own way with them: a signal that the owner sends at once must arrive.
            signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
            try:
                pid = os.fork()
            except OSError as error:
                self.next_spare = time.monotonic() + 1.0
                if asked:
                    self.say("failed", error.errno, error.strerror)
                return
            if pid == 0:
                ours.close()
                self.be_child(lambda: _child(childs, self.preload, ahead=not asked))
            try:
                pidfd = os.pidfd_open(pid, 0)
            except OSError as error:  # no descriptors left
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self.next_spare = time.monotonic() + 1.0
                if asked:
                    self.say("failed", error.errno, error.strerror)
                return
            child = _Child(pid, pidfd, childs.dup())
            self.children[pidfd] = child
            self.poll.register(pidfd, select.POLLIN)
            self.say("spare", pid, fds=[ours.fileno(), pidfd])
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
            ours.close()
            childs.close()

    def ended(self, child: _Child) -> None:
        """Tell the owner how, and keep the process number from being used again until it has taken note."""
        code, memory = 255, 0
        keep = child.taken and not child.worker
        try:
            if keep:
                found = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
                if found is not None:
                    code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            else:
                _, status, usage = os.wait4(child.pid, 0)
                code, memory = os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
        except ChildProcessError:
            keep = False
        try:
            child.sock.send(END.pack(code, memory), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            keep = False  # the owner does not want to know
        self.poll.unregister(child.pidfd)
        del self.children[child.pidfd]
        os.close(child.pidfd)
        if keep:
            self.kept[child.sock.fileno()] = child
            self.poll.register(child.sock, select.POLLIN)
        else:
            child.sock.close()
            self.reap(child)
        self.active = time.monotonic()
        self.next_spare = min(self.next_spare, self.active)  # whoever starts processes in a loop starts the next

    def noted(self, child: _Child) -> None:
        """The owner has read how this process has ended, or has let go of it."""
        del self.kept[child.sock.fileno()]
        self.poll.unregister(child.sock)
        child.sock.close()
        self.reap(child)
        self.active = time.monotonic()

    @staticmethod
    def reap(child: _Child) -> None:
        try:
            os.waitpid(child.pid, os.WNOHANG)
        except ChildProcessError:
            pass

    # --- learning what a worker writes to ---

    def lesson_due(self) -> float:
        """When to learn: in a quiet moment, or soon if there is none."""
        if self.learned or not self.want:
            return float("inf")
        return self.next_spare if self.starts >= LESSON_STARTS else self.active + LESSON_DELAY

    def learn(self) -> None:
        """Have one child become a worker that nobody needs, and tell which pages that has written to.

        Another child plays the owner. Spares then copy these pages while they wait, which is most of what becoming a
        worker takes otherwise.
        """
        self.learned = True
        try:
            reading, writing = os.pipe()
        except OSError:  # no more descriptors to be had
            return
        self.lesson = lesson = _Lesson(reading)
        self.poll.register(reading, select.POLLIN)
        try:
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                with ours, theirs:
                    lesson.pids.append(self.fork_pupil(lambda: _be_pupil(theirs, self.preload, writing), ours))
                    os.close(writing)
                    writing = -1
                    lesson.pids.append(self.fork_pupil(lambda: _play_owner(ours, self.preload, self.installed), theirs))
            finally:
                if writing >= 0:
                    os.close(writing)
        except OSError:  # or processes
            self.end_lesson(lesson)

    def fork_pupil(self, be: Callable[[], int], others: socket.socket) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
        try:
            pid = os.fork()
            if pid == 0:
                others.close()
                self.be_child(be)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
        return pid

    def hear_lesson(self, lesson: _Lesson) -> None:
        data = os.read(lesson.fd, 1 << 20)
        if data:
            lesson.data += data
            return
        try:
            pages = marshal.loads(lesson.data)
        except (EOFError, ValueError):
            pass  # it has come to nothing
        else:
            self.learned_bytes = sum(end - start for start, end in pages)
            if self.learned_bytes <= LESSON_BYTES:
                self.preload.pages = array.array("Q", [bound for pair in pages for bound in pair]).tobytes()
        self.end_lesson(lesson)

    def end_lesson(self, lesson: _Lesson) -> None:
        self.lesson = None
        self.poll.unregister(lesson.fd)
        os.close(lesson.fd)
        for pid in lesson.pids:
            os.kill(pid, signal.SIGKILL)  # not reaped, so it is still the number of this process
            os.waitpid(pid, 0)
        self.say("learned", self.learned_bytes if self.preload.pages else 0)

    def end_tied(self) -> None:
        """The owner is gone, and so must be whoever was to end with it."""
        if self.lesson is not None:
            self.end_lesson(self.lesson)
        tied = [child for child in self.children.values() if child.tied]
        for child in tied:
            _kill(child, signal.SIGTERM if child.taken else signal.SIGKILL)
        waiting = select.poll()
        for child in tied:
            waiting.register(child.pidfd, select.POLLIN)
        deadline = time.monotonic() + GRACE
        left = {child.pidfd for child in tied}
        while left and time.monotonic() < deadline:
            for fd, _ in waiting.poll(max(1, int((deadline - time.monotonic()) * 1000))):
                waiting.unregister(fd)
                left.discard(fd)
        for child in tied:
            _kill(child, signal.SIGKILL)

    # --- in a child ---

    def be_child(self, be: Callable[[], int]) -> None:
        """In a fork of the template: leave its things behind, and be what is wanted; does not return."""
        code = 1
        try:
            own_pid = os.getpid()
            for child in self.children.values():
                os.close(child.pidfd)
                child.sock.close()
            for child in self.kept.values():
                child.sock.close()
            self.children.clear()
            self.kept.clear()
            if self.control is not None:
                self.control.close()
            if self.lesson is not None:
                os.close(self.lesson.fd)
            os.close(OWNER)
            del self.poll
            code = be()
        except BaseException:
            _report()
        finally:
            if os.getpid() == own_pid:
                _flush()
                _tell_end(code & 0xFF)
            os._exit(code & 0xFF)


def _kill(child: _Child, number: int) -> None:
    try:
        signal.pidfd_send_signal(child.pidfd, number)
    except ProcessLookupError:
        pass


_end: tuple[int, Any] | None = None  # where to say how this process ends; and which socket that is


def _tell_end(code: int) -> None:
    """Say how this process ends: if its owner hears it from the template only, it hears it later."""
    if _end is None:
        return
    fd, which = _end
    try:
        if os.fstat(fd)[:3] == which:  # and not something that the program has opened after it has closed everything
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd) as sock:
                sock.send(END.pack(code, memory), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass  # the owner does not want to know


def _report() -> None:
    try:
        sys.excepthook(*sys.exc_info())
        _flush()
    except BaseException:
        pass


def _child(sock: socket.socket, preload: Preload, ahead: bool) -> int:
    """Wait to be needed, and then be what is needed; returns the exit code.

    `ahead`: nobody needs it yet.
    """
    global _end
    if ahead:
        preload.rehearse()
    early: list[int] = []
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)

    def note(number: int, _: Any) -> None:
        # What is sent to a whole process group does not concern a spare, but what comes after the start does.
        if waiting.poll(0):
            early.append(number)

    for number in IGNORED:
        signal.signal(number, note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
    waiting.poll()
    signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    head, fds = _receive_head(sock)
    if head is None:
        os._exit(0)  # nobody needs it: the owner is gone, or has another template
    settings = marshal.loads(_receive(sock, START.unpack(head)[0]))
    preparation = _receive(sock, settings[-1]) if settings[-1] else None
    method = _apply(settings, fds, early)
    described = None
    if preparation is not None:
        described = _come_up(sock, preload, preparation)
    # As with the standard library's pipe: readable when the parent is gone.
    sentinel = sock.detach()
    _end = sentinel, os.fstat(sentinel)[:3]
    try:
        if described is not None:
            code = _unpickled(described)._bootstrap(parent_sentinel=sentinel)
        else:
            with preload.main:
                code = spawn._main(os.dup(sentinel), sentinel)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else (0 if error.code is None else 1)
        if code == 1 and error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    except BaseException:
        _report()
        code = 1
    # A spawned process ends as an interpreter does; one of a fork server without its exit handlers, until Python 3.13
    # changed that.
    if method == "spawn" or sys.version_info >= (3, 13):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    return code if isinstance(code, int) else 1


def _come_up(sock: socket.socket, preload: Preload, preparation: bytes) -> bytes:
    """Prepare for a process object that is still being made; returns its pickle."""
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        with preload.main:
            spawn.prepare(pickle.loads(preparation))
    finally:
        del process.current_process()._inheriting  # type: ignore[attr-defined]
    try:
        head, fds = _receive_head(sock)
    except KeyboardInterrupt:
        os._exit(1)  # nobody's work is interrupted
    if head is None:
        os._exit(0)  # there is no such process after all
    name, length = marshal.loads(_receive(sock, START.unpack(head)[0]))
    process.current_process().name = name
    forkserver._forkserver._inherited_fds = fds  # type: ignore[attr-defined]
    return _receive(sock, length)


def _unpickled(data: bytes) -> Any:
    process.current_process()._inheriting = True  # type: ignore[attr-defined]
    try:
        return pickle.loads(data)
    finally:
        del process.current_process()._inheriting  # type: ignore[attr-defined]


def _be_pupil(sock: socket.socket, preload: Preload, answer: int) -> int:
    """A spare that becomes a worker, and says which pages it has written to for that."""
    # What the program's modules have left to be done at the end of each process is not to be done at this one's.
    atexit._clear()
    util._finalizer_registry.clear()  # type: ignore[attr-defined]
    before = _native.own_pages()
    code = _child(sock, preload, ahead=False)
    after = _native.own_pages()
    kept = {page for start, end in before for page in range(start, end, resource.getpagesize())}
    pages: list[tuple[int, int]] = []
    for start, end in after:
        for page in range(start, end, resource.getpagesize()):
            if page in kept:
                continue
            if pages and pages[-1][1] == page:
                pages[-1] = pages[-1][0], page + resource.getpagesize()
            else:
                pages.append((page, page + resource.getpagesize()))
    data = marshal.dumps(pages)
    while data:
        data = data[os.write(answer, data) :]
    return code


class _Launch:
    """What of a Popen object those ask for who are pickled for a new process."""

    DupFd = popen_forkserver._DupFd  # type: ignore[attr-defined]

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        self.fds.append(fd)
        return len(self.fds) - 1


def _play_owner(sock: socket.socket, preload: Preload, installed: bool) -> int:
    """Start a pool's worker in the process at the other end, let it do one task, and wait for its end."""
    transport = ProcessTransport(
        context._concrete_contexts["spawn"],
        lambda _, **arguments: context.SpawnProcess(**arguments),
        1,
        settings=(None, (), None),
    )
    [process] = (transport._make_worker(slot) for slot in (0,))
    handle = transport.functions.handle(len)
    transport.put((handle.call, *handle.key, ()))
    transport.put(None)
    preparation = spawn.get_preparation_data(process.name)
    preparation["dir"] = "/"
    for name in ("init_main_from_path", "init_main_from_name"):
        preparation.pop(name, None)
    if preload.main.path is not None:
        preparation["init_main_from_path"] = preload.main.path if preload.main.module is not None else os.devnull
    elif preload.main.module is not None:
        preparation["init_main_from_name"] = preload.main.name
    if installed:
        from ._install import _InstallInChild

        preparation["breakeven"] = _InstallInChild()
    launch, buffer = _Launch(), io.BytesIO()
    context.set_spawning_popen(launch)  # type: ignore[arg-type]
    reduction.dump(preparation, buffer)
    reduction.dump(process, buffer)
    context.set_spawning_popen(None)
    umask = os.umask(0)
    os.umask(umask)
    settings = marshal.dumps(("spawn", False, umask, [], [], [], 0b111, 0))
    data = START.pack(len(settings)) + settings + buffer.getvalue()
    socket.send_fds(sock, [data], [0, 1, 2, 0, *launch.fds])
    while sock.recv(1 << 16):  # how it has ended, and then that it has
        pass
    return 0


def _receive_head(sock: socket.socket) -> tuple[bytes | None, list[int]]:
    while True:
        try:
            data, fds, flags, _ = socket.recv_fds(sock, START.size, MAX_FDS)
            break
        except InterruptedError:
            continue
        except OSError:
            return None, []
    for fd in fds:
        os.set_inheritable(fd, False)
    if flags & socket.MSG_CTRUNC:
        raise OSError("not all descriptors have arrived: RLIMIT_NOFILE is too low for what this process is given")
    if data and len(data) < START.size:
        data += _receive(sock, START.size - len(data))
    return (data or None), fds


def _receive(sock: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = sock.recv(count)
        if not part:
            os._exit(0)  # the owner was killed in the middle of starting this process
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _apply(settings: tuple[Any, ...], fds: list[int], early: list[int]) -> str:
    """Make this process what a new one of the owner's would be; returns the start method.

    `early`: signals that have come since the start.
    """
    method, apart, umask, ignored, blocked, environment, standard, _ = settings
    if apart:
        os.sched_setaffinity(0, _cpus)
    for number in IGNORED:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    os.umask(umask)
    for key, value in environment:
        if value is None:
            os.environb.pop(key, None)
        else:
            os.environb[key] = value
    given = iter(fds)
    for fd in range(3):
        if standard >> fd & 1:
            source = next(given)
            os.dup2(source, fd)
            os.close(source)
        else:
            os.close(fd)
    _open_streams()
    resource_tracker._resource_tracker._fd = next(given)  # type: ignore[attr-defined]
    forkserver._forkserver._inherited_fds = list(given)  # type: ignore[attr-defined]
    for number in early:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return method


def _open_streams() -> None:
    """sys.stdin, stdout and stderr for the descriptors as they are now, as the interpreter makes them at its start."""
    unbuffered = bool(sys.flags.unbuffered) if hasattr(sys.flags, "unbuffered") else False
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, f"__{name}__")
        mode = "r" if fd == 0 else "w"
        new = None
        try:
            raw_only = unbuffered and mode == "w"
            buffer: Any = open(fd, mode + "b", 0 if raw_only else -1, closefd=False)
            (buffer if raw_only else buffer.raw).name = f"<{name}>"
            terminal = buffer.isatty()
            new = io.TextIOWrapper(
                buffer,
                encoding=old.encoding,
                errors=old.errors,
                newline="\n",
                line_buffering=not raw_only and (terminal or fd == 2),
                write_through=raw_only,
            )
            new.mode = mode  # type: ignore[misc]
        except OSError:
            pass  # closed in the owner too; an interpreter started like this has None there
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def tidy() -> None:
    """Before forks: what children would all do by themselves, and would have to copy pages for."""
    _blas._libraries()  # which are looked for by each worker, and found by those that have more modules only
    gc.collect()
    gc.freeze()


def main() -> None:
    """What the template runs; does not return."""
    global _cpus
    code = 1
    template = None
    try:
        _cpus = os.sched_getaffinity(0)
        for number in signal.valid_signals():
            if number not in PYTHON_IGNORES and signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        with open(CONFIG, "rb") as file:
            config = marshal.load(file)
        sys.path[:] = config["sys_path"]
        sys.argv[:] = config["argv"]
        template = Template(config)
        template.come_up()
        os.chdir("/")  # nobody shall be kept from unmounting or removing anything
        tidy()
        template.serve()
        code = 0
    except BaseException as error:
        control = template.control if template is not None else socket.socket(fileno=CONTROL)
        if control is not None:
            control.send(marshal.dumps(("broken", f"{type(error).__name__}: {error}")))
    finally:
        os._exit(code)
