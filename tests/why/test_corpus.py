"""The corpus of programs with a known fault: it is complete, and every variant of a program does the same."""

import re
from pathlib import Path

import pytest

from tests.why import corpus, running
from tests.why.corpus import CORPUS

VOCABULARY = Path(__file__).parents[2] / "crates" / "trace" / "src" / "cause.rs"


def test_the_vocabulary_is_that_of_the_tool():
    names = re.findall(r'^    \w+ = "(\w+)",$', VOCABULARY.read_text(), re.M)
    assert set(corpus.CAUSES) == set(names) - {"compute"}


def test_every_cause_has_programs():
    counts = {cause: sum(program.primary == cause for program in CORPUS) for cause in corpus.CAUSES}
    assert min(counts.values()) >= 2, counts
    assert counts["none"] >= 3


def test_every_start_method_has_programs():
    assert {program.method for program in CORPUS} >= {"fork", "spawn", "forkserver", "loky", "threads", "none"}


def test_names_are_unique_and_files_are_listed():
    files = {path.relative_to(corpus.PROGRAMS) for path in corpus.PROGRAMS.rglob("*.py") if path.stem != "__init__"}
    assert sorted(program.path.relative_to(corpus.PROGRAMS) for program in CORPUS) == sorted(files)


@pytest.mark.parametrize("program", CORPUS, ids=lambda program: program.name)
def test_the_entry_is_complete(program):
    assert program.primary in corpus.CAUSES
    assert set(program.also) <= set(corpus.CAUSES) - {program.primary, "none"}
    assert set(program.fixes) <= {*corpus.FIXES, "processes"}  # what `gil` programs need has no name yet
    assert program.path.read_text().startswith('"""')
    if program.healthy:
        assert not (program.fixes or program.also or program.marked())
    else:
        assert program.fixes and program.change and program.marked()
        assert "serial" in program.variants and "fixed" in program.variants


@pytest.mark.matrix  # half a minute; what the programs print does not depend on Python's version
@pytest.mark.parametrize("program", CORPUS, ids=lambda program: program.name)
def test_all_variants_print_the_same(program):
    assert program.missing() == []
    outputs = {}
    for variant in ("asked", *program.variants):
        run = running.run_variant(program, variant, program.shrink)
        assert (run.code, run.err) == (0, b""), variant
        outputs[variant] = run.out
    assert outputs["asked"].endswith(b"\n")
    assert set(outputs.values()) == {outputs["asked"]}
