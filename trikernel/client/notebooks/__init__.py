"""Running notebooks: files to cells, cells to a kernel, what comes back into the file again."""

from __future__ import annotations

from .files import NotebookWriter, OutputNotWritten, read_notebook
from .parameters import inject_parameters, parse_value
from .running import KernelFaultWarning, KernelRestartedWarning, Progress, run_notebook

__all__ = [
    "KernelFaultWarning",
    "KernelRestartedWarning",
    "NotebookWriter",
    "OutputNotWritten",
    "Progress",
    "inject_parameters",
    "parse_value",
    "read_notebook",
    "run_notebook",
]
