"""Typed contents of requests and replies, with the specification's defaults.

Plain frozen values. `parsing.parse` turns content dictionaries into requests, `parsing.as_content`
turns replies into dictionaries; a method that handles a request may return either. On which
channels the messages go is in `message_types`.
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
    "CreateSubshellReply",
    "CreateSubshellRequest",
    "DebugReply",
    "DebugRequest",
    "DeleteSubshellRequest",
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
    "ListSubshellReply",
    "ListSubshellRequest",
    "OkReply",
    "ShutdownReply",
    "ShutdownRequest",
    "UsageReply",
    "UsageRequest",
]


class Content:
    """Base of all contents: equality and `repr` by their fields.

    These methods are written once here. If attrs generated them for each content, that would take a
    tenth of the time of importing trikernel.
    """

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({fields})"


@attrs.frozen(slots=False, eq=False, repr=False)
class Empty(Content):
    """A content without fields."""


class KernelInfoRequest(Empty):
    """Asks for the kernel's name, version, language and features."""


class ConnectRequest(Empty):
    """Asks for the kernel's ports (deprecated by the specification)."""


class UsageRequest(Empty):
    """Asks for the kernel process's use of processor and memory (ipykernel's extension)."""


class TasksRequest(Empty):
    """Asks for the tasks that cells have started and that still run (trikernel's extension)."""


class InterruptRequest(Empty):
    """Asks to interrupt the running request."""


class CreateSubshellRequest(Empty):
    """Asks for a new subshell."""


class ListSubshellRequest(Empty):
    """Asks which subshells there are."""


@attrs.frozen(slots=False, eq=False, repr=False)
class DeleteSubshellRequest(Content):
    """``subshell_id`` names the subshell that is to end."""

    subshell_id: str


class ClearRequest(Empty):
    """Asks an engine to clear its namespace (IPython.parallel)."""


@attrs.frozen(slots=False, eq=False, repr=False)
class DebugRequest(Content):
    """A request of the Debug Adapter Protocol: ``type`` is ``request``."""

    seq: int
    command: str
    type: str = "request"
    arguments: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(slots=False, eq=False, repr=False)
class ExecuteRequest(Content):
    """Code to run. ``store_history`` defaults to the opposite of ``silent``."""

    code: str
    silent: bool = False
    store_history: bool = attrs.field(
        default=attrs.Factory(lambda self: not self.silent, takes_self=True)
    )
    user_expressions: dict[str, Any] | None = None
    allow_stdin: bool = False
    stop_on_error: bool = True


@attrs.frozen(slots=False, eq=False, repr=False)
class CompleteRequest(Content):
    """``cursor_pos`` counts code points and defaults to the end of ``code``."""

    code: str
    cursor_pos: int = attrs.field(
        default=attrs.Factory(lambda self: len(self.code), takes_self=True)
    )


@attrs.frozen(slots=False, eq=False, repr=False)
class InspectRequest(Content):
    """``detail_level`` is 0 or 1; ``omit_sections`` names MIME sections to leave out."""

    code: str
    cursor_pos: int = attrs.field(
        default=attrs.Factory(lambda self: len(self.code), takes_self=True)
    )
    detail_level: Literal[0, 1] = 0
    omit_sections: list[str] = attrs.Factory(list)


@attrs.frozen(slots=False, eq=False, repr=False)
class HistoryRequest(Content):
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


@attrs.frozen(slots=False, eq=False, repr=False)
class IsCompleteRequest(Content):
    """Asks whether ``code`` is ready to run."""

    code: str


@attrs.frozen(slots=False, eq=False, repr=False)
class CommInfoRequest(Content):
    """Asks for the open comms, all of them or those of one target."""

    target_name: str | None = None


@attrs.frozen(slots=False, eq=False, repr=False)
class ShutdownRequest(Content):
    """``restart`` says that the kernel will be started again."""

    restart: bool = False


@attrs.frozen(slots=False, eq=False, repr=False)
class AbortRequest(Content):
    """``msg_ids`` is one id or a list; None means all queued requests."""

    msg_ids: str | list[str] | None = None


@attrs.frozen(slots=False, eq=False, repr=False)
class ApplyRequest(Content):
    """A function call of an IPython.parallel client; the call itself is in the buffers."""


@attrs.frozen(slots=False, eq=False, repr=False)
class CommOpen(Content):
    """Opens a comm of a target. By the specification ``data`` is an object; some old libraries send
    other JSON values.
    """

    comm_id: str
    target_name: str
    data: Any = attrs.Factory(dict)
    target_module: str | None = None


@attrs.frozen(slots=False, eq=False, repr=False)
class CommMsg(Content):
    """A message on an open comm."""

    comm_id: str
    data: Any = attrs.Factory(dict)


class CommClose(CommMsg):
    """The end of a comm."""


@attrs.frozen(slots=False, eq=False, repr=False)
class InputReply(Content):
    """The answer to an ``input_request``."""

    value: str = ""


@attrs.frozen(slots=False, eq=False, repr=False)
class OkReply(Content):
    """A reply whose only field is the status."""

    status: str = "ok"


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class CreateSubshellReply(OkReply):
    """Requests for the new subshell have ``subshell_id`` in their headers."""

    subshell_id: str


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class ListSubshellReply(OkReply):
    """``subshell_id`` is the list of all subshells' ids, without the main shell."""

    subshell_id: list[str]


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class ExecuteReply(OkReply):
    """How a cell ended. An error reply has ``execution_count``, too. The kernel leaves it out of an
    ``aborted`` reply, else frontends would show that the cell has run.
    """

    execution_count: int = 0
    payload: list[dict[str, Any]] = attrs.Factory(list)
    user_expressions: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class CompleteReply(OkReply):
    """A match replaces the code from ``cursor_start`` to ``cursor_end``."""

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
    """Each entry is ``(session, line, input)`` or ``(session, line, (input, output))``."""

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
    """The ports that the kernel has bound."""

    shell_port: int = 0
    iopub_port: int = 0
    stdin_port: int = 0
    control_port: int = 0
    hb_port: int = 0


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class TasksReply(OkReply):
    """The tasks that still run, each one before its child tasks; the first thousand. ``more`` is
    how many more there are.

    Each task has: ``number`` (which ``%cancel #number`` takes), ``cell`` (the execution count of
    the cell that started it, or null), ``origin`` (the same in words), ``depth`` (0 for a task that
    is no child of another one), ``name``, ``age`` (seconds), ``waits_on``.
    """

    tasks: list[Any]
    more: int = 0


class UsageReply(OkReply):
    """What the kernel's process and its children use: processor time in percent, memory in bytes.

    Without psutil only ``hostname``, ``pid`` and ``cpu_count`` are known.
    """

    hostname: str
    pid: int
    cpu_count: int | None = None
    kernel_cpu: float = 0
    kernel_memory: float = 0
    host_cpu_percent: float = 0
    host_virtual_memory: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class KernelInfoReply(OkReply):
    """The kernel's name, version, language and features."""

    protocol_version: str
    implementation: str
    implementation_version: str
    language_info: dict[str, Any]
    banner: str = ""
    help_links: list[dict[str, str]] = attrs.Factory(list)
    supported_features: list[str] = attrs.Factory(list)
    debugger: bool = False


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class DebugReply(Content):
    """A response of the Debug Adapter Protocol; with ``success`` false, ``message`` says why."""

    request_seq: int
    command: str
    seq: int = 0
    type: str = "response"
    success: bool = True
    message: str = ""
    body: dict[str, Any] = attrs.Factory(dict)


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class ShutdownReply(OkReply):
    """Sent twice: as the reply, and as the last message on iopub."""

    restart: bool = False


@attrs.frozen(slots=False, eq=False, repr=False, kw_only=True)
class ErrorContent(Content):
    """Every error reply, and (without ``status``) the iopub ``error``."""

    ename: str
    evalue: str
    traceback: list[str] = attrs.Factory(list)
    status: str = "error"
