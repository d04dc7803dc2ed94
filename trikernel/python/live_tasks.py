"""``%tasks --live``: the tree of tasks, kept up to date while cells await, with buttons.

What is wanted
    The tree of tasks as it is now, without running a cell to see it, and a button for each task
    that may be cancelled. The kernel does not poll while nothing happens.

What does not work
    To end the panel when it is no longer visible: a frontend does not report that.

What is done
    A background task waits until any task begins or ends in the loop (a Trio instrument with the
    hooks for these two events), and shows the tree again, at most four times a second. Ages, and
    what tasks wait on, are shown again each second while something changes. If nothing but ages has
    changed for a minute, the panel is no longer updated until a task begins or ends; it shows the
    time of its last update. So a panel costs nothing while all tasks sleep. A new panel replaces
    the previous one.

    The panel is a widget if ipywidgets is installed and the frontend has asked for widgets (a
    frontend that can show them asks for their comms when it connects). Otherwise it is HTML that is
    replaced by ``update_display_data``, and says which magic cancels.

    Trio cancels scopes, not tasks. A background task runs in a scope of its own, which its button
    cancels. The button of a cell interrupts it. A nursery has a scope, around all of its tasks and
    the block in which it is open. A task in a nursery of the user's has no button: the nursery has.

What remains
    A cell that computes blocks the panel together with everything else in the loop. ``trikernel
    tasks`` shows the tasks then.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from html import escape
from typing import Any, Protocol

import trio
from IPython.core.error import UsageError
from IPython.display import display
from trio.lowlevel import enable_ki_protection

from ..core import current_subshell
from ..system import RepeatedEvent
from ..timeline import Node, Tasks, age_of, end_scope, table

__all__ = ["LiveTasks", "PlainView", "View", "WidgetView", "start_live"]

INTERVAL = 0.25  # seconds between two updates, at least
AGES = 1.0  # seconds after which ages are shown again, if there are at most
AGES_OF = 25  # rows; with more rows the time grows in proportion, because each row is a message
STILL = 60.0  # seconds without a change after which ages are no longer updated
ROWS = 100
JUST_NOW = 0.7  # seconds after a row has changed in which a click may be meant for its old content
_GRID = "display: grid; grid-template-columns: 4.5em 19em 6.5em minmax(14em, 1fr); gap: 0 1em"
_CELL = "overflow: hidden; text-overflow: ellipsis; white-space: nowrap"
_HEAD = ("cell", "task", "age", "waits on")


class View(Protocol):
    """Where the tree is shown."""

    def show(self, nodes: list[Node], more: int, note: str) -> None:
        """Show these nodes, the number of further ones, and a line of text."""

    def close(self) -> None:
        """The panel is not updated any more."""


def start_live(shell: Any, *, plain: bool) -> LiveTasks:
    """Show a panel below the running cell, and keep it up to date in a background task.

    Raises `UsageError` in a subshell.
    """
    kernel = shell.find_kernel()
    if current_subshell.get() is not None or kernel.server.background is None:
        raise UsageError("%tasks --live shows the main shell's tasks: run it there")
    find = weakref.ref(kernel)
    live = LiveTasks(shell.tasks, partial(_roots_of, find), partial(_interrupt, find))
    live.show_in(_new_view(live, shell, plain or not kernel.has_widgets))
    kernel.server.background.start_soon(live.run, kernel.log, name="live tasks")
    return live


def _new_view(live: LiveTasks, shell: Any, plain: bool) -> View:
    if not plain:
        with contextlib.suppress(ImportError):
            return WidgetView(partial(_press, weakref.ref(live)), shell.display_formatter.format)
    return PlainView()


def _roots_of(find: Callable[[], Any]) -> Iterable[trio.lowlevel.Task]:
    kernel = find()
    server = kernel.server_ref() if kernel is not None else None
    return server.cells.child_tasks | server.background_tasks.child_tasks if server else ()


def _interrupt(find: Callable[[], Any]) -> None:
    kernel = find()
    if kernel is not None:
        kernel.server.interrupt()


def _press(find: Callable[[], LiveTasks | None], node: Node | None) -> None:
    live = find()
    if live is not None:
        live.press(node)


class LiveTasks(trio.abc.Instrument):
    """One panel. ``roots()`` returns the tasks of cells and their background tasks, and
    ``interrupt()`` interrupts the running cell.
    """

    def __init__(
        self,
        tasks: Tasks,
        roots: Callable[[], Iterable[trio.lowlevel.Task]],
        interrupt: Callable[[], object],
    ) -> None:
        self.ended = False
        self.pictures = 0  # number of updates that were shown so far
        self._tasks = tasks
        self._roots = roots
        self._interrupt = interrupt
        self._changed = RepeatedEvent()
        self._view: View | None = None
        self._before: object = None
        self._nodes: list[Node] = []
        self._note = ""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio when a task begins."""
        self._changed.set()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio when a task has ended."""
        self._changed.set()

    def show_in(self, view: View) -> None:
        """Show the tree there for the first time."""
        self._view = view
        self._show()

    @enable_ki_protection
    async def run(self, log: Any) -> None:
        """Update the panel until `end` is called or this is cancelled. An error is logged and ends
        it.
        """
        trio.lowlevel.add_instrument(self)
        try:
            changed_at = trio.current_time()
            while not self.ended:
                is_still = not self._nodes or trio.current_time() - changed_at > STILL
                soon = AGES * max(1, len(self._nodes) / AGES_OF)
                with trio.move_on_after(float("inf") if is_still else soon):
                    await self._changed.wait()
                if self._show():
                    changed_at = trio.current_time()
                await trio.sleep(INTERVAL)
        except Exception:
            log.exception("the live panel of tasks has ended")
        finally:
            self.end()
            trio.lowlevel.remove_instrument(self)

    def end(self) -> None:
        """Have `run` end, and the panel closed."""
        self.ended = True
        self._changed.set()
        if self._view is not None:
            self._view.close()
            self._view = None

    def press(self, node: Node | None) -> None:
        """A button was pressed: cancel what ``node`` is. None means that the rows had just moved,
        so that it is not clear which one was meant. To be called in the loop's thread.
        """
        if node is None:
            self._note = "the rows had just moved: click once more"
        elif node.kind == "cell":
            self._interrupt()
            self._note = f"interrupted #{node.number} {node.name}"
        elif node.scope is None or not self._is_alive(node):
            self._note = f"#{node.number} {node.name} has ended already"
        else:
            end_scope(node.scope, "its button")
            self._note = f"cancelled #{node.number} {node.name}"
        self._changed.set()

    def _is_alive(self, node: Node) -> bool:
        """Whether it has not ended since it was shown."""
        nodes, _ = self._tasks.nodes(self._roots(), sys.maxsize)
        return any(one.number == node.number for one in nodes)

    def _show(self) -> bool:
        """Show the tree. Returns whether anything but ages has changed since the last time."""
        self._nodes, more = self._tasks.nodes(self._roots(), ROWS)
        nodes = self._nodes
        now = [(one.number, one.depth, one.name, one.waits_on) for one in nodes], more, self._note
        is_new, self._before = now != self._before, now
        if self._view is not None and (nodes or is_new):
            clock = time.strftime("%H:%M:%S")
            note = f"as of {clock}{'; ' if self._note else ''}{self._note}"
            self._view.show(nodes, more, note)
            self.pictures += 1
        return is_new


class PlainView:
    """Shows the tree as HTML and text, which each update replaces."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, nodes: list[Node], more: int, note: str) -> None:
        """See `View`."""
        bundle = {"text/html": as_html(nodes, more, note), "text/plain": as_text(nodes, more, note)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def close(self) -> None:
        """See `View`. There is nothing to close."""


class WidgetView:
    """Shows the tree as rows of widgets with buttons; only what has changed is sent.

    ``press`` is called with the node of the button that was pressed, or with None if the row showed
    another node until just now. ``formats(object)`` returns the representations of an object.
    """

    def __init__(
        self,
        press: Callable[[Node | None], object],
        formats: Callable[[Any], tuple[dict[str, Any], dict[str, Any]]],
    ) -> None:
        import ipywidgets

        self._widgets = ipywidgets
        self._press = press
        self._formats = formats
        # Each layout and style is a model of its own in the frontend, so all rows share them.
        self._can = self._button_layout(visibility="visible")
        self._cannot = self._button_layout(visibility="hidden")
        self._row = ipywidgets.Layout(align_items="center", min_height="30px")
        self._wide = ipywidgets.Layout(flex="1 1 auto")
        self._button_style = ipywidgets.ButtonStyle()
        self._text_style = ipywidgets.HTML().style
        self._rows: list[tuple[Any, Any, Any]] = []
        self._nodes: list[Node] = []
        self._moved: dict[int, float] = {}  # row number: the time when it got another node
        self._note = ipywidgets.HTML()
        self._box = ipywidgets.VBox()
        self._is_shown = False
        blank = ipywidgets.Button(layout=self._cannot, style=self._button_style)
        self._head = self._row_of(blank, self._text(as_row(_HEAD, "opacity: .7")))

    def show(self, nodes: list[Node], more: int, note: str) -> None:
        """See `View`."""
        before, self._nodes = self._nodes, nodes
        for number, node in enumerate(nodes):
            if number < len(before) and before[number].number != node.number:
                self._moved[number] = trio.current_time()
            if number == len(self._rows):
                self._rows.append(self._new_row(number))
            _, button, text = self._rows[number]
            text.value = as_row(columns(node), tip=node.line)
            can = node.scope is not None or node.kind == "cell"
            button.description = "interrupt" if node.kind == "cell" else "cancel"
            button.layout = self._can if can else self._cannot
            button.tooltip = about_button(node)
        shown = tuple(row for row, _, _ in self._rows[: len(nodes)])
        children = (self._head, *shown, self._note) if nodes else (self._note,)
        if children != self._box.children:
            self._box.children = children
        rest = f"... and {more:,} more; " if more else "" if nodes else "no tasks; "
        self._note.value = f'<span style="opacity: .6">{escape(rest + note)}</span>'
        if not self._is_shown:
            self._is_shown = True
            data, metadata = self._formats(self._box)
            if not data:  # a widget of ipywidgets 7, which displays itself
                display(self._box)
                return
            # the text is for a saved notebook, in which the widget no longer works
            data |= {"text/plain": as_text(nodes, more, note)}
            display(data, metadata=metadata, raw=True)

    def close(self) -> None:
        """See `View`. The buttons are disabled."""
        for _, button, _ in self._rows:
            button.disabled = True

    def _new_row(self, number: int) -> tuple[Any, Any, Any]:
        button = self._widgets.Button(layout=self._can, style=self._button_style)
        button.on_click(lambda _: self._pressed(number))
        text = self._text()
        return self._row_of(button, text), button, text

    def _text(self, value: str = "") -> Any:
        return self._widgets.HTML(value, layout=self._wide, style=self._text_style)

    def _button_layout(self, **more: str) -> Any:
        return self._widgets.Layout(
            width="6.5em", flex="0 0 auto", margin="1px 0.8em 1px 0", **more
        )

    def _row_of(self, button: Any, text: Any) -> Any:
        return self._widgets.HBox([button, text], layout=self._row)

    def _pressed(self, number: int) -> None:
        is_clear = trio.current_time() - self._moved.get(number, -math.inf) > JUST_NOW
        self._press(self._nodes[number] if is_clear and number < len(self._nodes) else None)


def columns(node: Node) -> tuple[str, str, str, str]:
    """The texts of a row: the cell, the name, the age, and what it waits on."""
    label = f"{'   ' * (node.depth - 1)}└─ " if node.depth else ""
    age = age_of(node.age) if node.age is not None else ""
    name = node.name if node.kind == "nursery" else f"#{node.number} {node.name}"
    return node.origin, label + name, age, node.waits_on


def about_button(node: Node) -> str:
    """The tooltip of a row's button: what it does."""
    if node.kind == "cell":
        return "interrupt the cell"
    if node.kind == "nursery":
        return "cancel this nursery: all of its tasks, and the block that it is open in"
    return f"cancel #{node.number}, with all that is within it"


def as_row(texts: Iterable[str], style: str = "", tip: str = "") -> str:
    """One row of the grid."""
    cells = "".join(f'<span style="{_CELL}">{_kept(text)}</span>' for text in texts)
    return f'<div style="{_GRID}; {style}" title="{escape(tip)}">{cells}</div>'


def _kept(text: str) -> str:
    """The text, escaped for HTML, with its leading spaces kept."""
    rest = text.lstrip(" ")
    return "&nbsp;" * (len(text) - len(rest)) + escape(rest)


def as_html(nodes: list[Node], more: int, note: str) -> str:
    """The whole panel as HTML, for a frontend without widgets."""
    if not nodes:
        return f'<p>no tasks <span style="opacity: .6">{escape(note)}</span></p>'
    rows = [as_row(_HEAD, "opacity: .7"), *(as_row(columns(one), tip=one.line) for one in nodes)]
    rest = f"... and {more:,} more; " if more else ""
    hint = f"{rest}{note}; %cancel #number ends one"
    return f'{"".join(rows)}<div style="opacity: .6">{escape(hint)}</div>'


def as_text(nodes: list[Node], more: int, note: str) -> str:
    """The whole panel as plain text."""
    lines = table([_HEAD, *(columns(one) for one in nodes)]) if nodes else ["no tasks"]
    return "\n".join([*lines, *([f"... and {more:,} more"] if more else []), note])
