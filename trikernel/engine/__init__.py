"""An engine of ipyparallel's clusters: the Python kernel, connected to an unmodified controller.

What is wanted
    To use Trio on more than one machine, with ipyparallel, which Jupyter has for that. Whatever
    runs on ipyparallel's own engines runs on these, and async functions are awaited, many at once.

What does not work
    A second kernel for engines. An engine handles requests (their order, output, stopping, errors)
    as the kernel does; a second implementation would have other mistakes.

What is done
    The same kernel is served over another transport (`trikernel.transport.EngineTransport`), which
    connects instead of listening. `application` adds to each reply what the schedulers read there.
    A function call is one more handler (`calls`): a plain function runs in the shell lane, as a
    cell does; while an awaitable is awaited, the lane goes on with the next request. `registrar`
    talks to the controller, and `watcher` tells it when the process has ended. `app` is the command
    line, `launcher` is for ``ipcluster``, `client` is for programs that run Trio themselves.

ipyparallel's own modules are imported when they are needed. Its package itself, which imports a
client and a web server's loop, is only imported if code asks for more than is needed to read and
call functions (`light`).
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
    """Import the modules that need ipyparallel on first use."""
    if name in _PLACES:
        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
