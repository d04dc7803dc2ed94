"""Parameters: values that are assigned in an extra cell of a notebook before it runs.

The convention is papermill's: a cell tagged ``parameters`` has the defaults, and after it a cell
tagged ``injected-parameters`` is inserted that assigns the given values.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

import nbformat

from ...errors import UsageError

__all__ = ["inject_parameters", "parse_value"]

TAG, INJECTED_TAG = "parameters", "injected-parameters"


def parse_value(text: str) -> Any:
    """The value of a parameter that is given as text on the command line.

    The text is read as JSON (``0.5``, ``true``, ``null``, ``NaN``, ``[1, 2]``), or else as a Python
    literal (``None``, ``(1, 2)``); if it is neither, the value is the text itself.
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def inject_parameters(notebook: Any, parameters: Mapping[str, Any]) -> None:
    """Insert a cell that assigns ``parameters`` after the cell tagged ``parameters``. A cell that
    was injected before is replaced.

    Raises `UsageError` if there is no such cell, if a name is not assigned in it (otherwise a
    misspelt name would run the notebook with the default), or if a value is no Python literal.
    """
    if not parameters:
        return
    index = _find(notebook, TAG)
    if index is None:
        raise UsageError(f"it takes no parameters: no cell is tagged {TAG!r}")
    known = _assigned_names(notebook.cells[index].source)
    for name in parameters:
        if name not in known:
            raise UsageError(
                f"it has no parameter {name!r}; its parameters are: {', '.join(known) or 'none'}"
            )
    source = "\n".join(
        ["# Parameters", *(f"{n} = {_literal(n, v)}" for n, v in parameters.items())]
    )
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": [INJECTED_TAG]})
    if notebook.nbformat_minor < 5:
        del cell["id"]
    old = _find(notebook, INJECTED_TAG)
    if old is not None:
        notebook.cells[old] = cell
    else:
        notebook.cells.insert(index + 1, cell)


def _find(notebook: Any, tag: str) -> int | None:
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and tag in cell.metadata.get("tags", ()):
            return index
    return None


def _assigned_names(source: str) -> list[str]:
    """The names that a cell assigns at its top level; lines with magics are ignored."""
    lines = ["" if line.lstrip()[:1] in ("%", "!") else line for line in source.splitlines()]
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError as error:
        raise UsageError(
            f"the cell tagged {TAG!r} is no valid Python: {error.msg} (line {error.lineno})"
        ) from None
    names: dict[str, None] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                for node in ast.walk(target):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        names[node.id] = None
    return list(names)


def _literal(name: str, value: Any) -> str:
    """A Python expression for the value. Raises `UsageError` if there is no literal for it."""
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return f"float({str(value)!r})"
    text = repr(value)
    try:
        if ast.literal_eval(text) == value:
            return text
    except (ValueError, SyntaxError):
        pass
    raise UsageError(f"parameter {name!r}: {text:.80} cannot be written as a Python literal")
