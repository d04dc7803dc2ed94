"""``%tasks --live``: the tree of tasks, kept up to date while cells await, with buttons.

What is wanted
    The tree as it is now, without running a cell for it, and a button that ends what one does not
    want any more. Nothing polls at rest.

What does not work
    A frontend does not say whether it still shows an output, so there is no end to be told of.

What is done
    A task of the kernel's waits for the loop to spawn or end a task of anybody's (an instrument
    with these two hooks), and shows the tree anew, at most four times a second. Ages and waits are
    shown anew each second for as long as something changes; after a minute in which nothing but
    ages has, the panel stands still until something does, and says as of when it is. So it ends by
    itself what would poll, and costs nothing where tasks sleep. A new panel replaces the last one.

    It is a widget where ipywidgets is installed and the frontend has asked for widgets (each one
    that shows any asks for their comms as it connects). Otherwise it is HTML, shown anew by
    ``update_display_data``, and says which magic cancels.

    Trio cancels scopes, not tasks. A background task of ours runs in a scope of its own, which its
    button cancels; a cell is interrupted; a nursery has a scope, around all of its tasks and what
    its owner does in the block. A task within a nursery has no button: its nursery has one.

What remains
    A computing cell blocks the panel with all else in the loop: ``trikernel tasks`` looks on then.
"""

from __future__ import annotations

import contextlib
import math
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

INTERVAL = 0.25  # seconds between two pictures, at least
AGES = 1.0  # seconds after which ages are shown anew,
AGES_OF = 25  # of so many rows; of more, so much later: each row is a message, and a page's work
STILL = 60.0  # seconds without a change after which they are not
ROWS = 100
JUST_NOW = 0.7  # seconds in which a click may be meant for what stood there before
_GRID = "display: grid; grid-template-columns: 4.5em 19em 6.5em minmax(14em, 1fr); gap: 0 1em"
_CELL = "overflow: hidden; text-overflow: ellipsis; white-space: nowrap"
_HEAD = ("cell", "task", "age", "waits on")


class View(Protocol):
    """Where the tree is shown."""

    def show(self, nodes: list[Node], more: int, note: str) -> None:
        """Show these."""

    def close(self) -> None:
        """Show nothing new any more."""


def start_live(shell: Any, *, plain: bool) -> LiveTasks:
    """Show a panel below the running cell, in the place of one of before. Raises `UsageError`."""
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
    """One panel. ``roots`` are the tasks that cells have started, ``interrupt`` stops the cell."""

    def __init__(
        self,
        tasks: Tasks,
        roots: Callable[[], Iterable[trio.lowlevel.Task]],
        interrupt: Callable[[], object],
    ) -> None:
        self.ended = False
        self.pictures = 0  # that were shown so far
        self._tasks = tasks
        self._roots = roots
        self._interrupt = interrupt
        self._changed = RepeatedEvent()
        self._view: View | None = None
        self._before: object = None
        self._nodes: list[Node] = []
        self._note = ""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Something begins."""
        self._changed.set()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Something has ended."""
        self._changed.set()

    def show_in(self, view: View) -> None:
        """Show the first picture."""
        self._view = view
        self._show()

    @enable_ki_protection
    async def run(self, log: Any) -> None:
        """Show others, until `end`, or cancelled. What goes wrong is logged, and ends it."""
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
        """Show nothing new any more."""
        self.ended = True
        self._changed.set()
        if self._view is not None:
            self._view.close()
            self._view = None

    def press(self, node: Node | None) -> None:
        """The button of a row: cancel that, in the loop's thread. None: it is not clear which."""
        if node is None:
            self._note = "the rows had just moved: click once more"
        else:
            if node.kind == "cell":
                self._interrupt()
            elif node.scope is not None:
                end_scope(node.scope, "its button")
            self._note = f"cancelled #{node.number} {node.name}"
        self._changed.set()

    def _show(self) -> bool:
        """Show what there is; whether that is new in more than ages."""
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
    """HTML and text, shown anew in their place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, nodes: list[Node], more: int, note: str) -> None:
        """Show these."""
        bundle = {"text/html": as_html(nodes, more, note), "text/plain": as_text(nodes, more, note)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def close(self) -> None:
        """Nothing is open."""


class WidgetView:
    """Rows of widgets with buttons, of which only what is new is sent. ``press`` is called with
    the node of a button, or None where that had just been another one's. ``formats`` are the forms
    in which an object is shown.
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
        # Each layout and each style is a model of its own in the page: all rows share them.
        self._can = self._button_layout(visibility="visible")
        self._cannot = self._button_layout(visibility="hidden")
        self._row = ipywidgets.Layout(align_items="center", min_height="30px")
        self._wide = ipywidgets.Layout(flex="1 1 auto")
        self._button_style = ipywidgets.ButtonStyle()
        self._text_style = ipywidgets.HTML().style
        self._rows: list[tuple[Any, Any, Any]] = []
        self._nodes: list[Node] = []
        self._moved: dict[int, float] = {}  # when a row became another task's
        self._note = ipywidgets.HTML()
        self._box = ipywidgets.VBox()
        self._is_shown = False
        blank = ipywidgets.Button(layout=self._cannot, style=self._button_style)
        self._head = self._row_of(blank, self._text(as_row(_HEAD, "opacity: .7")))

    def show(self, nodes: list[Node], more: int, note: str) -> None:
        """Show these."""
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
            if not data:  # it is one that shows itself
                display(self._box)
                return
            # what a saved notebook has of it, where the widget is no more
            data |= {"text/plain": as_text(nodes, more, note)}
            display(data, metadata=metadata, raw=True)

    def close(self) -> None:
        """The buttons do nothing any more."""
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
    """Its cell, its name, its age, and what it waits on."""
    label = f"{'   ' * (node.depth - 1)}└─ " if node.depth else ""
    age = age_of(node.age) if node.age is not None else ""
    name = node.name if node.kind == "nursery" else f"#{node.number} {node.name}"
    return node.origin, label + name, age, node.waits_on


def about_button(node: Node) -> str:
    """What it does."""
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
    """Escaped, with the spaces that it begins with."""
    rest = text.lstrip(" ")
    return "&nbsp;" * (len(text) - len(rest)) + escape(rest)


def as_html(nodes: list[Node], more: int, note: str) -> str:
    """All of it, for a frontend without widgets."""
    if not nodes:
        return f'<p>no tasks <span style="opacity: .6">{escape(note)}</span></p>'
    rows = [as_row(_HEAD, "opacity: .7"), *(as_row(columns(one), tip=one.line) for one in nodes)]
    rest = f"... and {more:,} more; " if more else ""
    hint = f"{rest}{note}; %cancel #number ends one"
    return f'{"".join(rows)}<div style="opacity: .6">{escape(hint)}</div>'


def as_text(nodes: list[Node], more: int, note: str) -> str:
    """All of it, for a terminal."""
    lines = table([_HEAD, *(columns(one) for one in nodes)]) if nodes else ["no tasks"]
    return "\n".join([*lines, *([f"... and {more:,} more"] if more else []), note])
