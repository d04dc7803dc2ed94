"""What is counted: fixed amounts of work, in memory, in one loop.

The floor is what a request's messages cost `jupyter_client.session.Session` to write and to read:
so that a budget is a ratio, and holds on other machines and Pythons.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from jupyter_client.session import Session

import trikernel
from trikernel import Kernel
from trikernel.python import PythonKernel
from trikernel.transport import MemoryTransport, receive
from trikernel.wire import Codec

__all__ = ["SCENARIOS"]

_MESSAGES: list[tuple[str, dict[str, Any]]] = [
    ("execute_request", {"code": "a = 1", "silent": False, "store_history": True}),
    ("status", {"execution_state": "busy"}),
    ("execute_input", {"code": "a = 1", "execution_count": 1}),
    ("execute_reply", {"status": "ok", "execution_count": 1, "payload": []}),
    ("status", {"execution_state": "idle"}),
]


class Silent(Kernel):
    """Runs nothing."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        pass


def floor(count: int) -> None:
    """The five messages of a cell, signed and verified, and nothing else."""
    session, other = Session(key=b"key"), Session(key=b"key")
    for _ in range(count):
        for msg_type, content in _MESSAGES:
            message = session.msg(msg_type, content)
            _, frames = other.feed_identities(session.serialize(message))
            other.deserialize(frames)


def _in_memory(
    kernel_class: type[Kernel], msg_type: str, content: dict[str, Any]
) -> Callable[[int], None]:
    async def run(count: int) -> None:
        transport = MemoryTransport(key=b"key")
        client, codec = transport.connect(), Codec(b"key")
        async with trio.open_nursery() as nursery:
            kernel = kernel_class()
            await nursery.start(partial(trikernel.serve, kernel, transport, services="inline"))
            for _ in range(count):
                client.shell.send_nowait(codec.encode(msg_type, content))
                await receive(client.shell)
                while b"idle" not in (await receive(client.iopub))[-1]:
                    continue
            nursery.cancel_scope.cancel()

    return lambda count: trio.run(run, count)


SCENARIOS: dict[str, Callable[[int], None]] = {
    "floor": floor,
    "kernel_info": _in_memory(Silent, "kernel_info_request", {}),
    "execute": _in_memory(Silent, *_MESSAGES[0]),
    "cell": _in_memory(PythonKernel, *_MESSAGES[0]),
}
"""Each takes how often."""
