"""`bind_kernel`, which lets frontends connect to an engine as to a kernel.

The engine's sockets, which are connected to the controller, then also listen. So a notebook's cells
and a client's calls wait in one queue and share one namespace.
"""

from __future__ import annotations

import atexit
import importlib.machinery
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import TrikernelError
from ..kernel import served_kernel
from ..transport import ConnectionInfo, EngineTransport, write_connection_file

__all__ = ["bind_kernel", "stand_in_for_engine_app"]

_APP = "ipyparallel.engine.app"


def bind_kernel(ip: str = "127.0.0.1") -> str:
    """Have the engine on which this code runs listen for frontends at ``ip``. Returns the path of
    its connection file; if it listens already, that of the same file again.

    `ipyparallel.bind_kernel` does the same on such an engine. Raises `TrikernelError` if this
    process is no engine, and `ConnectionFileError` if it cannot listen.
    """
    kernel = served_kernel()
    transport: Any = kernel.server.transport if kernel is not None else None
    if not isinstance(transport, EngineTransport):
        raise TrikernelError("bind_kernel is for code that runs on an engine: view.apply it")
    if kernel.connection_file is not None:
        return str(kernel.connection_file)
    info = transport.bind(ConnectionInfo(ip=ip, key=transport.key.decode()))
    from jupyter_core.paths import jupyter_runtime_dir

    folder = Path(jupyter_runtime_dir())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"kernel-{kernel.ident}.json"
    write_connection_file(path, info)
    owner = os.getpid()
    atexit.register(lambda: path.unlink(missing_ok=True) if os.getpid() == owner else None)
    kernel.record_ports(transport.ports)
    kernel.connection_file = str(path)
    kernel.log.warning("connect with: jupyter console --existing %s", path.name)
    return str(path)


class IPEngine:
    """Stands in for ipyparallel's engine application, for code that asks for it."""

    @classmethod
    def initialized(cls) -> bool:
        """True: there is an engine in this process."""
        return True

    @classmethod
    def instance(cls) -> IPEngine:
        """A stand-in for this process's engine."""
        return cls()

    @property
    def kernel(self) -> Any:
        """The engine's kernel."""
        return served_kernel()

    @property
    def id(self) -> int:
        """The engine's number at the controller."""
        return int(served_kernel().int_id)

    @property
    def ident(self) -> str:
        """The engine's name at the controller."""
        return str(served_kernel().ident)

    def bind_kernel(self, **kwargs: Any) -> str:
        """As the function `bind_kernel`; other arguments than ``ip`` are ignored."""
        return bind_kernel(ip=str(kwargs.get("ip", "127.0.0.1")))


@contextmanager
def stand_in_for_engine_app() -> Iterator[None]:
    """While an engine is served, put a module with this `IPEngine` in the place of
    ``ipyparallel.engine.app``.
    """
    module: Any = ModuleType(_APP, "This process is an engine of trikernel's.")
    module.IPEngine = IPEngine
    module.__spec__ = importlib.machinery.ModuleSpec(_APP, None)
    before = sys.modules.get(_APP)
    sys.modules[_APP] = module
    try:
        yield
    finally:
        if sys.modules.get(_APP) is module:
            del sys.modules[_APP]
            if before is not None:
                sys.modules[_APP] = before
