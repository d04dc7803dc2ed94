"""The signals that end a kernel's process: SIGTERM and SIGHUP, and the one at its parent's end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from ..core import Server, ServiceTask
from ..system import on_fork, signal_at_parents_end

__all__ = ["TerminationSignals"]

_AT_PARENTS_END = "SIGWINCH"  # without effect by default; SIGURG is what stops send


class TerminationSignals:
    """SIGTERM and SIGHUP: the first one shuts the kernel down in order, within its time limit, the
    second one ends the process at once.

    The functions in ``before_exit`` are called before the process ends at once.

    When the process in ``JPY_PARENT_PID`` has ended, the service loop has the kernel end. C code
    that keeps the interpreter lock holds that up; if it looks for signals, the signal of
    `signal_at_parents_end` reaches it. That needs a parent which is the real one.
    """

    NAMES = ("SIGTERM", "SIGHUP")

    def __init__(self, service_tasks: Sequence[ServiceTask] = ()) -> None:
        self.before_exit: list[Callable[[], object]] = []
        self._service_tasks = service_tasks
        self._server: Server | None = None
        self._came = False
        self._parent: int | None = None  # while the system signals its end
        self._previous: dict[int, Any] = {}
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: signals have their usual effect, and the parent's files stay."""
        self.before_exit.clear()
        self._parent = None
        self._restore()

    def listen(self, server: Server) -> None:
        """The kernel is served: a signal shuts this server down."""
        self._server = server
        server.before_exit += self.before_exit
        server.service_tasks += self._service_tasks

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._server is not None and not self._came:
            self._came = True
            self._server.terminate()
            return
        try:
            for function in self.before_exit:
                function()
        finally:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _on_parents_signal(self, signum: int, frame: FrameType | None) -> None:
        """The thread that has started this process has ended, or a terminal has changed its size:
        if the parent has ended, do here what the service loop may not get the lock for.
        """
        if self._server is None or self._parent in (None, os.getppid()):
            return
        self._parent = None
        self._server.leave()
        self._server.stopper.raise_pending()

    def __enter__(self) -> TerminationSignals:
        if threading.current_thread() is threading.main_thread():
            for name in self.NAMES:
                self._handle(name, self._on_signal)
            self._follow_parent()
        return self

    def _follow_parent(self) -> None:
        parent = os.getppid()
        if parent > 1 and os.environ.get("JPY_PARENT_PID") == str(parent):
            number = self._handle(_AT_PARENTS_END, self._on_parents_signal)
            if number is not None and signal_at_parents_end(number):
                self._parent = parent  # if that has just ended, the service loop finds out

    def _handle(self, name: str, handler: Callable[[int, FrameType | None], object]) -> int | None:
        """Handle a signal that the system has and nobody else handles; else return None."""
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) != signal.SIG_DFL:
            return None
        self._previous[number] = signal.signal(number, handler)
        return int(number)

    def __exit__(self, *exc: object) -> None:
        if self._parent is not None:
            self._parent = None
            signal_at_parents_end(0)
        self._restore()

    def _restore(self) -> None:
        ours = (self._on_signal, self._on_parents_signal)
        for number, handler in self._previous.items():
            if signal.getsignal(number) in ours:
                signal.signal(number, handler)
