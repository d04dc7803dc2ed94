"""Files that await at their top level, run by ``%run``: scripts, ``.ipy`` files and notebooks.

While such a script runs, ``sys.argv``, ``sys.path`` and ``__main__`` are those of the script, for
the whole process.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import sys
import tokenize
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import attrs
from IPython.core.error import UsageError
from IPython.utils.path import get_py_filename, shellglob
from IPython.utils.syspathcontext import prepended_to_syspath

from ..core import await_unprotected

__all__ = ["AwaitingFile", "find_awaiting_file"]

_SUPPORTED = set("nieG")  # the options of IPython's %run that work for a file that awaits


@attrs.frozen
class AwaitingFile:
    """A file for ``%run``, already read: the compiled code of a script, or else a list of cells."""

    path: Path
    code: CodeType | None
    cells: list[str]

    async def run(self, shell: Any, arguments: list[str], options: Any) -> None:
        """Run the file. Raises what it raises; `UsageError` for options that do not work here."""
        unsupported = sorted(set(options) - _SUPPORTED)
        if unsupported:
            raise UsageError(
                f"%run -{unsupported[0]} cannot run {self.path.name}, which awaits at its top "
                "level: run it without that option"
            )
        with prepended_to_syspath(str(self.path.resolve().parent)):
            if self.code is None:
                await self._run_cells(shell)
            else:
                arguments = arguments if "G" in options else _expand(arguments)
                await self._run_script(self.code, shell, arguments, options)

    async def _run_cells(self, shell: Any) -> None:
        shell.user_ns["__file__"] = str(self.path)
        for cell in self.cells:
            transformed = shell.transform_cell(cell)
            result = await shell.run_cell_async(cell, silent=True, transformed_cell=transformed)
            result.raise_error()

    async def _run_script(
        self, code: CodeType, shell: Any, arguments: list[str], options: Any
    ) -> None:
        name = self.path.stem if "n" in options else "__main__"
        module = shell.user_module if "i" in options else shell.new_main_mod(str(self.path), name)
        with _as_main(module, name, self.path, arguments):
            try:
                await await_unprotected(eval(code, module.__dict__))
            except SystemExit as error:
                if error.code and "e" not in options:
                    raise
            finally:
                names = {**vars(module)}
                for own in ("__name__", "__file__"):
                    names.pop(own, None)
                shell.user_ns.update(names)


def find_awaiting_file(
    shell: Any, words: list[str], awaits: Callable[[str], bool]
) -> AwaitingFile | None:
    """The file that the first word names, if it awaits at its top level.

    None if it does not, or cannot be read or compiled. ``awaits`` says whether Python code awaits.
    """
    try:
        path = Path(get_py_filename(words[0]))
        if path.suffix in (".ipy", ".ipynb"):
            cells = _cells(path)
            if any(awaits(shell.transform_cell(cell)) for cell in cells):
                return AwaitingFile(path, None, cells)
            return None
        with tokenize.open(path) as file:  # detects the encoding as Python does
            tree = ast.parse(file.read(), str(path))
        code = compile(
            tree, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        return AwaitingFile(path, code, []) if code.co_flags & inspect.CO_COROUTINE else None
    except (IndexError, OSError, SyntaxError, ValueError, KeyError, TypeError):
        return None  # IPython's %run reports what is wrong


def _expand(arguments: list[str]) -> list[str]:
    expanded: list[str] = shellglob([os.path.expanduser(one) for one in arguments])
    return expanded


def _cells(path: Path) -> list[str]:
    """The code cells of a notebook; an ``.ipy`` file counts as one cell."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipy":
        return [text]
    cells = json.loads(text)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@attrs.define(eq=False)
class _Place:
    """What a running script has put into ``sys.modules`` and ``sys.argv``, and what was there."""

    name: str
    module: ModuleType
    argv: list[str]
    module_before: ModuleType | None
    argv_before: list[str]


_places: list[_Place] = []  # one for each script that runs, also those of cells that were left


@contextmanager
def _as_main(module: ModuleType, name: str, path: Path, arguments: list[str]) -> Iterator[None]:
    """Make ``module`` the script's ``sys.modules[name]``, and set ``sys.argv`` and ``__file__``.

    At the end what was there before is put back. If another script has replaced it meanwhile, it is
    put back when that script ends.
    """
    own_name, own_file = module.__name__, getattr(module, "__file__", None)
    place = _Place(name, module, [str(path), *arguments], sys.modules.get(name), sys.argv)
    module.__name__, module.__file__ = name, str(path)
    sys.modules[name], sys.argv = module, place.argv
    _places.append(place)
    try:
        yield
    finally:
        module.__name__, module.__file__ = own_name, own_file
        _leave(place)


def _leave(place: _Place) -> None:
    """Put back what was there before; where a later script has replaced it, leave that to it."""
    _places.remove(place)
    for later in _places:
        if later.argv_before is place.argv:
            later.argv_before = place.argv_before
        if later.name == place.name and later.module_before is place.module:
            later.module_before = place.module_before
    if sys.argv is place.argv:
        sys.argv = place.argv_before
    if sys.modules.get(place.name) is place.module:
        if place.module_before is None:
            del sys.modules[place.name]
        else:
            sys.modules[place.name] = place.module_before
