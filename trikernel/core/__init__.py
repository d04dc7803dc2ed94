"""Messages and cancel scopes: dispatch, ordering, stopping. No sockets, no user code."""

from __future__ import annotations

from .connection import Connection, Rejections
from .iopub import SHORT, IOPub, OutputLimits, StreamText, TextKey
from .lanes import Job, PriorityReceiveChannel, PrioritySendChannel, open_priority_channel
from .own_process import run_in_this_thread
from .places import await_frames, is_asyncio, where_it_runs
from .request import (
    Event,
    Reply,
    Request,
    RequestScope,
    StopReason,
    background_scope,
    current_request,
    is_served,
)
from .server import Server, Services, ServiceTask, serve
from .stop import Stopper
from .subshell_loop import SubshellKey, current_subshell
from .subshells import Subshells
from .user_code import (
    MACHINERY,
    BackgroundNursery,
    await_unprotected,
    call_unprotected,
    holds_cancel,
    is_cancel,
    is_machinery,
    is_ours,
    run_unprotected,
    unwrap_interrupt,
)

__all__ = [
    "MACHINERY",
    "SHORT",
    "BackgroundNursery",
    "Connection",
    "Event",
    "IOPub",
    "Job",
    "OutputLimits",
    "PriorityReceiveChannel",
    "PrioritySendChannel",
    "Rejections",
    "Reply",
    "Request",
    "RequestScope",
    "Server",
    "ServiceTask",
    "Services",
    "StopReason",
    "Stopper",
    "StreamText",
    "SubshellKey",
    "Subshells",
    "TextKey",
    "await_frames",
    "await_unprotected",
    "background_scope",
    "call_unprotected",
    "current_request",
    "current_subshell",
    "holds_cancel",
    "is_asyncio",
    "is_cancel",
    "is_machinery",
    "is_ours",
    "is_served",
    "open_priority_channel",
    "run_in_this_thread",
    "run_unprotected",
    "serve",
    "unwrap_interrupt",
    "where_it_runs",
]
