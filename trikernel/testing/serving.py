"""Serves a kernel in the caller's own loop, with `CheckedClient` clients.

In memory it works under `trio.testing.MockClock` and opens no sockets. Over real sockets kernel and
client are the same, but it needs real time.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import Literal

import trio
import trio.testing

from ..client import open_client
from ..client.open import open_service_nursery
from ..core import Server
from ..kernel import BACKGROUND_FAILED, Kernel, serve
from ..transport import (
    ClientTransport,
    ConnectionInfo,
    MemoryTransport,
    ZmqClientTransport,
    ZmqTransport,
)
from .client import CheckedClient, raise_errors

__all__ = ["Medium", "open_clients", "open_memory_client"]

LOG_LINES = 20

Medium = Literal["memory", "tcp", "ipc"]


@asynccontextmanager
async def open_memory_client(
    kernel: Kernel, *, key: bytes = b"test"
) -> AsyncIterator[CheckedClient]:
    """Serve ``kernel`` in memory, with a client; it ends with the block.

    ::

        async with open_memory_client(MyKernel()) as client:
            await client.expect("1 + 1", result="2")

    The end of the block raises the errors of the kernel's background tasks, unless the test has
    popped them (`CheckedClient.pop_background_errors`), and of calls that were not awaited.
    Synchronous code in a kernel in memory cannot be interrupted, and `input` has to be awaited.
    """
    __tracebackhide__ = True
    async with open_clients(kernel, key=key) as (client,):
        yield client


@asynccontextmanager
async def open_clients(
    kernel: Kernel,
    count: int = 1,
    *,
    over: Medium = "memory",
    services: Literal["thread", "inline"] | None = None,
    key: bytes = b"test",
) -> AsyncIterator[list[CheckedClient]]:
    """Serve ``kernel`` in this loop, with ``count`` clients; it ends with the block.

    ::

        async with open_clients(MyKernel(), 2, over="tcp") as (one, other):
            await one.expect("1 + 1", result="2")

    ``over`` is ``memory``, ``tcp`` (this machine, free ports) or ``ipc`` (sockets in a temporary
    folder). ``services`` is as for `trikernel.serve`: where control, interrupts and output are
    handled; by default ``inline`` in memory and in a thread over sockets. Each client receives all
    messages from the start of the block on.

    The end of the block raises the errors of the kernel's background tasks, unless the test has
    popped them (from any of the clients), and of calls that were not awaited. Raises `RuntimeError`
    for sockets on a virtual clock, which would jump ahead while a message is on its way.
    """
    __tracebackhide__ = True
    if isinstance(kernel, type):
        raise TypeError(f"a kernel is needed, not its class: {kernel.__name__}()")
    if over != "memory" and isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock):
        raise RuntimeError(f"over={over!r} is real sockets: they cannot run on a virtual clock")
    tail = _Tail()
    clients: list[CheckedClient] = []
    async with AsyncExitStack() as stack:
        stack.enter_context(tail.instead_of_the_log_of(kernel))
        transport = stack.enter_context(_transport(over, key))
        connections = [stack.enter_context(_connected(transport)) for _ in range(count)]
        services = services or ("inline" if over == "memory" else "thread")
        await stack.enter_async_context(_served(kernel, transport, services))
        for connection in connections:
            client = CheckedClient(connection, type(kernel).__name__)
            client.log_tail, client.noted_errors = tail.text, tail.errors
            await stack.enter_async_context(_subscribed(client, connection, over))
            clients.append(client)
        yield clients
    raise_errors([error for client in clients for error in client.pop_what_was_missed()])


@contextmanager
def _transport(over: Medium, key: bytes) -> Iterator[MemoryTransport | ZmqTransport]:
    """The kernel's side of a transport, which is closed at the end of the block."""
    transport: MemoryTransport | ZmqTransport
    with tempfile.TemporaryDirectory() if over == "ipc" else nullcontext("") as folder:
        if over == "memory":
            transport = MemoryTransport(key=key)
        elif over == "tcp":
            transport = ZmqTransport(ConnectionInfo(key=key.decode()))
        elif over == "ipc":
            info = ConnectionInfo(key=key.decode(), transport="ipc", ip=f"{folder}/kernel")
            transport = ZmqTransport(info)
        else:
            raise ValueError(f"over must be 'memory', 'tcp' or 'ipc', not {over!r}")
        try:
            yield transport
        finally:
            transport.close()


@contextmanager
def _connected(transport: MemoryTransport | ZmqTransport) -> Iterator[ClientTransport]:
    """A client's side of a transport, which is closed at the end of the block."""
    connection: ClientTransport
    if isinstance(transport, MemoryTransport):
        connection = transport.connect()
    else:
        connection = ZmqClientTransport(transport.info)
    try:
        yield connection
    finally:
        connection.close()


@asynccontextmanager
async def _served(
    kernel: Kernel,
    transport: MemoryTransport | ZmqTransport,
    services: Literal["thread", "inline"],
) -> AsyncIterator[None]:
    """Serve a kernel until the end of the block, then stop it and wait until it has ended."""
    ended = trio.Event()

    async def run(*, task_status: trio.TaskStatus[Server]) -> None:
        try:
            await serve(kernel, transport, services=services, task_status=task_status)
        finally:
            ended.set()

    async with open_service_nursery() as nursery:
        server: Server = await nursery.start(run)
        yield
        server.stop()
        await ended.wait()


@asynccontextmanager
async def _subscribed(
    client: CheckedClient, connection: ClientTransport, over: Medium
) -> AsyncIterator[None]:
    """Run the client. Over sockets, wait until its subscription to iopub is active."""
    with ExitStack() as first:
        messages = first.enter_context(client.subscribe())
        async with open_client(connection, client):
            if over != "memory":
                await messages.receive()  # any iopub message, usually ``iopub_welcome``
            first.close()
            yield


class _Tail(logging.Handler):
    """Keeps the last lines of a kernel's log, and the errors of its background tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []
        self._lines: deque[str] = deque(maxlen=LOG_LINES)

    @contextmanager
    def instead_of_the_log_of(self, kernel: Kernel) -> Iterator[None]:
        """Give the kernel a log of its own in the block. Its end is shown in failures, and errors
        of background tasks, which are logged, fail the test.
        """
        own = kernel.log
        kernel.log = logging.Logger("trikernel", logging.DEBUG)
        kernel.log.parent = logging.getLogger("trikernel")
        kernel.log.addHandler(self)
        try:
            yield
        finally:
            kernel.log = own

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        error = record.exc_info[1] if record.exc_info else None
        if record.msg == BACKGROUND_FAILED and error is not None:
            self.errors.append(error)  # with its traceback
        text = record.getMessage()
        if error is not None:  # in one line, because the traceback is among the outputs
            text = f"{text}: {type(error).__name__}: {error}"
        self._lines.append(f"{record.levelname} {text}")

    def text(self) -> str:
        """The end of the log."""
        return "\n".join(self._lines)
