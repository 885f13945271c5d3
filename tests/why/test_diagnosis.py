"""The verdicts of `breakeven why` on the corpus, from recordings made once: the table of docs/why-verdicts.md.

How a run goes is a matter of the machine and of what else it does; what is said of a run that was recorded is not. So
these tests analyse recordings (`breakeven why --save`, compressed), and `python -m tests.why.judge` runs the programs.
WRITE_WHY_VERDICTS=1 writes the page anew.
"""

import json
import lzma
import os
from pathlib import Path

import pytest
from breakeven import _native

from tests.why import judge
from tests.why.corpus import BY_NAME, CAUSES, CORPUS

RECORDINGS = Path(__file__).parent / "corpus_recordings"
PAGE = Path(__file__).parents[2] / "docs" / "why-verdicts.md"
# Not found from the recording that is kept, though from others: wrong until the rules are better.
WRONG = {"generated_inputs"}
NAMES = [program.name for program in CORPUS if (RECORDINGS / f"{program.name}.rec.xz").exists()]


def judged(name):
    report = json.loads(_native.analyze(lzma.decompress((RECORDINGS / f"{name}.rec.xz").read_bytes())))
    return judge.Judgement(BY_NAME[name], report, [], [])


@pytest.fixture(scope="module")
def table():
    return {name: judged(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_shares_add_up(table, name):
    assert sum(cause["share"] for cause in table[name].report["causes"]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xfail(strict=True) if name in WRONG else ()) for name in NAMES]
)
def test_the_primary_cause_is_the_one_that_its_measured_fix_removes(table, name):
    report = table[name].report
    assert report["primary"]["cause"] == BY_NAME[name].primary, report["primary"]["headline"]


@pytest.mark.parametrize("name", [name for name in NAMES if not BY_NAME[name].healthy])
def test_the_first_change_is_one_that_helps_and_the_finding_has_what_a_person_needs(table, name):
    judgement = table[name]
    assert judgement.fix_is_right, [fix["kind"] for fix in judgement.report["fixes"]]
    finding = judgement.report["findings"][0]
    assert any(letter.isdigit() for letter in finding["headline"])
    assert finding["evidence"] and finding["advice"]
    fix = judgement.report["fixes"][0]
    assert fix["low"] <= fix["predicted_seconds"] <= fix["high"]


def test_healthy_programs_are_blamed_for_nothing(table):
    healthy = [judgement for name, judgement in table.items() if BY_NAME[name].healthy]
    assert len(healthy) >= 3
    assert all(not judgement.report["findings"] for judgement in healthy)


def test_every_cause_but_those_of_a_million_messages_has_a_recording(table):
    # Queues, managers and tiny tasks make recordings of megabytes; their verdicts have built traces (crates/trace).
    found = {BY_NAME[name].primary for name in table}
    assert set(CAUSES) - found <= {"queue_contention", "rpc", "granularity"}


def page(table):
    lines = [
        "# Verdicts on the corpus",
        "",
        "What `breakeven why` says of the [corpus](why-corpus.md), from recordings of one run each on a machine with",
        "two cores that had hardly anything else to do. The rules were made with these programs at hand, so this is no",
        "measure of how well they do on others. Kept are the recordings of up to 150 kB",
        "(`tests/why/corpus_recordings`); those of programs with very many messages are larger. CI analyses them anew,",
        "and holds this page to it; `python -m tests.why.judge` runs the programs.",
        "",
        "| program | cause, by its measured fix | found | the first change |",
        "|---|---|---|---|",
    ]
    for name, judgement in table.items():
        mark = "" if judgement.right else " (wrong)"
        first = "" if BY_NAME[name].healthy else f"`{judgement.report['fixes'][0]['kind']}`"
        lines.append(f"| `{name}` | `{BY_NAME[name].primary}` | `{judgement.found}`{mark} | {first} |")
    right = sum(judgement.right for judgement in table.values())
    return "\n".join([*lines, "", f"Right: {right} of {len(table)}.", ""])


def test_the_page_is_what_is_found(table):
    if os.environ.get("WRITE_WHY_VERDICTS"):
        PAGE.write_text(page(table))
    assert PAGE.read_text() == page(table), "WRITE_WHY_VERDICTS=1 writes it anew"
