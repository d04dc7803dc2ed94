"""Turns frames into frozen values and back, without I/O. Imports neither trio nor zmq."""

from __future__ import annotations

from .codec import DELIMITER, Codec, Limits
from .message import PROTOCOL_VERSION, Header, Message
from .message_types import (
    IOPUB_TYPES,
    REQUESTS,
    STDIN_TYPES,
    LaneName,
    MessageType,
    Priority,
    reply_type,
)
from .parsing import as_content, parse
from .stuck import place_in, tell_place

__all__ = [
    "DELIMITER",
    "IOPUB_TYPES",
    "PROTOCOL_VERSION",
    "REQUESTS",
    "STDIN_TYPES",
    "Codec",
    "Header",
    "LaneName",
    "Limits",
    "Message",
    "MessageType",
    "Priority",
    "as_content",
    "parse",
    "place_in",
    "reply_type",
    "tell_place",
]
