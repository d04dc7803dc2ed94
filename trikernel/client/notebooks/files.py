"""Reads and writes notebook files: ``.ipynb``; reads ``.py`` scripts in the percent format, too.

nbformat and jupytext implement the formats. Whatever is wrong with a file, a `UsageError` is raised
that names the file.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from ...errors import UsageError

__all__ = ["NotebookWriter", "OutputNotWritten", "read_notebook"]


class OutputNotWritten(UsageError):
    """A notebook could not be written during its run, for example because the disk is full.

    The file still has its previous content.
    """


def read_notebook(path: str | os.PathLike[str]) -> Any:
    """Read a notebook; older versions of the format are converted to version 4.

    Raises `UsageError`, which names the file and says what is wrong with it.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"notebook {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"notebook {path}: is no text in UTF-8") from None
    if path.suffix == ".py":
        return _read_percent_script(path, text)
    if path.suffix != ".ipynb":
        raise UsageError(f"notebook {path}: must be an .ipynb file, or a .py percent script")
    return _read_ipynb(path, text)


class NotebookWriter:
    """Writes one notebook to one file repeatedly, as its cells change.

    The file is replaced as a whole, so a reader never sees half of it, and after a crash it has the
    content of the last write. Only changed cells are formatted again, because with hundreds of
    cells the formatting takes longer than the disk. Creating it raises `UsageError` if ``path`` or
    its folder is read-only.
    """

    def __init__(self, notebook: Any, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._notebook = notebook
        self._texts: dict[int, str] = {}
        with self._errors():
            if self.path.exists() and not stat.S_IMODE(self.path.stat().st_mode) & 0o222:
                raise PermissionError(0, "it is read-only")
            if self.path.exists() and not self.path.is_file():
                raise PermissionError(0, "it is no regular file")
            handle, name = _new_beside(self.path.resolve())
            os.close(handle)
            os.unlink(name)

    def changed(self, index: int) -> None:
        """Note that the cell at ``index`` has changed since it was written."""
        self._texts.pop(index, None)

    def write(self) -> None:
        """Replace the file. Raises `OutputNotWritten`; then the old file is unchanged."""
        text = self.text()
        with self._errors(OutputNotWritten):
            target = self.path.resolve()
            handle, name = _new_beside(target)
            try:
                with os.fdopen(handle, "wb") as file:
                    # backslashreplace writes a lone surrogate as \udXXX, which is a JSON escape
                    file.write(text.encode("utf-8", "backslashreplace"))
                if target.exists():
                    shutil.copymode(target, name)
                os.replace(name, target)
            except BaseException:
                os.unlink(name)
                raise

    def text(self) -> str:
        """The content for the file, equal to that of `nbformat.writes`."""
        cells = self._notebook.cells
        for index, cell in enumerate(cells):
            if index not in self._texts:
                self._texts[index] = _cell_text(cell)
        rest: str = nbformat.v4.writes(nbformat.from_dict({**self._notebook, "cells": []}))
        if not cells:
            return rest + "\n"
        joined = ",\n".join(self._texts[index] for index in range(len(cells)))
        return rest.replace(_NO_CELLS, f'"cells": [\n{joined}\n ]', 1) + "\n"

    @contextlib.contextmanager
    def _errors(self, kind: type[UsageError] = UsageError) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise kind(f"{self.path}: cannot be written: {error.strerror}") from None


_NO_CELLS = '"cells": []'
_BEFORE = '{\n "cells": [\n'
_AFTER = '\n ],\n "metadata": {}'


def _cell_text(cell: Any) -> str:
    """The text of one cell in a file, cut out of the text of a notebook with only this cell."""
    alone = nbformat.from_dict(
        {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    )
    text = nbformat.v4.writes(alone)
    return str(text[len(_BEFORE) : text.rindex(_AFTER)])


def _read_ipynb(path: Path, text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about missing cell ids, which nbformat adds
            notebook = nbformat.reads(text, as_version=4)
            nbformat.validate(notebook)
    except Exception as error:
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("<<<<<<<"):
                raise UsageError(
                    f"notebook {path}: has merge-conflict markers from line {number} on; "
                    "resolve the conflict first"
                ) from None
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"notebook {path}: is no valid notebook: {reason[0]:.200}") from None
    return notebook


def _read_percent_script(path: Path, text: str) -> Any:
    try:
        import jupytext
    except ImportError:
        raise UsageError(
            f"notebook {path}: running .py scripts needs jupytext: pip install jupytext"
        ) from None
    try:
        notebook = jupytext.reads(text, fmt="py:percent")
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"notebook {path}: is no percent script: {reason[0]:.200}") from None
    notebook.metadata.pop("jupytext", None)
    return notebook


def _new_beside(path: Path) -> tuple[int, str]:
    """Create a temporary file in the same folder, with the usual mode; its descriptor and name."""
    name = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}"))
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), name
