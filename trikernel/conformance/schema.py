"""What the protocol demands of every message, and of the order of the messages about one request.

The fields of each content stand in one table, `CONTENTS`. A field is required unless its name ends
in ``?``. Other fields are allowed, as in the specification. The order is the same for every kernel
and every transport. Source: messaging.rst, one section per message type; JEP 65.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..client import Execution
from ..client.outputs import OUTPUT_TYPES
from ..wire import Message

__all__ = [
    "CONTENTS",
    "assert_order",
    "content_faults",
    "header_faults",
    "message_types",
    "order_faults",
    "require",
]

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
    """What is wrong with a message's content, in words; nothing if it is right."""
    kind, content = message.msg_type, message.content
    if kind.endswith("_reply"):
        status = content.get("status")
        if status == "error":
            yield from _faults(kind, content, _ERROR)
            return
        if status != "ok" and kind != "is_complete_reply":
            if status != "aborted":
                yield f"{kind}: 'status' must be ok, error or aborted, not {status!r}"
            elif "execution_count" in content:  # a frontend shows it beside a cell that never ran
                yield f"{kind}: an aborted reply must have no 'execution_count'"
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


# The order of the messages about a request


def message_types(execution: Execution) -> list[str]:
    """The types of the messages on iopub, up to idle: ``status:busy``, ``execute_input`` ..."""
    return [
        f"status:{one.content.get('execution_state')}" if one.msg_type == "status" else one.msg_type
        for one in execution.messages
    ]


def assert_order(execution: Execution, *types: str) -> None:
    """Assert that the messages about a finished request came in the right order.

    Always checked: busy first, idle last, one reply, one ``execute_input`` before all outputs, an
    error output if the reply says error. With ``types``, `message_types` must also be exactly
    these. Source: messaging.rst, "Request-Reply" and "Kernel status".
    """
    __tracebackhide__ = True
    faults = list(order_faults(execution))
    if types and message_types(execution) != list(types):
        faults.append(f"expected are {' '.join(types)}")
    require(
        not faults, f"{execution}: {'; '.join(faults)}\niopub: {_line(message_types(execution))}"
    )


def require(condition: object, text: str) -> None:
    """Raise `AssertionError` with exactly this text, unless the condition holds.

    Not an ``assert`` statement: pytest adds its own text to those, and ``python -O`` removes them.
    """
    __tracebackhide__ = True
    if not condition:
        raise AssertionError(text)


def order_faults(execution: Execution) -> Iterator[str]:
    """What is wrong with the order, in words; nothing if it is right."""
    types = message_types(execution)
    if types[:1] != ["status:busy"] or types.count("status:busy") != 1:
        yield "busy must come once, before everything else"
    again = any(one.msg_type == "status" for one in execution.late)
    if types[-1:] != ["status:idle"] or again:
        yield "idle must come once, after everything else"
    if execution.replies != 1 and execution.has_reply:
        yield f"there must be one reply, not {execution.replies}"
    if execution.msg_type == "execute_request":
        yield from _execute_faults(execution, types)


def _execute_faults(execution: Execution, types: Sequence[str]) -> Iterator[str]:
    outputs = [index for index, one in enumerate(types) if one in OUTPUT_TYPES]
    inputs = [index for index, one in enumerate(types) if one == "execute_input"]
    if execution.silent:
        if len(types) > 2:
            yield "a silent request must publish nothing but busy and idle"
        return
    if not inputs and execution.status in ("aborted", "error"):  # it was refused, or never run
        if outputs:
            yield "a request that was not run must have no outputs"
        return
    if len(inputs) != 1:
        yield f"there must be one execute_input, not {len(inputs)}"
    elif outputs and outputs[0] < inputs[0]:
        yield "execute_input must come before the outputs"
    if types.count("execute_result") > 1:
        yield "there must be at most one execute_result"
    if execution.status == "error" and inputs and "error" not in types:
        yield "the reply says error, so there must be an error output"


def _line(types: Sequence[str]) -> str:
    """The types with repetitions counted: ``stream x 3``."""
    groups: list[tuple[str, int]] = []
    for one in types:
        if groups and groups[-1][0] == one:
            groups[-1] = (one, groups[-1][1] + 1)
        else:
            groups.append((one, 1))
    return ", ".join(name if count == 1 else f"{name} x {count}" for name, count in groups)
