"""`breakeven why` and `breakeven report`: what is run, and where the report goes."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import dataclass, field

from .command import BadCommand, Command, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

__all__ = ["report", "why"]

WHY_USAGE = """\
usage: breakeven why [OPTION ...] SCRIPT [ARGUMENT ...]
       breakeven why [OPTION ...] -m MODULE [ARGUMENT ...]
       breakeven why [OPTION ...] -c CODE [ARGUMENT ...]
       breakeven why [OPTION ...] -- COMMAND [ARGUMENT ...]     (a Python program of PATH: pytest)

Runs the unmodified program and says, on stderr when it has ended, where every
second of its processes went, what to change, and what each change would bring.
The exit code is the program's.

--html FILE    where to write the page (by default a folder of the user's cache; the summary
               says where; the last 20 are kept)
--no-html      no page
--json FILE    the report as JSON; - for standard output, behind what the program wrote
--trace FILE   a trace of all processes for ui.perfetto.dev
--save FILE    the recording, for `breakeven report FILE`
-q, --quiet    no summary on stderr
--full         all that the report says, not only what fits a screen
--run          the program as it runs under `breakeven run` (processes, without their tasks)
--verify       runs the program again with each change that needs no edit, and shows the
               measured time beside the predicted one
--repeat N     runs the program N times; the report is that of the run in the middle
--quick        does not measure what the machine charges if that has not been done before
-h, --help     this text

With --verify and --repeat the further runs get the same arguments and, if it is a file, the
same standard input; what they write is thrown away.
"""

REPORT_USAGE = """\
usage: breakeven report [OPTION ...] FILE

Shows once more what `breakeven why` has kept: a recording (--save) or a report (--json).

--html FILE, --json FILE, --trace FILE, -q, --full: as for `breakeven why`; a trace needs a recording.
Without --html no page is written.
"""


class _Usage(Exception):
    """A command line that cannot be carried out."""


@dataclass
class _Outputs:
    """Where a report goes."""

    html: str | None = None
    no_html: bool = False
    json: str | None = None
    trace: str | None = None
    save: str | None = None
    quiet: bool = False
    full: bool = False

    def check(self) -> None:
        """Find out now, and not after an hour of the program, what cannot be written."""
        for option in ("html", "json", "trace", "save"):
            path = getattr(self, option)
            if path is None or (path == "-" and option == "json"):
                continue
            folder = os.path.dirname(path) or "."
            if not os.path.isdir(folder):
                raise _Usage(f"--{option} {path}: there is no folder {folder}")
            if os.path.isdir(path):
                raise _Usage(f"--{option} {path}: that is a folder; name a file")
            if not os.access(path if os.path.exists(path) else folder, os.W_OK):
                raise _Usage(f"--{option} {path}: cannot be written")


@dataclass
class _Why:
    """What the command line of `why` asks for."""

    outputs: _Outputs = field(default_factory=_Outputs)
    run: bool = False
    verify: bool = False
    repeat: int = 1
    quick: bool = False
    words: list[str] = field(default_factory=list)


_OUTPUT_OPTIONS = ("--html", "--json", "--trace", "--save")


def _take_output(outputs: _Outputs, option: str, rest: list[str]) -> bool:
    """Take an output option with its file off the command line; False if it is none."""
    name, equals, value = option.partition("=")
    if name in _OUTPUT_OPTIONS:
        if not equals:
            if not rest:
                raise _Usage(f"argument expected for {name}")
            value = rest.pop(0)
        if not value:
            raise _Usage(f"{name}: the name of a file is empty")
        setattr(outputs, name[2:], value)
    elif option in ("-q", "--quiet"):
        outputs.quiet = True
    elif option == "--full":
        outputs.full = True
    elif option == "--no-html":
        outputs.no_html = True
    else:
        return False
    return True


def _parse_why(arguments: list[str]) -> _Why | None:
    asked, rest = _Why(), list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--") and rest[0][:2] not in ("-m", "-c"):
        option = rest.pop(0)
        if _take_output(asked.outputs, option, rest):
            continue
        name, equals, value = option.partition("=")
        if option in ("-h", "--help"):
            return None
        if option in ("--run", "--verify", "--quick"):
            setattr(asked, option[2:], True)
        elif name == "--repeat":
            if not equals:
                if not rest:
                    raise _Usage("argument expected for --repeat")
                value = rest.pop(0)
            if not value.isdecimal() or not 1 <= int(value) <= 1000:
                raise _Usage(f"--repeat {value}: a number of runs from 1 to 1000 is expected")
            asked.repeat = int(value)
        else:
            raise _Usage(f"unknown option {option}")
    asked.words = rest
    return asked


def why(arguments: list[str]) -> int:
    """`breakeven why`; returns the program's exit code, 128 and the signal's number if one ended it."""
    try:
        asked = _parse_why(arguments)
        if asked is None:
            sys.stdout.write(WHY_USAGE)
            return 0
        command = parse(asked.words)
        asked.outputs.check()
        again = None
        if asked.verify or asked.repeat > 1:
            from .again import Again

            again = Again(command)
    except (_Usage, BadCommand) as error:
        sys.stderr.write(f"breakeven why: {error}\n(breakeven why --help tells what there is)\n")
        return 2
    return _why(asked, command, again)


def _why(asked: _Why, command: Command, again: Any) -> int:
    from . import machine as charges_of
    from .supervisor import supervise

    remarks: list[str] = []

    def charges() -> dict[str, float] | None:
        found = charges_of.kept()
        if found is None and not asked.quick:
            try:
                found = charges_of.measure()
            except charges_of.MeasuringFailed as error:
                remarks.append(f"{error}; the predictions take another machine's charges.")
        elif found is None:
            remarks.append("The machine's charges were not measured (--quick); the predictions take another machine's.")
        if found is not None and found["busy"] > charges_of.BUSY:
            remarks.append(
                f"The machine's charges were measured while other programs took {found['busy']:.0%} of the time: "
                "predictions of starts and messages are too high. `breakeven machine --again` measures anew."
            )
        return None if found is None else found["charges"]

    def run() -> tuple[bytes, int]:
        transport = "breakeven" if asked.run else "plain"
        return supervise(command, charges, transport)

    try:
        recording, exit_code = run()
    except OSError as error:
        sys.stderr.write(f"breakeven why: the program could not be run: {error}\n")
        return 2
    try:
        try:
            analysed = _analyze(recording)
        except Exception as error:
            sys.stderr.write(f"breakeven why: the recording cannot be explained: {error}\n")
            if asked.outputs.save is not None and (failure := _write(asked.outputs.save, recording)):
                sys.stderr.write(f"breakeven: could not be written: --save {asked.outputs.save}: {failure}\n")
            return 128 - exit_code if exit_code < 0 else exit_code or 1
        if asked.repeat > 1:
            recording, analysed = again.repeat(asked.repeat, recording, analysed, run, _analyze)
        if asked.verify:
            again.verify(analysed)
        analysed["remarks"] += dict.fromkeys(remarks)  # each once, however often the program ran
        failed = _show(analysed, recording, asked.outputs, own_html=True)
    except KeyboardInterrupt:
        sys.stderr.write("breakeven why: interrupted\n")
        failed = True
    if exit_code < 0:
        return 128 - exit_code
    return exit_code or (1 if failed else 0)


def _analyze(recording: bytes) -> dict[str, Any]:
    from .. import _native
    from .sources import add_sources

    analysed = json.loads(_native.analyze(recording))
    add_sources(analysed)
    return analysed


# ---------------------------------------------------------------------------------------------------------------------
# Showing it


def _show(analysed: dict[str, Any], recording: bytes | None, outputs: _Outputs, own_html: bool) -> bool:
    """Write what is asked for and print the summary; whether something could not be written."""
    from .. import _native
    from . import pages

    failures: list[str] = []
    text = json.dumps(analysed)

    def write(option: str, path: str, content: str | bytes) -> bool:
        failure = _write(path, content)
        if failure:
            failures.append(f"--{option} {path}: {failure}")
        return not failure

    if outputs.save is not None and recording is not None:
        write("save", outputs.save, recording)
    if outputs.trace is not None and recording is not None:
        write("trace", outputs.trace, _native.perfetto(recording))
    if outputs.json == "-":
        if sys.stdout is not None:  # as it is where the user has closed it
            _print(text + "\n", sys.stdout)
    elif outputs.json is not None:
        write("json", outputs.json, text + "\n")
    page = None
    if outputs.html is not None:
        if write("html", outputs.html, pages.render(text, recording)):
            page = outputs.html
    elif own_html and not outputs.no_html:
        try:
            page = pages.keep(pages.render(text, recording), analysed["program"])
        except OSError as error:
            analysed["remarks"].append(f"No page was written: {error}; --html FILE says where, --no-html does without.")
    if sys.stderr is not None:
        summary = io.StringIO()
        if not outputs.quiet:
            from . import terminal

            if own_html:
                summary.write("\n")  # the program's last line may lack its end
            terminal.print_report(
                analysed,
                sys.stderr,
                html=page,
                width=terminal.stream_width(sys.stderr),
                into=summary,
                full=outputs.full,
            )
        for failure in failures:
            summary.write(f"breakeven: could not be written: {failure}\n")
        _print(summary.getvalue(), sys.stderr)
    return bool(failures)


def _write(path: str, content: str | bytes) -> str:
    """Write a file; returns why that failed, or nothing."""
    try:
        with open(path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _print(text: str, stream: TextIO) -> None:
    """Write to a standard stream; nobody may be reading it any more."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # The interpreter would try once more when it ends, and complain.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def report(arguments: list[str]) -> int:
    """`breakeven report`."""
    outputs, files, rest = _Outputs(), [], list(arguments)
    try:
        while rest:
            word = rest.pop(0)
            if word in ("-h", "--help"):
                sys.stdout.write(REPORT_USAGE)
                return 0
            if word == "--":
                files += rest
                break
            if word.startswith("-") and word != "-":
                if word.partition("=")[0] == "--save" or not _take_output(outputs, word, rest):
                    raise _Usage(f"unknown option {word}")
            else:
                files.append(word)
        if len(files) != 1:
            raise _Usage("one file is expected: what `breakeven why --save` or `--json` has written")
        outputs.check()
        analysed, recording = _read(files[0])
        if outputs.trace is not None and recording is None:
            raise _Usage(f"--trace: {files[0]} is a report; a trace needs the recording (breakeven why --save)")
    except _Usage as error:
        sys.stderr.write(f"breakeven report: {error}\n(breakeven report --help tells what there is)\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("breakeven report: interrupted\n")
        return 130
    return 1 if _show(analysed, recording, outputs, own_html=False) else 0


def _read(name: str) -> tuple[dict[str, Any], bytes | None]:
    """The report in a file, and the recording if it is one."""
    from .. import _native

    try:
        if name == "-":
            content = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as file:
                content = file.read()
    except OSError as error:
        raise _Usage(f"{name}: {error.strerror}") from None
    try:
        if content.lstrip()[:1] == b"{":
            return json.loads(_native.read_report(content.decode())), None
        return _analyze(content), content
    except ValueError as error:
        raise _Usage(f"{name}: {error}") from None
