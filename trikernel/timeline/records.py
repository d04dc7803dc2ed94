"""What a recorder keeps while it records, within bounds, and the `Timeline` made of it."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs
import trio

from .model import Held, Kind, Mark, NurseryBar, Span, TaskLine
from .shown import Timeline
from .waits import Wait

__all__ = ["Limits", "Record", "Records", "Stretch"]


@attrs.frozen
class Limits:
    """How much a recorder keeps at most: ``stretches`` in which tasks ran, ``tasks`` and as many
    nurseries, living or ended, ``marks`` of one task, and ``held`` stretches. The defaults take
    about 20 MB.
    """

    stretches: int = 50_000
    tasks: int = 5_000
    marks: int = 100
    held: int = 1_000


class Stretch:
    """Steps of one task that follow closely on each other. ``wait`` is what the task waited on
    after them, None if that is not known.
    """

    __slots__ = ("busy", "end", "record", "start", "steps", "wait")

    def __init__(self, record: Record, start: float, end: float, busy: float, steps: int) -> None:
        self.record = record
        self.start = start
        self.end = end
        self.busy = busy
        self.steps = steps
        self.wait: Wait | None = None


class Record:
    """One task, also after it has exited. ``points`` is Trio's count of its schedule points when
    that was last read, ``seen_at`` the moment of that; ``first_wait`` is what the task waited on
    before its first stretch.
    """

    __slots__ = (
        "end", "first_wait", "is_lane", "key", "last", "marks", "name", "nurseries", "origin",
        "parent", "points", "seen_at", "start", "task",
    )  # fmt: skip

    def __init__(self, key: int, name: str, origin: str, parent: int | None, start: float) -> None:
        self.key = key
        self.name = name
        self.origin = origin
        self.parent = parent
        self.start = start
        self.end: float | None = None
        self.last: Stretch | None = None
        self.first_wait: Wait | None = None
        self.is_lane = False
        self.marks: list[Mark] = []
        self.nurseries: dict[trio.Nursery, int] = {}
        self.points = 0
        self.seen_at = start
        self.task: trio.lowlevel.Task | None = None  # while it lives


@attrs.define
class _Bar:
    owner: int
    start: float
    end: float | None = None


class Records:
    """All that a recorder keeps. Moments are those of the loop's clock."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.living: dict[trio.lowlevel.Task, Record] = {}
        self.by_id: dict[int, Record] = {}  # of living tasks, by the `id` of the task object
        self.held: deque[Held] = deque(maxlen=limits.held)
        self.stretches: deque[Stretch] = deque()
        self.unseen = 0
        self._dropped = 0
        self._dropped_until = 0.0
        self._all: dict[int, Record] = {}
        self._ended: deque[int] = deque()
        self._bars: dict[int, _Bar] = {}
        self._next_key = 0

    def add(
        self, task: trio.lowlevel.Task, name: str, origin: str, parent: int | None, now: float
    ) -> Record | None:
        """Keep a new task; the oldest ended one makes room for it. None if all that are kept still
        live.
        """
        while len(self._all) >= self.limits.tasks and self._ended:
            del self._all[self._ended.popleft()]
            self.unseen += 1
        if len(self._all) >= self.limits.tasks:
            self.unseen += 1
            return None
        self._next_key += 1
        record = Record(self._next_key, name, origin, parent, now)
        record.task = task
        self._all[record.key] = self.living[task] = record
        self.by_id[id(task)] = record
        return record

    def end(self, task: trio.lowlevel.Task, now: float) -> Record | None:
        """Note that a task has exited. None if it was not recorded."""
        record = self.living.pop(task, None)
        if record is not None:
            self.by_id.pop(id(task), None)
            record.end = now
            record.task = None
            self.close_nurseries(record, [], now)
            self._ended.append(record.key)
        return record

    def ran(self, record: Record, start: float, end: float, busy: float, steps: int = 1) -> None:
        """Begin a new stretch of a task; the oldest of all stretches may make room for it."""
        if len(self.stretches) >= self.limits.stretches:
            self._dropped_until = self.stretches.popleft().end
            self._dropped += 1
        record.last = stretch = Stretch(record, start, end, busy, steps)
        self.stretches.append(stretch)

    def mark(self, record: Record, at: float, kind: str, text: str) -> None:
        """Mark that something has happened to a task. One that equals its last mark is left out:
        Trio may deliver the same cancel many times.
        """
        last = record.marks[-1] if record.marks else None
        if last is not None and kind == last.kind and text == last.text:
            return
        if len(record.marks) < self.limits.marks:
            record.marks.append(Mark(at, kind, text))

    def nursery(self, record: Record, nursery: trio.Nursery, now: float) -> int:
        """The key of an open nursery of that task, which is kept from now on."""
        key = record.nurseries.get(nursery)
        if key is None:
            self._next_key += 1
            key = record.nurseries[nursery] = self._next_key
            if len(self._bars) >= self.limits.tasks:
                del self._bars[next(iter(self._bars))]
            self._bars[key] = _Bar(record.key, now)
        return key

    def close_nurseries(self, record: Record, is_open: list[trio.Nursery], now: float) -> None:
        """Note that all nurseries of a task but these are closed."""
        for nursery in [one for one in record.nurseries if one not in is_open]:
            bar = self._bars.get(record.nurseries.pop(nursery))
            if bar is not None:
                bar.end = now

    # The timeline

    def timeline(self, start: float, now: float, **facts: Any) -> Timeline:
        """What is kept now, as a value; its moments count from ``start``."""
        shown = {key: one for key, one in self._all.items() if not _is_idle_lane(one)}
        owners = {key: bar.owner for key, bar in self._bars.items() if bar.owner in shown}
        stretches: dict[int, list[Stretch]] = {}
        for stretch in self.stretches:
            stretches.setdefault(stretch.record.key, []).append(stretch)
        tasks = tuple(
            TaskLine(
                one.key,
                one.name,
                one.origin,
                one.parent if one.parent in owners else None,
                max(one.start - start, 0),
                None if one.end is None else one.end - start,
                tuple(_spans(one, stretches.get(one.key, []), start, now, self._dropped_until)),
                tuple(attrs.evolve(mark, at=mark.at - start) for mark in one.marks),
            )
            for one in shown.values()
        )
        used = {one.parent for one in tasks}
        bars = tuple(
            NurseryBar(
                key, bar.owner, bar.start - start, None if bar.end is None else bar.end - start
            )
            for key, bar in self._bars.items()
            if key in used
        )
        held = tuple(
            attrs.evolve(one, start=one.start - start, end=one.end - start) for one in self.held
        )
        return Timeline(
            now - start,
            tasks,
            bars,
            held,
            self._dropped,
            self.unseen,
            max(self._dropped_until - start, 0) if self._dropped else 0,
            **facts,
        )


def _is_idle_lane(record: Record) -> bool:
    """Whether it is the kernel's lane for cells, and no cell ran in it."""
    return record.is_lane and not record.origin


def _spans(
    record: Record, stretches: list[Stretch], start: float, now: float, dropped_until: float
) -> list[Span]:
    """The stretches of a task with its waits in between, without the time before
    ``dropped_until``, of which stretches may be missing.
    """
    found: list[Span] = []
    wait, since = record.first_wait, max(record.start, dropped_until, start)
    for one in stretches:
        if one.start > since and (wait is not None or found):
            found.append(_waited(wait, since - start, one.start - start))
        found.append(Span(Kind.RUN, one.start - start, one.end - start, one.steps, one.busy))
        wait, since = one.wait, one.end
    end = now if record.end is None else record.end
    if end > since and (wait is not None or found or record.end is not None):
        found.append(_waited(wait, since - start, end - start))
    return found


def _waited(wait: Wait | None, start: float, end: float) -> Span:
    if wait is None:  # it ran again before it was looked at
        return Span(Kind.OTHER, start, end)
    return Span(wait.kind, start, end, text=str(wait))
