"""The Python kernel, as its debugger knows it: where cells are, what names there are, which tasks.

It belongs to the kernel, which it must not hold.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import trio
from IPython.core.inputtransformer2 import leading_empty_lines

from ..core import MACHINERY, current_request
from ..debugger import Debugger, as_json
from ..errors import TrikernelError
from ..system import run_in
from . import cell_names

__all__ = ["CellDebuggee", "rich_text", "start_debugger"]

FORMATTER = f"__import__({__name__!r}, fromlist=['rich_text']).rich_text"
_AROUND = ("IPython", "traitlets", "zmq", "comm")
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
        around = [sys.modules[name] for name in _AROUND if name in sys.modules]
        return (*MACHINERY, *(str(Path(inspect.getfile(one)).parent) + os.sep for one in around))

    @property
    def namespace(self) -> dict[str, Any]:
        """The cells' names."""
        names: dict[str, Any] = self._find_kernel().user_ns
        return names

    @property
    def tasks(self) -> frozenset[trio.lowlevel.Task]:
        """Cells and what they have started."""
        tasks: frozenset[trio.lowlevel.Task] = self._find_kernel().user_tasks()
        return tasks

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

    def publish(self, event: Mapping[str, Any], task: trio.lowlevel.Task | None) -> None:
        """On iopub: under the cell that the task is of, else under the debug request."""
        kernel = self._find_kernel()
        request = task.context.get(current_request) if task is not None else None
        header = request.message.header if request is not None else kernel.debug_header
        kernel.server.connection.iopub.publish("debug_event", event, parent=header)

    def in_user_loop(self, function: Callable[[], object]) -> None:
        """Have it called between two tasks."""
        run_in(self._find_kernel().server.user_token, function)


def start_debugger(find_kernel: Callable[[], Any]) -> Debugger:
    """The debugger of a kernel that is served. Raises `TrikernelError` for one in a loop that is
    not its own.
    """
    server = find_kernel().server
    if server.inline:
        raise TrikernelError(FOREIGN)
    return Debugger(CellDebuggee(find_kernel), server.stopper.services.start_soon)


def rich_text(value: object) -> str:
    """The representations of a value as text: called in a frame that is stopped."""
    from IPython import get_ipython

    return as_json(partial(_format, get_ipython()), value)


def _format(shell: Any, value: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    data, metadata = shell.display_formatter.format(value)
    return data, metadata
