"""Magics that ask something of the frontend, or open another one; the names are ipykernel's."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magics.code import CodeMagics
from IPython.display import Javascript, display

from ..core import current_subshell

__all__ = ["FrontendMagics"]


@magics_class
class FrontendMagics(Magics):
    """Registered in the kernel's shell."""

    @line_magic
    def clear(self, line: str) -> None:
        """Clear the terminal of a console."""
        print("\033[H\033[2J", end="")

    @line_magic
    def edit(self, line: str, last_call: Any = None) -> None:
        """Have the frontend open an editor: on a file, on what a function or object is defined in,
        or on cells of the history, as IPython's ``%edit`` takes them.
        """
        options, arguments = self.parse_options(line, "prxn:")
        last = ["", ""] if last_call is None else last_call
        filename, number, _ = CodeMagics._find_edit_target(self.shell, arguments, options, last)
        if filename is None:
            raise UsageError(f"%edit: there is nothing to edit in {arguments!r}")
        self.shell.payload_manager.write_payload(
            {
                "source": "edit_magic",
                "filename": os.path.abspath(filename),
                "line_number": None if number is None else int(number),
            }
        )

    @line_magic
    def autosave(self, line: str) -> None:
        """Have the classic notebook save itself every so many seconds, 0 for never."""
        try:
            seconds = int(line)
        except ValueError:
            raise UsageError(f"%autosave: give a number of seconds, not {line!r}") from None
        display(Javascript(f"IPython.notebook.set_autosave_interval({seconds * 1000})"))
        print(f"Autosaving every {seconds} seconds" if seconds else "Autosave disabled")

    @line_magic
    def connect_info(self, line: str) -> None:
        """Print how another client reaches this kernel, as a file that it takes."""
        transport = self.shell.find_kernel().server.transport
        if not hasattr(transport, "info"):
            raise UsageError("%connect_info: this kernel has no sockets of its own")
        print(json.dumps(transport.info.as_dict(), indent=2))
        print("\nIn a file, this is what a client takes:\n    $> jupyter <app> --existing <file>")
        if self.shell.find_kernel().connection_file is not None:
            print(f"Here, that file is {self.shell.find_kernel().connection_file}")

    @line_magic
    def subshell(self, line: str) -> None:
        """Print which subshell and which thread this cell runs in, and what subshells there are."""
        subshell = current_subshell.get()
        facts: dict[str, object] = {
            "subshell id": None if subshell is None else subshell.key.id,
            "thread id": threading.get_ident(),
            "main thread id": threading.main_thread().ident,
            "pid": os.getpid(),
            "thread count": threading.active_count(),
            "subshell list": self.shell.find_kernel().server.subshells.ids,
        }
        for name, value in facts.items():
            print(f"{name}: {value}")

    @line_magic
    def qtconsole(self, line: str) -> None:
        """Open a Qt console on this kernel; arguments are passed on to it."""
        from .ipykernel_objects import connect_qtconsole

        try:
            connect_qtconsole(argv=line.split())
        except RuntimeError as error:
            raise UsageError(f"%qtconsole: {error}") from None
