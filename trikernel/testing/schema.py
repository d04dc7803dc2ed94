"""What each message's content must hold: one table, read by the conformance checks.

A field is required unless its name ends in ``?``. Fields beyond the table are allowed, as the
specification allows them. Source: messaging.rst, one section per message type; JEP 65.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..wire import Message

__all__ = ["CONTENTS", "content_faults", "header_faults"]

Fields = Mapping[str, Any]

_TEXT_LIST = "a list of strings"
_BUNDLE = {"data": dict, "metadata": dict}
_ERROR = {"ename": str, "evalue": str, "traceback": _TEXT_LIST}
_COMM = {"comm_id": str, "data": dict}

CONTENTS: Mapping[str, Fields] = {
    # iopub
    "status": {"execution_state": ("starting", "busy", "idle")},
    "stream": {"name": ("stdout", "stderr"), "text": str},
    "display_data": {**_BUNDLE, "transient?": dict},
    "update_display_data": {**_BUNDLE, "transient": dict},
    "execute_input": {"code": str, "execution_count": int},
    "execute_result": {**_BUNDLE, "execution_count": int, "transient?": dict},
    "error": _ERROR,
    "clear_output": {"wait": bool},
    "comm_open": {**_COMM, "target_name": str, "target_module?": (str, None)},
    "comm_msg": _COMM,
    "comm_close": _COMM,
    "iopub_welcome": {"subscription": str},
    # stdin
    "input_request": {"prompt": str, "password": bool},
    # replies with status ok
    "execute_reply": {"execution_count": int, "user_expressions": dict, "payload?": list},
    "complete_reply": {
        "matches": _TEXT_LIST,
        "cursor_start": int,
        "cursor_end": int,
        "metadata": dict,
    },
    "inspect_reply": {"found": bool, **_BUNDLE},
    "history_reply": {"history": list},
    "comm_info_reply": {"comms": dict},
    "kernel_info_reply": {
        "protocol_version": str,
        "implementation": str,
        "implementation_version": str,
        "language_info": dict,
        "banner": str,
        "help_links?": list,
        "supported_features?": _TEXT_LIST,
        "debugger?": bool,
    },
    "shutdown_reply": {"restart": bool},
    "interrupt_reply": {},
    "connect_reply": {},
    "is_complete_reply": {"status": ("complete", "incomplete", "invalid", "unknown")},
}

LANGUAGE_INFO: Fields = {"name": str, "version": str, "mimetype": str, "file_extension": str}


def content_faults(message: Message) -> Iterator[str]:
    """What is wrong with a message's content, in words; nothing if all is well."""
    kind, content = message.msg_type, message.content
    if kind.endswith("_reply"):
        status = content.get("status")
        if status == "error":
            yield from _faults(kind, content, _ERROR)
            return
        if status != "ok" and kind != "is_complete_reply":
            if status != "aborted":
                yield f"{kind}: 'status' must be ok, error or aborted, not {status!r}"
            return
    yield from _faults(kind, content, CONTENTS.get(kind, {}))
    if kind == "kernel_info_reply" and isinstance(content.get("language_info"), dict):
        yield from _faults("language_info", content["language_info"], LANGUAGE_INFO)


def header_faults(message: Message) -> Iterator[str]:
    """What is wrong with a message's header."""
    header = message.header.as_dict()
    for name in ("msg_id", "session", "username", "date", "msg_type", "version"):
        if not isinstance(header.get(name), str):
            yield f"{message.msg_type}: the header's {name!r} must be a string"
    try:
        zone = datetime.fromisoformat(str(header.get("date"))).tzinfo
    except ValueError:
        yield f"{message.msg_type}: the header's date is not in ISO 8601: {header.get('date')!r}"
    else:
        if zone is None:
            yield f"{message.msg_type}: the header's date has no time zone"


def _faults(kind: str, content: Mapping[str, Any], fields: Fields) -> Iterator[str]:
    for marked, expected in fields.items():
        name = marked.removesuffix("?")
        if name not in content:
            if name == marked:
                yield f"{kind}: the field {name!r} is missing"
        elif not _fits(content[name], expected):
            words = expected.__name__ if isinstance(expected, type) else expected
            yield f"{kind}: the field {name!r} must be {words}, not {content[name]!r:.80}"


def _fits(value: Any, expected: Any) -> bool:
    if expected is _TEXT_LIST:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if isinstance(expected, tuple):
        return any(
            value == one or (isinstance(one, type) and _fits(value, one)) for one in expected
        )
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, expected)
