"""Whose output it is: what a Python kernel does with text, and with errors to show."""

from __future__ import annotations

from typing import Any

from ..core import OpenText, Request, current_request
from ..kernel import Kernel

__all__ = ["CellOutput"]


class CellOutput(Kernel):
    """The sending part of the Python kernel."""

    shell: Any

    def __init__(self, **settings: Any) -> None:
        self._last_cell: Request | None = None
        super().__init__(**settings)

    def current(self) -> Request | None:
        """The request that this code runs for: by context, else the running or last cell."""
        request = current_request.get()
        return request if request is not None else self._cell() or super().current()

    def _cell(self) -> Request | None:
        """The running cell, else the last one; not counting silent ones."""
        running = self.server.interrupts.running if self._server is not None else []
        for request in reversed(running):
            if getattr(request.content, "silent", None) is False:
                return request
        return self._last_cell

    def _write_captured(self, name: str, text: str) -> None:
        """Append what came without a context."""
        cell = self._cell()
        self.server.outbox.write(cell.message.header if cell is not None else None, name, text)

    def write_stream(self, name: str, text: str) -> None:
        """Append text of the calling context to ``stdout`` or ``stderr``."""
        if not self._is_silent():
            self.server.outbox.write(self.parent_header(), name, text)

    def open_stream(self, name: str) -> OpenText | None:
        """The same, to append piece by piece; None where each piece has to be looked at."""
        request = current_request.get()
        if request is None or self.said_parent or self._is_silent():
            return None
        return self.server.outbox.open_text(request, request.message.header, name)

    def show_error(self, error: BaseException) -> None:
        """Publish an ``error`` with IPython's traceback."""
        self.shell.show(error)
