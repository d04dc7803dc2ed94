"""A kernel served in memory, in the caller's own loop, and a client of it that checks.

Works under `trio.testing.MockClock`, touches no state of the process and opens no socket.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ..client import open_client
from ..client.open import open_service_nursery
from ..core import Server
from ..kernel import BACKGROUND_FAILED, Kernel, serve
from ..transport import MemoryTransport
from .client import CheckedClient

__all__ = ["open_memory_client"]

LOG_LINES = 20


@asynccontextmanager
async def open_memory_client(
    kernel: Kernel, *, key: bytes = b"test"
) -> AsyncIterator[CheckedClient]:
    """Serve ``kernel`` in memory and have a client of it; it ends with the block.

    ::

        async with open_memory_client(MyKernel()) as client:
            await client.expect("1 + 1", result="2")

    Leaving the block raises what failed in the kernel's background tasks meanwhile, unless the
    test popped it (`CheckedClient.pop_background_errors`). Synchronous code in a kernel in memory
    cannot be interrupted, and `input` has to be awaited.
    """
    if isinstance(kernel, type):
        raise TypeError(f"a kernel is needed, not its class: {kernel.__name__}()")
    transport = MemoryTransport(key=key)
    connection = transport.connect()
    client = CheckedClient(connection, type(kernel).__name__)
    logger, ended = kernel.log, trio.Event()
    kernel.log = _test_log(client)

    async def run(*, task_status: trio.TaskStatus[Server]) -> None:
        try:
            await serve(kernel, transport, services="inline", task_status=task_status)
        finally:
            ended.set()

    try:
        async with open_service_nursery() as nursery:
            server: Server = await nursery.start(run)
            async with open_client(connection, client):
                yield client
            server.stop()
            await ended.wait()
    finally:
        kernel.log = logger
        connection.close()
        transport.close()
    client.raise_background_errors()


def _test_log(client: CheckedClient) -> logging.Logger:
    """A log of the kernel's own: its end is shown in failures, its crashes fail the test."""
    logger = logging.Logger("trikernel", logging.DEBUG)
    logger.parent = logging.getLogger("trikernel")
    tail = _Tail(client)
    logger.addHandler(tail)
    client.log_tail = tail.text
    return logger


class _Tail(logging.Handler):
    """Keeps the last lines, and what background tasks raised."""

    def __init__(self, client: CheckedClient) -> None:
        super().__init__()
        self._client = client
        self._lines: deque[str] = deque(maxlen=LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        error = record.exc_info[1] if record.exc_info else None
        if record.msg == BACKGROUND_FAILED and error is not None:
            self._client.background_errors.append(error)  # with its traceback
        text = record.getMessage()
        if error is not None:  # in a line: its traceback is among the outputs
            text = f"{text}: {type(error).__name__}: {error}"
        self._lines.append(f"{record.levelname} {text}")

    def text(self) -> str:
        """The end of the log."""
        return "\n".join(self._lines)
