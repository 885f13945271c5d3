"""A report as a Python object, as a notebook has it."""

import html
import json

import pytest
from breakeven._why.report import Report
from breakeven._why.sources import add_sources

from tests.why import reports


def report_of(make=reports.serialize):
    return Report.from_json(json.dumps(make()))


def test_attributes_are_those_of_the_json():
    report = report_of()
    assert report.primary.cause == "serialize"
    assert report.causes[0].share == pytest.approx(0.689, abs=0.001)
    assert report.fixes[0].where == "/home/ann/mesh/mesh.py:31"
    assert [process.pid for process in report.processes] == [100, 101, 102]
    assert report.workload.tasks == 40
    assert "findings" in dir(report)


def test_there_is_no_other_attribute():
    with pytest.raises(AttributeError, match=r"no 'colour'; it has .*primary"):
        report_of().colour


def test_it_is_written_as_json():
    assert json.loads(report_of().to_json()) == reports.serialize()


def test_it_shows_as_html_in_a_frame():
    shown = report_of(reports.hostile)._repr_html_()
    assert shown.startswith("<iframe sandbox=") and shown.endswith("</iframe>")
    assert shown.count("<") == 2, "the page is in an attribute"
    page = html.unescape(shown.partition('srcdoc="')[2].rpartition('"')[0])
    assert page == report_of(reports.hostile).to_html()


def test_it_is_saved(tmp_path):
    report = report_of()
    report.save_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == reports.serialize()


def test_it_prints_as_the_terminals_summary():
    text = str(report_of())
    assert "1. serialize" in text and text.isascii()
    assert repr(report_of()) == "<breakeven report: serialize, 8.2 s>"


def test_before_the_block_has_ended():
    report = Report()
    assert "has not ended" in str(report) and "has not ended" in report._repr_html_()
    for use in (lambda: report.primary, report.to_json, report.to_html, lambda: report.save("/nowhere/at/all")):
        with pytest.raises(RuntimeError, match="when the block"):
            use()


def test_what_is_no_report():
    with pytest.raises(ValueError, match="schema"):
        Report.from_json("{}")


def test_it_can_be_copied_and_pickled():
    import copy
    import pickle

    report = report_of()
    assert pickle.loads(pickle.dumps(report)).to_json() == copy.deepcopy(report).to_json() == report.to_json()


def test_lines_of_code_are_read_from_the_programs_files(tmp_path):
    (tmp_path / "mesh.py").write_text("first\n    results = pool.map(f, x)\r\n")
    report = reports.serialize()
    report["program"]["directory"] = str(tmp_path)
    place = {"file": "mesh.py", "line": 2, "function": None, "source": None, "what": "40 tasks"}
    report["findings"][0]["places"] = [
        place,
        {**place, "file": str(tmp_path / "mesh.py"), "line": 1},
        {**place, "line": 99},
        {**place, "file": "/no/such/file.py"},
        {**place, "file": "<string>"},
        {**place, "source": "as recorded"},
    ]
    add_sources(report)
    found = [place["source"] for place in report["findings"][0]["places"]]
    assert found == ["    results = pool.map(f, x)", "first", None, None, None, "as recorded"]
