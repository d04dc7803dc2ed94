"""What a person sees of running notebooks: one with its outputs, several as bars.

A `View` is entered once and opens a `Progress` for each notebook.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..client import Execution
from ..client.notebooks import Progress as CellProgress
from ..errors import CellFailed, UsageError

__all__ = ["Board", "NotebookView", "Screen", "ScreenError", "View"]


class NotebookView(CellProgress, Protocol):
    """One notebook on the screen."""

    def finished(self) -> None:
        """Every cell went well."""

    def failed(self, error: Exception) -> None:
        """It ended with an error."""


class View(contextlib.AbstractContextManager["View", None], Protocol):
    """All notebooks on the screen."""

    def open(self, path: Path, cells: int) -> NotebookView:
        """A notebook starts."""

    def summary(self, code: int) -> None:
        """All have ended, with this exit code."""


class ScreenError(Exception):
    """Standard output cannot be written."""


class _Bars:
    """The bars, shown in a terminal only, and what is printed above them."""

    def __init__(self, first_column: str) -> None:
        self.console = Console(file=sys.__stdout__, highlight=False, soft_wrap=True)
        self.bars = Progress(
            TextColumn(first_column),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.console.is_terminal,
        )
        self.started = time.monotonic()

    def print(self, text: str) -> None:
        """Above the bars. Raises `ScreenError` where it cannot be written."""
        try:
            self.console.print(Text.from_ansi(text))
        except OSError as error:
            raise ScreenError(error.strerror) from None

    def print_error(self, error: Exception, prefix: str, suffix: str = "") -> None:
        """The traceback of a cell, if there is one, and one line, on stderr."""
        errors = Console(file=sys.__stderr__, highlight=False, soft_wrap=True)
        execution = getattr(error, "execution", None)
        if isinstance(execution, Execution) and execution.error is not None:
            for line in execution.error.traceback:
                errors.print(Text.from_ansi(line))
        for line in (f"{prefix}{error}{suffix}", *getattr(error, "__notes__", ())):
            errors.print(Text(line))

    def seconds(self) -> str:
        return f"{time.monotonic() - self.started:.1f} s"


class Screen:
    """One notebook: its outputs as they come, and a bar with the cell count."""

    def __init__(self, cells: int) -> None:
        self._cells = cells
        self._bars = _Bars("cell")
        self._task = self._bars.bars.add_task("cells", total=cells)
        self._line = ""
        self._errors: list[str] = []

    def __enter__(self) -> Screen:
        self._bars.bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bars.bars.stop()

    def open(self, path: Path, cells: int) -> Screen:
        """The one notebook."""
        return self

    def begin(self, number: int, cell: Any) -> None:
        """A cell starts."""
        self._bars.bars.update(self._task, completed=number - 1)

    def output(self, output: Any) -> None:
        """Show one output: text as it is, anything else by its text representation."""
        if output["output_type"] == "stream":
            *lines, rest = (self._line + output["text"]).split("\n")
            for line in lines:
                self._bars.print(_overwritten(line))
            self._line = _overwritten(rest) + "\r" * rest.endswith("\r")
            return
        self._flush()
        if output["output_type"] == "error":  # shown as the cell ends well in spite of it
            self._errors.append("\n".join(output["traceback"]))
        else:
            data = output["data"]
            self._bars.print(str(data.get("text/plain", f"<{', '.join(data)}>")))

    def end(self, number: int) -> None:
        """A cell is done; errors in it were allowed."""
        self._flush()
        for text in self._errors:
            self._bars.print(text)
        self._errors.clear()
        self._bars.bars.update(self._task, completed=number)

    def finished(self) -> None:
        """Every cell went well."""
        self._bars.print(f"{self._cells} cells run in {self._bars.seconds()}")

    def failed(self, error: Exception) -> None:
        """Show the traceback of the cell that failed, on stderr."""
        self._flush()
        self._bars.bars.stop()
        if isinstance(error, UsageError):
            self._bars.print_error(error, "trikernel: error: ")
        else:
            count = f" (of {self._cells} cells)" if isinstance(error, CellFailed) else ""
            self._bars.print_error(error, "", count)

    def summary(self, code: int) -> None:
        """Nothing more to say, unless somebody interrupted."""
        self._flush()
        if code >= 128:
            self._bars.bars.stop()
            self._bars.print("interrupted")

    def _flush(self) -> None:
        line, self._line = self._line, ""
        if line:
            self._bars.print(line)


def _overwritten(line: str) -> str:
    """What a terminal shows of a line after its carriage returns, whole lines at a time."""
    return line.rstrip("\r").rsplit("\r", 1)[-1]


class Board:
    """Several notebooks: a bar for each that runs, a line for each that has ended."""

    def __init__(self, notebooks: int) -> None:
        self._notebooks = notebooks
        self._good = 0
        self.bars = _Bars("{task.description}")

    def __enter__(self) -> Board:
        self.bars.bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.bars.bars.stop()

    def open(self, path: Path, cells: int) -> _Row:
        """A notebook starts."""
        return _Row(self, str(path), cells)

    def count(self) -> None:
        """One more went well."""
        self._good += 1

    def summary(self, code: int) -> None:
        """How many went well."""
        self.bars.bars.stop()
        end = ", interrupted" if code >= 128 else ""
        self.bars.print(
            f"{self._good} of {self._notebooks} notebooks run in {self.bars.seconds()}{end}"
        )


class _Row:
    """One notebook among several; its outputs are in its file only."""

    def __init__(self, board: Board, name: str, cells: int) -> None:
        self._board = board
        self._name = name
        self._cells = cells
        self._started = time.monotonic()
        self._task = board.bars.bars.add_task(name, total=cells)

    def begin(self, number: int, cell: Any) -> None:
        """A cell starts."""

    def output(self, output: Any) -> None:
        """Not shown: outputs of several notebooks would mix."""

    def end(self, number: int) -> None:
        """A cell is done."""
        self._board.bars.bars.update(self._task, completed=number)

    def finished(self) -> None:
        """Every cell went well."""
        self._board.count()
        self._end(f"{self._cells} cells run in {time.monotonic() - self._started:.1f} s")

    def failed(self, error: Exception) -> None:
        """The traceback of the cell that failed goes to stderr."""
        self._board.bars.print_error(error, f"{self._name}: ", f" (of {self._cells} cells)")
        self._end("failed")

    def _end(self, text: str) -> None:
        self._board.bars.bars.remove_task(self._task)
        self._board.bars.print(f"{self._name}: {text}")
