"""A kernel served in memory, in this loop, with nothing of a client but frames.

The test kit's client would do, but it is made of our own classes: here they must not be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio
import trio.testing

import trikernel
from trikernel import Kernel, compat
from trikernel.core import Server
from trikernel.python import PythonKernel
from trikernel.transport import MemoryClient, MemoryTransport, receive
from trikernel.wire import Codec

__all__ = ["KERNELS", "Echo", "Served", "open_served"]

CODE = "print('hello')"


class Echo(Kernel):
    """Says back what it is told; ``pause`` has it wait within a request until it is let go on."""

    implementation = "echo"

    async def do_execute(self, code: str, silent: bool, **options: Any) -> dict[str, Any]:
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
        if code == "pause":
            await trio.sleep_forever()
        return {"status": "ok"}


class Wrapper(compat.Kernel):
    """The same in an author's traitlets kernel, by asyncio."""

    implementation = "wrapper"

    async def do_execute(self, code: str, silent: bool, **options: Any) -> dict[str, Any]:
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
        if code == "pause":
            await asyncio.Event().wait()
        return {"status": "ok"}


KERNELS: dict[str, Any] = {
    "Kernel": Echo,
    "compat.Kernel": Wrapper,
    "PythonKernel": PythonKernel,
}
PAUSE = {
    "Kernel": "pause",
    "compat.Kernel": "pause",
    "PythonKernel": "import trio; await trio.sleep_forever()",
}


@attrs.frozen
class Served:
    """A kernel that is being served. ``name`` is its key in `KERNELS`."""

    name: str
    kernel: Kernel
    server: Server
    transport: MemoryTransport
    client: MemoryClient
    codec: Codec = attrs.field(factory=lambda: Codec(b"key"))

    def encode(self, code: str) -> list[bytes]:
        """An ``execute_request`` as frames."""
        content = {"code": code, "silent": False, "store_history": True}
        return list(self.codec.encode("execute_request", content))

    async def execute(self, code: str = CODE) -> None:
        """Run a cell, up to its idle."""
        self.client.shell.send_nowait(self.encode(code))
        await receive(self.client.shell)
        while b'"idle"' not in (await receive(self.client.iopub))[-1]:
            continue

    async def begin_pause(self) -> None:
        """Run a cell that does not end, and wait until it is within that."""
        self.client.shell.send_nowait(self.encode(PAUSE[self.name]))
        await trio.testing.wait_all_tasks_blocked(0.01)


@asynccontextmanager
async def open_served(name: str) -> AsyncIterator[Served]:
    """Serve the kernel of that name in memory, without a service thread."""
    transport = MemoryTransport(key=b"key")
    client = transport.connect()
    kernel = KERNELS[name]()
    try:
        async with trio.open_nursery() as nursery:
            server: Server = await nursery.start(
                partial(trikernel.serve, kernel, transport, services="inline")
            )
            yield Served(name, kernel, server, transport, client)
            nursery.cancel_scope.cancel()
    finally:
        client.close()
        transport.close()
