"""What a forked child must let go of: locks that another thread held, sockets, loops, signals.

A child shares the parent's sockets and its epoll. It must never touch them: whoever holds such
things registers here, and lets go of them in the child.

A child begins with the parent's signal handlers, too. A signal that comes before they are put back
would be taken by a handler that is then gone, and lost: a pool that ends a worker which has just
begun would wait for it for ever. So those signals wait until the child is itself.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import traceback
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

import trio

__all__ = ["exit_forked", "on_fork"]


class _Holder(Protocol):
    def after_fork(self) -> None:
        """Called in a forked child, before anything else of it runs."""


_holders: weakref.WeakSet[_Holder] = weakref.WeakSet()


def on_fork(holder: _Holder) -> None:
    """Have ``holder.after_fork()`` called in every forked child, as long as it lives."""
    _holders.add(holder)


def exit_forked(error: BaseException | None = None) -> None:
    """End this process, a forked child that ran out of its cell (`os.getpid` has changed since).

    It must not go on into the kernel's loop, which is its parent's. An error is written to the real
    stderr, and makes the exit code 1; a `SystemExit` says the code itself.
    """
    code = 1
    try:
        code = _exit_code(error)
        for name in ("__stdout__", "__stderr__"):
            stream = getattr(sys, name, None)
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    """As the interpreter would end; what it would say is said."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            print(error.code, file=sys.__stderr__)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    traceback.print_exception(error, file=sys.__stderr__)
    return 1


def _let_go() -> None:
    for let_go in (_leave_the_parents_loop, *(one.after_fork for one in tuple(_holders))):
        with suppress(Exception):  # the user's code may have broken one: the others must go on
            let_go()


def _leave_the_parents_loop() -> None:
    """Give the Trio loop of this thread an epoll and a wakeup of its own.

    Both processes would share them, and a child that awaits would take the parent's events. Where
    the descriptors are is not public; without them such a child is a hazard, as it is anywhere.
    """
    runner = getattr(trio._core._run.GLOBAL_RUN_CONTEXT, "runner", None)
    if runner is None or sys.platform != "linux":
        return
    epoll, wakeup = runner.io_manager._epoll, runner.entry_queue.wakeup
    with select.epoll() as own:
        os.dup2(own.fileno(), epoll.fileno(), inheritable=False)
    for ours, theirs in zip(
        socket.socketpair(), (wakeup.wakeup_sock, wakeup.write_sock), strict=True
    ):
        with ours:
            ours.setblocking(False)
            os.dup2(ours.fileno(), theirs.fileno(), inheritable=False)
    epoll.register(wakeup.wakeup_sock.fileno(), select.EPOLLIN | select.EPOLLONESHOT)


if sys.platform != "win32":

    class _HeldSignals(threading.local):
        """What ends or interrupts waits in the thread that forks, until each process is itself."""

        NAMES = ("SIGTERM", "SIGHUP", "SIGINT")
        mask: Iterable[int] = ()

        def hold(self) -> None:
            numbers = [getattr(signal, name) for name in self.NAMES]
            self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

        def release(self) -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)

    _held = _HeldSignals()
    os.register_at_fork(before=_held.hold, after_in_parent=_held.release, after_in_child=_let_go)
    os.register_at_fork(after_in_child=_held.release)
