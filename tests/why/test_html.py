"""The HTML page: complete, self-contained, safe from what a program calls itself; and alive, in a headless Chromium.

Where there is no Chromium the last part is skipped; the structure of the page, and that it refers to nothing outside,
is tested here and in crates/trace in any case.
"""

import html
import json
import re
from html.parser import HTMLParser

import pytest
from breakeven import _native
from breakeven._why import words

from tests.why import reports
from tests.why.chromium import dom_after, needs_chromium


def page_of(report):
    return _native.render_html(json.dumps(report))


class Page(HTMLParser):
    """Elements, their attributes, and text outside of scripts and styles."""

    VOID = frozenset(("meta", "input", "br"))

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open, self.data = [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in ("line", "circle", "polyline", "polygon"), "HTML has no such form for others"
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.data.setdefault(self.open[-1], []).append(data)
        else:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.mark.parametrize("make", reports.ALL, ids=lambda make: make.__name__)
class TestEveryReport:
    def test_is_read_back_as_it_is(self, make):
        assert json.loads(_native.read_report(json.dumps(make()))) == make()

    def test_is_well_formed(self, make):
        page = Page(page_of(make()))
        tags = [tag for tag, _ in page.elements]
        assert tags.count("h1") == 1
        assert tags.count("script") == 2

    def test_refers_to_nothing_outside(self, make):
        page = Page(page_of(make()))
        for tag, attributes in page.elements:
            assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "a", "audio", "video"), tag
            for name, value in attributes.items():
                assert name not in ("src", "href", "action", "background", "xlink:href", "srcset"), (tag, name)
                assert not name.startswith("on"), (tag, name)
                assert "url(" not in (value or ""), (tag, name)
        style = "".join(page.data["style"])
        assert "@import" not in style and "url(" not in style
        script = page.data["script"][-1]
        assert not re.search(r"https?:|fetch\(|XMLHttpRequest|WebSocket|import\(|sendBeacon|EventSource", script)

    def test_browsers_are_told_so(self, make):
        page = Page(page_of(make()))
        policy = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
        assert len(policy) == 1 and "default-src 'none'" in policy[0]

    def test_has_the_data_of_the_timeline(self, make):
        report = make()
        data = json.loads(Page(page_of(report)).data["script"][0])
        assert [row["pid"] for row in data["processes"]] == [process["pid"] for process in report["processes"]]
        for row, process in zip(data["processes"], report["processes"], strict=True):
            slices = [row["slices"][n : n + 3] for n in range(0, len(row["slices"]), 3)]
            expected = [[round(s["start"] * 1e6), round(s["end"] * 1e6), s["cause"]] for s in process["timeline"]]
            assert [[start, end, data["causes"][cause]] for start, end, cause in slices] == expected


def test_what_it_says():
    text = Page(page_of(reports.verified())).text
    for expected in (
        "mesh.py --steps 40",
        "Pickling `mesh` takes 5.0 of 8.2 seconds",
        "Without it the run would take about 2.90 s instead of 8.20 s",
        "the run would be about 5.30 s shorter without it",
        "mesh.py :31 in main : 40 tasks of 210 MB",
        "+ with Pool(2, initializer=keep, initargs=(mesh,)) as pool:",
        "no edit",
        "3.05 s",
        "3 runs; this is the one in the middle: 8.20 s (serialize)",
        "ForkPoolWorker-2",
        "openblas 1",
        "12,031 records",
        "a round trip to a manager",
        "Dashed: beyond this machine's 2 cores",
    ):
        assert expected in text, expected


def test_every_cause_has_words_and_a_colour():
    page = page_of(reports.every_cause())
    for cause in words.CAUSES:
        assert f".c-{cause} {{ --c: #" in page
    rows = re.findall(r'<span class="chip c-(\w+)">\w+</span></th>(?:<td.*?</td>){3}<td>(.*?)</td>', page)
    assert {name for name, _ in rows} == set(words.CAUSES) - {"none"}
    assert all(len(text) > 5 for _, text in rows)


def test_hostile_names_are_text():
    page = page_of(reports.hostile())
    assert not [c for c in page if c != "\n" and not c.isprintable()]
    parsed = Page(page)
    assert [tag for tag, _ in parsed.elements].count("script") == 2
    assert "49" not in html.unescape(page.partition("<main>")[0]).partition("<body>")[2]
    assert reports.SCRIPT_END in parsed.text
    assert reports.HTML in parsed.text


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"schema": 99}', '{"schema": 1}', '{"schema": "1"}'])
def test_what_is_no_report_is_refused(text):
    for read in (_native.read_report, _native.render_html):
        with pytest.raises(ValueError, match=r"report|JSON|schema"):
            read(text)


# ---------------------------------------------------------------------------------------------------------------------
# In a browser

NOTE = """
const box = document.getElementById('timeline'), canvas = document.getElementById('timeline-canvas');
const note = function (name, value) { document.body.setAttribute('data-' + name, value); };
const view = function () { return Number(box.dataset.from) + ' ' + Number(box.dataset.to); };
const area = box.getBoundingClientRect();
const at = function (type, share, row, more) {
  const x = area.left + 175 + share * (box.clientWidth - 175 - 8), y = area.top + 24 + 22 * row + 11;
  const Event = type === 'wheel' ? WheelEvent : type.startsWith('pointer') ? PointerEvent : MouseEvent;
  const event = new Event(type, {clientX: x, clientY: y, bubbles: true, cancelable: true, ...more});
  box.dispatchEvent(event);
  return event;
};
const pixel = function (share, row) {
  const ratio = devicePixelRatio, x = 175 + share * (box.clientWidth - 175 - 8), y = 24 + 22 * row + 8;
  const data = canvas.getContext('2d').getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1).data;
  return '#' + [0, 1, 2].map(function (n) { return data[n].toString(16).padStart(2, '0'); }).join('');
};
"""


def after(report, script, folder, flags=()):
    """Attributes `data-...` of the body after the script; it has the helpers of NOTE."""
    dom = dom_after(page_of(report), NOTE + script, folder, flags)
    found = dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<body[^>]*>", dom)[0]))
    assert "errors" not in found, found
    return {name: html.unescape(value) for name, value in found.items()}


def steps(*scripts):
    return "; ".join(scripts)


@needs_chromium
@pytest.mark.slow
@pytest.mark.matrix  # on the main interpreter only: pages do not depend on Python's version
class TestInChromium:
    def test_every_page_runs_without_an_error(self, tmp_path):
        for make in reports.ALL:
            (tmp_path / make.__name__).mkdir()
            dom = dom_after(page_of(make()), "document.body.dataset.ran = 'yes'", tmp_path / make.__name__)
            body = re.search(r"<body[^>]*>", dom)[0]
            assert 'data-ran="yes"' in body and "data-errors" not in body, (make.__name__, body)
            assert "<title>owned" not in dom

    def test_slices_have_their_causes_colours(self, tmp_path):
        # The main process: startup to 0.3 s, serialize to 5.3, transfer to 7.2, compute to 8.2.
        found = after(
            reports.serialize(),
            "note('a', pixel(0.015, 0)); note('b', pixel(0.3, 0));"
            "note('c', pixel(0.75, 0)); note('d', pixel(0.95, 0));"
            "note('e', pixel(0.99, 1)); note('legend', document.getElementById('legend').textContent)",
            tmp_path,
        )
        style = page_of(reports.serialize())
        colour = dict(re.findall(r"\.c-(\w+) \{ --c: (#\w+)", style))
        assert [found[n] for n in "abcd"] == [colour[n] for n in ("startup", "serialize", "transfer", "compute")]
        assert found["e"] not in colour.values(), "the worker has ended by then"
        assert found["legend"].split() == ["compute", "startup", "serialize", "transfer"]

    def test_zoom_pan_and_back(self, tmp_path):
        found = after(
            reports.serialize(),
            steps(
                "note('start', view()); at('wheel', 0.5, 0, {deltaY: -1000})",
                "note('zoomed', view()); box.focus();"
                "box.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))",
                "note('moved', view()); at('pointerdown', 0.5, 0, {button: 0, buttons: 1});"
                "at('pointermove', 0.75, 0, {buttons: 1}); at('pointerup', 0.75, 0, {})",
                "note('dragged', view()); at('dblclick', 0.5, 0, {})",
                "note('back', view())",
            ),
            tmp_path,
        )
        view = {name: tuple(map(float, value.split())) for name, value in found.items()}
        length = {name: to - start for name, (start, to) in view.items()}
        assert view["start"] == view["back"] == (0, 8_200_000)
        assert length["zoomed"] == pytest.approx(8_200_000 * 1.0015**-1000, rel=1e-6)
        assert sum(view["zoomed"]) / 2 == pytest.approx(4_100_000, rel=0.01), "where the pointer was"
        assert view["moved"][0] - view["zoomed"][0] == pytest.approx(length["zoomed"] / 8, rel=1e-6)
        assert view["dragged"][0] - view["moved"][0] == pytest.approx(-length["zoomed"] / 4, rel=0.02)

    def test_zoom_has_ends(self, tmp_path):
        found = after(
            reports.serialize(),
            steps(
                "for (let n = 0; n < 100; n++) at('wheel', 0.2, 0, {deltaY: -1000})",
                "note('near', view()); for (let n = 0; n < 200; n++) at('wheel', 0.9, 0, {deltaY: 1000})",
                "note('far', view())",
            ),
            tmp_path,
        )
        near = [float(value) for value in found["near"].split()]
        assert near[1] - near[0] == pytest.approx(20)
        assert found["far"] == "0 8200000"

    def test_the_tip_says_what_is_under_the_pointer(self, tmp_path):
        found = after(
            reports.hostile(),
            "at('pointermove', 0.3, 0, {}); const tip = document.getElementById('tip');"
            "note('tip', tip.textContent); note('children', tip.children.length); note('hidden', tip.hidden);"
            "at('pointermove', 0.995, 1, {}); note('after', tip.hidden)",
            tmp_path,
        )
        assert "serialize: 5 s" in found["tip"] and "pid 100" in found["tip"]
        assert found["children"] == "0" and reports.SCRIPT_END in found["tip"]
        assert (found["hidden"], found["after"]) == ("false", "true")

    def test_a_cause_can_be_hidden(self, tmp_path):
        found = after(
            reports.serialize(),
            steps(
                "note('before', pixel(0.3, 0)); document.querySelectorAll('#legend input')[2].click()",
                "note('without', pixel(0.3, 0)); document.querySelectorAll('#legend input')[2].click()",
                "note('again', pixel(0.3, 0))",
            ),
            tmp_path,
        )
        assert found["before"] == found["again"] != found["without"]

    def test_two_hundred_processes_scroll(self, tmp_path):
        found = after(
            reports.many(),
            "note('height', canvas.clientHeight); note('content', box.scrollHeight);"
            + steps("box.scrollTop = 100000", "note('top', box.scrollTop)"),
            tmp_path,
        )
        assert int(found["height"]) < 900 * 0.66
        assert int(found["content"]) >= 203 * 16
        assert int(found["top"]) > 1000

    def test_light_and_dark(self, tmp_path):
        script = "note('ground', getComputedStyle(document.body).backgroundColor); note('canvas', pixel(0.985, 1))"
        shades = []
        for scheme in ("1", "0"):
            (tmp_path / scheme).mkdir()
            found = after(
                reports.serialize(), script, tmp_path / scheme, [f"--blink-settings=preferredColorScheme={scheme}"]
            )
            shades.append((found["ground"], found["canvas"]))
        assert shades[0] == ("rgb(255, 255, 255)", "#ffffff")
        assert shades[1] == ("rgb(20, 23, 27)", "#14171b")
