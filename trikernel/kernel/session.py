"""`Kernel.session`: a Session of jupyter_client that sends through the kernel's channels.

It is imported only when a subclass uses it, because importing jupyter_client takes a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyter_client.session import Session

from ..core import Connection
from ..wire import PROTOCOL_VERSION

__all__ = ["KernelSession"]


class KernelSession(Session):
    """The session on which kernels call ``self.session.send(self.iopub_socket, ...)``."""

    @classmethod
    def on(cls, connection: Connection) -> KernelSession:
        """A session with the kernel's key and session id."""
        codec = connection.codec
        session = cls(
            key=codec.key,
            signature_scheme=codec.signature_scheme,
            session=codec.session,
            username=codec.username,
        )
        session._topic = connection.iopub.topic
        return session

    _topic: Callable[[str], bytes]

    def msg_header(self, msg_type: str) -> dict[str, Any]:
        """A header of this session, in the protocol version that the kernel speaks."""
        return {**super().msg_header(msg_type), "version": PROTOCOL_VERSION}

    def send(self, stream: Any, msg_or_type: Any, *args: Any, **kwargs: Any) -> Any:
        """Send on one of the kernel's channels; on iopub a missing ident is the topic."""
        names = ("content", "parent", "ident", "buffers", "track", "header", "metadata")
        values = {**dict(zip(names, args, strict=False)), **kwargs}
        values.pop("track", None)
        if not values.get("ident") and getattr(stream, "name", "") == "iopub":
            is_type = isinstance(msg_or_type, str)
            values["ident"] = self._topic(msg_or_type if is_type else msg_or_type["msg_type"])
        return super().send(stream, msg_or_type, **values)
