"""Typed contents of replies, with the specification's defaults.

A verb may return one of these, or a dictionary. Source: messaging.rst, one section per type.
"""

from __future__ import annotations

from typing import Any

import attrs

from .contents import Content

__all__ = [
    "CommInfoReply",
    "CompleteReply",
    "ConnectReply",
    "ErrorContent",
    "ExecuteReply",
    "HistoryReply",
    "InspectReply",
    "IsCompleteReply",
    "KernelInfoReply",
    "OkReply",
    "ShutdownReply",
]


@attrs.frozen(slots=False, eq=False, repr=False)
class OkReply(Content):
    """A reply that says no more than that it went well."""

    status: str = "ok"


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class ExecuteReply(OkReply):
    """How a run ended; ``execution_count`` is always there, in errors and aborts too."""

    execution_count: int = 0
    payload: list[dict[str, Any]] = attrs.Factory(list)
    user_expressions: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class CompleteReply(OkReply):
    """``cursor_start`` and ``cursor_end`` delimit what a match replaces."""

    matches: list[str] = attrs.Factory(list)
    cursor_start: int = 0
    cursor_end: int = 0
    metadata: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class InspectReply(OkReply):
    """A MIME bundle about the object under the cursor."""

    found: bool = False
    data: dict[str, Any] = attrs.Factory(dict)
    metadata: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class HistoryReply(OkReply):
    """``(session, line, input)`` or ``(session, line, (input, output))`` each."""

    history: list[Any] = attrs.Factory(list)


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class IsCompleteReply(Content):
    """``status`` is ``complete``, ``incomplete``, ``invalid`` or ``unknown``."""

    status: str = "unknown"


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class CommInfoReply(OkReply):
    """``comms`` maps a comm's id to ``{"target_name": ...}``."""

    comms: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class ConnectReply(OkReply):
    """The recorded ports."""

    shell_port: int = 0
    iopub_port: int = 0
    stdin_port: int = 0
    control_port: int = 0
    hb_port: int = 0


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
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


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class ShutdownReply(OkReply):
    """Goes out twice: as the reply, and as the last word on iopub."""

    restart: bool = False


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class ErrorContent(Content):
    """Every error reply, and (without ``status``) the iopub ``error``."""

    ename: str
    evalue: str
    traceback: list[str] = attrs.Factory(list)
    status: str = "error"
