"""Files that await at their top level, run by ``%run``: scripts, ``.ipy`` files and notebooks.

While one runs, ``sys.argv`` and ``__main__`` are its own, for the whole process.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from IPython.core.error import UsageError
from IPython.utils.path import get_py_filename, shellglob

from ..core import await_unprotected
from .awaiting import awaits, compile_awaiting

__all__ = ["RUN_OPTIONS", "file_awaits", "find_file", "run_file"]

RUN_OPTIONS = "nidtN:b:pD:l:rs:T:em:G"  # IPython's; of those, these work with `await`:
_SUPPORTED = set("nieG")


def find_file(words: list[str]) -> Path | None:
    """The file that the first word names; None if there is none."""
    try:
        return Path(get_py_filename(words[0]))
    except (IndexError, OSError):
        return None


def file_awaits(shell: Any, path: Path) -> bool:
    """Whether it awaits at its top level; False too if it cannot be read as Python."""
    try:
        if _is_script(path):
            return awaits(shell, _read_source(path))
        return any(awaits(shell, shell.transform_cell(cell)) for cell in _cells(path))
    except (OSError, SyntaxError, ValueError, KeyError):
        return False


async def run_file(shell: Any, path: Path, arguments: list[str], options: Any) -> None:
    """Run it as ``%run`` does. Raises what it raises, `UsageError` for options."""
    unsupported = sorted(set(options) - _SUPPORTED)
    if unsupported:
        raise UsageError(
            f"%run -{unsupported[0]} cannot run {path.name}, which awaits at its top level: "
            "run it without that option"
        )
    if not _is_script(path):
        await _run_cells(shell, path)
        return
    if "G" not in options:
        arguments = _expand(arguments)
    code = compile_awaiting(shell, ast.parse(_read_source(path), str(path)), str(path))
    if "i" in options:
        module = shell.user_module
    else:
        module = shell.new_main_mod(str(path), path.stem if "n" in options else "__main__")
    with _as_main(module, path, arguments):
        try:
            await await_unprotected(eval(code, module.__dict__))
        except SystemExit:
            if "e" not in options:
                raise
        finally:
            names = {key: one for key, one in vars(module).items() if not key.startswith("__")}
            shell.user_ns.update(names)


async def _run_cells(shell: Any, path: Path) -> None:
    for cell in _cells(path):
        transformed = shell.transform_cell(cell)
        result = await shell.run_cell_async(cell, silent=True, transformed_cell=transformed)
        result.raise_error()


def _expand(arguments: list[str]) -> list[str]:
    expanded: list[str] = shellglob([os.path.expanduser(one) for one in arguments])
    return expanded


def _is_script(path: Path) -> bool:
    return path.suffix not in (".ipy", ".ipynb")


def _read_source(path: Path) -> str:
    with tokenize.open(path) as file:  # as Python itself finds out the encoding
        return file.read()


def _cells(path: Path) -> list[str]:
    """The cells of a notebook, or of an ``.ipy`` file, which is one."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipy":
        return [text]
    cells = json.loads(text)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@contextmanager
def _as_main(module: ModuleType, path: Path, arguments: list[str]) -> Iterator[None]:
    """The module under its name, with ``sys.argv`` and ``__file__`` of a script."""
    name, argv = module.__name__, sys.argv
    before = sys.modules.get(name)
    had_file, file = hasattr(module, "__file__"), getattr(module, "__file__", None)
    module.__file__ = str(path)
    sys.modules[name], sys.argv = module, [str(path), *arguments]
    try:
        yield
    finally:
        sys.argv = argv
        if before is not None:
            sys.modules[name] = before
        else:
            sys.modules.pop(name, None)
        if had_file:
            module.__file__ = file
        else:
            del module.__file__
