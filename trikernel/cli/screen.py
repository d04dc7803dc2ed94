"""What a person sees of a running notebook: outputs as they come, a bar with the cell count."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..client.notebook import CellFailed

__all__ = ["Screen"]


class Screen:
    """Writes to the real standard output. Use as a context manager."""

    def __init__(self, cells: int) -> None:
        self._cells = cells
        self._console = Console(file=sys.__stdout__, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("cell"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("cells", total=cells)
        self._line = ""
        self._started = time.monotonic()

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._flush()
        self._bar.stop()

    def begin(self, number: int, cell: Any) -> None:
        """A cell starts."""
        self._bar.update(self._task, completed=number - 1)

    def output(self, output: Any) -> None:
        """Show one output: text as it is, anything else by its text representation."""
        if output.output_type == "stream":
            *lines, self._line = (self._line + output.text).split("\n")
            for line in lines:
                self._print(line.rstrip("\r").rsplit("\r", 1)[-1])
            return
        self._flush()
        if output.output_type != "error":  # shown once, at the end
            data = output.data
            self._print(str(data.get("text/plain", f"<{', '.join(data)}>")))

    def end(self, number: int) -> None:
        """A cell is done."""
        self._flush()
        self._bar.update(self._task, completed=number)

    def finished(self) -> None:
        """Every cell went well."""
        seconds = time.monotonic() - self._started
        self._print(f"{self._cells} cells run in {seconds:.1f} s")

    def failed(self, failed: CellFailed) -> None:
        """Show the traceback of the cell that failed, on stderr."""
        self._flush()
        self._bar.stop()
        errors = Console(file=sys.__stderr__, highlight=False, soft_wrap=True)
        for line in failed.content.get("traceback") or ():
            errors.print(Text.from_ansi(line))
        errors.print(Text(f"{failed} ({failed.number} of {self._cells} cells)"))

    def _flush(self) -> None:
        line, self._line = self._line, ""
        if line:
            self._print(line)

    def _print(self, text: str) -> None:
        self._console.print(Text.from_ansi(text))
