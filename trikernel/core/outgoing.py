"""What a served kernel sends: replies to one client, broadcasts to all of them.

The one place that knows topics and reply types. Every method works from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from ..errors import PeerGone
from ..transport import Channel, Transport
from ..wire import Codec, Header, json
from .application import Application
from .backlog import Backlog
from .outbox import Outbox
from .request import Reply, Request

__all__ = ["Outgoing"]

_STATES = {state: json.dumps({"execution_state": state}) for state in ("starting", "busy", "idle")}


class Outgoing:
    """The sending side of a server."""

    def __init__(self, application: Application, transport: Transport) -> None:
        self.application = application
        self.transport = transport
        self.codec = Codec(transport.key, transport.signature_scheme, limits=application.limits)
        self.outbox = Outbox(transport.iopub, self.codec, application.outbox_limits)
        self.backlog = Backlog(application.max_backlog_bytes, application.log)
        self.last_word: tuple[dict[str, Any], Request] | None = None

    def conclude(self, request: Request, reply: Reply | None) -> None:
        """Send a request's reply, once, if one is due, and idle.

        Both are encoded first: what leaves together wakes libzmq's own thread only once.
        """
        frames = None
        if reply is not None and request.wants_reply and not request.answered:
            frames = self._encode_reply(request, reply)
        idle = self._encode_status("idle", request.message.header)
        if frames is not None:
            request.answered = True
            self.send(request.channel, frames)
        self.outbox.post(idle)

    def _encode_reply(self, request: Request, reply: Reply) -> list[bytes]:
        try:
            return self._encode_reply_once(request, reply)
        except Exception as error:  # what an author put into metadata or buffers
            self.application.log.exception("the reply to %s cannot be sent", request.msg_type)
            return self._encode_reply_once(request, self.application.error_reply(request, error))

    def _encode_reply_once(self, request: Request, reply: Reply) -> list[bytes]:
        return self.codec.encode(
            request.msg_type.removesuffix("_request") + "_reply",
            reply.content,
            parent=request.message.header,
            metadata={**request.metadata, **reply.metadata},
            buffers=reply.buffers,
            identities=request.message.identities,
        )

    def send(self, channel: Channel, frames: list[bytes]) -> None:
        """Send frames to one client; one that is gone is logged only."""
        try:
            self.backlog.send(channel, frames)
        except (PeerGone, trio.ClosedResourceError) as error:
            self.application.log.info("a message on %s went nowhere: %s", channel.name, error)

    def publish(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        *,
        parent: Header | Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[bytes] = (),
        topic: bytes | None = None,
    ) -> None:
        """Broadcast one message; from any thread."""
        topic = topic or f"kernel.{self.application.ident}.{msg_type}".encode()
        self.outbox.post(
            self.codec.encode(
                msg_type,
                content,
                parent=parent,
                metadata=metadata,
                buffers=buffers,
                identities=[topic],
            )
        )

    def publish_status(
        self, state: str, parent: Header | Mapping[str, Any] | None, *, hold: bool = False
    ) -> None:
        """Broadcast ``starting``, ``busy`` or ``idle``; ``hold`` is what `Outbox.post` has."""
        self.outbox.post(self._encode_status(state, parent), hold=hold)

    def _encode_status(self, state: str, parent: Header | Mapping[str, Any] | None) -> list[bytes]:
        topic = f"kernel.{self.application.ident}.status".encode()
        content = _STATES.get(state) or {"execution_state": state}
        return self.codec.encode("status", content, parent=parent, identities=[topic])

    def publish_last_word(self) -> None:
        """The shutdown's content on iopub, once, after everything else."""
        if self.last_word is not None:
            content, request = self.last_word
            self.last_word = None
            self.publish("shutdown_reply", content, parent=request.message.header)
