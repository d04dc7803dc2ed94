"""The Python kernel, as its debugger knows it: where cells are, what names there are, which tasks.

It belongs to the kernel, which it must not hold.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import trio
from IPython.core.inputtransformer2 import leading_empty_lines

from ..core import MACHINERY, current_request
from ..debugger import Debugger, as_json
from ..errors import TrikernelError
from ..kernel.streams import context_of
from ..system import run_in
from . import cell_names

__all__ = ["CellDebuggee", "rich_text", "start_debugger"]

FORMATTER = f"__import__({__name__!r}, fromlist=['rich_text']).rich_text"
PATIENCE = 0.5  # seconds that what is to stop has to hear of it
_AROUND = (
    *("IPython", "traitlets", "zmq", "comm", "attr", "sortedcontainers", "sniffio"),
    # a traceback is made of these, with hundreds of exceptions that they handle
    *("stack_data", "executing", "asttokens", "pure_eval", "pygments"),
)
FOREIGN = "a kernel that shares its loop with others cannot be debugged: it would stand still"


class CellDebuggee:
    """See `Debuggee`. ``find_kernel`` finds the kernel."""

    formatter = FORMATTER
    hash_seed = cell_names.HASH_SEED

    def __init__(self, find_kernel: Callable[[], Any]) -> None:
        self._find_kernel = find_kernel

    @property
    def folder(self) -> str:
        """The folder in the names of cells."""
        return cell_names.cell_folder() + os.sep

    @cached_property
    def machinery(self) -> tuple[str, ...]:
        """Ours, Trio's and IPython's, and what these call around each cell."""
        around = [path for path in map(_path_of, _AROUND) if path is not None]
        return (*MACHINERY, *(str(Path(one).parent) + os.sep for one in around))

    @property
    def namespace(self) -> dict[str, Any]:
        """The cells' names."""
        names: dict[str, Any] = self._find_kernel().user_ns
        return names

    def tasks_in(self, thread: int) -> frozenset[trio.lowlevel.Task]:
        """Cells and what they have started, in the loop of that thread."""
        server = self._find_kernel().server
        loop = next((one for one in server.subshells.loops if one.thread == thread), server)
        tasks: frozenset[trio.lowlevel.Task] = loop.background_tasks.child_tasks
        return tasks.union(loop.cells.child_tasks)

    def context_of(self, thread: int) -> Context | None:
        """The context of a thread that a cell has started."""
        return next((context_of(one) for one in threading.enumerate() if one.ident == thread), None)

    def is_stopping(self, since: float) -> bool:
        """Whether a cell, or a loop, was to stop and has not heard."""
        server, until = self._find_kernel().server, time.monotonic() - PATIENCE
        stoppers = [server.stopper, *(one.stopper for one in server.subshells.loops)]
        running = [one for stopper in stoppers for one in tuple(stopper.running)]
        told = [one.last_stop for one in running if one.stop_reason is not None]
        told += [one.since for stopper in stoppers for one in tuple(stopper.pending)]
        return any(since < one < until for one in told)

    def cell_path(self, code: str) -> str:
        """The file name that this text is compiled under."""
        return cell_names.file_name(code)

    def format(self, value: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """As IPython shows it."""
        return _format(self._find_kernel().shell, value)

    def keep_lines(self, keep: bool) -> None:
        """IPython takes leading empty lines away: not while lines have to have their numbers."""
        transformers = self._find_kernel().shell.input_transformer_manager
        others = [one for one in transformers.cleanup_transforms if one is not leading_empty_lines]
        transformers.cleanup_transforms = others if keep else [leading_empty_lines, *others]

    def publish(self, event: Mapping[str, Any], context: Context | None) -> None:
        """On iopub: under the cell that the context is of, else under the debug request."""
        kernel = self._find_kernel()
        request = context.get(current_request) if context is not None else None
        header = request.message.header if request is not None else kernel.debug_header
        kernel.server.connection.iopub.publish("debug_event", event, parent=header)

    def in_user_loops(self, function: Callable[[], object]) -> None:
        """Have it called between two tasks."""
        server = self._find_kernel().server
        for token in (server.user_token, *(one.lane.token for one in server.subshells.loops)):
            run_in(token, function)


def start_debugger(find_kernel: Callable[[], Any]) -> Debugger:
    """The debugger of a kernel that is served. Raises `TrikernelError` for one in a loop that is
    not its own.
    """
    server = find_kernel().server
    if server.inline:
        raise TrikernelError(FOREIGN)
    return Debugger(CellDebuggee(find_kernel), server.stopper.services.start_soon)


def _path_of(package: str) -> str | None:
    """The file that a package begins with, imported or not."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # a module of that name that somebody has made
        return None
    return spec.origin if spec is not None else None


def rich_text(value: object) -> str:
    """The representations of a value as text: called in a frame that is stopped."""
    from IPython import get_ipython

    return as_json(partial(_format, get_ipython()), value)


def _format(shell: Any, value: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    data, metadata = shell.display_formatter.format(value)
    return data, metadata
