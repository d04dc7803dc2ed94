"""An engine of ipyparallel's clusters: the Python kernel, at an unmodified controller.

What is wanted
    To go on with Trio past one machine, with the machinery that Jupyter has for that. Whatever runs
    on ipyparallel's own engines runs on these, and async functions are awaited, many at once.

What does not work
    A second kernel. What an engine does with a request (order, output, stopping, errors) is what
    the kernel does with it, and would be wrong in other places.

What is done
    The same kernel is served over another transport (`trikernel.transport.EngineTransport`), which
    connects instead of listening. What the schedulers want to read in replies is added where the
    kernel's side of a request ends (`application`). A function call is one more handler (`calls`):
    a plain function runs in its turn, as a cell does; what is awaited gives its place in the lane
    to the next one. `registrar` speaks to the controller, `watcher` does when the process is gone,
    `app` is the command line, `launcher` is for ``ipcluster``, `client` for programs that run Trio
    themselves.

ipyparallel's own modules are imported when they are needed, and its package, which imports a client
and a web server's loop, only if somebody asks for more than functions that are sent (`light`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .limits import within

if TYPE_CHECKING:
    from .binding import bind_kernel
    from .client import abort_on_cancel, open_cluster
    from .launcher import TrioEngineLauncher, TrioEngineSetLauncher

__all__ = [
    "TrioEngineLauncher",
    "TrioEngineSetLauncher",
    "abort_on_cancel",
    "bind_kernel",
    "open_cluster",
    "within",
]

_PLACES = {
    "TrioEngineLauncher": "launcher",
    "TrioEngineSetLauncher": "launcher",
    "abort_on_cancel": "client",
    "bind_kernel": "binding",
    "open_cluster": "client",
}


def __getattr__(name: str) -> Any:
    """What takes an import of ipyparallel's, when it is asked for."""
    if name in _PLACES:
        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
