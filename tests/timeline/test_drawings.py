"""The drawings of a timeline: what is in each, whatever stands in it."""

from __future__ import annotations

import json
import math
import re
from xml.etree import ElementTree

import pytest

from trikernel.timeline import Kind, Timeline, duration
from trikernel.timeline.columns import width_of
from trikernel.timeline.html import draw_html
from trikernel.timeline.layout import ROWS, SPANS, lay_out
from trikernel.timeline.model import Held, Mark, NurseryBar, Span, TaskLine

NASTY = "<script>alert('&\"')</script>"


def task(key: int, name: str = "t", *, parent: int | None = None, spans: int = 2) -> TaskLine:
    found = [
        Span(Kind.RUN, number, number + 0.5, 3, 0.1)
        if number % 2
        else Span(Kind.SLEEP, number, number + 1, text=f"sleep, {NASTY}, line 1")
        for number in range(spans)
    ]
    marks = (Mark(1, "error", NASTY), Mark(2, "cancel", "x"), Mark(3, "deadline", "y"))
    return TaskLine(key, name, "In [1]", parent, 0, None, tuple(found), marks)


NESTED = Timeline(
    4.0,
    (task(1, NASTY), task(3, parent=2), task(5, parent=4)),
    (NurseryBar(2, 1, 0, None), NurseryBar(4, 3, 1, 2)),
    (Held(1, 2, 3, NASTY, f"Cell In[1], line 3: {NASTY}"), Held(2, 3, None, "", "")),
    dropped=7,
    unseen=1_000,
    complete_from=0.5,
    title=NASTY,
)
EMPTY = Timeline(0.0, ())
INSTANT = Timeline(0.0, (TaskLine(1, "t", "", None, 0, 0, (Span(Kind.RUN, 0, 0, 1),), ()),))


@pytest.mark.parametrize("timeline", [NESTED, EMPTY, INSTANT], ids=["nested", "empty", "instant"])
def test_an_svg_is_one_and_nothing_in_it_is_markup_of_the_users(timeline: Timeline) -> None:
    root = ElementTree.fromstring(timeline.svg())
    assert root.tag.endswith("svg")
    assert not [one for one in root.iter() if one.tag.endswith("script")]
    assert "<script" not in draw_html(timeline)
    assert str(timeline)


def test_what_is_missing_is_said_in_each() -> None:
    for text in (str(NESTED), NESTED.svg(), draw_html(NESTED)):
        assert "the oldest 7 stretches were dropped: complete from 500 ms on" in text
        assert "1,000 more tasks are not in the picture" in text


def test_names_in_a_terminal_are_as_wide_as_they_are_shown() -> None:
    names = ["plain", "漢字" * 20, "😀" * 3, "e\u0301" * 40]
    lines = str(Timeline(4.0, tuple(task(key, one) for key, one in enumerate(names)))).splitlines()
    found = [line.partition("·")[0] for line in lines[2:6]]
    assert {width_of(line) for line in found} == {35}
    assert [line.rstrip()[-1] for line in found] == ["n", "…", "😀", "…"]


def test_a_task_that_ran_now_and_then_is_told_from_one_that_ran() -> None:
    spans = (Span(Kind.RUN, 0, 2, 5, 2.0), Span(Kind.RUN, 2, 4, 5, 0.001))
    timeline = Timeline(4.0, (TaskLine(1, "t", "", None, 0, None, spans, ()),))
    row = str(timeline).splitlines()[2]
    assert (row.count("█"), row.count("░")) == (30, 30)
    assert "░ ran now and then" in str(timeline)
    ticks = tuple(Span(Kind.RUN, number / 60, number / 60, 1) for number in range(240))
    ticker = Timeline(4.0, (TaskLine(1, "t", "", None, 0, None, ticks, ()),))
    assert str(ticker).splitlines()[2].count("░") == 60
    assert re.findall('fill-opacity="([0-9.]+)" stroke', timeline.svg()) == ["1.00", "0.20"]


def test_who_held_the_loop_is_red_and_in_words() -> None:
    assert 'fill="#ef4444"' in NESTED.svg()
    assert "something held the loop for 1 s" in str(NESTED)
    assert "▓" in str(NESTED)


def test_a_picture_is_bounded() -> None:
    many = Timeline(1_000.0, tuple(task(number, spans=500) for number in range(400)))
    layout = lay_out(many)
    assert len(layout.rows) == ROWS
    assert sum(len(row.spans) for row in layout.rows) <= SPANS
    assert "250 more lines are not drawn" in many.svg()


def test_nurseries_a_thousand_deep_are_gone_through() -> None:
    tasks = [task(1, spans=0)]
    bars = []
    for depth in range(1, 1_500):
        bars.append(NurseryBar(2 * depth, 2 * depth - 1, 0, None))
        tasks.append(task(2 * depth + 1, parent=2 * depth, spans=0))
    deep = Timeline(1.0, tuple(tasks), tuple(bars))
    assert len(list(deep.rows())) == 2_999
    assert deep.svg()


def test_a_trace_has_what_perfetto_needs() -> None:
    trace = json.loads(NESTED.chrome_trace())
    events = trace["traceEvents"]
    assert {one["ph"] for one in events} == {"M", "X", "b", "e", "i"}
    assert all(math.isfinite(one["ts"]) and one["pid"] == 1 for one in events)
    names = {one["args"]["name"] for one in events if one["name"] == "thread_name"}
    assert f"In [1] {NASTY}" in names
    ran = next(one for one in events if one["name"] == "ran")
    assert (ran["ts"], ran["dur"], ran["args"]) == (1e6, 5e5, {"steps": 3, "busy_us": 1e5})
    assert trace["otherData"]["dropped_stretches"] == 7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.00012, "120 µs"), (0.035, "35 ms"), (1.25, "1.25 s"), (187, "3 min 07 s"),
     (3_720, "1 h 02 min")],
)  # fmt: skip
def test_times_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("seconds", [1e-7, 0.013, 1, 59, 75, 3_600, 100_000, 1e9])
def test_ticks_are_few_and_within(seconds: float) -> None:
    ticks = lay_out(Timeline(seconds, ())).ticks
    assert 2 <= len(ticks) <= 9
    assert all(0 <= at <= 100.001 for at, _ in ticks)
