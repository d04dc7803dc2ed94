"""The process that started the kernel: told apart when it dies, heard when it interrupts.

Jupyter passes its pid (on Windows: a handle) in ``JPY_PARENT_PID``, and on Windows an event
that interrupts in ``JPY_INTERRUPT_EVENT``. The system says when the parent dies: a pidfd on
Linux, kqueue on macOS and BSD, the handle on Windows; only elsewhere is it asked once a second.
"""

from __future__ import annotations

import os
import select
import sys

import trio

from .server import Server

__all__ = ["listen_for_interrupt_event", "watch_parent"]


async def watch_parent(server: Server) -> None:
    """Stop the kernel when the process named in ``JPY_PARENT_PID`` ends."""
    parent = _number("JPY_PARENT_PID")
    if parent in (0, 1):  # nobody asked, or the parent is init, which never ends
        return
    await _wait_for_end(parent)
    server.application.log.warning("the parent process is gone, shutting down")
    server.leave()


async def listen_for_interrupt_event(server: Server) -> None:
    """On Windows: interrupt whenever the event in ``JPY_INTERRUPT_EVENT`` is set."""
    if sys.platform == "win32":
        event = _number("JPY_INTERRUPT_EVENT")
        while event:
            await trio.lowlevel.WaitForSingleObject(event)
            server.interrupts.interrupt()


async def _wait_for_end(pid: int) -> None:
    if sys.platform == "win32":
        await trio.lowlevel.WaitForSingleObject(pid)
    elif sys.platform == "linux":
        await _wait_by_pidfd(pid)
    elif hasattr(select, "kqueue"):
        await _wait_by_kqueue(pid)
    else:
        await _wait_by_polling(pid)


async def _wait_by_pidfd(pid: int) -> None:
    if sys.platform == "linux":
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        except OSError:  # an old kernel, or one that forbids it
            await _wait_by_polling(pid)
            return
        try:
            await trio.lowlevel.wait_readable(fd)
        finally:
            os.close(fd)


async def _wait_by_polling(pid: int) -> None:
    while os.getppid() == pid:  # noqa: ASYNC110  # this system offers no event
        await trio.sleep(1)


async def _wait_by_kqueue(pid: int) -> None:
    if sys.platform != "linux" and sys.platform != "win32":
        kevent = select.kevent(
            pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT
        )
        try:
            trio.lowlevel.current_kqueue().control([kevent], 0)
        except ProcessLookupError:
            return
        await trio.lowlevel.wait_kevent(
            pid, select.KQ_FILTER_PROC, lambda _: trio.lowlevel.Abort.SUCCEEDED
        )


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0
