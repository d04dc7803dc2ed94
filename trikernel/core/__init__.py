"""Messages and cancel scopes: dispatch, ordering, stopping. No sockets, no user code."""

from __future__ import annotations

from .application import Application
from .background import BackgroundNursery
from .boundary import collapse, is_cancel, stop_error
from .frames import is_machinery, is_ours
from .interrupt import Interrupts
from .lane import Job
from .outbox import OutboxLimits
from .priority import PriorityReceiveChannel, PrioritySendChannel, open_priority_channel
from .protection import await_unprotected, call_unprotected, run_unprotected
from .request import Reply, Request, StopReason, background_scope, current_request
from .serve import serve
from .server import Server
from .text import CLOSED, OpenText

__all__ = [
    "CLOSED",
    "Application",
    "BackgroundNursery",
    "Interrupts",
    "Job",
    "OpenText",
    "OutboxLimits",
    "PriorityReceiveChannel",
    "PrioritySendChannel",
    "Reply",
    "Request",
    "Server",
    "StopReason",
    "await_unprotected",
    "background_scope",
    "call_unprotected",
    "collapse",
    "current_request",
    "is_cancel",
    "is_machinery",
    "is_ours",
    "open_priority_channel",
    "run_unprotected",
    "serve",
    "stop_error",
]
