"""Files that await at their top level, run by ``%run``: scripts, ``.ipy`` files and notebooks.

While one runs, ``sys.argv``, ``sys.path`` and ``__main__`` are its own, for the whole process.
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

_SUPPORTED = set("nieG")  # of IPython's options, those that work with `await`


@attrs.frozen
class AwaitingFile:
    """What ``%run`` was told to run, read and compiled: a script's code, or cells."""

    path: Path
    code: CodeType | None
    cells: list[str]

    async def run(self, shell: Any, arguments: list[str], options: Any) -> None:
        """Run it. Raises what it raises, `UsageError` for options that do not work here."""
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
    """The file that the first word names, if it awaits; None for any other, or if there is none.

    ``awaits`` tells of Python code whether it does.
    """
    try:
        path = Path(get_py_filename(words[0]))
        if path.suffix in (".ipy", ".ipynb"):
            cells = _cells(path)
            if any(awaits(shell.transform_cell(cell)) for cell in cells):
                return AwaitingFile(path, None, cells)
            return None
        with tokenize.open(path) as file:  # as Python itself finds out the encoding
            tree = ast.parse(file.read(), str(path))
        code = compile(
            tree, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        return AwaitingFile(path, code, []) if code.co_flags & inspect.CO_COROUTINE else None
    except (IndexError, OSError, SyntaxError, ValueError, KeyError, TypeError):
        return None  # IPython says what is wrong with it


def _expand(arguments: list[str]) -> list[str]:
    expanded: list[str] = shellglob([os.path.expanduser(one) for one in arguments])
    return expanded


def _cells(path: Path) -> list[str]:
    """The cells of a notebook, or of an ``.ipy`` file, which is one."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipy":
        return [text]
    cells = json.loads(text)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@attrs.define(eq=False)
class _Place:
    """What a script has put in the place of what was there."""

    name: str
    module: ModuleType
    argv: list[str]
    module_before: ModuleType | None
    argv_before: list[str]


_places: list[_Place] = []  # of the scripts that run, one that was left behind among them


@contextmanager
def _as_main(module: ModuleType, name: str, path: Path, arguments: list[str]) -> Iterator[None]:
    """The module under that name, with ``sys.argv`` and ``__file__`` of a script.

    What was there before comes back; if another script has taken the place meanwhile, when that
    one ends.
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
    """Put back what was there before, or have those do it who found this script there."""
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
