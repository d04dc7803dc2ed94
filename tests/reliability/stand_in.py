"""A debugger in debugpy's place, which stops cells where they say so, in memory.

What a cell's code does when it stands in pydevd's wait, a cell does here that awaits: it is shown
as stopped until it is told to go on, and an interrupt raises in it. So a stop is a matter of
checkpoints and virtual time. What is real is all that trikernel adds to the protocol.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from types import SimpleNamespace
from typing import Any

import attrs
import trio
import trio.testing

from trikernel.debugger import Traced
from trikernel.debugger.dap import DapStream
from trikernel.python.debuggee import CellDebuggee
from trikernel.system import run_in

__all__ = ["StandIn", "StandInDebuggee", "ask"]

THREAD = 1
"""The one thread that stops, whichever loop the cell is in."""
_BODIES: Mapping[str, Mapping[str, Any]] = {
    "threads": {"threads": [{"id": THREAD, "name": "MainThread"}]},
    "stackTrace": {"stackFrames": [{"id": 2, "name": "<module>", "line": 1}], "totalFrames": 1},
    "scopes": {"scopes": [{"name": "Locals", "variablesReference": 3}]},
    "variables": {"variables": [{"name": "x", "value": "1", "variablesReference": 0}]},
    "setBreakpoints": {"breakpoints": [{"verified": True, "line": 1}]},
}
_numbers = itertools.count(1)


def ask(command: str, **arguments: Any) -> dict[str, Any]:
    """The content of a ``debug_request``."""
    return {
        "seq": next(_numbers),
        "type": "request",
        "command": command,
        "arguments": arguments,
    }


@attrs.frozen(eq=False)
class _Stop:
    context: Context
    token: trio.lowlevel.TrioToken
    goes_on: trio.Event = attrs.field(factory=trio.Event)


class StandIn:
    """Traces one kernel: `connect` is for `Debugger`, `stand` for the cells."""

    def __init__(self) -> None:
        self._out: trio.MemorySendChannel[dict[str, Any]] | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._standing: list[_Stop] = []

    @property
    def context(self) -> Context | None:
        """The context of the cell that stands."""
        standing = self._standing.copy()
        return standing[-1].context if standing else None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Traced]:
        """A session, at whose end all that stands goes on."""
        ours, theirs = trio.testing.memory_stream_pair()
        is_on, stream = trio.Event(), DapStream(theirs)
        self._token = trio.lowlevel.current_trio_token()
        self._out, messages = trio.open_memory_channel[dict[str, Any]](math.inf)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._answer, stream, is_on)
                nursery.start_soon(self._send, stream, messages)
                yield Traced(DapStream(ours), is_on)
                nursery.cancel_scope.cancel()
        finally:
            self._out = None
            self._go_on()

    async def _answer(self, stream: DapStream, is_on: trio.Event) -> None:
        while True:
            message = await stream.receive()
            command = message["command"]
            body = _BODIES.get(command, {})
            self._put({"type": "response", "request_seq": message["seq"], "body": body})
            if command == "attach":
                self._put({"type": "event", "event": "initialized"})
            if command == "configurationDone":
                is_on.set()
            if command in ("continue", "disconnect"):
                self._go_on()

    async def _send(
        self, stream: DapStream, messages: trio.MemoryReceiveChannel[dict[str, Any]]
    ) -> None:
        async for message in messages:
            await stream.send(message)

    def _put(self, message: dict[str, Any]) -> None:
        if self._out is not None:
            self._out.send_nowait({"success": True, **message})

    def _tell(self, event: str, **body: Any) -> None:
        """From the loop of a cell."""
        message = {"type": "event", "event": event, "body": {"threadId": THREAD, **body}}
        if self._token is not None:
            run_in(self._token, lambda: self._put(message))

    def _go_on(self) -> None:
        for one in self._standing.copy():
            run_in(one.token, one.goes_on.set)

    async def stand(self) -> None:
        """Stand until told to go on, if there is a session."""
        if self._out is None:
            return
        stop = _Stop(trio.lowlevel.current_task().context, trio.lowlevel.current_trio_token())
        self._standing.append(stop)
        self._tell("stopped", reason="breakpoint", allThreadsStopped=True)
        try:
            await stop.goes_on.wait()
        finally:
            self._standing.remove(stop)
            self._tell("continued", allThreadsContinued=True)


class StandInDebuggee(CellDebuggee):
    """A kernel without IPython's shell, whose loop may turn while its cell "stands"."""

    def __init__(self, kernel: Any, stand_in: StandIn) -> None:
        super().__init__(lambda: kernel)
        self._kernel = kernel
        self._stand_in = stand_in
        kernel.shell = SimpleNamespace(
            input_transformer_manager=SimpleNamespace(cleanup_transforms=[])
        )

    @property
    def namespace(self) -> dict[str, Any]:
        """Some names."""
        return {"x": 1}

    def tasks_in(self, thread: int) -> frozenset[trio.lowlevel.Task]:
        """See `Debuggee`: with a service thread, those of a loop that turns."""
        if not self._kernel.server.inline:
            raise RuntimeError("tasks come and go")
        return super().tasks_in(thread)

    def context_of(self, thread: int) -> Context | None:
        """That of the cell that stands."""
        return self._stand_in.context
