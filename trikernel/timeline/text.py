"""A timeline as text, for a terminal or a test's report: one line for each task and nursery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from .columns import fitted
from .model import Kind, Mark, Recording, Row, Span, clip, duration

__all__ = ["draw_text"]

COLUMNS = 60  # for the time
NAMES = 34  # columns for the names
ROWS = 60
LISTED = 20  # held stretches and marks that are listed
_RAN, _RARELY, _HELD = "█", "░", "▓"
RARE = 0.2  # a stretch in which the task ran for less than this part of the time has its own sign
_SIGNS = {
    Kind.SLEEP: "·",
    Kind.CHANNEL: "c",
    Kind.SOCKET: "s",
    Kind.LOCK: "l",
    Kind.EVENT: "e",
    Kind.THREAD: "t",
    Kind.PROCESS: "p",
    Kind.CHILDREN: "─",
    Kind.OTHER: "-",
}
_MARKS = {"error": "!", "cancel": "x", "deadline": "d"}


def draw_text(timeline: Recording) -> str:
    """The timeline as lines of at most 96 columns; only the title, the legend and the sentences at
    the end may be longer.
    """
    rows = list(timeline.rows())
    lines = [f"{timeline.title or 'timeline'}, {duration(timeline.seconds)}"]
    if not rows:
        return f"{lines[0]}: no tasks"
    lines.append(f"{'':{NAMES}} {_axis(timeline.seconds)}")
    lines += [_line(row, timeline) for row in rows[:ROWS]]
    if len(rows) > ROWS:
        lines.append(f"... and {len(rows) - ROWS:,} more lines")
    lines.append(_legend(timeline, "".join(lines)))
    lines += _sentences(timeline)
    lines += timeline.notes()
    return "\n".join(lines)


def _axis(seconds: float) -> str:
    texts = [duration(seconds * part / 3) for part in range(1, 4)]
    third = COLUMNS // 3
    return "0" + "".join(text.rjust(third) for text in texts)[1:]


def _line(row: Row, timeline: Recording) -> str:
    cells = [" "] * COLUMNS
    if row.nursery is not None:
        bar, name = row.nursery, "nursery"
        first, last = _column(bar.start, timeline), _column(_end(bar.end, timeline), timeline)
        cells[first : last + 1] = "─" * (last + 1 - first)
        cells[first] = "┌" if first < last else "─"
        cells[last] = "┐" if bar.end is not None and first < last else "─"
    else:
        assert row.task is not None
        task = row.task
        name = f"{task.origin} {task.name}" if task.origin and row.depth == 0 else task.name
        for span in sorted(task.spans, key=lambda one: one.kind is Kind.RUN):
            _fill(cells, span, timeline)
        for column in _rare_columns(task.spans, timeline):
            cells[column] = _RARELY
        for held in timeline.held:
            if held.task == task.key:
                _fill(cells, Span(Kind.RUN, held.start, held.end), timeline, _HELD)
        for mark in task.marks:
            cells[_column(mark.at, timeline)] = _MARKS[mark.kind]
    label = fitted(clip("  " * min(row.depth, 6) + name), NAMES)
    return f"{label} {''.join(cells)}".rstrip()


def _fill(cells: list[str], span: Span, timeline: Recording, sign: str = "") -> None:
    sign = sign or (_RAN if span.kind is Kind.RUN else _SIGNS[span.kind])
    if _is_rare(span, timeline) and sign is _RAN:
        sign = _RARELY
    first, last = _column(span.start, timeline), _column(span.end, timeline)
    if span.kind is not Kind.RUN and first == last and cells[first] != " ":
        return
    for column in range(first, last + 1):
        cells[column] = sign


def _rare_columns(spans: Sequence[Span], timeline: Recording) -> Iterator[int]:
    """Columns of time in which a task ran several times, but waited most of the time."""
    counts, busy = Counter[int](), dict[int, float]()
    for span in spans:
        if span.kind is Kind.RUN:
            column = _column(span.start, timeline)
            counts[column] += 1
            busy[column] = busy.get(column, 0.0) + span.end - span.start
    for column, count in counts.items():
        if count > 1 and busy[column] * COLUMNS < RARE * timeline.seconds:
            yield column


def _is_rare(span: Span, timeline: Recording) -> bool:
    is_long = (span.end - span.start) * COLUMNS > timeline.seconds
    return span.kind is Kind.RUN and is_long and span.share < RARE and not timeline.is_virtual


def _column(at: float, timeline: Recording) -> int:
    if timeline.seconds <= 0:
        return 0
    return min(max(int(at / timeline.seconds * COLUMNS), 0), COLUMNS - 1)


def _end(end: float | None, timeline: Recording) -> float:
    return timeline.seconds if end is None else end


def _legend(timeline: Recording, drawn: str) -> str:
    kinds = {span.kind for task in timeline.tasks for span in task.spans}
    parts = [f"{_RAN} ran"]
    if _RARELY in drawn:
        parts.append(f"{_RARELY} ran now and then")
    parts += [f"{sign} {kind.value}" for kind, sign in _SIGNS.items() if kind in kinds]
    if timeline.held:
        parts.append(f"{_HELD} held the loop")
    marks = {mark.kind for task in timeline.tasks for mark in task.marks}
    parts += [f"{sign} {kind}" for kind, sign in _MARKS.items() if kind in marks]
    return "  ".join(parts)


def _sentences(timeline: Recording) -> list[str]:
    """What held the loop, and what was marked, in order of time."""
    found = [(held.start, held.sentence()) for held in timeline.held]
    for task in timeline.tasks:
        found += [(mark.at, _sentence(task.name, mark)) for mark in task.marks]
    lines = [text for _, text in sorted(found)]
    more = [f"... and {len(lines) - LISTED:,} more"] if len(lines) > LISTED else []
    return lines[:LISTED] + more


def _sentence(name: str, mark: Mark) -> str:
    if mark.kind == "error":
        return f"{name} raised {mark.text} at {duration(mark.at)}"
    return f"{name} was {mark.text} at {duration(mark.at)}"
