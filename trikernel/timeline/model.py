"""What was recorded, as frozen values: tasks with their spans and marks, nurseries, and stretches
of time in which one step held the loop.

Moments are seconds of the loop's clock since the beginning of the record. The modules that draw
know these values and nothing of Trio.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs

__all__ = [
    "Held",
    "Kind",
    "Mark",
    "NurseryBar",
    "Recording",
    "Row",
    "Span",
    "TaskLine",
    "clip",
    "duration",
]

LONGEST = 200  # characters of a name or a text that are kept


class Kind(enum.Enum):
    """What a span is: the task ran, or what it waited on."""

    RUN = "ran"
    SLEEP = "sleep"
    CHANNEL = "channel"
    SOCKET = "socket"
    LOCK = "lock"
    EVENT = "event"
    THREAD = "thread"
    PROCESS = "process"
    CHILDREN = "children"
    OTHER = "waited"


@attrs.frozen
class Span:
    """A stretch of time in which one task ran, or waited.

    Steps that follow closely on each other are one span: ``steps`` is how often the task ran in it,
    ``busy`` for how many seconds in all. ``text`` says what the task waited on, and in which line.
    """

    kind: Kind
    start: float
    end: float
    steps: int = 0
    busy: float = 0.0
    text: str = ""

    @property
    def share(self) -> float:
        """The part of the span in which the task ran, from 0 to 1."""
        seconds = self.end - self.start
        return min(self.busy / seconds, 1.0) if seconds > 0 else 1.0


@attrs.frozen
class Mark:
    """A moment of one task: ``kind`` is ``error``, ``cancel`` or ``deadline``."""

    at: float
    kind: str
    text: str


@attrs.frozen
class TaskLine:
    """One task. ``parent`` is the key of the nursery that it is in, if that nursery was recorded;
    ``end`` is None if the task had not exited. ``origin`` is the cell that started it.
    """

    key: int
    name: str
    origin: str
    parent: int | None
    start: float
    end: float | None
    spans: tuple[Span, ...]
    marks: tuple[Mark, ...]


@attrs.frozen
class NurseryBar:
    """One nursery. ``start`` is when it was first seen open, ``end`` when it was seen to be closed
    (None if it was still open). ``owner`` is the key of the task that opened it.
    """

    key: int
    owner: int
    start: float
    end: float | None


@attrs.frozen
class Held:
    """A stretch of time in which one step held the loop, so that no other task could run.

    ``line`` is the line that was seen most often in it. ``task`` is the task's key, None if the
    task is not known or not recorded. On a virtual clock no such stretch is recorded.
    """

    start: float
    end: float
    task: int | None
    name: str
    line: str

    def sentence(self) -> str:
        """Which task held the loop, for how long, and in which line."""
        who, where = self.name or "something", f": {self.line}" if self.line else ""
        return f"{who} held the loop for {duration(self.end - self.start)}{where}"


@attrs.frozen
class Row:
    """One row of a drawing: a task or a nursery, and how deep it is nested."""

    depth: int
    task: TaskLine | None = None
    nursery: NurseryBar | None = None


@attrs.frozen
class Recording:
    """What was recorded in ``seconds``.

    If there are too many stretches of running, the oldest are dropped: ``dropped`` is their number,
    and from ``complete_from`` on none is missing. ``unseen`` is the number of tasks that were left
    out. ``is_virtual`` says that the loop's clock was not the real one, ``title`` what was
    recorded.
    """

    seconds: float
    tasks: tuple[TaskLine, ...]
    nurseries: tuple[NurseryBar, ...] = ()
    held: tuple[Held, ...] = ()
    dropped: int = 0
    unseen: int = 0
    complete_from: float = 0.0
    is_virtual: bool = False
    title: str = ""

    def rows(self) -> Iterator[Row]:
        """The tree as rows: each nursery below the task that opened it, above the tasks in it."""
        inside: dict[int | None, list[TaskLine]] = {}
        opened: dict[int, list[NurseryBar]] = {}
        for task in sorted(self.tasks, key=lambda one: (one.start, one.key)):
            inside.setdefault(task.parent, []).append(task)
        for bar in sorted(self.nurseries, key=lambda one: (one.start, one.key)):
            opened.setdefault(bar.owner, []).append(bar)
        stack = [Row(0, task=one) for one in reversed(inside.get(None, []))]
        while stack:  # not by recursion: nurseries may be nested a thousand deep
            row = stack.pop()
            yield row
            below: list[Row] = []
            if row.task is not None:
                bars = opened.get(row.task.key, [])
                below = [Row(row.depth + 1, nursery=one) for one in bars]
            elif row.nursery is not None:
                tasks = inside.get(row.nursery.key, [])
                below = [Row(row.depth + 1, task=one) for one in tasks]
            stack.extend(reversed(below))

    def notes(self) -> list[str]:
        """Sentences about what is missing in the picture, and about its clock."""
        found = []
        if self.dropped:
            found.append(
                f"the oldest {self.dropped:,} stretches were dropped: complete from "
                f"{duration(self.complete_from)} on"
            )
        if self.unseen:
            found.append(f"{self.unseen:,} more tasks are not in the picture")
        if self.is_virtual:
            found.append("times are of the virtual clock")
        return found


def duration(seconds: float) -> str:
    """A duration as text: ``120 µs``, ``35 ms``, ``1.25 s``, ``3 min 07 s``, ``1 h 02 min``."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def clip(text: str, length: int = LONGEST) -> str:
    """At most ``length`` characters of a text, in one line, without control characters, which a
    terminal would obey.
    """
    if len(text) <= length and text.isprintable():
        return text
    text = text[: 2 * length]
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    return shown if len(shown) <= length else shown[: length - 1] + "…"
