"""Frozen values for one message, which the codec makes from frames.

A `Header` keeps the bytes that it came in, because every message about a request carries a
copy of the request's header. Knows nothing of sockets, signatures or message types.
Source: messaging.rst, "General message format".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from . import json

__all__ = ["PROTOCOL_VERSION", "Header", "Message"]

PROTOCOL_VERSION = "5.6"


@attrs.frozen(eq=False, slots=True)
class Header:
    """A message's header: ``msg_id``, ``msg_type``, ``session``, ``username``, ``date``
    (ISO 8601 text), ``version`` (of the protocol), all `str`.

    ``raw`` is the header's JSON as it was received, including fields that are unknown here.
    ``subshell_id`` is the id of the subshell that a request is for, None for the main shell; a
    client may send any JSON value there.
    """

    msg_id: str
    msg_type: str
    session: str
    username: str
    date: str
    version: str
    raw: bytes
    subshell_id: object = None

    def as_dict(self) -> dict[str, Any]:
        """The header as it was received, a new `dict` each time."""
        header: dict[str, Any] = json.loads(self.raw)
        return header


@attrs.frozen(eq=False, slots=True)
class Message:
    """One decoded message.

    ``identities`` are the routing frames before the delimiter, ``buffers`` the binary frames
    after the content. ``parent_header`` is ``{}`` when there is none.
    """

    header: Header
    parent_header: Mapping[str, Any]
    metadata: Mapping[str, Any]
    content: Mapping[str, Any]
    buffers: Sequence[bytes] = ()
    identities: Sequence[bytes] = ()

    @property
    def msg_type(self) -> str:
        """Short for ``header.msg_type``."""
        return self.header.msg_type

    @property
    def msg_id(self) -> str:
        """Short for ``header.msg_id``."""
        return self.header.msg_id

    @property
    def parent_id(self) -> str | None:
        """The ``msg_id`` of the message that this one answers, or None."""
        parent_id = self.parent_header.get("msg_id")
        return parent_id if isinstance(parent_id, str) else None

    def as_dict(self) -> dict[str, Any]:
        """The nested dictionary that `jupyter_client.session.Session.deserialize` gives."""
        return {
            "header": self.header.as_dict(),
            "msg_id": self.header.msg_id,
            "msg_type": self.header.msg_type,
            "parent_header": dict(self.parent_header),
            "metadata": dict(self.metadata),
            "content": dict(self.content),
            "buffers": [memoryview(buffer) for buffer in self.buffers],
        }
