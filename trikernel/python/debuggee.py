"""What the debugger has to know of the Python kernel: the files of cells, their names, the tasks.

The kernel owns this object, so it must not hold a strong reference to the kernel.
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
PATIENCE = 0.5  # seconds in which a request or a loop that is to stop should have been reached
_AROUND = (
    *("IPython", "traitlets", "zmq", "comm", "attr", "sortedcontainers", "sniffio"),
    # these render tracebacks, and raise and handle hundreds of exceptions as they do
    *("stack_data", "executing", "asttokens", "pure_eval", "pygments"),
)
FOREIGN = "a kernel that shares its loop with others cannot be debugged: it would stand still"


class CellDebuggee:
    """See `Debuggee`. ``find_kernel`` returns the kernel."""

    formatter = FORMATTER
    hash_seed = cell_names.HASH_SEED

    def __init__(self, find_kernel: Callable[[], Any]) -> None:
        self._find_kernel = find_kernel

    @property
    def folder(self) -> str:
        """The folder in the file names of cells."""
        return cell_names.cell_folder() + os.sep

    @cached_property
    def machinery(self) -> tuple[str, ...]:
        """The folders of this package, Trio, IPython, and of libraries that these call around each
        cell.
        """
        around = [path for path in map(_path_of, _AROUND) if path is not None]
        return (*MACHINERY, *(str(Path(one).parent) + os.sep for one in around))

    @property
    def namespace(self) -> dict[str, Any]:
        """The namespace of cells."""
        names: dict[str, Any] = self._find_kernel().user_ns
        return names

    def tasks_in(self, thread: int) -> frozenset[trio.lowlevel.Task]:
        """The tasks of cells and their background tasks, in the loop of that thread; of the main
        shell's loop for any thread that is not a subshell's.
        """
        server = self._find_kernel().server
        loop = next((one for one in server.subshells.loops if one.thread == thread), server)
        tasks: frozenset[trio.lowlevel.Task] = loop.background_tasks.child_tasks
        return tasks.union(loop.cells.child_tasks)

    def context_of(self, thread: int) -> Context | None:
        """The context of a thread that a cell has started; None for other threads."""
        return next((context_of(one) for one in threading.enumerate() if one.ident == thread), None)

    def is_stopping(self, since: float) -> bool:
        """Whether a request or a loop was told to stop after ``since``, a time of the monotonic
        clock, and has not stopped for `PATIENCE` seconds.
        """
        server, until = self._find_kernel().server, time.monotonic() - PATIENCE
        stoppers = [server.stopper, *(one.stopper for one in server.subshells.loops)]
        running = [one for stopper in stoppers for one in tuple(stopper.running)]
        told = [one.last_stop for one in running if one.stop_reason is not None]
        told += [one.since for stopper in stoppers for one in tuple(stopper.pending)]
        return any(since < one < until for one in told)

    def cell_path(self, code: str) -> str:
        """The file name that a cell with this text is compiled under."""
        return cell_names.file_name(code)

    def format(self, value: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The representations of a value, and their metadata, as IPython makes them."""
        return _format(self._find_kernel().shell, value)

    def keep_lines(self, keep: bool) -> None:
        """Whether cells keep leading empty lines. IPython removes them; while the debugger is used
        they are kept, so that line numbers are those of the frontend.
        """
        transformers = self._find_kernel().shell.input_transformer_manager
        others = [one for one in transformers.cleanup_transforms if one is not leading_empty_lines]
        transformers.cleanup_transforms = others if keep else [leading_empty_lines, *others]

    def publish(self, event: Mapping[str, Any], context: Context | None) -> None:
        """Publish an event on iopub: about the cell that the context belongs to, or, without one,
        about the last debug request.
        """
        kernel = self._find_kernel()
        request = context.get(current_request) if context is not None else None
        header = request.message.header if request is not None else kernel.debug_header
        kernel.server.connection.iopub.publish("debug_event", event, parent=header)

    def in_user_loops(self, function: Callable[[], object]) -> None:
        """Have ``function`` called in each loop that cells run in, between two steps of tasks."""
        server = self._find_kernel().server
        for token in (server.user_token, *(one.lane.token for one in server.subshells.loops)):
            run_in(token, function)


def start_debugger(find_kernel: Callable[[], Any]) -> Debugger:
    """The debugger of a kernel that is being served. Raises `TrikernelError` for a kernel that
    shares its loop with a program.
    """
    server = find_kernel().server
    if server.inline:
        raise TrikernelError(FOREIGN)
    return Debugger(CellDebuggee(find_kernel), server.stopper.services.start_soon)


def _path_of(package: str) -> str | None:
    """The file of a package's top module, whether it is imported or not; None if not installed."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # a module of that name that was made without a spec
        return None
    return spec.origin if spec is not None else None


def rich_text(value: object) -> str:
    """The representations of a value as JSON text; evaluated in a frame that a debugger stopped."""
    from IPython import get_ipython

    return as_json(partial(_format, get_ipython()), value)


def _format(shell: Any, value: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    data, metadata = shell.display_formatter.format(value)
    return data, metadata
