"""One kernel process for a whole test session; each test connects to it anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import trio

from ..client import connect
from ..client.manager import connection_info, new_manager
from ..transport import ConnectionInfo
from .checks import CheckedClient

__all__ = ["SessionKernel", "session_kernel"]


class SessionKernel:
    """A kernel process, started when the first test wants it, and again if a test ended it."""

    def __init__(self, kernel_name: str | None, runner: asyncio.Runner) -> None:
        self._kernel_name = kernel_name
        self._runner = runner
        self._manager: Any = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[CheckedClient]:
        """A client; raises what failed in the background while it was there."""
        info = await trio.to_thread.run_sync(self._running)
        async with connect(info, client_class=CheckedClient) as opened:
            client = cast(CheckedClient, opened)
            client.watches_late_errors = True
            yield client
        client.raise_background_errors()

    def _running(self) -> ConnectionInfo:
        """Where it listens, after starting it where there is need."""
        manager = self._manager
        if manager is None or not self._runner.run(manager.is_alive()):
            self.stop()
            manager = self._manager = new_manager(self._kernel_name)
            self._runner.run(manager.start_kernel())
        return connection_info(manager)

    def stop(self) -> None:
        """End it."""
        manager, self._manager = self._manager, None
        if manager is not None:
            self._runner.run(manager.shutdown_kernel(now=True))


@contextmanager
def session_kernel(kernel_name: str | None) -> Iterator[SessionKernel]:
    """A kernel that ends with the session."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        kernel = SessionKernel(kernel_name, runner)
        try:
            yield kernel
        finally:
            kernel.stop()
