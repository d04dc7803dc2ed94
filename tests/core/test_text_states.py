"""Each cell of the table of states at the head of `core.iopub`, of a text in the queue."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from trikernel.core import IOPub, OutputLimits, StreamText, TextKey
from trikernel.core import iopub as module

from .test_iopub import ONE, FakeIOPub, encoded, iopub_on

KEY = TextKey(ONE, "stdout")


def table() -> dict[tuple[str, str], str]:
    """The table from state and event to what follows; empty if the event is not for that state."""
    lines = [line.strip() for line in (module.__doc__ or "").splitlines()]
    (first,) = [number for number, line in enumerate(lines) if "WRITE  " in line]
    rule = lines[first - 1]
    columns = [match.span() for match in re.finditer("=+", rule)]
    rows = lines[first : lines.index(rule, first + 2)]
    cells = [[row[begin:end].strip() for begin, end in columns] for row in rows if row != rule]
    events = cells[0][1:]
    found: dict[tuple[str, str], str] = {}
    for state, *then in cells[1:]:
        found |= {(state, event): cell for event, cell in zip(events, then, strict=True)}
    return found


def state_of(iopub: IOPub, entry: StreamText) -> str:
    if iopub.open_text is entry:
        assert iopub._last is entry
        return "OPEN"
    if iopub._last is entry:
        return "HELD"
    return "CLOSED" if entry in iopub.entries and entry.pieces else "TAKEN"


def put_in(state: str, iopub: IOPub) -> StreamText:
    """An entry in that state."""
    entry = iopub.write(KEY, "begun ")
    if state == "HELD":
        iopub.note_stop_pending(True)
    elif state == "CLOSED":
        iopub.post(encoded("display_data"), hold=True)
    elif state == "TAKEN":
        iopub.drain()
    assert state_of(iopub, entry) == state
    return entry


def append_late(iopub: IOPub, entry: StreamText) -> None:
    """As `print` does if it has seen that the entry is open, and that has changed since."""
    entry.pieces.append("late ")
    assert iopub.open_text is not entry
    iopub.requeue(entry)


EVENTS: dict[str, Callable[[IOPub, StreamText], Any]] = {
    "WRITE": lambda iopub, entry: iopub.write(KEY, "more "),
    "STOP": lambda iopub, entry: iopub.note_stop_pending(True),
    "NEXT": lambda iopub, entry: iopub.post(encoded("display_data"), hold=True),
    "TAKE": lambda iopub, entry: iopub.drain(),
    "PART": lambda iopub, entry: iopub._next(),
    "LATE": append_late,
}
CELLS = [(state, event, then) for (state, event), then in table().items() if then]


@pytest.mark.parametrize(("state", "event", "then"), CELLS)
def test_each_cell_of_the_table(state: str, event: str, then: str) -> None:
    channel = FakeIOPub()
    iopub = iopub_on(channel, max_merge=4 if event == "PART" else OutputLimits().max_merge)
    entry = put_in(state, iopub)
    EVENTS[event](iopub, entry)
    assert state_of(iopub, entry) == then.split(", ")[0]
    if ", " in then:  # a write, once no stop is pending any more
        iopub.note_stop_pending(False)
        iopub.write(KEY, "again ")
        assert state_of(iopub, entry) == then.split(", ")[1]


@pytest.mark.parametrize("state", ["OPEN", "HELD", "CLOSED", "TAKEN"])
@pytest.mark.parametrize("event", ["WRITE", "STOP", "NEXT", "TAKE", "LATE"])
def test_no_text_is_lost_or_sent_twice(state: str, event: str) -> None:
    if (state, event) == ("OPEN", "LATE"):
        pytest.skip("it is not late then")
    channel = FakeIOPub()
    iopub = iopub_on(channel)
    EVENTS[event](iopub, put_in(state, iopub))
    iopub.drain()
    sent = "".join(text for _, text in channel.texts())
    assert sent == "begun " + {"WRITE": "more ", "LATE": "late "}.get(event, "")
    assert iopub._size == 0


def test_the_table_is_whole() -> None:
    states = {state for state, _ in table()}
    assert states == {"OPEN", "HELD", "CLOSED", "TAKEN"}
    assert {event for _, event in table()} == set(EVENTS)
    assert len(CELLS) == 15
