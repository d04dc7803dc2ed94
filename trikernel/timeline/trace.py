"""A timeline in Chrome's trace format, which Perfetto and ``chrome://tracing`` open.

Source: "Trace Event Format", Google, complete events (X), nestable async events (b, e), instants
(i) and metadata (M). The reference page "the fields of a trace" says what is in each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .model import Kind, Recording, TaskLine

__all__ = ["draw_trace"]

LOOP = 0  # the trace's thread that shows the stretches in which the loop was held


def draw_trace(timeline: Recording) -> str:
    """The timeline as JSON. Times are microseconds since the beginning of the record."""
    events = [
        _event("M", "process_name", 0, LOOP, args={"name": timeline.title or "timeline"}),
        _event("M", "thread_name", 0, LOOP, args={"name": "the loop"}),
    ]
    for number, row in enumerate(timeline.rows(), 1):
        if row.task is not None:
            events += _of_task(row.task, number)
        elif row.nursery is not None:
            bar = row.nursery
            end = timeline.seconds if bar.end is None else bar.end
            for phase, at in (("b", bar.start), ("e", end)):
                events.append(
                    _event(phase, "nursery", at, bar.owner, cat="nursery", id=hex(bar.key))
                )
    for held in timeline.held:
        args = {"task": held.name, "line": held.line}
        events.append(
            _event("X", "held the loop", held.start, LOOP, cat="held", cname="terrible", args=args)
            | {"dur": _micro(held.end - held.start)}
        )
    about = {
        "dropped_stretches": timeline.dropped,
        "tasks_not_recorded": timeline.unseen,
        "complete_from_us": _micro(timeline.complete_from),
        "clock": "virtual" if timeline.is_virtual else "real",
    }
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about})


def _of_task(task: TaskLine, number: int) -> Iterator[dict[str, Any]]:
    name = f"{task.origin} {task.name}".strip()
    yield _event("M", "thread_name", 0, task.key, args={"name": name})
    yield _event("M", "thread_sort_index", 0, task.key, args={"sort_index": number})
    for span in task.spans:
        args: dict[str, Any] = {"on": span.text}
        if span.kind is Kind.RUN:
            args = {"steps": span.steps, "busy_us": _micro(span.busy)}
        event = _event("X", span.kind.value, span.start, task.key, cat="task", args=args)
        yield event | {"dur": _micro(span.end - span.start)}
    for mark in task.marks:
        args = {"text": mark.text}
        yield _event("i", mark.kind, mark.at, task.key, cat="mark", s="t", args=args)


def _event(phase: str, name: str, at: float, thread: int, **more: Any) -> dict[str, Any]:
    return {"ph": phase, "name": name, "ts": _micro(at), "pid": 1, "tid": thread, **more}


def _micro(seconds: float) -> float:
    return round(seconds * 1e6, 3)
