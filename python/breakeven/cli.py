"""The command line: `breakeven why script.py`, `breakeven run script.py`; also `python -m breakeven ...`.

The commands around `why` are in `_why/cli.py`; this file has `run`.

`run` executes a program in this process and as the real `__main__`, with breakeven installed, so that the program
cannot tell it from plain Python: argv, sys.path, tracebacks, exit code and signals are the interpreter's own. As far as
possible that is not imitated but left to the interpreter: SystemExit and KeyboardInterrupt pass through, modules and
zip files are run by runpy as `python -m` does, and uncaught exceptions are printed by the interpreter, after our own
frames have been taken off the traceback.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, NoReturn

__all__ = ["main"]

USAGE = """\
usage: breakeven run [--receipt] SCRIPT [ARGUMENT ...]
       breakeven run [--receipt] -m MODULE [ARGUMENT ...]
       breakeven run [--receipt] -c CODE [ARGUMENT ...]
       breakeven why [OPTION ...] SCRIPT [ARGUMENT ...]
       breakeven report FILE
       breakeven machine
       breakeven --version | --help

why         run an unmodified Python program, say where its time went and what to change
            (breakeven why --help tells the options)
report      show once more what `why` has saved
machine     what this machine charges for processes, messages, bytes
run         run an unmodified Python program with breakeven under the names of
            multiprocessing and concurrent.futures, in it and in all its children
--receipt   print on stderr, when the program ends, what was replaced and what was counted

SCRIPT is a file, a directory or zip file with a __main__.py, or - for standard input.
Options for the interpreter go to Python: python -X dev -m breakeven run SCRIPT
"""

# Commands that are planned, so that a typing error is told from one that is not there yet.
NOT_THERE_YET = ("bench", "top", "simulate")


def main(argv: list[str] | None = None) -> int:
    """Carry out a command line, `sys.argv[1:]` by default. Returns the exit code, or raises what the program raised."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        sys.stderr.write(USAGE)
        return 2
    command, *arguments = arguments
    if command in ("-h", "--help"):
        sys.stdout.write(USAGE)
        return 0
    if command in ("-V", "--version"):
        import breakeven

        sys.stdout.write(f"breakeven {breakeven.__version__}\n")
        return 0
    if command == "run":
        return run(arguments)
    if command in ("why", "report"):
        from ._why import cli as why_cli

        return getattr(why_cli, command)(arguments)
    if command == "machine":
        from ._why import machine

        return machine.main(arguments)
    if command in NOT_THERE_YET:
        sys.stderr.write(
            f"breakeven: '{command}' is planned and not there yet; this version has why, report, machine and run\n"
        )
    else:
        sys.stderr.write(f"breakeven: there is no command '{command}'\n{USAGE}")
    return 2


def run(arguments: list[str]) -> int:
    """`breakeven run`."""
    receipt = False
    while arguments and arguments[0].startswith("-") and arguments[0] != "-":
        option = arguments.pop(0)
        if option == "--receipt":
            receipt = True
        elif option == "--":
            break
        elif option in ("-h", "--help"):
            sys.stdout.write(USAGE)
            return 0
        elif option[:2] in ("-m", "-c"):  # as in Python, what follows may be stuck to it, and ends the options
            rest = [option[2:]] if len(option) > 2 else []
            rest += arguments
            if not rest:
                sys.stderr.write(f"breakeven run: argument expected for {option}\n{USAGE}")
                return 2
            return _run(option[:2], rest[0], rest[1:], receipt)
        else:
            sys.stderr.write(f"breakeven run: unknown option {option}\n{USAGE}")
            return 2
    if not arguments:
        sys.stderr.write(f"breakeven run: nothing to run\n{USAGE}")
        return 2
    return _run("", arguments[0], arguments[1:], receipt)


def _run(kind: str, what: str, arguments: list[str], receipt: bool) -> int:
    import breakeven

    breakeven.install()
    if receipt:
        _print_receipt_at_end()
    execute(kind, what, arguments)
    return 0


def execute(kind: str, what: str, arguments: list[str], begins: Callable[[], object] | None = None) -> None:
    """Run a program in this process as the real `__main__`; `begins` is called right before its first instruction.

    `kind`: "-m", "-c", or "" for a file. Raises what the program raises.
    """
    _forget_own_path()
    program = _prepare(kind, what, arguments)
    _enter_main()
    if begins is not None:
        begins()
    try:
        program()
    except SystemExit:
        raise
    except BaseException as error:
        _hide_own_frames(error)
        raise


# ---------------------------------------------------------------------------------------------------------------------
# The state a program finds


def _path_was_prepended() -> bool:
    # -P and -I keep Python from putting the script's directory, or the current one, in front of sys.path.
    return not getattr(sys.flags, "safe_path", bool(sys.flags.isolated))


def _forget_own_path() -> None:
    """Take off sys.path what Python put there for us: the current directory (-m) or the directory of our script."""
    if _path_was_prepended() and sys.path:
        del sys.path[0]


def _prepend_path(entry: str) -> None:
    if _path_was_prepended():
        sys.path.insert(0, entry)


def _enter_main() -> None:
    """Give the program a `__main__` of its own, with what Python puts there before it starts one."""
    import builtins
    import types

    module = types.ModuleType("__main__")
    attributes = module.__dict__
    attributes["__builtins__"] = builtins
    attributes["__annotations__"] = {}
    attributes.update(_main_attributes)
    _own_main.append(sys.modules["__main__"])  # kept alive: its frame is still running
    sys.modules["__main__"] = module
    if "__mp_main__" in sys.modules:  # multiprocessing's alias, which pickles of spawned children go by
        sys.modules["__mp_main__"] = module


_main_attributes: dict[str, Any] = {}
_own_main: list[Any] = []


def _prepare(kind: str, what: str, arguments: list[str]) -> Any:
    """Set argv and path for the program; return a function that runs it in the `__main__` module then in force."""
    import os

    if kind == "-m":
        sys.argv[:] = ["-m", *arguments]
        _prepend_path(os.getcwd())
        return _module_runner(what, alter_argv=True)

    from importlib.machinery import BuiltinImporter, SourceFileLoader

    if kind == "-c":
        sys.argv[:] = ["-c", *arguments]
        _prepend_path("")
        _main_attributes["__loader__"] = BuiltinImporter
        return _source_runner(lambda: what + "\n", "<string>", shows_source=True)

    sys.argv[:] = [what, *arguments]
    if what == "-":
        _prepend_path("")
        _main_attributes["__loader__"] = BuiltinImporter
        return _source_runner(lambda: sys.stdin.buffer.read(), "<stdin>")

    path = _absolute(what)
    import pkgutil

    if os.path.isdir(path) or (not path.endswith((".py", ".pyc")) and pkgutil.get_importer(path) is not None):
        sys.path.insert(0, path)  # whatever -P says: this is where the program is
        return _module_runner("__main__", alter_argv=False)

    _prepend_path(os.path.dirname(os.path.realpath(what)))
    _main_attributes["__file__"] = path
    _main_attributes["__cached__"] = None
    if _is_compiled(path):
        from importlib.machinery import SourcelessFileLoader

        _main_attributes["__loader__"] = SourcelessFileLoader("__main__", path)
        return _compiled_runner(path)
    _main_attributes["__loader__"] = SourceFileLoader("__main__", path)
    return _source_runner(lambda: _read(path), path)


def _absolute(path: str) -> str:
    import os

    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _leave_it_to_python() -> NoReturn:
    """Become plain Python, started on the same program.

    For programs that cannot be started at all: a file that is not there, that cannot be read, or that cannot be parsed.
    Nothing of them has run, and only the interpreter has its own words for what is wrong. (Its tokenizer, for one,
    reports a wrong encoding otherwise for a file than for the same bytes given to compile().)
    """
    import os
    import subprocess

    sys.stdout.flush()
    sys.stderr.flush()
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    os.execv(sys.executable, [sys.orig_argv[0], *options, *sys.argv])


def _read(path: str) -> bytes:
    import io

    try:
        with io.open_code(path) as file:
            return file.read()
    except OSError:
        _leave_it_to_python()


def _is_compiled(path: str) -> bool:
    import importlib.util

    if path.endswith(".pyc"):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(4) == importlib.util.MAGIC_NUMBER
    except OSError:
        return False


# ---------------------------------------------------------------------------------------------------------------------
# Running it


def _execute(code: Any) -> None:
    exec(code, sys.modules["__main__"].__dict__)


def _source_runner(read: Any, filename: str, shows_source: bool = False) -> Any:
    def run_source() -> None:
        # The compiler gets the bytes, so that coding cookies and byte order marks count as they do for plain Python.
        source = read()
        try:
            code = compile(source, filename, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):  # ValueError: null bytes, in older versions
            if filename.startswith("<"):
                raise
            _leave_it_to_python()
        if shows_source:
            _register_source(code, source, filename)
        _execute(code)

    return run_source


def _register_source(code: Any, source: str, filename: str) -> None:
    # From 3.13 tracebacks show the lines of -c as well. The interpreter registers them by this function, by the file's
    # name in 3.13.0 and by the code object later.
    import linecache

    register = getattr(linecache, "_register_code", None)
    if register is not None:
        register(code if hasattr(linecache, "_interactive_cache") else filename, source, filename)


def _compiled_runner(path: str) -> Any:
    def run_compiled() -> None:
        from importlib.machinery import SourcelessFileLoader

        _execute(SourcelessFileLoader("__main__", path).get_code("__main__"))

    return run_compiled


def _module_runner(name: str, alter_argv: bool) -> Any:
    def run_module() -> None:
        import runpy

        # What the interpreter itself calls for -m, for directories and for zip files.
        runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]

    return run_module


def _hide_own_frames(error: BaseException) -> None:
    """See to it that the interpreter, when it prints this uncaught exception, shows what it would show without us.

    The exception itself goes on to the interpreter, which knows what it means for the exit code and for signals. On its
    way it would collect our frames again; so they are taken off at the last moment, in sys.excepthook, which until then
    is the program's.
    """
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        sys.excepthook = hook
        traceback = _without_own_frames(traceback)
        value.__traceback__ = traceback
        sys.last_traceback = traceback
        try:
            hook(kind, value, traceback)
        except SystemExit:
            raise
        except BaseException as error_in_hook:
            # The interpreter would report this one; in its words, lest this function show up in the traceback.
            report = sys.__excepthook__
            sys.stderr.write("Error in sys.excepthook:\n")
            error_in_hook.__traceback__ = _without_own_frames(error_in_hook.__traceback__)
            report(type(error_in_hook), error_in_hook, error_in_hook.__traceback__)
            sys.stderr.write("\nOriginal exception was:\n")
            report(kind, value, traceback)

    sys.excepthook = excepthook


_OWN_FILE = _hide_own_frames.__code__.co_filename


def _without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    # Ours are outermost: everything up to the last frame of this file. Before them may be runpy's (`python -m
    # breakeven`) and the console script's.
    rest = traceback
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == _OWN_FILE:
            rest = traceback.tb_next
        traceback = traceback.tb_next
    return rest


# ---------------------------------------------------------------------------------------------------------------------
# The receipt


def _print_receipt_at_end() -> None:
    import atexit
    import os
    from multiprocessing import util

    process = os.getpid()

    def print_receipt() -> None:
        if os.getpid() == process:  # a child that was forked by hand and ends the ordinary way runs this too
            sys.stderr.write(_receipt())
            sys.stderr.flush()

    # Handlers run last in, first out: after the program's own, and after multiprocessing has joined its children.
    atexit.unregister(util._exit_function)  # type: ignore[attr-defined]
    atexit.register(print_receipt)
    atexit.register(util._exit_function)  # type: ignore[attr-defined]


# What is counted, as the receipt calls it.
_COUNTS = {
    "messages": "messages",
    "bytes_copied": "bytes copied",
    "bytes_viewed": "bytes not copied",
    "tasks": "tasks",
    "wakes": "wake-ups",
    "processes": "processes",
}


def _receipt() -> str:
    from . import _install, _native

    modules: dict[str, list[str]] = {}
    for label in _install.replaced_names():
        module, _, name = label.rpartition(".")
        modules.setdefault(module, []).append(name)
    names = "; ".join(f"{module}: {', '.join(names)}" for module, names in modules.items())
    lines = ["breakeven: replaced " + (names or "nothing any more: the program has uninstalled breakeven")]
    counters = _native.counters()
    for counter, name in _COUNTS.items():
        lines.append(f"breakeven:   {name:<16} {counters.get(counter, 0):>15,}")
    return "\n".join(lines) + "\n"
