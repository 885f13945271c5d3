"""Runs test cases in processes of the interpreter under test, watches them, and ends what hangs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from .plan import Cell

INSIDE = Path(__file__).parent / "inside"
ROOT = Path(__file__).parents[2]

LIMIT = 120.0
"""Seconds that a test may take before it counts as hanging. The slowest takes 6 on an idle machine."""

QUIET_LIMIT = 60.0
"""Seconds without a test running: imports, setUpClass and the like, and the end of the process."""

STACKS = signal.SIGRTMIN + 5
BATCH = 12
"""Classes that share a process. Fewer isolate better, more save start-up."""


@dataclass
class Outcome:
    """How a test ended: passed, skipped, failed, hung, or crashed (its process died)."""

    status: str
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Tests that run one after the other in one process."""

    label: str
    names: tuple[str, ...]


class Worker:
    """A process that runs tests, with all its descendants; they are known by a token in their environment."""

    def __init__(self, cell: Cell, way: str, label: str, names: tuple[str, ...] | None):
        self.token = uuid.uuid4().hex
        self.folder = Path(tempfile.mkdtemp(prefix="upstream-"))
        self._events = self.folder / "events"
        self._events.touch()
        scratch = self.folder / "tmp"
        scratch.mkdir()
        command = [cell.interpreter.python]
        if way == "run":
            command += ["-m", "breakeven", "run"]
        command += [str(INSIDE / "worker.py"), "--events", str(self._events), "--label", label]
        if names is not None:
            (self.folder / "names").write_text(json.dumps(names))
            command += ["--names", str(self.folder / "names")]
        command += cell.interpreter.modules[label]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("UPSTREAM_")}
        environment.update(
            UPSTREAM_WAY=way,
            UPSTREAM_TOKEN=self.token,
            PYTHONPATH=str(INSIDE),
            PYTHONUNBUFFERED="1",
            TMPDIR=str(scratch),
        )
        if cell.interpreter.extra_tests:
            environment["UPSTREAM_TESTS"] = cell.interpreter.extra_tests
        self._log = self.folder / "log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=scratch,
                start_new_session=True,
                preexec_fn=_ordinary_signals,
            )
        self._position = 0
        self._rest = b""

    def events(self) -> list[dict]:
        """What the process has written since the last call."""
        with open(self._events, "rb") as file:
            file.seek(self._position)
            data = file.read()
        self._position += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def log(self) -> str:
        return self._log.read_bytes()[-12000:].decode(errors="replace")

    def family(self) -> dict[int, str]:
        """The processes of this worker that are alive, itself included, with their command lines."""
        needle = f"UPSTREAM_TOKEN={self.token}".encode()
        found = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    folder = Path("/proc", name)
                    if needle in (folder / "environ").read_bytes() and _state(folder) != "Z":
                        found[int(name)] = (
                            (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        )
        return found

    def stacks(self) -> str:
        """What every process of the family is doing."""
        family = self.family()
        for pid in family:
            if _handles(pid, STACKS):
                with contextlib.suppress(OSError):
                    os.kill(pid, STACKS)
        time.sleep(1)
        processes = "\n".join(f"  {pid}: {command[:150]}" for pid, command in sorted(family.items()))
        return f"processes:\n{processes}\noutput and stacks:\n{self.log()}"

    def end(self, patience: float = 3.0) -> list[str]:
        """End what is left. Returns the command lines of processes that outlived the worker for `patience` seconds."""
        left: dict[int, str] = {}
        if self.process.poll() is not None:
            deadline = time.monotonic() + patience
            while (left := self.family()) and time.monotonic() < deadline:
                time.sleep(0.05)
        for _ in range(100):
            family = self.family()
            for pid in family:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if not family and self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return sorted(left.values())


def _ordinary_signals() -> None:
    # A shell starts background jobs with some of these ignored, and ignored they stay.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _state(folder: Path) -> str:
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]


def _handles(pid: int, number: int) -> bool:
    with contextlib.suppress(OSError):
        for line in Path("/proc", str(pid), "status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def list_tests(cell: Cell, way: str, label: str) -> tuple[dict[str, str], list[str]]:
    """The tests of a label with the modules that they are in, and what could not be loaded.

    Raises RuntimeError if they cannot be listed.
    """
    worker = Worker(cell, way, label, None)
    try:
        try:
            worker.process.wait(QUIET_LIMIT)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{cell}: listing {label} hangs\n{worker.stacks()}") from None
        for event in worker.events():
            if event["event"] == "list":
                modules = {name: module for name, module in event["modules"].items() if cell.takes(name)}
                return modules, event["problems"]
        raise RuntimeError(f"{cell}: {label} cannot be listed\n{worker.log()}")
    finally:
        worker.end()


def batches(label: str, modules: dict[str, str]) -> list[Batch]:
    """The tests in batches of whole classes.

    Of one module each, as in CPython's own runs: what a module does at its end is meant to be the end of the process.
    (Those of concurrent.futures run all of multiprocessing's finalizers.)
    """
    found = []
    for module in dict.fromkeys(modules.values()):
        classes: dict[str, list[str]] = {}
        for name in modules:
            if modules[name] == module:
                classes.setdefault(name.partition("::")[2].partition(".")[0], []).append(name)
        groups = list(classes.values())
        for start in range(0, len(groups), BATCH):
            found.append(Batch(label, tuple(name for group in groups[start : start + BATCH] for name in group)))
    return found


def run(cell: Cell, way: str, batch: Batch, limit: float = LIMIT) -> tuple[dict[str, Outcome], list[str]]:
    """Run a batch, with a new process after each hang or crash. Returns how each test ended, and remarks."""
    outcomes: dict[str, Outcome] = {}
    remarks: list[str] = []
    while pending := [name for name in batch.names if name not in outcomes]:
        before = len(outcomes)
        _run_some(cell, way, Batch(batch.label, tuple(pending)), limit, outcomes, remarks)
        if len(outcomes) == before:
            raise AssertionError(f"no progress with {pending[0]}")
    return outcomes, remarks


def _run_some(
    cell: Cell, way: str, batch: Batch, limit: float, outcomes: dict[str, Outcome], remarks: list[str]
) -> None:
    """Run the tests until the process ends. Whatever happens, at least one gets an outcome."""
    worker = Worker(cell, way, batch.label, batch.names)
    current: str | None = None
    since = time.monotonic()
    done = False
    around: list[str] = []

    def waiting() -> list[str]:
        return [name for name in batch.names if name not in outcomes]

    def blame(status: str, detail: str) -> None:
        """Give the outcome to the test that runs, else to the next one, else make it a remark."""
        name = current or next(iter(waiting()), None)
        if name is None:
            end = f"{batch.label} (end of the process after {batch.names[-1].partition('::')[2]})"
            outcomes[f"{batch.label}::(end).{batch.names[-1].partition('::')[2]}"] = Outcome(status, detail)
            remarks.append(f"{end}: {status}")
        else:
            where = "" if current else "between tests (imports, setUpClass, tearDownClass) "
            outcomes[name] = Outcome(status, f"{where}{detail}", time.monotonic() - since)

    try:
        while True:
            ended = worker.process.poll() is not None
            for event in worker.events():
                kind, since = event["event"], time.monotonic()
                if kind == "start":
                    current = event["name"]
                elif kind == "result":
                    current = None
                    outcomes[event["name"]] = Outcome(event["status"], event["detail"], event["seconds"])
                elif kind == "around":
                    if event["name"]:
                        outcomes[event["name"]] = Outcome(event["status"], event["detail"])
                    else:
                        around.append(f"{event['what']}: {event['status']}: {event['detail']}")
                elif kind == "done":
                    done = True
                    if event["altered"]:
                        why = [line for line in worker.log().splitlines() if "Warning -- " in line]
                        remarks.append(f"{batch.label}: a test altered the environment: {'; '.join(why)}")
            if ended:
                break
            if time.monotonic() - since > (limit if current else min(limit, QUIET_LIMIT)):
                blame("hung", f"no answer for {time.monotonic() - since:.0f} s\n{worker.stacks()}")
                return
            time.sleep(0.05)
        code = worker.process.returncode
        if code or not done:
            blame("crashed", f"the process ended with {code}\n{worker.log()}")
        elif waiting():  # a fixture of the class or module failed, so they were not run
            for name in waiting():
                mine = [what for what in around if name.partition("::")[2].partition(".")[0] in what.partition(":")[0]]
                mine = mine or around or ["it was not run, for no reason that was given"]
                skipped = all(": skipped: " in what for what in mine)
                outcomes[name] = Outcome("skipped" if skipped else "failed", "\n".join(mine))
        elif around:
            failed = [what for what in around if ": failed: " in what]
            for what in failed:
                outcomes[f"{batch.label}::(around).{what.partition(':')[0]}"] = Outcome("failed", what)
    finally:
        left = worker.end()
        if left:
            remarks.append(f"{batch.label}: processes were left behind: {'; '.join(left)}")
