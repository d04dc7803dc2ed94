"""What a lane asks of the server that it is part of."""

from __future__ import annotations

from typing import Protocol

import trio

from .application import Application
from .interrupt import Interrupts
from .reopening import ReopeningNursery
from .request import Request

__all__ = ["Dispatcher"]


class Dispatcher(Protocol):
    """What a lane asks of the server that it is part of."""

    application: Application
    interrupts: Interrupts
    cells: ReopeningNursery
    user_token: trio.lowlevel.TrioToken

    async def perform(self, request: Request) -> None:
        """Handle one request, from busy to idle."""

    def refuse(self, request: Request) -> None:
        """Answer a request that will not run."""

    def sweep(self) -> None:
        """Admit what has already arrived for the shell lane."""
