"""Runs a notebook's cells in order on a kernel, and keeps their outputs.

Outputs are collected in nbformat's form, so that the notebook can be written at any moment. This
module does not know screens and command lines.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import nbformat
import trio

from ...errors import (
    CellFailed,
    CellStillRuns,
    ExecutionTimeout,
    KernelDied,
    TrikernelError,
    UsageError,
)
from ...warm import ForkServer
from ...wire import Message
from ..client import Client
from ..execution import Execution
from ..open import open_kernel
from ..outputs import Fields, as_output, mapping_of
from ..stopping import timed_out
from .files import NotebookWriter, OutputNotWritten, read_notebook
from .parameters import inject_parameters
from .widgets import WidgetRecorder

__all__ = ["KernelFaultWarning", "KernelRestartedWarning", "Progress", "run_notebook"]

# The fields that must be strings by nbformat's schema; other fields may be anything.
LANGUAGE_FIELDS = ("name", "file_extension", "mimetype", "pygments_lexer")
SKIP_TAGS = frozenset({"skip", "skip-execution"})
ERROR_TAG = "raises-exception"


class KernelFaultWarning(UserWarning):
    """The kernel sent a field that is not allowed in a valid notebook; it was left out.

    Its text names the cell, the message and the field.
    """


class KernelRestartedWarning(UserWarning):
    """A cell did not stop, and the run goes on with a restarted kernel, in which the names that
    earlier cells defined are lost.

    Its text names the cell, and the place in its code.
    """


class Progress(Protocol):
    """An observer that is told how far a notebook is. What its methods raise ends the run."""

    def begin(self, number: int, cell: Any) -> None:
        """Cell ``number`` (counted from 1 among the code cells) starts."""

    def output(self, output: Any) -> None:
        """The cell has an output: a dictionary in nbformat's form."""

    def end(self, number: int) -> None:
        """The cell has ended."""


async def run_notebook(
    notebook: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    kernel_name: str | None = None,
    client: Client | None = None,
    parameters: Mapping[str, Any] | None = None,
    allow_errors: bool = False,
    cell_timeout: float | None = None,
    timeout: float | None = None,
    cwd: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    warm: ForkServer | None = None,
) -> Any:
    """Run a notebook's code cells in order. Returns the notebook with their outputs.

    ``notebook`` is a path (``.ipynb``, or ``.py`` in the percent format) or an nbformat notebook,
    which is then changed. ``output`` is written before the first cell and after each. The kernel
    is, in this order: that of ``client``; the kernelspec ``kernel_name``; the notebook's own if its
    language is not Python; the Python kernel of this environment. It works in ``cwd``, by default
    the notebook's folder. ``parameters`` are assigned in an extra cell, as papermill does. Cells
    tagged ``skip`` or ``skip-execution`` are not run or changed. ``progress`` is told how far the
    run is. ``warm`` is an `open_fork_server` that starts the kernel.
    Raises `CellFailed` for a cell's error, and `ExecutionTimeout` if a cell takes longer than
    ``cell_timeout`` seconds, after it was interrupted; neither if ``allow_errors`` is set or the
    cell is tagged ``raises-exception``. If such a cell does not stop, its kernel is restarted, with
    a `KernelRestartedWarning`, unless ``client`` cannot do that; an error output of the cell tells
    where its code stands. Raises `CellFailed` after the last cell for an error in a background task
    of a cell; `ExecutionTimeout` after ``timeout`` seconds in all, also with ``allow_errors``;
    `UsageError` before the first cell if notebook, parameters or output cannot be used;
    `OutputNotWritten` if the output cannot be written any more; `KernelDied` with the kernel's last
    log lines. What a valid notebook cannot contain is left out, with a `KernelFaultWarning`. If it
    is cancelled, the running cell is interrupted and the notebook is written as it is then.
    """
    if client is not None and (kernel_name is not None or cwd is not None):
        raise TypeError("kernel_name and cwd say how to start a kernel; client has one already")
    path, notebook = _prepared(notebook, parameters or {})
    run = _Run(notebook, NotebookWriter(notebook, output) if output is not None else None, progress)
    run.name, run.allow_errors, run.cell_timeout = _named(path), allow_errors, cell_timeout
    folder = cwd if cwd is not None or path is None else path.resolve().parent
    name = kernel_name or _foreign_kernel(notebook)
    async with _kernel(client, name, folder, run.may_restart(), warm) as kernel:
        await run.note_language(kernel, bool(parameters))
        await run.run_within(kernel, timeout)
    return notebook


def _prepared(notebook: Any, parameters: Mapping[str, Any]) -> tuple[Path | None, Any]:
    """The notebook's path, if one was given, and the notebook with its parameters injected."""
    path = None if isinstance(notebook, Mapping) else Path(notebook)
    if path is None and not isinstance(notebook, nbformat.NotebookNode):
        raise UsageError("a notebook must be a path or an nbformat notebook (nbformat.from_dict)")
    if path is not None:
        notebook = read_notebook(path)
    try:
        inject_parameters(notebook, parameters)
    except UsageError as error:
        raise UsageError(f"notebook {path}: {error}" if path else str(error)) from None
    return path, notebook


class _Run:
    """One run of one notebook."""

    def __init__(
        self, notebook: Any, writer: NotebookWriter | None, progress: Progress | None
    ) -> None:
        self.name = ""  # prefix of warnings
        self.number = 0  # number of the running cell among the code cells, from 1 on
        self.execution: Execution | None = None
        self.allow_errors = False
        self.cell_timeout: float | None = None
        self._notebook = notebook
        self._writer = writer
        self._progress = progress
        self._executions: dict[int, Execution] = {}
        self._widgets: WidgetRecorder | None = None
        self._changed: set[int] = set()
        self._told: set[tuple[int, str]] = set()  # (cell index, fault) that were warned of
        self._stuck: dict[int, dict[str, Any]] = {}  # error outputs of cells that do not stop

    def may_restart(self) -> bool:
        """Whether the run may go on after a cell that does not stop."""
        cells = (cell for cell in self._notebook.cells if cell.cell_type == "code")
        return self.cell_timeout is not None and any(map(self._may_fail, cells))

    async def note_language(self, client: Client, needs_python: bool) -> None:
        """Write the kernel's ``language_info`` into the notebook's metadata.

        Raises `UsageError` if there are parameters and the language is not Python.
        """
        info = client.info or (await client.kernel_info()).content
        language = _language(info, self._warn)
        if needs_python and language.get("name") != "python":
            raise UsageError(
                f"parameters can be given to Python kernels only, not to {language.get('name')!r}"
            )
        if language:
            self._notebook.metadata["language_info"] = nbformat.from_dict(language)

    async def run_within(self, client: Client, timeout: float | None) -> None:
        """Run every cell. Raises `ExecutionTimeout` if it takes longer than ``timeout`` seconds."""
        with trio.move_on_after(float("inf") if timeout is None else timeout) as scope:
            await self.run(client)
        if scope.cancelled_caught:
            text = f"cell {self.number}: the notebook took longer than {timeout:g} seconds"
            error = timed_out(text, self.execution)
            try:
                self._note_stuck(error)
            except OutputNotWritten as unsaved:
                error.add_note(str(unsaved))
            raise error

    async def run(self, client: Client) -> None:
        """Run every cell. The notebook is written also if this raises."""
        cells = [pair for pair in enumerate(self._notebook.cells) if pair[1].cell_type == "code"]
        for _, cell in cells:
            if not _is_skipped(cell):
                cell.outputs, cell.execution_count = [], None
        self._save()
        self._widgets = widgets = WidgetRecorder(client, self._is_own)
        client.diverting.append(widgets.divert)
        try:
            for number, (index, cell) in enumerate(cells, 1):
                self.number = number
                if self._progress is not None:
                    self._progress.begin(number, cell)
                if cell.source.strip() and not _is_skipped(cell):
                    await self._run_cell(client, index, cell)
                if self._progress is not None:
                    self._progress.end(number)
        except BaseException as error:
            self._save_beside(error)
            self._tell_faults()
            raise
        else:
            self._save()  # with late outputs of tasks that outlive their cell
            self._tell_faults()
            self._check_background()
        finally:
            client.diverting.remove(widgets.divert)

    async def _run_cell(self, client: Client, index: int, cell: Any) -> None:
        try:
            running = client.executing(
                cell.source,
                timeout=self.cell_timeout,
                stop_on_error=False,  # whether to go on is decided here
                metadata={"cellId": cell.get("id")},
            )
            async with running as execution:
                self._executions[index] = self.execution = execution
                execution.on_change = partial(self._changed.add, index)
                async for output in execution:
                    if self._progress is not None:
                        self._progress.output(output)
        except (ExecutionTimeout, KernelDied) as error:
            told = _in_cell(error, self.number)
            self._note_stuck(told)
            if not self._may_fail(cell) or not _may_go_on(error):
                raise told from None
            self._tell_overrun(told)
        self._save()
        self._tell_faults()
        if execution.error is not None and not self._may_fail(cell):
            raise CellFailed(f"cell {self.number} failed: {execution.error}", execution)

    def _note_stuck(self, error: BaseException) -> None:
        """Add an error output to a cell that does not stop, and write the notebook: the kernel
        sends no error for it.
        """
        if not isinstance(error, CellStillRuns):
            return
        index = next(i for i, one in self._executions.items() if one is error.execution)
        self._stuck[index] = _error_output(error)
        self._changed.add(index)
        self._save()

    def _tell_overrun(self, error: TrikernelError) -> None:
        """Report that a cell took too long and the run goes on, also to `Progress`, which gets no
        more outputs of it.
        """
        if isinstance(error, CellStillRuns):
            place = f", in {error.place}" if error.place else ""
            self._warn(
                f"cell {self.number} still ran{place}, after it was to stop: the kernel was "
                "restarted, and what the cells before have defined is lost",
                KernelRestartedWarning,
            )
        if self._progress is not None:
            self._progress.output(_error_output(error))

    def _may_fail(self, cell: Any) -> bool:
        return self.allow_errors or ERROR_TAG in cell.metadata.get("tags", ())

    def _check_background(self) -> None:
        """Raise `CellFailed` if a background task of a cell has failed, unless that is allowed."""
        for index, execution in self._executions.items():
            errors = [one for one in (*execution.messages, *execution.late) if _is_error(one)]
            own = 1 if execution.status == "error" else 0
            if len(errors) > own and not self._may_fail(self._notebook.cells[index]):
                number = self._number_of(index)
                found = as_output(errors[-1])
                text = f"{found['ename']}: {found['evalue']}".rstrip(": ")
                raise CellFailed(
                    f"cell {number} failed in the background: {text}", execution, errors[-1]
                )

    def _tell_faults(self) -> None:
        """Warn of what the kernel sent and was left out of the file; in the caller's task."""
        for index, execution in self._executions.items():
            for fault in execution.faults:
                if (index, fault) not in self._told:
                    self._told.add((index, fault))
                    self._warn(f"cell {self._number_of(index)}: {fault}")

    def _warn(self, text: str, category: type[Warning] = KernelFaultWarning) -> None:
        warnings.warn(f"{self.name}{text}", category, stacklevel=2)

    def _number_of(self, index: int) -> int:
        """A cell's number among the code cells, counted from 1."""
        return sum(one.cell_type == "code" for one in self._notebook.cells[: index + 1])

    def _is_own(self, msg_id: str) -> bool:
        return any(one.msg_id == msg_id for one in self._executions.values())

    def _save_beside(self, error: BaseException) -> None:
        """Save while an error is being raised. If that fails too, a note on the error says so."""
        if isinstance(error, OutputNotWritten):
            return  # writing has just failed
        try:
            self._save()
        except OutputNotWritten as unsaved:
            error.add_note(str(unsaved))

    def _save(self) -> None:
        """Update the notebook's cells and widgets, and write it if there is an output file.

        Raises `OutputNotWritten`.
        """
        while self._changed:
            index = self._changed.pop()
            execution, cell = self._executions[index], self._notebook.cells[index]
            stuck = [self._stuck[index]] if index in self._stuck else []
            cell.outputs = nbformat.from_dict([*execution.outputs, *stuck])
            cell.execution_count = execution.execution_count
            if self._writer is not None:
                self._writer.changed(index)
        if self._widgets is not None and (widgets := self._widgets.metadata()):
            self._notebook.metadata["widgets"] = nbformat.from_dict(widgets)
        if self._writer is not None:
            try:
                self._writer.write()
            except OutputNotWritten as error:
                raise OutputNotWritten(f"{error}{self._how_far()}") from None

    def _how_far(self) -> str:
        """The end of the sentence of `OutputNotWritten`: how far the run was."""
        if not self._executions:
            return ""
        return f"; cell {self.number} was run, the file is as it was before that"


@asynccontextmanager
async def _kernel(
    client: Client | None,
    kernel_name: str | None,
    cwd: str | os.PathLike[str] | None,
    restart_stuck: bool,
    warm: ForkServer | None,
) -> AsyncIterator[Client]:
    if client is not None:
        yield client
        return
    options: dict[str, Any] = {"cwd": cwd, "restart_stuck": restart_stuck, "warm": warm}
    async with open_kernel(kernel_name, **options) as opened:
        yield opened


def _named(path: Path | None) -> str:
    """The beginning of a warning about a notebook."""
    return f"notebook {path}: " if path else ""


def _language(info: Mapping[str, Any], warn: Callable[[str], None]) -> dict[str, Any]:
    """The ``language_info`` of a ``kernel_info_reply``, without fields that a notebook must not
    have; empty if it is not usable.
    """
    kind = "kernel_info_reply"
    language = Fields(kind, info, warn).mapping("language_info")
    if not language:
        warn(f"the kernel's {kind} has no usable language_info; the notebook keeps its own")
        return {}
    fields = Fields(f"{kind} (language_info)", language, warn)
    found = {name: value for name, value in language.items() if name not in LANGUAGE_FIELDS}
    if not isinstance(found.get("codemirror_mode", ""), str | Mapping):
        fields.text("codemirror_mode")
        del found["codemirror_mode"]
    found |= {name: text for name in LANGUAGE_FIELDS if (text := fields.text(name))}
    if "name" not in found:
        warn(f"the kernel's {kind} has a language_info without a name; it is left out")
        return {}
    return found


def _foreign_kernel(notebook: Any) -> str | None:
    """The kernelspec that a notebook names, if its language is not Python; else None."""
    spec = mapping_of(notebook.metadata.get("kernelspec"))
    language = spec.get("language") or mapping_of(notebook.metadata.get("language_info")).get(
        "name"
    )
    is_foreign = isinstance(language, str) and language.lower() != "python"
    return spec.get("name") if is_foreign else None


def _may_go_on(error: TrikernelError) -> bool:
    """Whether the next cell can be run after this error: the kernel lives or was restarted."""
    if isinstance(error, CellStillRuns):
        return error.restarted
    return isinstance(error, ExecutionTimeout)


def _in_cell(error: TrikernelError, number: int) -> TrikernelError:
    """The same error with the cell's number in its text."""
    if isinstance(error, CellStillRuns):
        text, restarted = f"cell {number}: {error}", error.restarted
        return CellStillRuns(text, error.execution, error.place, restarted=restarted)
    if isinstance(error, ExecutionTimeout):
        return ExecutionTimeout(f"cell {number}: {error}", error.execution)
    return KernelDied(f"cell {number}: {error}")


def _error_output(error: BaseException) -> dict[str, Any]:
    name, text = type(error).__name__, str(error)
    lines = [f"{name}: {text}"]
    return {"output_type": "error", "ename": name, "evalue": text, "traceback": lines}


def _is_error(message: Message) -> bool:
    """Whether it is an ``error`` output."""
    return message.msg_type == "error"


def _is_skipped(cell: Any) -> bool:
    return not SKIP_TAGS.isdisjoint(cell.metadata.get("tags", ()))
