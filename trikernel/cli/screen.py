"""Shows running notebooks in a terminal: a single one with its outputs, several as progress bars.

A `View` is entered once, and opens a `NotebookView` for each notebook. Text of kernels, notebooks
and file names goes through `harmless` before it is shown, and is never interpreted as rich's
markup.
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
from ..client.outputs import as_output
from ..errors import UsageError
from ..system import harmless
from ..wire import Message

__all__ = ["Board", "NotebookView", "Screen", "ScreenError", "View"]


class NotebookView(CellProgress, Protocol):
    """One notebook on the screen."""

    def finished(self) -> None:
        """All cells have run."""

    def failed(self, error: Exception) -> None:
        """The run of the notebook has ended with an error."""


class View(contextlib.AbstractContextManager["View", None], Protocol):
    """All notebooks on the screen."""

    def open(self, path: Path, cells: int) -> NotebookView:
        """A notebook starts."""

    def warn(self, text: str) -> None:
        """Show a warning."""

    def summary(self, code: int) -> None:
        """All notebooks have ended, with this exit code."""


_MUCH = 10_000  # characters
_NO_COLOURS = ("", "\x1b[0m", "\x1b[m", "\x1b[00m")


class ScreenError(Exception):
    """Standard output cannot be written."""


class _Console(Console):
    """Standard output; a closed pipe raises `ScreenError` instead of ending the process."""

    def on_broken_pipe(self) -> None:
        raise ScreenError("nobody reads it any more")


class _Bars:
    """The progress bars, shown only in a terminal, and the text above them.

    ``first`` and ``last`` are columns, given as rich's templates: ``{task.description}``.
    """

    def __init__(self, first: str, *last: str) -> None:
        self.console = _Console(file=sys.__stdout__, highlight=False, markup=False, soft_wrap=True)
        self.bars = Progress(
            TextColumn(first, markup=False),
            MofNCompleteColumn(),
            BarColumn(),
            TimeElapsedColumn(),
            *(TextColumn(one, markup=False) for one in last),
            console=self.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.console.is_terminal,
        )
        self.started = time.monotonic()
        self._colours = self.console.is_terminal and not self.console.is_dumb_terminal
        self._is_coloured = False

    def print(self, text: str, end: str = "\n") -> None:
        """Print text above the bars, with its colours. Raises `ScreenError` if that fails."""
        text = harmless(text, self._colours).encode("utf-8", "replace").decode()
        self._is_coloured = _ends_coloured(text, self._is_coloured)
        try:
            if not self.console.is_terminal:
                self._write(text, end)
            elif len(text) < _MUCH:
                self.console.out(text, highlight=False, end=end)
            else:  # rich is slow with long text, because it examines each character
                self.bars.stop()
                self._write(text, end)
                self.bars.start()
        except BrokenPipeError:
            self.console.on_broken_pipe()
        except OSError as error:
            raise ScreenError(error.strerror) from None

    def end_colours(self) -> None:
        """Reset colours that a cell has left on, so that bars and prompt are not coloured."""
        if self._is_coloured:
            self.print("\x1b[0m", end="")

    def _write(self, text: str, end: str) -> None:
        self.console.file.write(f"{text}{end}")
        self.console.file.flush()

    def print_error(self, error: Exception, prefix: str = "") -> None:
        """Print an error to stderr: the traceback of the cell, if there is one, and its text."""
        errors = _errors()
        execution, message = getattr(error, "execution", None), getattr(error, "message", None)
        traceback: list[str] = []
        if isinstance(message, Message):
            traceback = as_output(message)["traceback"]
        elif isinstance(execution, Execution) and execution.error is not None:
            traceback = execution.error.traceback
        for line in traceback:
            errors.print(Text.from_ansi(harmless(line, colours=True)))
        for line in (f"{prefix}{error}", *getattr(error, "__notes__", ())):
            errors.print(Text(harmless(line, colours=False)))

    def warn(self, text: str) -> None:
        """Print a warning to stderr, above the bars."""
        line = Text(f"trikernel: warning: {harmless(text, colours=False)}")
        if self.console.is_terminal and sys.__stderr__ is not None and sys.__stderr__.isatty():
            self.console.print(line)  # both are the same terminal: the console keeps the bars whole
        else:
            _errors().print(line)

    def seconds(self) -> str:
        return f"{time.monotonic() - self.started:.1f} s"


def _errors() -> Console:
    return Console(file=sys.__stderr__, highlight=False, markup=False, soft_wrap=True)


def _ends_coloured(text: str, before: bool) -> bool:
    """Whether a colour is still on after this text; ``before`` if it was on before the text."""
    start = text.rfind("\x1b[")
    return before if start < 0 else text[start : text.index("m", start) + 1] not in _NO_COLOURS


class Screen:
    """A `View` of one notebook: its outputs as they come, and a bar with the number of cells."""

    def __init__(self, cells: int) -> None:
        self._cells = cells
        self._bars = _Bars("cell", "{task.fields[line]}")
        self._task = self._bars.bars.add_task("cells", total=cells, line="")
        self._line = ""
        self._errors: list[str] = []

    def __enter__(self) -> Screen:
        self._bars.bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bars.bars.stop()

    def open(self, path: Path, cells: int) -> Screen:
        """See `View`. This object is the view of the notebook, too."""
        return self

    def begin(self, number: int, cell: Any) -> None:
        """A cell starts."""
        self._bars.bars.update(self._task, completed=number - 1)

    def output(self, output: Any) -> None:
        """Show one output: a stream's text unchanged, others by their text representation."""
        if output["output_type"] == "stream":
            *lines, rest = (self._line + output["text"]).split("\n")
            if lines:
                has_returns = "\r" in output["text"] + self._line
                self._bars.print("\n".join(map(_overwritten, lines) if has_returns else lines))
            self._line = _overwritten(rest) + "\r" * rest.endswith("\r")
            shown = harmless(self._line[-200:].rstrip("\r"), colours=False)
            self._bars.bars.update(self._task, line=shown)
            return
        self._flush()
        if output["output_type"] == "error":  # `end` shows it, if the cell may fail; else `failed`
            self._errors.append("\n".join(output["traceback"]))
        else:
            data = output["data"]
            text = data.get("text/plain", f"<{', '.join(data)}>")
            self._bars.print(text if isinstance(text, str) else "".join(text))

    def end(self, number: int) -> None:
        """A cell has ended; an error in it was allowed."""
        self._flush()
        for text in self._errors:
            self._bars.print(text)
        self._errors.clear()
        self._bars.end_colours()
        self._bars.bars.update(self._task, completed=number)

    def finished(self) -> None:
        """Print how many cells have run."""
        self._bars.print(f"{_cells_run(self._cells)} in {self._bars.seconds()}")

    def failed(self, error: Exception) -> None:
        """Show the traceback of the cell that failed, on stderr."""
        self._flush()
        self._bars.end_colours()
        self._bars.bars.stop()
        self._errors.clear()
        self._bars.print_error(error, "trikernel: error: " if isinstance(error, UsageError) else "")

    def warn(self, text: str) -> None:
        """Print a warning above the bar."""
        self._bars.warn(text)

    def summary(self, code: int) -> None:
        """Print the last line of output, and whether the run was interrupted."""
        self._flush()
        self._bars.end_colours()
        if code >= 128:
            self._bars.bars.stop()
            self._bars.print("interrupted")

    def _flush(self) -> None:
        line, self._line = self._line, ""
        if line:
            self._bars.print(line)
            self._bars.bars.update(self._task, line="")


def _cells_run(count: int) -> str:
    """``3 cells run``."""
    return f"{count} cell{'s' if count != 1 else ''} run"


def _overwritten(line: str) -> str:
    """The text after the last carriage return of a line. It replaces the text before as a whole,
    although a terminal would keep the rest of a longer one.
    """
    return line.rstrip("\r").rsplit("\r", 1)[-1]


class Board:
    """A `View` of several notebooks: a bar for each that runs, a line for each that has ended."""

    def __init__(self, notebooks: int) -> None:
        self._notebooks = notebooks
        self._good = 0
        self._failed: list[tuple[str, Exception]] = []
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
        """Count a notebook that has run without an error."""
        self._good += 1

    def fail(self, name: str, error: Exception) -> None:
        """Keep an error of a notebook for the summary."""
        self._failed.append((name, error))

    def warn(self, text: str) -> None:
        """Print a warning above the bars."""
        self.bars.warn(text)

    def summary(self, code: int) -> None:
        """Print all errors, and how many notebooks have run; after the bars were removed."""
        self.bars.bars.stop()
        for name, error in self._failed:
            self.bars.print_error(error, f"{name}: ")
        end = ", interrupted" if code >= 128 else ""
        self.bars.print(
            f"{self._good} of {self._notebooks} notebooks run in {self.bars.seconds()}{end}"
        )


class _Row:
    """One notebook of several; its outputs are not shown."""

    def __init__(self, board: Board, name: str, cells: int) -> None:
        self._board = board
        self._name = name
        self._cells = cells
        self._started = time.monotonic()
        self._task = board.bars.bars.add_task(harmless(name, colours=False), total=cells)

    def begin(self, number: int, cell: Any) -> None:
        """A cell starts."""

    def output(self, output: Any) -> None:
        """Nothing: outputs of several notebooks would be mixed up."""

    def end(self, number: int) -> None:
        """A cell has ended."""
        self._board.bars.bars.update(self._task, completed=number)

    def finished(self) -> None:
        """Replace the bar by a line that says how many cells have run."""
        self._board.count()
        self._end(f"{_cells_run(self._cells)} in {time.monotonic() - self._started:.1f} s")

    def failed(self, error: Exception) -> None:
        """Replace the bar by a short line; the summary shows the error."""
        self._board.fail(self._name, error)
        self._end("failed")

    def _end(self, text: str) -> None:
        self._board.bars.bars.remove_task(self._task)
        self._board.bars.print(f"{self._name}: {text}")
