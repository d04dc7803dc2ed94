"""Errors of cells, as their author should read them.

An exception is asked for its text once, under the interrupts of the person who waits for it:
what it says is shown, replied and kept.
"""

from __future__ import annotations

import bdb
import sys
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets import Any as AnyTrait

from ..core import Request, current_request
from ..kernel import NO_TEXT, render_error
from ..wire import as_content
from .tracebacks import clean, forget_code, format_group

__all__ = ["ErrorShell"]


class ErrorShell(InteractiveShell):
    """The part of the shell that shows errors."""

    kernel: Any = AnyTrait()
    _rendered: tuple[BaseException, dict[str, Any]] | None = None
    _display_error: tuple[Request | None, BaseException] | None = None

    def rendered(self, error: BaseException) -> dict[str, Any]:
        """``ename``, ``evalue`` and ``traceback``, the latter as it was shown, if it was."""
        if self._rendered is None or self._rendered[0] is not error:
            content = as_content(render_error(error))
            self._rendered = error, {key: content[key] for key in ("ename", "evalue", "traceback")}
        return self._rendered[1]

    def forget_error(self) -> None:
        """A cell begins: let go of the last one's error."""
        self._display_error = None
        if self._rendered is not None:
            self._rendered = None
            forget_code()

    def show(self, error: BaseException) -> None:
        """Publish an error under the current cell, without frames that are not the user's."""
        if isinstance(error, bdb.BdbQuit):  # the person left the debugger
            return
        clean(error)
        content = self.rendered(error)
        lines = format_group(error, self.compile.format_code_name)
        if lines is None and content["evalue"] == NO_TEXT:  # IPython would ask for it again
            lines = content["traceback"]
        if lines is not None:
            self._remember(error)
            self._showtraceback(type(error), error, lines)
            return
        raised = (type(error), error, error.__traceback__)
        try:
            if isinstance(error, SystemExit):
                self.showtraceback(raised, exception_only=True)
            else:
                self.showtraceback(raised, running_compiled_code=True)
        except Exception:
            self._showtraceback(type(error), error, content["traceback"])

    def display_error(self) -> BaseException | None:
        """What a representation of this request's result has raised, if one has."""
        request, error = self._display_error or (None, None)
        return error if request is not None and request is current_request.get() else None

    def _remember(self, error: BaseException) -> None:
        """For ``%debug`` and ``%tb``: the error, or the one leaf that a group is about."""
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        if sys.version_info >= (3, 12):
            sys.last_exc = error
        self.InteractiveTB.etype, self.InteractiveTB.evalue = type(error), error
        self.InteractiveTB.tb = error.__traceback__

    def _get_exc_info(self, exc_tuple: Any = None) -> Any:
        """What IPython shows of an error of its own accord, in ``%run`` for example."""
        kind, error, tb = super()._get_exc_info(exc_tuple)
        return (kind, error, clean(error).__traceback__) if error is not None else (kind, error, tb)

    def _format_exception_for_storage(
        self, exception: BaseException, *args: Any, **kwargs: Any
    ) -> Any:
        """What the history keeps of an error."""
        return dict(self.rendered(exception))

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        """Send an ``error`` instead of printing the traceback."""
        content = self.rendered(evalue)
        content["traceback"] = _texts(stb)
        if self.displayhook.is_showing and self._display_error is None:
            self._display_error = current_request.get(), evalue
        if self.kernel.current() is None:  # a startup file's: no cell to show it under
            self.kernel.log.error("%s", "\n".join(content["traceback"]))
        self.kernel.server.outbox.drain()
        self.kernel.send_response(self.kernel.iopub_socket, "error", content)


def _texts(lines: Any) -> list[str]:
    """The list that IPython gives, an entry a frame; whatever somebody's own renderer gives."""
    if isinstance(lines, (list, tuple)):
        return [str(line) for line in lines]
    return str(lines).splitlines()
