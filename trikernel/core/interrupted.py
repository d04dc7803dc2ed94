"""What code a signal has interrupted: whose it is, and whether an exception may be raised in it."""

from __future__ import annotations

from contextvars import Context, copy_context
from types import FrameType

import attrs
import trio

from ..system import is_nested_in
from .request import Request, is_served, request_of
from .schedulers import Scheduler
from .user_code import in_finalizer

__all__ = ["InterruptedCode"]


@attrs.frozen
class InterruptedCode:
    """``request`` is whose code it is. An exception may be raised in it if ``is_open``. It
    ``is_nested`` in a Trio loop of the user's all of whose tasks wait: then the exception is for
    the main task of that loop. If a ``scheduler`` is at work, a task of it might never run again.
    """

    request: Request | None
    is_open: bool
    is_nested: bool
    scheduler: Scheduler | None

    @classmethod
    def here(
        cls,
        frame: FrameType | None,
        token: trio.lowlevel.TrioToken,
        *,
        owns_loop: bool,
        by_us: bool,
    ) -> InterruptedCode:
        """The code in ``frame``; in the handler of its signal. ``token`` is the user loop's;
        ``owns_loop`` says that no task in it is a host's. A finalizer, which Trio protects, is not
        protected from a signal that is sent ``by_us``: that is a stop which was to come before.
        """
        context = _context_here(token)
        is_protected = trio.lowlevel.currently_ki_protected()
        is_protected = is_protected and not (by_us and in_finalizer(frame))
        is_nested = is_protected and _is_nested_loop_here(token)
        serves = owns_loop or (context is not None and context.get(is_served, False))
        is_open = serves and (is_nested or not is_protected)
        scheduler = Scheduler.at(frame) if is_open and not is_nested else None
        return cls(request_of(context), is_open, is_nested, scheduler)


def _is_nested_loop_here(token: trio.lowlevel.TrioToken) -> bool:
    """Whether the interrupted frame is of a loop that the user's code runs inside of that one."""
    return not trio.lowlevel.in_trio_task() and is_nested_in(token)


def _context_here(token: trio.lowlevel.TrioToken) -> Context | None:
    """The context of the interrupted frame: of its task, or of code that runs a nested loop."""
    if trio.lowlevel.in_trio_task():
        here = copy_context()  # within a step of another loop it is that of what steps there
        return here if request_of(here) is not None else trio.lowlevel.current_task().context
    return copy_context() if _is_nested_loop_here(token) else None
