"""The positions of everything in a picture: rows, boxes, ticks and spans.

Spans that are too narrow to be drawn are merged. Times become percents of the width, so that a
picture can be stretched without being drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import attrs

from .model import Kind, Mark, Recording, Row, Span, clip, duration

__all__ = ["Box", "Drawn", "Layout", "lay_out"]

ROWS = 150  # that are drawn
SPANS = 2_000  # that are drawn
FINEST = 0.05  # percent of the width: narrower neighbouring spans are merged
TICKS = 6  # on the axis, about
TASK_HEIGHT, NURSERY_HEIGHT = 20, 12  # pixels


@attrs.frozen
class Drawn:
    """One row: its top and height in pixels, its label, its spans and marks."""

    row: Row
    top: int
    height: int
    label: str
    spans: Sequence[Span] = ()
    marks: Sequence[Mark] = ()


@attrs.frozen
class Box:
    """A box around a nursery's row and the rows nested in it. ``top`` and ``bottom`` are pixels,
    ``left`` and ``right`` percents of the width.
    """

    top: int
    bottom: int
    left: float
    right: float
    depth: int


@attrs.frozen
class Layout:
    """What is to be drawn, and where. ``height`` is in pixels; ``ticks`` are positions in percents
    of the width, with their texts; ``hidden`` is the number of rows that are not drawn.
    """

    rows: Sequence[Drawn]
    boxes: Sequence[Box]
    ticks: Sequence[tuple[float, str]]
    height: int
    hidden: int
    seconds: float

    def percent(self, at: float | None) -> float:
        """The position of a moment, in percents of the width; None is the end of the record."""
        if at is None or self.seconds <= 0:
            return 100.0 if at is None else 0.0
        return min(max(at / self.seconds * 100, 0.0), 100.0)


def lay_out(timeline: Recording) -> Layout:
    """Lay out a recording: `ROWS` rows at most, with spans merged until there are at most `SPANS`
    of them.
    """
    everything = list(timeline.rows())
    rows = everything[:ROWS]
    spans = [row.task.spans if row.task is not None else () for row in rows]
    step = FINEST / 100 * timeline.seconds
    found = [_merged(one, step) for one in spans]
    while sum(map(len, found)) > SPANS and step < timeline.seconds:
        step *= 2
        found = [_merged(one, step) for one in found]
    drawn, top = [], 0
    for row, merged in zip(rows, found, strict=True):
        height = TASK_HEIGHT if row.task is not None else NURSERY_HEIGHT
        marks = row.task.marks if row.task is not None else ()
        drawn.append(Drawn(row, top, height, _label(row), merged, marks))
        top += height
    return Layout(
        drawn,
        list(_boxes(drawn, timeline.seconds)),
        _ticks(timeline.seconds),
        max(top, TASK_HEIGHT),
        len(everything) - len(rows),
        timeline.seconds,
    )


def _label(row: Row) -> str:
    if row.task is None:
        return "nursery"
    task = row.task
    return f"{task.origin} {task.name}" if task.origin and row.depth == 0 else task.name


def _merged(spans: Sequence[Span], step: float) -> list[Span]:
    """Merge neighbouring spans that together are shorter than ``step`` seconds."""
    found: list[Span] = []
    group: list[Span] = []
    for span in spans:
        if group and span.end - group[0].start > step:
            found.append(_as_one(group))
            group = []
        group.append(span)
    return [*found, _as_one(group)] if group else found


def _as_one(group: Sequence[Span]) -> Span:
    first = group[0]
    if len(group) == 1:
        return first
    ran = any(one.kind is Kind.RUN for one in group)
    steps, busy = sum(one.steps for one in group), sum(one.busy for one in group)
    kind = Kind.RUN if ran else first.kind
    return Span(kind, first.start, group[-1].end, steps, busy, first.text)


def _boxes(rows: Sequence[Drawn], seconds: float) -> Iterator[Box]:
    for number, one in enumerate(rows):
        bar = one.row.nursery
        if bar is None:
            continue
        last = one
        for below in rows[number + 1 :]:
            if below.row.depth <= one.row.depth:
                break
            last = below
        left = bar.start / seconds * 100 if seconds else 0.0
        right = 100.0 if bar.end is None or not seconds else bar.end / seconds * 100
        yield Box(one.top, last.top + last.height, max(left, 0), min(right, 100), one.row.depth)


def _ticks(seconds: float) -> list[tuple[float, str]]:
    """About `TICKS` round moments, each with its position in percents and its text."""
    if seconds <= 0:
        return [(0.0, "0")]
    raw = seconds / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    steps = [one * power for one in (1, 2, 5, 10)]
    if raw > 10:  # seconds: minutes and hours have sixty parts
        steps = [float(one * unit) for unit in (1, 60, 3600) for one in (10, 15, 20, 30, 60)]
        steps += [3600.0 * 2**one for one in range(1, 20)]
    step = next((one for one in steps if one >= raw * 0.999), steps[-1])
    count = int(seconds / step + 1e-9)
    texts = [(one * step / seconds * 100, duration(one * step)) for one in range(count + 1)]
    return [(at, clip(text) if at else "0") for at, text in texts]
