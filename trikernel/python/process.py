"""What only a kernel does that has a process to itself: it takes over what belongs to all of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..core import Server
from . import debugger
from .descriptors import Descriptors
from .profile import Profile

__all__ = ["OwnProcess"]


_SHELL_MODULE = "ipykernel.zmqshell"


class OwnProcess:
    """The person's IPython profile, the descriptors 1 and 2, and the history's file."""

    def __init__(self, profile: str) -> None:
        self.profile = Profile.read(profile)
        self._descriptors: Descriptors | None = None

    def start(self, server: Server, shell: Any, write: Callable[[str, str], None]) -> None:
        """Begin; ``write`` takes what comes by the descriptors. Startup files run here."""
        if server.background is not None:
            server.background.start_soon(shell.history_manager.run, name="history")
        if sys.platform != "win32":
            self._descriptors = Descriptors(write)
            self._descriptors.install()
            server.outbox.collect = self._descriptors.collect
            server.interrupts.in_services(self._descriptors.run)
        _announce(type(shell))
        debugger.install()
        self.profile.start_in(shell)

    def stop(self) -> None:
        """Put the descriptors back."""
        if self._descriptors is not None:
            self._descriptors.restore()


def _announce(shell_class: type) -> None:
    """Have libraries find a notebook that look for ipykernel's shell, as tqdm does.

    They look whether that module is loaded, or whether the shell is of its class. ipykernel
    itself need not be installed, and where it is loaded already it stays.
    """
    if _SHELL_MODULE not in sys.modules:
        module = ModuleType(_SHELL_MODULE, "The shell of this kernel, which is not ipykernel.")
        vars(module)["ZMQInteractiveShell"] = shell_class
        sys.modules[_SHELL_MODULE] = module
