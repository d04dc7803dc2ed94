"""What only a kernel does that has a process to itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..core import Server
from .descriptors import Descriptors
from .profile import Profile

__all__ = ["OwnProcess"]


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
        self.profile.start_in(shell)

    def stop(self) -> None:
        """Put the descriptors back."""
        if self._descriptors is not None:
            self._descriptors.restore()
