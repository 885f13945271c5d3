"""Whole programs of the kinds that people have, in every way in: they check themselves, and end with "done".

Each is written for the standard library. As it is it runs under plain Python (so that what it asserts is known to hold
there) and under `breakeven run`; with its imports changed, as a user would change them, it runs on `import breakeven`.
"""

import re
from pathlib import Path

import pytest

from tests.support import methods, programs

PROGRAMS = Path(__file__).parent / "programs"
CASES = [
    (path.stem, method)
    for path in sorted(PROGRAMS.glob("*.py"))
    for method in (("fork",) if path.stem == "prefork" else methods.ALL)
]


def check(done):
    assert (done.code, done.out) == (0, "done\n"), done.err
    assert done.err == ""


def with_our_imports(text):
    text = re.sub(r"^import multiprocessing as mp$", "import breakeven as mp", text, flags=re.M)
    text = re.sub(r"^from multiprocessing\b", "from breakeven", text, flags=re.M)
    return re.sub(r"\bmultiprocessing\.", "breakeven.", text)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_plain(name):
    check(programs.python(PROGRAMS / f"{name}.py", "fork"))


@pytest.mark.parametrize("name, method", CASES)
def test_under_run(name, method):
    check(programs.run(PROGRAMS / f"{name}.py", method))


@pytest.mark.parametrize("name, method", CASES)
def test_with_our_imports(name, method, tmp_path):
    program = tmp_path / f"{name}.py"
    program.write_text(with_our_imports((PROGRAMS / f"{name}.py").read_text()))
    check(programs.python(program, method))
