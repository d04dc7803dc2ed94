"""What only a kernel does that has a process to itself: it takes over what belongs to all of it.

Everything taken is given back when the kernel is no longer served.
"""

from __future__ import annotations

import builtins
import importlib
import os
import pdb
import sys
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

from ..core import Server
from ..system import with_working_folder
from . import debugger
from .descriptors import Descriptors
from .profile import Profile

__all__ = ["ENVIRONMENT", "OwnProcess"]

# Colours yes, pagers no: for the programs that cells start. And plots in the notebook.
ENVIRONMENT = {
    "CLICOLOR": "1",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
_SHELL_MODULE = "ipykernel.zmqshell"


class OwnProcess:
    """From its creation to `stop`: environment, ``__main__``, `pdb`, descriptors, startup files."""

    def __init__(self, profile: str) -> None:
        self.profile = Profile.read(profile)
        self._undo = ExitStack()
        self._keep(sys.modules, "__main__", _SHELL_MODULE)
        self._keep(builtins.__dict__, "display", "get_ipython", "__IPYTHON__")
        self._keep(pdb.__dict__, "Pdb", "set_trace")
        self._keep(sys.__dict__, "path", "ps1", "ps2", "ps3", "displayhook", "excepthook")
        sys.path = with_working_folder(sys.path)
        missing = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
        self._keep(os.environ, *missing)
        os.environ.update(missing)

    def start(self, server: Server, shell: Any, write: Callable[[str, str], None]) -> None:
        """Begin; ``write`` takes what comes by the descriptors. Startup files run here."""
        if server.background is not None:
            server.background.start_soon(shell.history_manager.run, name="history")
        if sys.platform != "win32":
            descriptors = Descriptors(write)
            descriptors.install()
            self._undo.callback(descriptors.restore)
            server.outbox.collect = descriptors.collect
            server.interrupts.in_services(descriptors.run)
        if _SHELL_MODULE not in sys.modules:
            sys.modules[_SHELL_MODULE] = _shell_module(type(shell))
        debugger.install()
        self.profile.start_in(shell)

    def stop(self) -> None:
        """Put everything back."""
        self._undo.close()

    def _keep(self, names: MutableMapping[str, Any], *keys: str) -> None:
        """Have `stop` put these back as they are now."""
        for key in keys:
            if key in names:
                self._undo.callback(names.__setitem__, key, names[key])
            else:
                self._undo.callback(names.pop, key, None)


def _shell_module(shell_class: type) -> ModuleType:
    """What libraries look for to tell a notebook, as tqdm does: ipykernel's shell.

    They look whether that module is loaded, or whether the shell is of its class. ipykernel need
    not be installed; where it is, everything but that class is its own.
    """
    module = ModuleType(_SHELL_MODULE, "The shell of this kernel, which is not ipykernel.")
    module.__spec__ = ModuleSpec(_SHELL_MODULE, None)

    def load(name: str) -> Any:
        try:
            package = importlib.import_module("ipykernel")
            spec = PathFinder.find_spec(_SHELL_MODULE, package.__path__)
        except ImportError:
            spec = None
        if spec is None or spec.loader is None or name.startswith("__"):
            raise AttributeError(f"module {_SHELL_MODULE!r} has no attribute {name!r}")
        real = module_from_spec(spec)
        spec.loader.exec_module(real)
        return getattr(real, name)

    vars(module).update({"ZMQInteractiveShell": shell_class, "__getattr__": load})
    return module
