"""Recording programs, and looking things up in recordings."""

import json
import os
import sys
import textwrap

from tests.support import programs

# So that spawned children of a program under test find it too.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Recorded:
    """A recording as JSON, and how the program ended."""

    def __init__(self, outcome, data):
        self.outcome = outcome
        self.data = data
        self.processes = data["processes"]

    @property
    def main(self):
        return self.processes[0]

    def records(self, kind, process=None, **fields):
        """Records of a kind, of all processes or one, whose fields are as given."""
        found = []
        for one in self.processes if process is None else [process]:
            for record in one["records"]:
                if record["kind"] == kind and all(record[key] == value for key, value in fields.items()):
                    found.append(record)
        return found

    def children(self, *methods):
        """Recorded children that were started so."""
        methods = methods or ("fork", "spawn", "forkserver", "loky")
        return [process for process in self.processes[1:] if process["method"] in methods]


def write(folder, source, name="program.py"):
    path = folder / name
    path.write_text(textwrap.dedent(source))
    return path


def record(folder, source, *arguments, limit=60, stdin=""):
    """Run a program under the recorder. `source`: its text."""
    script = write(folder, source)
    saved = folder / "recording.json"
    outcome = programs.python(
        "-m", "breakeven._why.supervisor", "--json", saved, script, *arguments, limit=limit, stdin=stdin, cwd=folder
    )
    if not saved.exists():
        raise AssertionError(f"nothing was recorded: {outcome}")
    return Recorded(outcome, json.loads(saved.read_text()))


def plain(folder, source, *arguments, stdin=""):
    """The same program by plain Python."""
    return programs.python(write(folder, source), *arguments, cwd=folder, stdin=stdin)


def line_of(source, text):
    """Number of the line of a source that contains `text`."""
    for number, line in enumerate(textwrap.dedent(source).splitlines(), 1):
        if text in line:
            return number
    raise AssertionError(f"no line with {text!r}")


PYTHON = sys.executable
