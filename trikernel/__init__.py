"""A Jupyter kernel built on Trio's structured concurrency.

Subclass `Kernel` and write the verbs; `main` makes a process of it, `serve` runs it in a Trio
program of yours.

PYTEST_DONT_REWRITE: when `pytest.main` runs in a cell, the package of its plugin is loaded already.
"""

from __future__ import annotations

from .system import gc_paused

with gc_paused():
    from . import errors
    from .core import (
        Reply,
        Request,
        StopReason,
        current_request,
        open_priority_channel,
    )
    from .embedding import embed
    from .kernel import Kernel, main, message_type, run, serve, setting
    from .transport import ConnectionInfo, MemoryTransport, ZmqTransport

__version__ = "0.1.0"

__all__ = [
    "ConnectionInfo",
    "Kernel",
    "MemoryTransport",
    "Reply",
    "Request",
    "StopReason",
    "ZmqTransport",
    "__version__",
    "current_request",
    "embed",
    "errors",
    "main",
    "message_type",
    "open_priority_channel",
    "run",
    "serve",
    "setting",
]
