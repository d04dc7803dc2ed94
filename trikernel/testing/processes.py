"""One kernel process for a whole test session; each test has a new client of it."""

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
    """A kernel process. It is started when the first test needs it, and again if a test has ended
    it, or if a cell does not stop.

    The first process is started in the ordinary way, which is faster than to start a fork server.
    If a second one is needed, there may be many, so that one and all further ones are forked, if
    the system can do that.
    """

    def __init__(self, kernel_name: str | None) -> None:
        self._kernel_name = kernel_name
        self._process: KernelProcess | None = None
        self._was_started = False
        self._server: ForkServer | None = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[CheckedClient]:
        """A client for one test. At the end it raises errors of background tasks, and of calls that
        were not awaited.

        A cell that still runs at the end is interrupted, so that the kernel is idle for the next
        test.
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
        """The fork server for the next kernel, started by its first use; None for the first."""
        again, self._was_started = self._was_started, True
        if again and self._server is None and self._kernel_name is None:
            self._server = ForkServer() if warm_is_possible() is None else None
        return self._server

    async def stop(self) -> None:
        """End the kernel process."""
        process, self._process = self._process, None
        if process is not None:
            await process.kill()

    def close(self) -> None:
        """End the fork server, after the kernel has ended."""
        if self._server is not None:
            self._server.close()


@contextmanager
def session_kernel(kernel_name: str | None) -> Iterator[SessionKernel]:
    """The kernel of a test session, which ends with the block."""
    kernel = SessionKernel(kernel_name)
    try:
        yield kernel
    finally:
        trio.run(kernel.stop)
        kernel.close()
