"""Running notebooks: reads files, sends cells to a kernel, and writes outputs into the file."""

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
