"""The process that started the kernel: told apart when it dies, heard when it interrupts.

Jupyter passes its pid (on Windows: a handle) in ``JPY_PARENT_PID``, and on Windows an event
that interrupts in ``JPY_INTERRUPT_EVENT``.
"""

from __future__ import annotations

import os
import sys

import trio

from ..system import wait_for_process_end
from .server import Server

__all__ = ["listen_for_interrupt_event", "watch_parent"]


async def watch_parent(server: Server) -> None:
    """Stop the kernel when the process named in ``JPY_PARENT_PID`` ends."""
    parent = _number("JPY_PARENT_PID")
    if parent in (0, 1):  # nobody asked, or the parent is init, which never ends
        return
    await wait_for_process_end(parent)
    server.application.log.warning("the parent process is gone, shutting down")
    server.leave()


async def listen_for_interrupt_event(server: Server) -> None:
    """On Windows: interrupt whenever the event in ``JPY_INTERRUPT_EVENT`` is set."""
    if sys.platform == "win32":
        event = _number("JPY_INTERRUPT_EVENT")
        while event:
            await trio.lowlevel.WaitForSingleObject(event)
            server.interrupts.interrupt()


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0
