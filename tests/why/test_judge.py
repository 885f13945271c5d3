"""The judge itself, on reports that were made up."""

import copy

import pytest

from tests.why import judge
from tests.why.corpus import BY_NAME
from tests.why.running import Run

PROGRAM = BY_NAME["weights_with_each_task"]
HEALTHY = BY_NAME["chunked_map"]
REPORT = {
    "primary": {"cause": "serialize"},
    "causes": [
        {"cause": "compute", "core_seconds": 1.0, "share": 0.5},
        {"cause": "transfer", "core_seconds": 0.6, "share": 0.3},
        {"cause": "serialize", "core_seconds": 0.4, "share": 0.2},
    ],
    "fixes": [
        {"kind": "run", "where": None, "predicted_seconds": 0.4, "predicted_speedup": 2.5},
        {"kind": "initializer", "where": None, "predicted_seconds": 0.5, "predicted_speedup": 2.0},
        {"kind": "serial", "where": None, "predicted_seconds": 0.9, "predicted_speedup": 1.1},
    ],
    "elapsed": 1.02,
    "processes": [],
}


def run(seconds, out=b"1\n", code=0):
    return Run(seconds, seconds, code, out, b"")


def judged(report=REPORT, program=PROGRAM, under=None, serial=0.9):
    report = copy.deepcopy(report)
    for fix in report["fixes"]:
        if fix["kind"] == "initializer" and program.marked():
            fix["where"] = f"/somewhere/{program.marked()[0]}"
    return judge.Judgement(program, report, [run(1.0)], [under or run(1.1)], [run(serial)])


def changed(**changes):
    return {**copy.deepcopy(REPORT), **changes}


def test_a_right_report():
    result = judged()
    assert (result.right, result.among_two, result.line, result.fix, result.fix_is_right) == (
        *(True, True, True),
        *("initializer", True),
    )
    assert result.second == "transfer"
    assert result.serial_error == pytest.approx(0)
    assert result.overhead == pytest.approx(0.02)
    assert result.faults() == []


def test_the_second_cause_is_that_of_the_findings_before_that_of_the_shares():
    result = judged(changed(findings=[{"cause": cause, "places": []} for cause in ("serialize", "rpc")]))
    assert result.second == "rpc"


def test_the_wrong_cause():
    result = judged(changed(primary={"cause": "rpc"}))
    assert (result.right, result.among_two) == (False, False)  # then come transfer and serialize, by their shares


def test_a_wrong_cause_with_the_right_one_second():
    report = changed(
        primary={"cause": "transfer"}, findings=[{"cause": c, "places": []} for c in ("transfer", "serialize")]
    )
    result = judged(report)
    assert (result.right, result.among_two) == (False, True)
    assert result.faults() == ["transfer, not serialize"]


def test_what_is_wrong_is_told():
    report = changed(
        fixes=[{"kind": "asyncio", "where": "other.py:3", "predicted_seconds": 0.5, "predicted_speedup": 2}]
    )
    result = judged(report, under=run(1.1, b"2\n", 1))
    marked = " or ".join(PROGRAM.marked())
    assert result.faults() == [
        f"names other.py:3, not {marked}",
        f"fix asyncio, not {' or '.join(PROGRAM.fixes)}",
        "serial time not predicted",
        r"output differs: b'1\n', b'2\n'",
        "exit code differs: 0, 1",
    ]


def test_predictions_that_are_off():
    assert judged(serial=0.7).faults() == ["serial predicted +29% off"]
    assert judged(serial=1.5).faults() == ["serial predicted -40% off"]
    assert judged(serial=0.8).faults() == []


def test_a_healthy_program_is_told_nothing():
    report = changed(primary={"cause": "none"}, fixes=REPORT["fixes"][2:])
    result = judged(report, HEALTHY)
    assert (result.right, result.line, result.fix_is_right, result.faults()) == (True, None, None, [])
    assert judged(REPORT, HEALTHY).faults()[0] == "serialize, not none; not second either"


def test_shares_that_do_not_add_up():
    assert judged(changed(causes=REPORT["causes"][:1])).faults() == ["the shares add up to 0.500"]


def test_the_table_and_the_summary():
    wrong = judged(changed(primary={"cause": "rpc"}))
    assert "right yes  initializer" in judge.line(judged())
    assert "WRONG" in judge.line(wrong)
    assert "primary cause right: 1 of 2" in judge.summary([judged(), wrong])
