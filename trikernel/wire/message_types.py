"""The table of message types: the lane and the priority of each, and whether a failure aborts it.

`core.dispatch` reads it for every request. The columns ``content`` and ``reply`` are the types that
the handler takes and returns; the reference documentation and the tests use them. The kernel's
method that handles a request has the name of its type. A kernel may extend its own copy.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import attrs

from . import contents as c

__all__ = [
    "IOPUB_TYPES",
    "REQUESTS",
    "STDIN_TYPES",
    "LaneName",
    "MessageType",
    "Priority",
    "reply_type",
]


class Priority(enum.IntEnum):
    """How urgent a queued request is; a smaller number goes first."""

    CONTROL = 1
    SHELL = 10
    LAST = 20


class LaneName(enum.Enum):
    """Which serial lane handles a type: see the discussion page "two loops"."""

    SHELL = "shell"
    COMM = "comm"
    CONTROL = "control"


@attrs.frozen(kw_only=True)
class MessageType:
    """One row: a message type and what dispatch has to know of it.

    ``channels`` are those on which it may arrive (``shell``, ``control``). ``lane`` and
    ``priority`` say in which queue it waits when it arrives on shell. ``abortable``: a cell that
    fails aborts it while it is queued. ``concurrent``: if it arrives on control, it is handled in
    the control lane, while a cell runs; every other type that arrives on control is put into its
    own lane with `Priority.CONTROL`. ``quiet``: its handler sends no output and runs no code of the
    user's or of an author's, so its reply need not wait until the output is sent. ``may_wait``: its
    handler may wait, so in the control lane it gets a task of its own. ``in_order``: such a task
    first waits until the one before it has ended, for a limited time. ``early``: control answers it
    while the kernel is still being prepared. ``runs_user_code``: it runs a cell, before which
    earlier comm messages are started. ``reply`` is None for types that get no reply.
    """

    name: str
    channels: tuple[str, ...] = ("shell", "control")
    lane: LaneName = LaneName.SHELL
    priority: int = Priority.SHELL
    abortable: bool = False
    concurrent: bool = False
    quiet: bool = False
    may_wait: bool = False
    in_order: bool = False
    early: bool = False
    runs_user_code: bool = False
    content: type = c.Empty
    reply: type | None = None

    @property
    def reply_type(self) -> str | None:
        """``execute_reply`` for ``execute_request``; None for types without a reply."""
        return reply_type(self.name)


@lru_cache(maxsize=256)
def reply_type(msg_type: str) -> str | None:
    """``execute_reply`` for ``execute_request``; None if the type does not end in ``_request``."""
    if not msg_type.endswith("_request"):
        return None
    return msg_type.removesuffix("_request") + "_reply"


def _table(*rows: MessageType) -> Mapping[str, MessageType]:
    return MappingProxyType({row.name: row for row in rows})


_Row = MessageType

REQUESTS = _table(
    _Row(
        name="execute_request",
        abortable=True,
        runs_user_code=True,
        content=c.ExecuteRequest,
        reply=c.ExecuteReply,
    ),
    _Row(name="complete_request", content=c.CompleteRequest, reply=c.CompleteReply),
    _Row(name="inspect_request", content=c.InspectRequest, reply=c.InspectReply),
    _Row(name="history_request", content=c.HistoryRequest, reply=c.HistoryReply),
    _Row(name="is_complete_request", content=c.IsCompleteRequest, reply=c.IsCompleteReply),
    _Row(
        name="kernel_info_request",
        concurrent=True,
        quiet=True,
        early=True,
        content=c.KernelInfoRequest,
        reply=c.KernelInfoReply,
    ),
    _Row(
        name="comm_info_request",
        concurrent=True,
        quiet=True,
        content=c.CommInfoRequest,
        reply=c.CommInfoReply,
    ),
    _Row(
        name="connect_request",
        concurrent=True,
        quiet=True,
        early=True,
        content=c.ConnectRequest,
        reply=c.ConnectReply,
    ),
    _Row(
        name="usage_request",
        channels=("control",),
        concurrent=True,
        quiet=True,
        may_wait=True,
        content=c.UsageRequest,
        reply=c.UsageReply,
    ),
    _Row(
        name="tasks_request",
        channels=("control",),
        concurrent=True,
        quiet=True,
        may_wait=True,
        content=c.TasksRequest,
        reply=c.TasksReply,
    ),
    _Row(
        name="shutdown_request",
        concurrent=True,
        early=True,
        content=c.ShutdownRequest,
        reply=c.ShutdownReply,
    ),
    _Row(
        name="interrupt_request",
        channels=("control",),
        concurrent=True,
        quiet=True,
        early=True,
        content=c.InterruptRequest,
        reply=c.OkReply,
    ),
    _Row(
        name="abort_request",
        channels=("control",),
        concurrent=True,
        quiet=True,
        early=True,
        content=c.AbortRequest,
        reply=c.OkReply,
    ),
    _Row(
        name="create_subshell_request",
        channels=("control",),
        concurrent=True,
        quiet=True,
        content=c.CreateSubshellRequest,
        reply=c.CreateSubshellReply,
    ),
    _Row(
        name="delete_subshell_request",
        channels=("control",),
        concurrent=True,
        quiet=True,
        may_wait=True,
        content=c.DeleteSubshellRequest,
        reply=c.OkReply,
    ),
    _Row(
        name="list_subshell_request",
        channels=("control",),
        concurrent=True,
        quiet=True,
        early=True,
        content=c.ListSubshellRequest,
        reply=c.ListSubshellReply,
    ),
    _Row(
        name="debug_request",
        channels=("control",),
        concurrent=True,
        may_wait=True,
        in_order=True,
        content=c.DebugRequest,
        reply=c.DebugReply,
    ),
    _Row(
        name="apply_request",
        abortable=True,
        runs_user_code=True,
        content=c.ApplyRequest,
        reply=c.OkReply,
    ),
    _Row(name="clear_request", channels=("control",), content=c.ClearRequest, reply=c.OkReply),
    _Row(name="comm_open", lane=LaneName.COMM, content=c.CommOpen),
    _Row(name="comm_msg", lane=LaneName.COMM, content=c.CommMsg),
    _Row(name="comm_close", lane=LaneName.COMM, content=c.CommClose),
)
"""The messages that a client may send to a kernel on shell and control, by their types."""

IOPUB_TYPES = (
    "status",
    "stream",
    "display_data",
    "update_display_data",
    "execute_input",
    "execute_result",
    "error",
    "clear_output",
    "comm_open",
    "comm_msg",
    "comm_close",
    "debug_event",
    "shutdown_reply",
    "iopub_welcome",
)
"""The types of the messages that the kernel broadcasts on iopub."""

STDIN_TYPES = ("input_request", "input_reply")
"""The types of messages on stdin: the kernel sends the first one, a client the second one."""
