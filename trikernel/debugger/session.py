"""One session with a debugger that traces this process: sends requests, receives responses and
events.

Each request gets a number of ours, so that frontends may number theirs as they like. `send` does
not wait; `Pending.response` waits for the response. When the connection ends, `Refused` is raised
in every task that waits for one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from .dap import DapStream, Refused

__all__ = ["Pending", "Session"]

_GONE = "the debugger's session has ended"


@attrs.define(eq=False)
class Pending:
    """A request whose response is awaited. ``is_busy`` says whether the debugger is carrying out a
    request.
    """

    command: str
    _is_busy: Callable[[], bool] = bool
    _came: trio.Event = attrs.field(factory=trio.Event)
    _message: dict[str, Any] | None = None

    def resolve(self, message: dict[str, Any] | None) -> None:
        """Set the response; None if there will be none."""
        self._message = message
        self._came.set()

    async def response(self, seconds: float = math.inf) -> dict[str, Any]:
        """The response. Raises `Refused` if the connection has ended, or if the response does not
        come within so many seconds; while the debugger is busy, with this request or with one
        before it, it has as many again.

        Cancelled, the response is dropped when it comes.
        """
        is_late = False
        while not is_late or self._is_busy():
            with trio.move_on_after(seconds):
                await self._came.wait()
                if self._message is None:
                    raise Refused(_GONE)
                return self._message
            is_late = True
        raise Refused(f"debugpy has not answered {self.command} within {seconds:g} seconds")


class Session:
    """Speaks to the debugger over ``stream``; ``on_event`` is called with each event. ``is_busy``
    says whether the debugger is carrying out a request.
    """

    def __init__(
        self,
        stream: DapStream,
        on_event: Callable[[dict[str, Any]], object],
        is_busy: Callable[[], bool] = bool,
    ) -> None:
        self._stream = stream
        self._on_event = on_event
        self._is_busy = is_busy
        self._numbers = itertools.count(2)  # the first request was `pydevdAuthorize`
        self._pending: dict[int, Pending] = {}
        self._out, self._queue = trio.open_memory_channel[dict[str, Any]](math.inf)
        self.is_open = True

    async def run(self) -> None:
        """Send and receive until the connection ends, or until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_queued)
                try:
                    await self._receive()
                except (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel):
                    nursery.cancel_scope.cancel()
        finally:
            self.is_open = False
            pending, self._pending = self._pending, {}
            for one in pending.values():
                one.resolve(None)

    async def _send_queued(self) -> None:
        try:
            async for message in self._queue:
                await self._stream.send(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.sleep_forever()  # `_receive` finds the end too, and cancels this

    async def _receive(self) -> None:
        while True:
            message = await self._stream.receive()
            if message.get("type") == "event":
                self._on_event(message)
                continue
            pending = self._pending.pop(message.get("request_seq", 0), None)
            if pending is not None:
                pending.resolve(message)

    def send(self, command: str, arguments: Mapping[str, Any]) -> Pending:
        """Queue a request; requests are sent in this order. Raises `Refused` if the connection has
        ended.
        """
        if not self.is_open:
            raise Refused(_GONE)
        number = next(self._numbers)
        pending = self._pending[number] = Pending(command, self._is_busy)
        self._out.send_nowait(
            {"seq": number, "type": "request", "command": command, "arguments": dict(arguments)}
        )
        return pending

    async def ask(
        self, command: str, arguments: Mapping[str, Any], seconds: float
    ) -> dict[str, Any]:
        """Send a request and wait for a response that says success. Raises `Refused` otherwise."""
        message = await self.send(command, arguments).response(seconds)
        if not message.get("success"):
            raise Refused(str(message.get("message") or f"{command} has failed"))
        return message
