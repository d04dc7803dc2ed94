"""Clients of kernels on Trio, and the running of notebooks.

`trikernel.client.notebooks` needs nbformat, the rest does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..warm import open_fork_server
from .client import Client
from .comms import Comm
from .execution import CellError, Execution
from .open import connect, open_client, open_kernel, room_for_kernels

if TYPE_CHECKING:
    from .notebooks import run_notebook

__all__ = [
    "CellError",
    "Client",
    "Comm",
    "Execution",
    "connect",
    "open_client",
    "open_fork_server",
    "open_kernel",
    "room_for_kernels",
    "run_notebook",
]


def __getattr__(name: str) -> Any:
    if name == "run_notebook":
        from .notebooks import run_notebook

        return run_notebook
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
