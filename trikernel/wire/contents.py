"""Typed contents of requests and replies, with the specification's defaults.

Plain frozen values: `parsing.parse` makes requests of content dictionaries and
`parsing.as_content` makes dictionaries of replies. Who sends what where is in `messages`.
Source: messaging.rst, one section per message type.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

__all__ = [
    "AbortRequest",
    "ApplyRequest",
    "ClearRequest",
    "CommClose",
    "CommInfoReply",
    "CommInfoRequest",
    "CommMsg",
    "CommOpen",
    "CompleteReply",
    "CompleteRequest",
    "ConnectReply",
    "ConnectRequest",
    "Empty",
    "ErrorContent",
    "ExecuteReply",
    "ExecuteRequest",
    "HistoryReply",
    "HistoryRequest",
    "InputReply",
    "InspectReply",
    "InspectRequest",
    "InterruptRequest",
    "IsCompleteReply",
    "IsCompleteRequest",
    "KernelInfoReply",
    "KernelInfoRequest",
    "OkReply",
    "ShutdownReply",
    "ShutdownRequest",
]


@attrs.frozen
class Empty:
    """A content without fields."""


class KernelInfoRequest(Empty):
    """Asks who the kernel is."""


class ConnectRequest(Empty):
    """Asks for the kernel's ports (deprecated by the specification)."""


class InterruptRequest(Empty):
    """Asks to interrupt what runs."""


class ClearRequest(Empty):
    """Asks an engine to clear its namespace (IPython.parallel)."""


@attrs.frozen
class ExecuteRequest:
    """Code to run. ``store_history`` defaults to the opposite of ``silent``."""

    code: str
    silent: bool = False
    store_history: bool = attrs.field(
        default=attrs.Factory(lambda self: not self.silent, takes_self=True)
    )
    user_expressions: dict[str, Any] | None = None
    allow_stdin: bool = False
    stop_on_error: bool = True


@attrs.frozen
class CompleteRequest:
    """``cursor_pos`` counts code points and defaults to the end of ``code``."""

    code: str
    cursor_pos: int = attrs.field(
        default=attrs.Factory(lambda self: len(self.code), takes_self=True)
    )


@attrs.frozen
class InspectRequest:
    """``detail_level`` is 0 or 1; ``omit_sections`` names MIME sections to leave out."""

    code: str
    cursor_pos: int = attrs.field(
        default=attrs.Factory(lambda self: len(self.code), takes_self=True)
    )
    detail_level: Literal[0, 1] = 0
    omit_sections: list[str] = attrs.Factory(list)


@attrs.frozen
class HistoryRequest:
    """Which part of the history, and in what form."""

    hist_access_type: Literal["tail", "range", "search"] = "tail"
    output: bool = False
    raw: bool = True
    session: int | None = None
    start: int | None = None
    stop: int | None = None
    n: int | None = None
    pattern: str | None = None
    unique: bool = False


@attrs.frozen
class IsCompleteRequest:
    """Asks whether ``code`` is ready to run."""

    code: str


@attrs.frozen
class CommInfoRequest:
    """Asks for the open comms, all of them or those of one target."""

    target_name: str | None = None


@attrs.frozen
class ShutdownRequest:
    """``restart`` says that another kernel will follow."""

    restart: bool = False


@attrs.frozen
class AbortRequest:
    """``msg_ids`` is one id or a list; none means everything queued."""

    msg_ids: str | list[str] | None = None


@attrs.frozen
class ApplyRequest:
    """A function call of an IPython.parallel client; the call itself is in the buffers."""


@attrs.frozen
class CommOpen:
    """Opens a comm of a target."""

    comm_id: str
    target_name: str
    data: dict[str, Any] = attrs.Factory(dict)
    target_module: str | None = None


@attrs.frozen
class CommMsg:
    """A message on an open comm."""

    comm_id: str
    data: dict[str, Any] = attrs.Factory(dict)


class CommClose(CommMsg):
    """The end of a comm."""


@attrs.frozen
class InputReply:
    """The answer to an ``input_request``."""

    value: str = ""


@attrs.frozen
class OkReply:
    """A reply that says no more than that it went well."""

    status: str = "ok"


@attrs.frozen(kw_only=True)
class ExecuteReply(OkReply):
    """How a run ended; ``execution_count`` is always there, in errors and aborts too."""

    execution_count: int = 0
    payload: list[dict[str, Any]] = attrs.Factory(list)
    user_expressions: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class CompleteReply(OkReply):
    """``cursor_start`` and ``cursor_end`` delimit what a match replaces."""

    matches: list[str] = attrs.Factory(list)
    cursor_start: int = 0
    cursor_end: int = 0
    metadata: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class InspectReply(OkReply):
    """A MIME bundle about the object under the cursor."""

    found: bool = False
    data: dict[str, Any] = attrs.Factory(dict)
    metadata: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class HistoryReply(OkReply):
    """``(session, line, input)`` or ``(session, line, (input, output))`` each."""

    history: list[Any] = attrs.Factory(list)


@attrs.frozen(kw_only=True)
class IsCompleteReply:
    """``status`` is ``complete``, ``incomplete``, ``invalid`` or ``unknown``."""

    status: str = "unknown"


@attrs.frozen(kw_only=True)
class CommInfoReply(OkReply):
    """``comms`` maps a comm's id to ``{"target_name": ...}``."""

    comms: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class ConnectReply(OkReply):
    """The recorded ports."""

    shell_port: int = 0
    iopub_port: int = 0
    stdin_port: int = 0
    control_port: int = 0
    hb_port: int = 0


@attrs.frozen(kw_only=True)
class KernelInfoReply(OkReply):
    """Who the kernel is."""

    protocol_version: str
    implementation: str
    implementation_version: str
    language_info: dict[str, Any]
    banner: str = ""
    help_links: list[dict[str, str]] = attrs.Factory(list)
    supported_features: list[str] = attrs.Factory(list)
    debugger: bool = False


@attrs.frozen(kw_only=True)
class ShutdownReply(OkReply):
    """Goes out twice: as the reply, and as the last word on iopub."""

    restart: bool = False


@attrs.frozen(kw_only=True)
class ErrorContent:
    """Every error reply, and (without ``status``) the iopub ``error``."""

    ename: str
    evalue: str
    traceback: list[str] = attrs.Factory(list)
    status: str = "error"
