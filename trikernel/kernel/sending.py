"""What a kernel says on its own account: `send_response` and its relatives.

Every call here is synchronous and works from any thread; the parent of what is sent is the
request on whose behalf the code runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import attrs
from trio.lowlevel import enable_ki_protection

from ..core import Job, Request, current_request
from ..transport import Channel
from ..wire import DELIMITER, Header, json
from .promptness import prompt
from .state import KernelState

__all__ = ["ChannelHandle", "KernelSending"]


@attrs.frozen(eq=False)
class ChannelHandle:
    """One of the kernel's channels, as the first argument of `KernelSending.send_response`."""

    kernel: KernelSending
    name: str

    @property
    def channel(self) -> Channel:
        """The transport's channel behind it."""
        transport = self.kernel.server.transport
        for channel in (*transport.shell, transport.control, transport.stdin, transport.iopub):
            if channel.name == self.name:
                return channel
        raise ValueError(f"the transport has no channel {self.name!r}")

    def send_multipart(self, frames: Sequence[bytes], *args: Any, **kwargs: Any) -> None:
        """Send frames that are already signed; zmq's further arguments are accepted, not used."""
        parts = [bytes(frame) for frame in frames]
        if self.name == "iopub":
            self.kernel.server.outbox.post(parts)
            return
        request = current_request.get()
        if request is not None and _is_reply(parts, request):
            if request.answered:
                return
            request.answered = True
        self.kernel.server.send(self.channel, parts)


def _is_reply(frames: list[bytes], request: Request) -> bool:
    """Whether a handler sends the reply itself, as those with three arguments do."""
    at = len(request.message.identities)
    if not request.wants_reply or frames[at : at + 1] != [DELIMITER] or len(frames) < at + 6:
        return False
    header = json.loads(frames[at + 2])
    reply_type = request.msg_type.removesuffix("_request") + "_reply"
    return isinstance(header, dict) and header.get("msg_type") == reply_type


@attrs.frozen(eq=False)
class _Parent:
    """What `KernelSending.set_parent` said, and for which request."""

    request: Request | None
    header: Header
    idents: list[bytes]


_said: ContextVar[_Parent | None] = ContextVar("said_parent", default=None)


def _explicit_parent() -> _Parent | None:
    """What holds for the current request; what an earlier cell said does not."""
    said = _said.get()
    return said if said is not None and said.request is current_request.get() else None


class KernelSending(KernelState):
    """Sending, and the parent of what is sent."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.iopub_socket = ChannelHandle(self, "iopub")
        self.stdin_socket = ChannelHandle(self, "stdin")
        self.control_stream = ChannelHandle(self, "control")
        self._last_request: Request | None = None
        self._session: Any = None
        self.said_parent = False  # whether any code has ever set a parent of its own

    @property
    def shell_streams(self) -> list[ChannelHandle]:
        """A handle for each shell channel."""
        return [ChannelHandle(self, channel.name) for channel in self.server.transport.shell]

    @property
    def shell_stream(self) -> ChannelHandle:
        """The first shell channel."""
        return ChannelHandle(self, "shell")

    @property
    def session(self) -> Any:
        """A `jupyter_client.session.Session` that sends through this kernel's channels."""
        if self._session is None:
            from .session import KernelSession

            self._session = KernelSession.for_kernel(self)
        return self._session

    # The parent

    def current(self) -> Request | None:
        """The request that this code runs for: by context, else the running, else the last."""
        request = current_request.get()
        if request is None and self._server is not None:
            running = self._server.interrupts.running
            request = running[-1] if running else self._last_request
        return request

    def parent_header(self) -> Header | None:
        """The header of the request that this code runs for."""
        explicit = _explicit_parent()
        if explicit is not None:
            return explicit.header
        request = self.current()
        return request.message.header if request is not None else None

    def set_parent(self, ident: Sequence[bytes], parent: Mapping[str, Any]) -> None:
        """Make ``parent`` (a message) the parent of what this task and its children send."""
        header = parent.get("header", {})
        parent_header = Header(
            header.get("msg_id", ""),
            header.get("msg_type", ""),
            header.get("session", ""),
            header.get("username", ""),
            str(header.get("date", "")),
            header.get("version", ""),
            json.dumps(header),
        )
        self.said_parent = True
        _said.set(_Parent(current_request.get(), parent_header, list(ident or ())))

    def get_parent(self, channel: str = "shell") -> dict[str, Any]:
        """The message that this code runs for, as a nested dictionary; ``{}`` for none."""
        explicit = _explicit_parent()
        if explicit is not None:
            return {"header": explicit.header.as_dict()}
        request = self.current()
        return request.message.as_dict() if request is not None else {}

    @property
    def _parent_header(self) -> dict[str, Any]:
        return self.get_parent()

    @property
    def _parent_ident(self) -> dict[str, list[bytes]]:
        idents = self._idents()
        return {"shell": idents, "control": idents}

    def _idents(self) -> list[bytes]:
        explicit = _explicit_parent()
        if explicit is not None:
            return explicit.idents
        request = self.current()
        return list(request.message.identities) if request is not None else []

    # Sending

    @prompt
    def send_response(
        self,
        stream: ChannelHandle,
        msg_or_type: str | Mapping[str, Any],
        content: Mapping[str, Any] | None = None,
        ident: bytes | Sequence[bytes] | None = None,
        buffers: Sequence[bytes] | None = None,
        track: bool = False,
        header: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Send one message about the current request, on iopub or to the asking client.

        ``stream`` is `iopub_socket` or another channel's handle, ``msg_or_type`` a type or a
        message of `session.msg`. On iopub ``ident`` replaces the topic, elsewhere the client.
        ``track`` is accepted and not used. Synchronous, from any thread; a client that is
        gone is logged, not raised. While a silent request runs, nothing goes out on iopub.
        """
        self._send_response(
            stream, msg_or_type, dict(content or {}), ident, buffers or (), header, metadata
        )
        self.server.interrupts.raise_pending()

    @enable_ki_protection
    def _send_response(
        self,
        stream: ChannelHandle,
        msg_or_type: str | Mapping[str, Any],
        content: dict[str, Any],
        ident: bytes | Sequence[bytes] | None,
        buffers: Sequence[bytes],
        header: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        if isinstance(msg_or_type, str):
            msg_type = msg_or_type
        else:
            msg_type = msg_or_type["header"]["msg_type"]
            content = dict(msg_or_type.get("content", {}))
            header, metadata = msg_or_type["header"], metadata or msg_or_type.get("metadata")
        idents = [ident] if isinstance(ident, bytes) else list(ident or ())
        if stream.name == "iopub":
            if self._is_silent():
                return
            if msg_type == "stream" and content.keys() == {"name", "text"} and not metadata:
                self.server.outbox.write(
                    self.parent_header(), str(content["name"]), str(content["text"])
                )
                return
        frames = self.server.codec.encode(
            msg_type,
            content,
            parent=self.parent_header(),
            metadata=metadata,
            buffers=buffers,
            identities=idents or self._default_idents(stream, msg_type),
            header=json.dumps(header) if header else None,
        )
        if stream.name == "iopub":
            self.server.outbox.post(frames)
        else:
            stream.send_multipart(frames)

    def _default_idents(self, stream: ChannelHandle, msg_type: str) -> list[bytes]:
        return [self._topic(msg_type)] if stream.name == "iopub" else self._idents()

    def _is_silent(self) -> bool:
        request = self.current()
        return request is not None and getattr(request.content, "silent", False) is True

    def _topic(self, topic: str) -> bytes:
        return f"kernel.{self.ident}.{topic}".encode()

    def _publish_status(self, status: str, parent: Mapping[str, Any] | None = None) -> None:
        """Publish ``busy``, ``idle`` or ``starting`` about ``parent`` (a message)."""
        about = parent["header"] if parent else self.parent_header()
        self.server.publish_status(status, about)

    def schedule_dispatch(self, priority: int, dispatch: Any, *args: Any) -> None:
        """Have ``dispatch(*args)``, plain or async, called by the shell lane in its turn.

        From any thread. What it raises is logged.
        """
        self.server.shell.schedule(priority, Job(dispatch, args))
