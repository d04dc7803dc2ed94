"""Errors of cells, as their author should read them: without our frames and Trio's.

What is left out of a traceback is told by `kernel.tracebacks`. An exception is asked for its text
once, under the interrupts of the person who waits for it: what it says is shown, replied and kept.
"""

from __future__ import annotations

import ast
import bdb
import linecache
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from types import FrameType, TracebackType
from typing import Any

from ..core import Request, call_unprotected, current_request, is_machinery
from ..errors import LeftOpenError
from ..kernel import NO_TEXT, clean, note_error, render_error
from ..system import LeftOpen
from ..wire import as_content
from . import rendering

__all__ = [
    "CellErrors",
    "left_open_error",
    "show_error",
    "visible_below_ipython",
    "where_it_was",
]

KEPT = 1000  # frames of code that failed
_FILE = re.compile(r'File "([^"]+)", line (\d+)')

Send = Callable[[type, BaseException, Any], None]
NameOf = Callable[[str], tuple[str, str] | None]


class CellErrors:
    """What the errors of the running cell say, once they have been asked."""

    def __init__(self) -> None:
        self._rendered: tuple[BaseException, dict[str, Any]] | None = None
        self._of_display: tuple[Request | None, BaseException] | None = None
        self.times_shown = 0

    def forget(self) -> None:
        """A cell begins: let go of the last one's error."""
        self._of_display = None
        if self._rendered is not None:
            self._rendered = None
            _forget_code()

    def content(self, error: BaseException) -> dict[str, Any]:
        """``ename``, ``evalue`` and ``traceback``, the latter as it was shown, if it was."""
        if self._rendered is None or self._rendered[0] is not error:
            content = as_content(render_error(error))
            self._rendered = error, {key: content[key] for key in ("ename", "evalue", "traceback")}
        return self._rendered[1]

    def show_as(self, error: BaseException, lines: Any) -> dict[str, Any]:
        """The content of the error, with the traceback that it is shown with.

        That is the list that IPython gives, an entry a frame; of somebody's own renderer, whatever
        that gives.
        """
        self.times_shown += 1
        content = self.content(error)
        is_list = isinstance(lines, (list, tuple))
        content["traceback"] = list(map(str, lines)) if is_list else str(lines).splitlines()
        return content

    def note_of_display(self, error: BaseException) -> None:
        """A representation of the running cell's result has raised."""
        if self._of_display is None:
            self._of_display = current_request.get(), error

    def of_display(self) -> BaseException | None:
        """What that was, if it was in this request."""
        request, error = self._of_display or (None, None)
        return error if request is not None and request is current_request.get() else None


def show_error(shell: Any, errors: CellErrors, error: BaseException, send: Send) -> None:
    """Publish an error under the current cell, without frames that are not the user's.

    One that somebody has set a handler for (``set_custom_exc``) is shown as that does, or as it
    tells by what it returns. ``send`` sends an error with the lines that it is shown with.
    """
    if isinstance(error, bdb.BdbQuit):  # the person left the debugger
        return
    note_error(error)
    tb = _below_ipython(clean(error).__traceback__)
    kind, exits, content = type(error), isinstance(error, SystemExit), errors.content(error)
    if not exits and isinstance(error, shell.custom_exceptions):
        _show_by_handler(shell, errors, error, tb, send)
        return
    lines = _format_group(error, shell.compile.format_code_name)
    if isinstance(error, LeftOpenError) and error.__cause__ is None:  # it says all there is
        lines = f"{content['ename']}: {error}".splitlines()
    elif lines is None and content["evalue"] == NO_TEXT:  # IPython would ask for it again
        lines = content["traceback"]
    if lines is not None:
        _remember(shell.InteractiveTB, error)
        send(kind, error, lines)
        return
    rendering.prepare()
    try:
        shell.showtraceback(
            (kind, error, tb), exception_only=exits, running_compiled_code=not exits
        )
        if exits:
            print("To exit: use 'exit', 'quit', or Ctrl-D.", file=sys.stderr)
    except Exception:
        send(kind, error, content["traceback"])


def _show_by_handler(
    shell: Any, errors: CellErrors, error: BaseException, tb: TracebackType | None, send: Send
) -> None:
    """Have the user's handler show an error; what it returns is shown if it has shown nothing.

    As in IPython, `sys.exc_info` is the error meanwhile.
    """
    before, visible, context = errors.times_shown, error.__traceback__, error.__context__
    try:
        raise error
    except BaseException:  # the very one: a cell's error, which has ended its cell already
        error.__traceback__, error.__context__ = tb, context
        try:
            lines = call_unprotected(shell.CustomTB, type(error), error, tb)
        except (Exception, KeyboardInterrupt):  # IPython's own guard around it has failed
            lines = errors.content(error)["traceback"]
        error.__traceback__ = visible
    if lines and errors.times_shown == before:
        send(type(error), error, lines)


def visible_below_ipython(error: BaseException, tb: TracebackType | None) -> TracebackType | None:
    """Leave machinery out of an error; its traceback, where ``tb`` began in machinery below a
    frame of IPython's.

    Who shows an IPython's errors leaves out as many frames as ``tb_offset`` says, by default one:
    that of IPython's ``run_code``.
    """
    visible = clean(error).__traceback__
    if tb is None:
        return visible
    if tb.tb_frame is _ipythons_frame():
        return tb
    return _below_ipython(visible) if is_machinery(tb.tb_frame.f_code.co_filename) else visible


def where_it_was(raised: TracebackType | None, stood: TracebackType | None) -> TracebackType | None:
    """Where code was stopped: where the stop was raised, if any of that is the user's; another loop
    raises its own. Else where it ``stood``.
    """
    at = raised
    while at is not None:
        if not is_machinery(at.tb_frame.f_code.co_filename):
            return raised
        at = at.tb_next
    return stood or raised


def _below_ipython(tb: TracebackType | None) -> TracebackType | None:
    if tb is None:
        return None
    frame = _ipythons_frame()
    return TracebackType(tb, frame, frame.f_lasti, frame.f_code.co_firstlineno)


@cache
def _ipythons_frame() -> FrameType:
    """A frame as that of IPython's ``run_code``; one for all errors, as it refers to nothing."""
    from IPython.core import interactiveshell

    code = interactiveshell.InteractiveShell.run_code.__code__
    names = {"__name__": interactiveshell.__name__, "get": sys._getframe}
    source = "def run_code():\n    __tracebackhide__ = '__ipython_bottom__'\n    return get()"
    exec(compile(source, code.co_filename, "exec"), names)
    function: Any = names["run_code"]
    function.__code__ = function.__code__.replace(co_firstlineno=code.co_firstlineno)
    frame: FrameType = function()
    return frame


def _format_group(error: BaseException, name_of: NameOf) -> list[str] | None:
    """The lines for an error that is or was caused by a group, which IPython cannot render.

    None for any other error. ``name_of`` gives the label and the name of a cell's code.
    """
    one: BaseException | None = error
    seen: set[int] = set()  # a chain may be a circle
    while one is not None and not isinstance(one, BaseExceptionGroup):
        if id(one) in seen:
            return None
        seen.add(id(one))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    if one is None:
        return None

    def rename(match: re.Match[str]) -> str:
        named = name_of(match[1])
        return f"{named[0]} {named[1]}, line {match[2]}" if named else match[0]

    text = "".join(traceback.format_exception(error))
    return [_FILE.sub(rename, line) for line in text.splitlines()]


def _remember(ipythons: Any, error: BaseException) -> None:
    """For ``%debug`` and ``%tb``: the error, or the one leaf that a group is about.

    ``ipythons`` is IPython's formatter of tracebacks, which shows it again.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    tb = _below_ipython(error.__traceback__)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, tb
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    ipythons.etype, ipythons.evalue, ipythons.tb = type(error), error, tb


def _forget_code() -> None:
    """Let go of the code of cells that failed long ago.

    The library that finds the failing part of a line for IPython keeps all code that it has seen.
    IPython imports it when the first cell fails, as it takes a while.
    """
    # without it while another thread imports the module
    source = getattr(sys.modules.get("stack_data.core"), "Source", None)
    kept = vars(source).get("__executing_cache") if source is not None else None
    if kept is not None and len(kept) > KEPT:
        kept.clear()


def left_open_error(
    left_open: list[LeftOpen], file: str, statements: Sequence[ast.stmt], name_of: NameOf
) -> LeftOpenError:
    """What a cell has left open, and the lines of it, up to its last statement, that opened it."""
    last = (statements[-1].end_lineno or 0) if statements else 0
    cell = " ".join(name_of(file) or ("File", file))
    places = [
        f"{cell}, line {line}: {call}"
        for line, call in _calls_that_enter("".join(linecache.getlines(file)))
        if line <= last
    ]
    error = LeftOpenError(left_open, ", ".join(places) or cell)
    error.__cause__ = next((one.error for one in left_open if one.error is not None), None)
    return error


def _calls_that_enter(source: str) -> list[tuple[int, str]]:
    """The lines that enter a context manager by hand, numbers from 1 on, and what they call.

    ``await trio.open_nursery().__aenter__()`` and its like.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    return sorted(
        (node.lineno, ast.unparse(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("__enter__", "__aenter__", "enter_context", "enter_async_context")
    )
