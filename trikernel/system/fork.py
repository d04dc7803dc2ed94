"""What a forked child must let go of: locks that another thread held, sockets, loops, signals.

A child shares the parent's sockets and its epoll, and must not use them. An object that holds such
things registers itself with `on_fork`; its ``after_fork`` lets go of them in the child.

A child also begins with the handlers that the kernel has set for signals; an ``after_fork`` puts
back those from before. A signal that came earlier would be taken by a handler of the kernel's, and
lost: a pool that ends a worker which has just begun would wait for it for ever. So the thread that
forks blocks those signals during the fork, and the child unblocks them after the last
``after_fork``.
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
    """End this process: a child that the user's code has forked, in which that code has ended.

    It must not go on into the kernel's loop, which is its parent's; so this never returns.
    ``error`` is what the code has raised. An error is written to the real stderr, and makes the
    exit code 1; a `SystemExit` says the code itself.
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
    """The exit code that the interpreter would end with. Prints what the interpreter would print
    of the error.
    """
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
        with suppress(Exception):  # the user's code may have broken one: the others are called
            let_go()


def _leave_the_parents_loop() -> None:
    """Give the Trio loop of this thread an epoll and a wakeup of its own.

    Both processes would share them, and a child that awaits would take the parent's events. The
    descriptors are found by private names of Trio. Without these names the child takes the
    parent's events, as it does in every other Trio program.
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
        """Blocks the signals that end or interrupt a process, in the thread that forks: in the
        parent until the fork is done, in the child until it has handlers of its own.
        """

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
