"""Running a notebook's cells in order and gathering their outputs, as nbformat keeps them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import nbformat

from ..errors import UsageError
from ..wire import Message
from .client import Client, Execution

__all__ = ["CellFailed", "Progress", "read_notebook", "run_cells", "write_notebook"]

_OUTPUTS = ("stream", "display_data", "execute_result", "error")


@attrs.frozen
class CellFailed:
    """A cell ended with an error: its number, and the error's content as the kernel sent it."""

    number: int
    content: dict[str, Any]

    def __str__(self) -> str:
        name, text = self.content.get("ename"), self.content.get("evalue")
        if not name:
            return f"cell {self.number} was {self.content.get('status')}"
        return (
            f"cell {self.number} failed: {name}: {text}"
            if text
            else (f"cell {self.number} failed: {name}")
        )


class Progress(Protocol):
    """Who wants to know how far it is."""

    def begin(self, number: int, cell: Any) -> None:
        """Cell ``number`` (counted from 1 among the code cells) starts."""

    def output(self, output: Any) -> None:
        """It put something out."""

    def end(self, number: int) -> None:
        """It is done."""


def read_notebook(path: str | os.PathLike[str]) -> Any:
    """The notebook in a file, in the newest format. Raises `UsageError` that names the file."""
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"notebook {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"notebook {path}: is no text in UTF-8") from None
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"notebook {path}: is no valid notebook: {reason[0]:.200}") from None
    return notebook


def write_notebook(notebook: Any, path: str | os.PathLike[str]) -> None:
    """Write it so that a reader never sees half of it. Raises `UsageError`."""
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            nbformat.write(notebook, file)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


async def run_cells(
    client: Client, notebook: Any, progress: Progress, save: Callable[[], object]
) -> CellFailed | None:
    """Run every code cell, putting outputs and counts into ``notebook``.

    ``save`` is called after each cell. Returns the first cell that failed, where it ends.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.outputs, cell.execution_count = [], None
    for number, cell in enumerate(cells, 1):
        if not cell.source.strip():
            progress.begin(number, cell)
            progress.end(number)
            continue
        progress.begin(number, cell)
        execution = await client.execute(
            cell.source,
            on_message=partial(_take, cell, progress),
            metadata={"cellId": cell.get("id")},
        )
        _finish(cell, execution)
        progress.end(number)
        save()
        if execution.status != "ok":
            assert execution.reply is not None
            return CellFailed(number, dict(execution.reply.content))
    return None


def _take(cell: Any, progress: Progress, message: Message) -> None:
    if message.msg_type == "clear_output":
        cell.outputs = []
    elif message.msg_type == "update_display_data":
        return
    elif message.msg_type in _OUTPUTS:
        output = nbformat.v4.output_from_msg(message.as_dict())
        progress.output(output)
        previous = cell.outputs[-1] if cell.outputs else None
        if (
            output.output_type == "stream"
            and previous is not None
            and (previous.output_type == "stream" and previous.name == output.name)
        ):
            previous.text += output.text
        else:
            cell.outputs.append(output)


def _finish(cell: Any, execution: Execution) -> None:
    if execution.reply is not None:
        cell.execution_count = execution.reply.content.get("execution_count")


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
