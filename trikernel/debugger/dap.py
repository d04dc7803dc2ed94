"""Messages of the Debug Adapter Protocol (DAP): reads requests, makes responses, and sends and
receives messages over a byte stream.

Knows no kernel, no debugpy and no Jupyter. Source: the specification of the protocol, "Base
protocol", version 1.39.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import attrs
import trio

__all__ = [
    "Ask",
    "DapStream",
    "Refused",
    "is_breakpoint",
    "number_argument",
    "read_ask",
    "response",
    "text_argument",
]

CHUNK = 1 << 16  # bytes that are read at once
LONGEST_HEADER = 1 << 12  # bytes
LONGEST_BODY = 1 << 28  # bytes
MOST_LINES = 1 << 31  # pydevd keeps line numbers as C ints


class Refused(Exception):
    """Raised for a request that is answered by ``success: false``, with this text as message."""


@attrs.frozen
class Ask:
    """A request: ``seq`` is the number that its sender has given it."""

    seq: int
    command: str
    arguments: Mapping[str, Any] = attrs.field(factory=dict)


def read_ask(content: Mapping[str, Any]) -> Ask:
    """The request in the content of a ``debug_request``. Raises `Refused` if it is malformed."""
    seq, command, arguments = (content.get(name) for name in ("seq", "command", "arguments"))
    if content.get("type") != "request":
        raise Refused(f"type must be 'request', not {content.get('type')!r:.80}")
    if not isinstance(command, str):
        raise Refused(f"command must be a string, not {command!r:.80}")
    if not isinstance(seq, int) or isinstance(seq, bool):
        raise Refused(f"seq must be a number, not {seq!r:.80}")
    if arguments is not None and not isinstance(arguments, dict):
        raise Refused(f"arguments must be an object, not {arguments!r:.80}")
    return Ask(seq, command, arguments or {})


def text_argument(ask: Ask, name: str) -> str:
    """An argument that must be text. Raises `Refused`."""
    value = ask.arguments.get(name)
    if not isinstance(value, str):
        raise Refused(f"{ask.command}: the argument {name} must be a string, not {value!r:.80}")
    return value


def number_argument(ask: Ask, name: str) -> int:
    """An argument that is a number; 0 if there is none. Raises `Refused` for anything else."""
    value = ask.arguments.get(name)
    if value is None:
        return 0
    if not isinstance(value, int):
        raise Refused(f"{ask.command}: the argument {name} must be a number, not {value!r:.80}")
    return value


def is_breakpoint(value: object) -> bool:
    """Whether this is a ``SourceBreakpoint``: its line is from 1 on, its conditions are strings."""
    if not isinstance(value, dict):
        return False
    line, texts = value.get("line"), ("condition", "hitCondition", "logMessage")
    is_line = isinstance(line, int) and not isinstance(line, bool) and 0 < line < MOST_LINES
    return is_line and all(isinstance(value.get(one), (str, type(None))) for one in texts)


def response(
    content: Mapping[str, Any], body: Mapping[str, Any] | None = None, *, error: str | None = None
) -> dict[str, Any]:
    """The response to a request, which may be malformed. With ``error`` it says ``success: false``,
    and that text is its message.
    """
    seq, command = content.get("seq"), content.get("command")
    found = {
        "type": "response",
        "request_seq": seq if isinstance(seq, int) else 0,
        "command": command if isinstance(command, str) else "",
        "success": error is None,
        "body": dict(body or {}),
    }
    return found if error is None else {**found, "message": error}


class DapStream:
    """Messages over a byte stream. One task may send while another one receives."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._length = -1  # of the body that is being read; -1 while its header is not complete
        self._messages: deque[dict[str, Any]] = deque()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message. Cancelled, a part of it may have been sent: close the stream then."""
        body = json.dumps(message).encode()
        await self._stream.send_all(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    async def receive(self) -> dict[str, Any]:
        """The next message. Raises `trio.EndOfChannel` at the end of the stream, and
        `trio.BrokenResourceError` for bytes that are no DAP. Cancelled, nothing is lost.
        """
        while not self._messages:
            data = await self._stream.receive_some(CHUNK)
            if not data:
                raise trio.EndOfChannel
            self._buffer += data
            self._cut()
        return self._messages.popleft()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    def _cut(self) -> None:
        """Move complete messages from the buffer to the queue."""
        buffer = self._buffer
        while True:
            if self._length < 0:
                end = buffer.find(b"\r\n\r\n")
                if end < 0 and len(buffer) < LONGEST_HEADER:
                    return
                self._length = _body_length(bytes(buffer[: max(end, 0)]))
                del buffer[: end + 4]
            if len(buffer) < self._length:
                return
            body = bytes(buffer[: self._length])
            del buffer[: self._length]
            self._length = -1
            try:
                message = json.loads(body)
            except (ValueError, RecursionError):
                raise trio.BrokenResourceError("a body that is no JSON") from None
            if isinstance(message, dict):
                self._messages.append(message)


def _body_length(header: bytes) -> int:
    for line in header.split(b"\r\n"):
        name, _, value = line.partition(b":")
        digits = value.strip()
        if name.strip().lower() == b"content-length" and digits.isdigit() and len(digits) < 20:
            length = int(digits)
            if length <= LONGEST_BODY:
                return length
    raise trio.BrokenResourceError("a header without a length")
