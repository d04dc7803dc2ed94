"""The tasks that cells have started and that still live, with their nurseries: what ``%tasks``,
the live panel and ``trikernel tasks`` show.

`Tasks` is an instrument that notes when each task was spawned. A `TaskTree` is a snapshot, shown as
text or as HTML with the same content: for each task the cell that started it, its number and name,
its age, and what it waits on. A snapshot may be taken from another thread than the loop's, while a
cell computes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import trio

from ..core import Request, background_scope
from ..system import cancel_for
from .columns import table
from .model import clip
from .naming import is_lane_of_ours, origin_of, request_of_task, title_of
from .waits import NameOf, source_of, wait_of

__all__ = ["Node", "OtherTask", "TaskRow", "TaskTree", "Tasks", "end_scope"]

SHOWN = 1_000  # rows of a tree
_HEADINGS = ("cell", "task", "age", "waits on")


@attrs.frozen
class TaskRow:
    """One task. ``depth`` is 0 for a task of the background nursery, and for one that runs a cell.

    ``number`` is what ``%cancel #number`` takes, ``cell`` the execution count of the cell that
    started it (None if there is none), ``origin`` the same in words, ``age`` is in seconds,
    ``waits_on`` names a function and the line that called it.
    """

    number: int
    cell: int | None
    origin: str
    depth: int
    name: str
    age: float
    waits_on: str

    def cells(self) -> tuple[str, str, str, str]:
        """The row as texts, one for each of `_HEADINGS`."""
        label = f"{'   ' * (self.depth - 1)}└─ " if self.depth else ""
        return self.origin, f"{label}#{self.number} {self.name}", age_of(self.age), self.waits_on


@attrs.frozen
class OtherTask:
    """A task of another loop than Trio's. ``task`` is that loop's own task object, ``coroutine``
    what it runs, ``since`` the moment when it was made, on Trio's clock. `cancel` cancels it.
    """

    task: Any
    name: str
    coroutine: Any
    request: Request | None
    since: float
    cancel: Callable[[], object]


class TaskTree:
    """A snapshot of tasks, shown as a table. In ``rows`` each task comes before its children;
    ``more`` is the number of tasks that are left out.
    """

    def __init__(self, rows: list[TaskRow], more: int = 0) -> None:
        self.rows = rows
        self.more = more

    def __repr__(self) -> str:
        if not self.rows:
            return "no tasks"
        lines = table([_HEADINGS, *(row.cells() for row in self.rows)])
        return "\n".join([*lines, *self._rest()])

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>no tasks</p>"
        from html import escape  # not at the start: it loads the names of all HTML entities

        left = ' style="text-align: left; white-space: pre"'
        head = "".join(f"<th{left}>{heading}</th>" for heading in _HEADINGS)
        body = "".join(
            "<tr>" + "".join(f"<td{left}>{escape(text)}</td>" for text in row.cells()) + "</tr>"
            for row in self.rows
        )
        shown = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return shown + "".join(f"<p>{line}</p>" for line in self._rest())

    def _rest(self) -> list[str]:
        return [f"... and {self.more:,} more"] if self.more else []

    def as_content(self) -> dict[str, Any]:
        """The content for a ``tasks_reply``."""
        return {"tasks": [attrs.asdict(row) for row in self.rows], "more": self.more}

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> TaskTree:
        """The tree that `as_content` was called on, from its content. A kernel may have sent
        anything: for a content of another form this raises `KeyError`, `TypeError`, `ValueError`,
        `AttributeError` or `OverflowError`.
        """
        rows = [TaskRow(**row) for row in content["tasks"]]
        for row in rows:
            row.cells()  # raises, for a field of a wrong type
        return cls([_clean(row) for row in rows], int(content["more"]))


@attrs.frozen
class Node:
    """A task or a nursery as the live panel shows it: ``kind`` is ``task``, ``cell`` or
    ``nursery``. Cancelling ``scope`` ends it; None for one that has no scope of its own.
    """

    kind: str
    number: int
    depth: int
    origin: str
    name: str
    age: float | None
    waits_on: str
    line: str
    scope: trio.CancelScope | OtherTask | None


class Tasks(trio.abc.Instrument):
    """Knows when each task of its loops was spawned. Add it as an instrument to each loop.

    ``name_of`` gives the label and the name of a cell's code by its file name, None for other code.
    `others` gives the tasks of loops that are not Trio's, which are shown last.
    """

    others: Callable[[], Iterable[OtherTask]] = staticmethod(list)

    def __init__(self, name_of: NameOf) -> None:
        self._name_of = name_of
        self._spawned: WeakKeyDictionary[
            trio.lowlevel.Task, tuple[float, int, Callable[[], float]]
        ] = WeakKeyDictionary()
        self._numbers: WeakKeyDictionary[object, int] = WeakKeyDictionary()
        self._next_number = itertools.count(1)
        self._sequence = itertools.count()

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Trio has made a task: note the moment."""
        now = trio.lowlevel.current_clock().current_time
        self._spawned[task] = now(), next(self._sequence), now

    def tree(self, roots: Iterable[trio.lowlevel.Task], running: str = "running") -> TaskTree:
        """These tasks and those in their nurseries, as they are now; `SHOWN` of them at most.

        ``running`` is shown, instead of what it waits on, for a task that runs at this moment.
        """
        shown = self._shown(roots)
        found = itertools.islice(self._living(shown, running), SHOWN)
        rows = [row for row, _ in found]
        others = list(self.others())
        more = count(shown) + len(others) - len(rows) if len(rows) == SHOWN else 0
        rows += [self._row_of(one) for one in others[: SHOWN - len(rows)]]
        return TaskTree(rows, more)

    def nodes(self, roots: Iterable[trio.lowlevel.Task], limit: int) -> tuple[list[Node], int]:
        """The same with nurseries, and with the scope that ends each: ``limit`` nodes at most, and
        the number of tasks that are left out.
        """
        shown = self._shown(roots)
        others = list(self.others())
        found = itertools.chain(self._nodes(shown), map(self._node_of, others))
        nodes = list(itertools.islice(found, limit))
        tasks = sum(node.kind != "nursery" for node in nodes)
        return nodes, count(shown) + len(others) - tasks if len(nodes) == limit else 0

    def _shown(self, roots: Iterable[trio.lowlevel.Task]) -> list[trio.lowlevel.Task]:
        current = _current_task()
        found = [one for one in self._by_age(roots) if one is not current or any(_children(one))]
        return [one for one in found if not _is_idle_lane(one)]

    def _living(
        self, shown: Iterable[trio.lowlevel.Task], running: str = "running"
    ) -> Iterator[tuple[TaskRow, trio.lowlevel.Task]]:
        stack = [(one, 0) for one in reversed(list(shown))]
        while stack:  # not by recursion: nurseries may be nested a thousand deep
            task, depth = stack.pop()
            yield self._row(task, depth, running), task
            stack += [(one, depth + 1) for one in reversed(self._by_age(_children(task)))]

    def _row(self, task: trio.lowlevel.Task, depth: int, running: str) -> TaskRow:
        request = request_of_task(task)
        return TaskRow(
            self._number(task),
            request.number if request is not None else None,
            origin_of(request),
            depth,
            clip(title_of(task, request)),
            self._age(task),
            clip(self._waits_on(task, running)),
        )

    def _row_of(self, other: OtherTask) -> TaskRow:
        request = other.request
        return TaskRow(
            self._number(other.task),
            request.number if request is not None else None,
            origin_of(request),
            0,
            clip(other.name),
            trio.current_time() - other.since,
            clip(str(wait_of(other.coroutine, self._name_of))),
        )

    def _node_of(self, other: OtherTask) -> Node:
        row, wait = self._row_of(other), wait_of(other.coroutine, self._name_of)
        line = clip(source_of(wait.file, wait.line)) if wait.file else ""
        return Node("task", row.number, 0, row.origin, row.name, row.age, row.waits_on, line, other)

    def _nodes(self, shown: Iterable[trio.lowlevel.Task]) -> Iterator[Node]:
        stack: list[tuple[trio.lowlevel.Task | trio.Nursery, int]]
        stack = [(one, 0) for one in reversed(list(shown))]
        while stack:
            one, depth = stack.pop()
            if isinstance(one, trio.Nursery):
                name = f"nursery of {len(one.child_tasks):,}"
                number = self._number(one)
                yield Node("nursery", number, depth, "", name, None, "", "", one.cancel_scope)
                stack += [(task, depth + 1) for task in reversed(self._by_age(one.child_tasks))]
                continue
            yield self._node(one, depth)
            stack += [(inner, depth + 1) for inner in reversed(one.child_nurseries)]

    def _node(self, task: trio.lowlevel.Task, depth: int) -> Node:
        row, request = self._row(task, depth, "running"), request_of_task(task)
        is_cell = request is not None and request.task is task
        line = ""
        if not _runs(task):
            wait = wait_of(task, self._name_of)
            line = clip(source_of(wait.file, wait.line)) if wait.file else ""
        kind, scope = ("cell", None) if is_cell else ("task", None if depth else _scope(task))
        return Node(
            kind, row.number, depth, row.origin, row.name, row.age, row.waits_on, line, scope
        )

    def _by_age(self, tasks: Iterable[trio.lowlevel.Task]) -> list[trio.lowlevel.Task]:
        return sorted(tasks, key=lambda task: self._spawned.get(task, (0, 0))[:2])

    def _age(self, task: trio.lowlevel.Task) -> float:
        spawned = self._spawned.get(task)
        return spawned[2]() - spawned[0] if spawned is not None else 0.0

    def _number(self, one: object) -> int:
        if one not in self._numbers:
            self._numbers[one] = next(self._next_number)
        return self._numbers[one]

    def _waits_on(self, task: trio.lowlevel.Task, running: str) -> str:
        """The function that the user's innermost line has called, and that line."""
        return running if _runs(task) else str(wait_of(task, self._name_of))

    # Cancelling

    def cancel(self, what: str, roots: Iterable[trio.lowlevel.Task]) -> list[str]:
        """Cancel among these tasks what ``what`` names: ``all``, one task by its ``#number``, those
        that a cell started by its execution count, or those of a name.

        Returns their numbers and names. Raises `LookupError`, with a text for the user, if there is
        none, or if it can only be cancelled with the task that it belongs to.
        """
        what = what.strip()
        living = list(self._living(self._shown(roots)))
        scopes: dict[TaskRow, trio.CancelScope | OtherTask]
        scopes = {row: scope for row, task in living if (scope := _scope(task)) and not row.depth}
        others = {self._row_of(one): one for one in self.others()}
        rows = [*(row for row, _ in living), *others]
        scopes |= others
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
            found = found or [row for row in own if row.name == clip(what)]
        if not found:
            raise LookupError(f"nothing to cancel for {what!r}: %tasks shows what lives")
        for row in found:
            end_scope(scopes[row], "%cancel")
        return [f"#{row.number} {row.name}" for row in found]


def end_scope(scope: trio.CancelScope | OtherTask, reason: str) -> None:
    """Cancel a task by its scope. For one of Trio's, ``reason`` is passed to the cancel."""
    if isinstance(scope, OtherTask):
        scope.cancel()
    else:
        cancel_for(scope, reason)


def _clean(row: TaskRow) -> TaskRow:
    """The row without control characters: a kernel has sent it, and a terminal would obey them."""
    return attrs.evolve(
        row, origin=clip(row.origin), name=clip(row.name), waits_on=clip(row.waits_on)
    )


def count(tasks: Iterable[trio.lowlevel.Task]) -> int:
    """How many tasks these are, with those in their nurseries."""
    found, stack = 0, list(tasks)
    while stack:
        found += 1
        stack += _children(stack.pop())
    return found


def age_of(seconds: float) -> str:
    """An age as text: ``12.4 s``, ``3 min 20 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _current_task() -> trio.lowlevel.Task | None:
    return trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None


def _runs(task: trio.lowlevel.Task) -> bool:
    """Whether a task runs at this moment. May be called from any thread."""
    return bool(getattr(task.coro, "cr_running", False))


def _is_idle_lane(task: trio.lowlevel.Task) -> bool:
    """Whether a task is the kernel's lane for cells, and no cell runs in it."""
    request = request_of_task(task)
    is_over = request is None or (request.finished and not request.abandoned)
    return is_over and is_lane_of_ours(task)


def _children(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        yield from nursery.child_tasks


def _scope(task: trio.lowlevel.Task) -> trio.CancelScope | None:
    return task.context.get(background_scope)
