"""Errors of cells as their author should see them: without frames of this package and of Trio.

`kernel.tracebacks` decides which frames are left out. The text of an exception is made once, in
code that an interrupt can stop, and is then used for the ``error`` message, the reply and the
history.
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

KEPT = 1000  # entries of the cache of failed code, above which it is cleared
_FILE = re.compile(r'File "([^"]+)", line (\d+)')

Send = Callable[[type, BaseException, Any], None]
NameOf = Callable[[str], tuple[str, str] | None]


class CellErrors:
    """The rendered error of the running cell."""

    def __init__(self) -> None:
        self._rendered: tuple[BaseException, dict[str, Any]] | None = None
        self._of_display: tuple[Request | None, BaseException] | None = None
        self.times_shown = 0

    def forget(self) -> None:
        """A cell begins: release the error of the previous one."""
        self._of_display = None
        if self._rendered is not None:
            self._rendered = None
            _forget_code()

    def content(self, error: BaseException) -> dict[str, Any]:
        """``ename``, ``evalue`` and ``traceback``; if the error was shown, with the traceback as it
        was shown.
        """
        if self._rendered is None or self._rendered[0] is not error:
            content = as_content(render_error(error))
            self._rendered = error, {key: content[key] for key in ("ename", "evalue", "traceback")}
        return self._rendered[1]

    def show_as(self, error: BaseException, lines: Any) -> dict[str, Any]:
        """The content of an error that is being shown, with ``lines`` as its traceback.

        IPython gives a list with an entry for each frame; a renderer of the user's may give
        anything, which is then converted to text.
        """
        self.times_shown += 1
        content = self.content(error)
        is_list = isinstance(lines, (list, tuple))
        content["traceback"] = list(map(str, lines)) if is_list else str(lines).splitlines()
        return content

    def note_of_display(self, error: BaseException) -> None:
        """Note that a representation of the running cell's result has raised ``error``."""
        if self._of_display is None:
            self._of_display = current_request.get(), error

    def of_display(self) -> BaseException | None:
        """The error that was noted by `note_of_display`, if that was in the current request."""
        request, error = self._of_display or (None, None)
        return error if request is not None and request is current_request.get() else None


def show_error(shell: Any, errors: CellErrors, error: BaseException, send: Send) -> None:
    """Publish an error under the current cell, without frames that are not the user's.

    If a handler was set for it (``set_custom_exc``), the handler shows it, or returns the lines to
    be shown. ``send`` sends an error with the lines of its traceback.
    """
    if isinstance(error, bdb.BdbQuit):  # the user has left the debugger
        return
    note_error(error)
    visible = clean(error).__traceback__
    tb = _below_ipython(visible)
    kind, exits, content = type(error), isinstance(error, SystemExit), errors.content(error)
    if not exits and isinstance(error, shell.custom_exceptions):
        _show_by_handler(shell, errors, error, tb, send)
        return
    lines = _format_group(error, shell.compile.format_code_name)
    if isinstance(error, LeftOpenError) and error.__cause__ is None:  # its text has the lines
        lines = f"{content['ename']}: {error}".splitlines()
    elif lines is None and content["evalue"] == NO_TEXT:  # IPython would call `__str__` again
        lines = content["traceback"]
    if lines is not None:
        _remember(shell.InteractiveTB, error)
        send(kind, error, lines)
        return
    rendering.prepare()
    if isinstance(error, SyntaxError):  # of those IPython shows all frames, its own as well
        tb = visible
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
    """Call the user's handler for an error. If it shows nothing, the lines that it returns are
    shown.

    As in IPython, `sys.exc_info` returns the error while the handler runs.
    """
    before, visible, context = errors.times_shown, error.__traceback__, error.__context__
    try:
        raise error
    except BaseException:  # exactly `error`, which has ended its cell already
        error.__traceback__, error.__context__ = tb, context
        try:
            lines = call_unprotected(shell.CustomTB, type(error), error, tb)
        except (Exception, KeyboardInterrupt):  # IPython's wrapper around the handler has failed
            lines = errors.content(error)["traceback"]
        error.__traceback__ = visible
    if lines and errors.times_shown == before:
        send(type(error), error, lines)


def visible_below_ipython(error: BaseException, tb: TracebackType | None) -> TracebackType | None:
    """Remove machinery frames (of this package and Trio) from an error. Returns its traceback,
    below a frame of IPython's if ``tb`` began with a machinery frame.

    IPython leaves out as many outer frames as ``tb_offset`` says, by default one, because it
    expects its own ``run_code`` there. So a frame that stands for it is put in front.
    """
    visible = clean(error).__traceback__
    if tb is None:
        return visible
    if tb.tb_frame is _ipythons_frame():
        return tb
    return _below_ipython(visible) if is_machinery(tb.tb_frame.f_code.co_filename) else visible


def where_it_was(raised: TracebackType | None, stood: TracebackType | None) -> TracebackType | None:
    """The traceback of a stop: ``raised``, if any frame in it is the user's; otherwise ``stood``,
    where the user's code was (for example if another event loop raised an exception of its own).
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
    """A frame that looks like IPython's ``run_code``. It holds nothing, so all errors share it."""
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
    """The lines for an error that is an exception group or was caused by one, which IPython does
    not render well.

    None for any other error. ``name_of`` returns the label and the name of a cell by its file name.
    """
    one: BaseException | None = error
    seen: set[int] = set()  # the chain of causes may be circular
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
    """Store an error for ``%debug`` and ``%tb``; of a group with a single error in it, that one.

    ``ipythons`` is IPython's formatter of tracebacks, from which ``%tb`` takes it.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    tb = _below_ipython(error.__traceback__)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, tb
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    ipythons.etype, ipythons.evalue, ipythons.tb = type(error), error, tb


def _forget_code() -> None:
    """Release the code of cells that failed long ago.

    The library that finds the failing part of a line for IPython caches all code that it has seen.
    IPython imports it only when the first cell fails.
    """
    # the module may lack the name while another thread is importing it
    source = getattr(sys.modules.get("stack_data.core"), "Source", None)
    kept = vars(source).get("__executing_cache") if source is not None else None
    if kept is not None and len(kept) > KEPT:
        kept.clear()


def left_open_error(
    left_open: list[LeftOpen], file: str, statements: Sequence[ast.stmt], name_of: NameOf
) -> LeftOpenError:
    """The error for scopes that a cell has left open. It names the lines of the cell, up to the end
    of ``statements``, that may have opened them.
    """
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
    """The lines that enter a context manager without ``with``, as in
    ``await trio.open_nursery().__aenter__()``: line numbers from 1 on, and the calls.
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
