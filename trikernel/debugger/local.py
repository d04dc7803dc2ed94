"""Requests that are answered without debugpy: the files of cells, sources, modules, and variables
while nothing is stopped.

The text of a value is made by the user's code (``__repr__``), so that is called in a thread of its
own, which the debugger does not trace. If it does not return in time, the request is refused and
`KeyboardInterrupt` is raised in that thread. Until the thread has ended, which C code may delay,
no other value is looked at.
"""

from __future__ import annotations

import ast
import atexit
import json
import math
import os
import shutil
import stat
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, Protocol, TypeVar

import trio

from ..core import call_unprotected
from ..core.thread_stop import raise_in_thread
from ..system import run_in_own_thread
from .dap import Ask, Refused, text_argument
from .values import Values

__all__ = ["Debuggee", "Local", "as_json"]

T = TypeVar("T")

VALUE_TIMEOUT = 5.0  # seconds
LARGE = 1 << 24  # bytes; a source that is larger is not read
_NO_NAMES = ("special variables", "function variables", "class variables", "protected variables")


class Debuggee(Protocol):
    """What the debugger needs to know of the kernel."""

    @property
    def folder(self) -> str:
        """The folder of the cells' files, whose names are made of a hash of the cell's text."""

    @property
    def hash_seed(self) -> int:
        """The seed of that hash."""

    @property
    def machinery(self) -> Sequence[str]:
        """The folders of code that the debugger leaves out."""

    @property
    def namespace(self) -> dict[str, Any]:
        """The variables of the cells."""

    @property
    def formatter(self) -> str:
        """A Python expression, valid in any frame, whose value is a function that returns `as_json`
        of its argument.
        """

    def tasks_in(self, thread: int) -> frozenset[trio.lowlevel.Task]:
        """The user's tasks in the loop of a thread, without those in their nurseries; for a thread
        without a loop, those of the main loop. Raises `RuntimeError` if tasks begin or end
        meanwhile.
        """

    def cell_path(self, code: str) -> str:
        """The file name that a cell is compiled under."""

    def format(self, value: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The representations of a value, and their metadata, by MIME type."""

    def keep_lines(self, keep: bool) -> None:
        """Say whether cells keep their leading empty lines, so that lines have the numbers that the
        frontend shows.
        """

    def context_of(self, thread: int) -> Context | None:
        """The context in which the user's code has started a thread; None for other threads."""

    def is_stopping(self, since: float) -> bool:
        """Whether a request or a loop was told to stop after ``since`` (by `time.monotonic`), and
        has not done so for half a second.
        """

    def publish(self, event: Mapping[str, Any], context: Context | None) -> None:
        """Publish an event, with the request of that context as its parent; with None the parent
        is the last debug request.
        """

    def in_user_loops(self, function: Callable[[], object]) -> None:
        """Have each loop that runs cells call a function; returns before that."""


class Local:
    """Answers for one kernel."""

    def __init__(self, debuggee: Debuggee) -> None:
        self.values = Values()
        self._debuggee = debuggee
        self._is_asking = False

    async def dump_cell(self, ask: Ask) -> dict[str, Any]:
        """Write a cell to the file whose name it is compiled under."""
        code = text_argument(ask, "code")

        def dump() -> str:
            path = Path(self._debuggee.cell_path(code))
            if not path.parent.exists():
                atexit.register(_remove, path.parent, os.getpid())
            make_private(path.parent)
            path.write_bytes(code.encode("utf-8", "surrogatepass"))
            return str(path)

        return {
            "sourcePath": await run_in_own_thread(partial(_told, dump), "trikernel cell's file")
        }

    async def source(self, ask: Ask) -> dict[str, Any]:
        """The text of a file."""
        source = ask.arguments.get("source")
        path = source.get("path") if isinstance(source, dict) else None
        if not isinstance(path, str):
            raise Refused("source: the argument source.path must be a string")
        return {"content": await run_in_own_thread(partial(_read, path), "trikernel source")}

    async def place(self, path: str, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The breakpoints of a cell; one in a line without code is moved to the next line that has
        code, if there is one.
        """
        if not path.startswith(self._debuggee.folder):
            return asked

        def place() -> list[dict[str, Any]]:
            lines = code_lines(_read(path), path)
            return [
                {**one, "line": next((line for line in lines if line >= one["line"]), one["line"])}
                for one in asked
            ]

        try:
            return await run_in_own_thread(partial(_told, place), "trikernel breakpoints")
        except Refused:  # the file cannot be read, or is no Python (magics): left to debugpy
            return asked

    async def modules(self, ask: Ask) -> dict[str, Any]:
        """The imported modules that have a source file."""
        start, count = ask.arguments.get("startModule", 0), ask.arguments.get("moduleCount", 0)
        if not isinstance(start, int) or not isinstance(count, int):
            raise Refused("modules: startModule and moduleCount must be numbers")
        found = []
        for number, (name, module) in enumerate(tuple(sys.modules.items())):
            path = getattr(getattr(module, "__spec__", None), "origin", None)
            if isinstance(path, str) and path.endswith(".py"):
                found.append({"id": number, "name": name, "path": path})
        begin = max(start, 0)
        end = begin + count if count > 0 else math.inf
        shown = [one for place, one in enumerate(found) if begin <= place < end]
        return {"modules": shown, "totalModules": len(found)}

    async def inspect(self) -> dict[str, Any]:
        """The user's variables. References that were given before become invalid."""
        values = self.values
        values.forget()
        return {"variables": await self.in_time(lambda: values.names(self._debuggee.namespace))}

    async def inside(self, reference: int) -> dict[str, Any]:
        """The parts of something that `inspect` or a task's frame has shown."""
        try:
            return {"variables": await self.in_time(lambda: self.values.inside(reference))}
        except KeyError:
            raise Refused("variables: this reference is of nothing any more") from None

    async def rich(self, name: str) -> dict[str, Any]:
        """The representations of a global variable."""
        if name in _NO_NAMES:
            return {"data": {}, "metadata": {}}
        names = self._debuggee.namespace
        if not name.isidentifier() or name not in names:
            raise Refused(f"there is no variable {name!r:.80}")
        value = names[name]
        text = await self.in_time(lambda: as_json(self._debuggee.format, value))
        body: dict[str, Any] = json.loads(text)
        return body

    async def evaluate(
        self, expression: str, names: dict[str, Any], inner: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The value of an expression, with the globals ``names`` and the locals ``inner``.

        Raises `Refused` for what the expression raises.
        """

        def evaluate() -> dict[str, Any]:
            value = eval(compile(expression, "<debugger>", "eval"), names, inner)
            shown = self.values.variable("", value)
            is_text = type(value) is str and inner is None  # then shown without quotes, uncut
            return {"result": value if is_text else shown["value"], **shown}

        shown = await self.in_time(evaluate)
        return {name: shown[name] for name in ("result", "type", "variablesReference")}

    async def evaluate_text(
        self, expression: str, names: dict[str, Any], inner: Mapping[str, Any]
    ) -> dict[str, Any]:
        """As `evaluate`, for an expression whose value is a text, which is not cut."""
        return {"result": await self.in_time(lambda: str(eval(expression, names, inner)))}

    async def in_time(self, function: Callable[[], T]) -> T:
        """Call a function that runs the user's code, in a thread. Raises `Refused` for what it
        raises, if it takes longer than `VALUE_TIMEOUT`, and if an earlier one still runs;
        `KeyError` passes through.
        """
        if self._is_asking:
            raise Refused("an object that was asked for its text has not answered yet")
        thread = 0

        def call() -> T:
            nonlocal thread
            thread = threading.get_ident()
            try:
                return _told(lambda: call_unprotected(function))
            finally:
                self._is_asking = False

        self._is_asking = True
        with trio.move_on_after(VALUE_TIMEOUT):
            return await run_in_own_thread(call, "trikernel values")
        if self._is_asking:
            raise_in_thread(thread, KeyboardInterrupt, lambda: None)
        raise Refused(f"an object has not told its text within {VALUE_TIMEOUT:g} seconds")


def as_json(
    form: Callable[[object], tuple[Mapping[str, Any], Mapping[str, Any]]], value: object
) -> str:
    """The representations of a value, and their metadata, as the body of a response."""
    data, metadata = form(value)
    data = {
        name: b64encode(one).decode() if isinstance(one, bytes) else one
        for name, one in data.items()
    }
    return json.dumps({"data": data, "metadata": dict(metadata)}, default=str)


def code_lines(text: str, path: str) -> list[int]:
    """The numbers of the lines that have code. Raises `SyntaxError`."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    todo: list[CodeType] = [compile(text, path, "exec", flags, dont_inherit=True)]
    found = set[int]()
    while todo:
        code = todo.pop()
        found |= {line for _, _, line in code.co_lines() if line}
        todo += [one for one in code.co_consts if isinstance(one, CodeType)]
    return sorted(found)


def make_private(folder: Path) -> None:
    """Make a folder that only this user can read. Raises `Refused` if it is somebody else's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform != "win32":
        found = folder.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
            raise Refused(f"{folder} is not this user's own folder")
        if found.st_mode & 0o077:
            folder.chmod(0o700)


def _remove(folder: Path, pid: int) -> None:
    """Remove a folder at the end of the process that made it; not at that of a forked child."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _read(path: str) -> str:
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGE:
            raise Refused("source unavailable")
        return Path(path).read_text("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise Refused(f"source unavailable: {error}") from None


def _told(function: Callable[[], T]) -> T:
    """The result of a function. Raises `Refused` for what it raises, but lets `KeyError` pass."""
    try:
        return function()
    except (Refused, KeyError):
        raise
    except BaseException as error:  # the user's code may raise anything; this is its own thread
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        raise Refused(text) from None
