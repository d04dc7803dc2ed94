"""Messages as lines of a report: which way each went, on which channel, and its content.

Knows nothing of requirements.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..client import Execution
from ..wire import Message

__all__ = ["show_execution", "show_message", "show_unread"]

WIDE = 160  # characters of a content
MANY = 12  # lines for one request


def show_execution(execution: Execution) -> list[str]:
    """A request, the messages on iopub about it, and its reply: a line for each."""
    came = [show_message(one) for one in (*execution.messages, *execution.late)]
    if len(came) > MANY:
        came[MANY // 2 : -MANY // 2] = [f"   ... {len(came) - MANY} more"]
    asked = f"-> {execution.msg_type}"
    code = f" {execution.code!r:.{WIDE}}" if execution.code else ""
    reply = [show_message(execution.reply, "reply")] if execution.reply is not None else []
    nothing = [] if reply or not execution.has_reply else ["<- no reply"]
    return [asked + code, *came, *reply, *nothing]


def show_message(message: Message, channel: str = "iopub") -> str:
    """A line for a message that was received."""
    parent = "" if message.parent_header else " without a parent"
    return f"<- {channel} {message.msg_type}{parent} {_line(message.content)}"


def show_unread(channel: str, error: Exception, frames: Sequence[bytes]) -> list[str]:
    """Lines for received frames that cannot be decoded, with the reason."""
    return [f"<- {channel} unreadable: {error}", *(f"   {frame!r:.{WIDE}}" for frame in frames[:7])]


def _line(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=True, default=repr)
    return text if len(text) <= WIDE else f"{text[:WIDE]}..."


def joined(parts: Iterable[list[str]]) -> tuple[str, ...]:
    """The lines of several parts, as one tuple."""
    return tuple(line for part in parts for line in part)
