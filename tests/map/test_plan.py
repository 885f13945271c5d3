"""`breakeven.explain` and `breakeven.last`: what is said of a map, and that it is true of what was measured."""

import html.parser
import io
import itertools
import json
import os

import breakeven
import pytest
from breakeven import _charges, _plan


def double(x):
    return 2 * x


def test_explain_calls_the_function_on_the_first_items_in_order_and_says_how_many():
    seen = []
    plan = breakeven.explain(seen.append, range(1_000_000))
    assert seen == list(range(len(seen)))
    assert 1 <= len(seen) == plan.ran["here"] <= 100_000
    assert plan.items == 1_000_000
    assert plan.elapsed is None


def test_the_candidates_begin_with_the_loop_and_each_has_an_interval():
    plan = breakeven.explain(double, range(1000))
    assert plan.candidates[0].strategy == "serial"
    assert plan.candidates[0].workers == 1
    assert len(plan.candidates) >= 2
    for candidate in plan.candidates:
        assert 0 <= candidate.low <= candidate.seconds <= candidate.high
    assert plan.chosen in plan.candidates
    assert (plan.strategy, plan.workers) == (plan.chosen.strategy, plan.chosen.workers)
    assert plan.predicted_seconds == plan.chosen.seconds


def test_what_takes_no_time_stays_in_the_loop():
    plan = breakeven.explain(double, [1, 2, 3])
    assert plan.strategy == "serial"
    assert plan.ran["here"] == 3
    assert plan.reason.startswith("The loop")


def test_the_backend_can_be_narrowed():
    assert [row.strategy for row in breakeven.explain(double, range(50), backend="serial").candidates] == ["serial"]
    threads = breakeven.explain(double, range(50), backend="threads", workers=2)
    assert [(row.strategy, row.workers) for row in threads.candidates] == [("serial", 1), ("threads", 2)]


def test_explain_takes_several_iterables_and_ends_with_the_shortest():
    seen = []
    plan = breakeven.explain(lambda a, b: seen.append((a, b)), [1, 2, 3], "ab")
    assert seen == [(1, "a"), (2, "b")]
    assert plan.items == 2


def test_of_an_iterator_only_what_was_run_is_gone():
    numbers = iter(itertools.count())
    plan = breakeven.explain(double, numbers)
    # One more may have been taken by zip.
    assert next(numbers) - plan.ran["here"] in (0, 1)


def test_no_items_are_nothing_to_compare():
    plan = breakeven.explain(double, [])
    assert plan.candidates == [] and plan.chosen is None and plan.predicted_seconds is None
    assert "Nothing has been measured" in plan.reason
    assert str(plan) and plan._repr_html_() and json.dumps(plan.to_dict())


def test_what_the_function_raises_arrives():
    def fails(x):
        raise LookupError(x)

    with pytest.raises(LookupError, match="7"):
        breakeven.explain(fails, [7])


def test_explain_needs_something_to_explain():
    with pytest.raises(TypeError, match="at least one iterable"):
        breakeven.explain(double)


class Html(html.parser.HTMLParser):
    """Checks that elements are closed in order, and collects texts."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.texts = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        self.texts.append(data)


def test_the_forms_say_the_same():
    plan = breakeven.explain(double, range(100_000))
    text = str(plan)
    page = Html()
    page.feed(plan._repr_html_())
    page.close()
    assert page.open == []
    shown = "".join(page.texts)
    for form in (text, shown):
        assert plan.reason in form
        assert "the loop" in form
        assert "this machine charges" in form
    assert "<svg" in plan._repr_html_()
    file = io.StringIO()
    plan.show(file)
    assert file.getvalue() == f"{text}\n"
    assert json.loads(json.dumps(plan.to_dict()))["reason"] == plan.reason
    assert repr(plan).startswith("<Plan: 100,000 items, ")


def test_what_functions_are_called_cannot_break_the_page():
    plan = breakeven.explain(double, range(10))
    plan.reason = "<script>alert(1)</script>"
    assert "<script>" not in plan._repr_html_()


def test_the_curve_rises_and_break_even_is_where_helpers_pay():
    plan = breakeven.explain(double, range(100_000))
    items = [point[0] for point in plan.curve]
    assert items == sorted(set(items))
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(plan.curve))
    assert plan.break_even_items is None or plan.break_even_items >= 2


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_charges, "_current", None)
    monkeypatch.setattr(_charges, "_learned", False)
    return tmp_path / "breakeven"


class Observed:
    """A planner that has seen something."""

    def __init__(self, charges):
        self.charges = charges

    def observed(self):
        return self.charges


def test_charges_are_learned_kept_and_read_again(cache, monkeypatch):
    before = _charges.current().as_dict()["warm"]
    _charges.learn(Observed(_charges.current().replace(warm=2 * before)))
    learned = _charges.current().as_dict()["warm"]
    assert before < learned < 2 * before
    _charges.keep()
    assert len(os.listdir(cache)) == 1
    monkeypatch.setattr(_charges, "_current", None)
    assert _charges.current().as_dict()["warm"] == learned


def test_nothing_is_written_where_nothing_was_learned(cache):
    _charges.current()
    _charges.keep()
    assert not cache.exists()


@pytest.mark.parametrize(
    "content", [b"", b"warm", b"warm nan\n", b"warm 1e9\n", b"\xff\xfe\x00", b"lunch 1\n", b"warm x\n"]
)
def test_a_cache_that_holds_anything_is_as_good_as_none(cache, content):
    cache.mkdir()
    with open(_charges._file(), "wb") as file:
        file.write(content)
    assert _charges.current().as_dict() == breakeven._native.Charges().as_dict()


def test_a_cache_that_cannot_be_written_is_no_error(cache, monkeypatch):
    cache.write_text("a file where the folder should be")
    _charges.learn(Observed(_charges.current().replace(byte=1e-9)))
    _charges.keep()


def test_numbers_read_well():
    assert [_plan._seconds(value) for value in (3e-9, 4.56e-6, 0.789, 12.0, 5000.0)] == [
        "3 ns",
        "4.56 us",
        "789 ms",
        "12 s",
        "5,000 s",
    ]
    assert [_plan._bytes(value) for value in (17, 1500, 2.5e6, 3e10)] == ["17 B", "1.5 kB", "2.5 MB", "30 GB"]


def test_a_finished_map_leaves_its_plan():
    assert breakeven.map(double, range(5000)) == [2 * x for x in range(5000)]
    plan = breakeven.last()
    assert plan.items == 5000 == sum(plan.ran.values())
    assert plan.elapsed > 0
    assert "took" in str(plan) and json.dumps(plan.to_dict())


def test_a_stream_leaves_its_plan_too():
    assert list(breakeven.imap(double, (x for x in range(300)))) == [2 * x for x in range(300)]
    assert breakeven.last().items == 300
