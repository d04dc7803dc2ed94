"""The tasks that cells have started and that still live: what ``%tasks`` shows.

A tree, as text and as HTML with the same content: the cell that started a task, its number and
name, its age, and what it waits on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from weakref import WeakKeyDictionary

import attrs
import trio

from ..core import background_scope
from ..timeline import origin_of, request_of_task, title_of, wait_of

__all__ = ["TaskRow", "TaskTree", "Tasks"]

_HEADINGS = ("cell", "task", "age", "waits on")


@attrs.frozen
class TaskRow:
    """One task. ``depth`` 0 is a task of the background nursery or a cell itself.

    ``number`` is what ``%cancel #number`` takes, ``cell`` the execution count of the cell that
    started it (None for one without), ``origin`` that in words, ``age`` in seconds, ``waits_on``
    a function and the line that called it.
    """

    number: int
    cell: int | None
    origin: str
    depth: int
    name: str
    age: float
    waits_on: str

    def cells(self) -> tuple[str, str, str, str]:
        """Its columns, under `_HEADINGS`."""
        label = f"{'   ' * (self.depth - 1)}└─ " if self.depth else ""
        return self.origin, f"{label}#{self.number} {self.name}", _duration(self.age), self.waits_on


class TaskTree:
    """A snapshot; ``rows`` go from each task to its children. Shown as a table."""

    def __init__(self, rows: list[TaskRow]) -> None:
        self.rows = rows

    def __repr__(self) -> str:
        if not self.rows:
            return "no tasks"
        table = [_HEADINGS, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        )

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>no tasks</p>"
        from html import escape  # not at the start: it reads all entities' names

        left = ' style="text-align: left; white-space: pre"'
        head = "".join(f"<th{left}>{heading}</th>" for heading in _HEADINGS)
        body = "".join(
            "<tr>" + "".join(f"<td{left}>{escape(text)}</td>" for text in row.cells()) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Tasks(trio.abc.Instrument):
    """Knows when each task of the user loop was spawned. Add it as an instrument of the loop.

    ``name_of`` gives the label and the name of a cell's code by its file name, None for other code.
    """

    def __init__(self, name_of: Callable[[str], tuple[str, str] | None]) -> None:
        self._name_of = name_of
        self._spawned: WeakKeyDictionary[trio.lowlevel.Task, tuple[float, int]]
        self._spawned = WeakKeyDictionary()
        self._numbers: WeakKeyDictionary[trio.lowlevel.Task, int] = WeakKeyDictionary()
        self._next_number = itertools.count(1)
        self._sequence = itertools.count()

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Trio has made a task."""
        self._spawned[task] = trio.current_time(), next(self._sequence)

    def tree(self, roots: Iterable[trio.lowlevel.Task]) -> TaskTree:
        """These tasks of the user loop and those within them, as they are now."""
        return TaskTree([row for row, _ in self._living(roots)])

    def _living(
        self, roots: Iterable[trio.lowlevel.Task]
    ) -> list[tuple[TaskRow, trio.lowlevel.Task]]:
        current = trio.lowlevel.current_task()
        shown = [one for one in self._by_age(roots) if one is not current or any(_children(one))]
        return [found for root in shown for found in self._rows(root, 0)]

    def _rows(
        self, task: trio.lowlevel.Task, depth: int
    ) -> Iterator[tuple[TaskRow, trio.lowlevel.Task]]:
        request = request_of_task(task)
        now = trio.current_time()
        if task not in self._numbers:
            self._numbers[task] = next(self._next_number)
        row = TaskRow(
            self._numbers[task],
            request.number if request is not None else None,
            origin_of(request),
            depth,
            harmless(title_of(task, request)),
            now - self._spawned.get(task, (now, 0))[0],
            harmless(self._waits_on(task)),
        )
        yield row, task
        for child in self._by_age(_children(task)):
            yield from self._rows(child, depth + 1)

    def _by_age(self, tasks: Iterable[trio.lowlevel.Task]) -> list[trio.lowlevel.Task]:
        return sorted(tasks, key=lambda task: self._spawned.get(task, (0, 0)))

    def _waits_on(self, task: trio.lowlevel.Task) -> str:
        """The function below the user's last line, and that line."""
        if task is trio.lowlevel.current_task():
            return "running"
        return str(wait_of(task, self._name_of))

    # Cancelling

    def cancel(self, what: str, roots: Iterable[trio.lowlevel.Task]) -> list[str]:
        """Cancel, among these, those that a cell started, one by its number, or those of a name.

        Returns their names. Raises `LookupError`, which says what there is to cancel.
        """
        what = what.strip()
        living = self._living(roots)
        rows = [row for row, _ in living]
        scopes = {row: scope for row, task in living if (scope := _scope(task)) and not row.depth}
        own = list(scopes)
        if what == "all":
            found = own
        elif what.startswith("#"):
            found = [row for row in rows if f"#{row.number}" == what]
            if found and found[0] not in own:
                root = [row for row in rows[: rows.index(found[0])] if row.depth == 0][-1]
                raise LookupError(
                    f"{what} is a part of #{root.number} {root.name}: cancel that, or give it "
                    "a CancelScope of its own"
                )
        else:
            number = what.removeprefix("In").strip(" []")
            found = [row for row in own if number.isdigit() and row.cell == int(number)]
            found = found or [row for row in own if row.name == harmless(what)]
        if not found:
            raise LookupError(f"nothing to cancel for {what!r}: %tasks shows what lives")
        for row in found:
            scopes[row].cancel()
        return [f"#{row.number} {row.name}" for row in found]


def harmless(text: str) -> str:
    """The same without characters that would steer a terminal: those as ``\\x1b``."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _children(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        yield from nursery.child_tasks


def _scope(task: trio.lowlevel.Task) -> trio.CancelScope | None:
    return task.context.get(background_scope)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
