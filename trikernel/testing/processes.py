"""One kernel process for a whole test session; each test connects to it anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import trio

from ..client.kernel_process import KernelProcess
from ..client.open import attach
from ..warm import ForkServer, warm_is_possible
from .client import CheckedClient, raise_errors

__all__ = ["SessionKernel", "session_kernel"]


class SessionKernel:
    """A kernel process, started when the first test wants it, and again if a test ended it, or if
    a cell of it does not stop.

    The first one starts in the ordinary way, and sooner than a fork server would; whoever needs a
    second one may need many, so that and all further ones are forked, where the system can.
    """

    def __init__(self, kernel_name: str | None) -> None:
        self._kernel_name = kernel_name
        self._process: KernelProcess | None = None
        self._was_started = False
        self._server: ForkServer | None = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[CheckedClient]:
        """A client; raises what failed in the background while it was there.

        A cell that still runs at the end is interrupted, so that the next test finds it idle.
        """
        if self._process is None:
            process = KernelProcess(self._kernel_name, self._fork_server())
            try:
                await process.start()
            except BaseException:
                await process.kill()
                raise
            self._process = process
        usable = False
        try:
            attached = attach(self._process, client_class=CheckedClient, restart_stuck=True)
            async with attached as opened:
                client = cast(CheckedClient, opened)
                client.watches_late_errors = True
                try:
                    yield client
                finally:
                    await client.stop_all()
                    usable = not client.is_dead
        finally:
            if not usable:
                await self.stop()
        raise_errors(client.pop_what_was_missed())

    def _fork_server(self) -> ForkServer | None:
        """What starts the next kernel; it starts itself when it is asked. None for the first."""
        again, self._was_started = self._was_started, True
        if again and self._server is None and self._kernel_name is None:
            self._server = ForkServer() if warm_is_possible() is None else None
        return self._server

    async def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            await process.kill()

    def close(self) -> None:
        """End the fork server. The kernel has ended before."""
        if self._server is not None:
            self._server.close()


@contextmanager
def session_kernel(kernel_name: str | None) -> Iterator[SessionKernel]:
    """A kernel that ends with the session."""
    kernel = SessionKernel(kernel_name)
    try:
        yield kernel
    finally:
        trio.run(kernel.stop)
        kernel.close()
