"""The one boundary that turns values, exceptions, cancels and interrupts into replies.

`attempt` runs a handler, and gives its outcome whatever it does; `render` makes the reply of an
error. Only `trio.Cancelled` from outside passes through.

It is the boundary for requests. The others, all there are: background tasks (`background`),
scheduled calls (`lane`), the event loop (`eventloop`), frames that cannot be sent (`outbox`), a
reply that cannot be encoded (`outgoing`), ``do_shutdown`` (`kernel.base`), representations that
raise (`wire.json`, `kernel.rendering`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import trio

from ..errors import AbortedError, ContentError, DeadlineExceeded
from ..system import exit_if_forked, fork_count
from .application import Application
from .request import Outcome, Reply, Request, StopReason

__all__ = ["attempt", "collapse", "is_cancel", "raise_cancel", "render", "stop_error"]

_STOPS: dict[StopReason, tuple[type[BaseException], str]] = {
    StopReason.INTERRUPT: (KeyboardInterrupt, ""),
    StopReason.TIMEOUT: (DeadlineExceeded, "the cell was stopped at its deadline"),
    StopReason.ABORT: (AbortedError, "aborted by an abort_request"),
    StopReason.SHUTDOWN: (AbortedError, "the kernel is shutting down"),
}


async def attempt(application: Application, request: Request) -> Outcome:
    """Run a request's handler inside its cancel scope; how it ended.

    Whatever the handler raises is its outcome, `trio.Cancelled` from outside excepted.
    """
    generation = fork_count()
    try:
        with request.open_scope() as scope:
            if not await application.allows(request):
                return Outcome(application.aborted_reply(request))
            reply = await application.handle(request)
            exit_if_forked(generation)
            return Outcome(reply)
    except BaseException as raised:
        exit_if_forked(generation, raised)
        raise_cancel(raised, partial(_log_failure, application, request))
        return Outcome(error=collapse(raised))
    assert scope.cancelled_caught
    return Outcome(error=KeyboardInterrupt())


def is_cancel(raised: BaseException) -> bool:
    """Whether this passes through every boundary: a cancel from outside, alone or in a group.

    A `trio.Cancelled` that comes while this task is not being cancelled is one that the user's
    code has kept from elsewhere: an error like any other.
    """
    if trio.current_effective_deadline() != -math.inf:
        return False
    if isinstance(raised, BaseExceptionGroup):
        return raised.subgroup(trio.Cancelled) is not None
    return isinstance(raised, trio.Cancelled)


def raise_cancel(raised: BaseException, report: Callable[[BaseException], object]) -> None:
    """Raise the cancel from outside that is in ``raised``; do nothing if there is none.

    ``report`` gets what the user's code raised beside it, as it cleaned up: that goes no further.
    """
    if not is_cancel(raised):
        return
    if not isinstance(raised, BaseExceptionGroup):
        raise raised
    cancelled, rest = raised.split(trio.Cancelled)
    assert cancelled is not None
    if rest is not None:
        report(collapse(rest))
    raise cancelled


def _log_failure(application: Application, request: Request, error: BaseException) -> None:
    if not isinstance(error, KeyboardInterrupt):
        application.log.error("%s failed", request.msg_type, exc_info=error)


def render(application: Application, request: Request, error: BaseException) -> Reply:
    """The reply to a request that raised ``error``, or was stopped and did not raise."""
    reason = request.stop_reason
    if reason is not None and isinstance(error, KeyboardInterrupt):
        error = stop_error(reason)
    if isinstance(error, AbortedError):
        reply = application.aborted_reply(request)
    else:
        reply = application.error_reply(request, error)
    if isinstance(error, ContentError):
        application.log.warning("%s", error)
    elif not isinstance(error, (AbortedError, DeadlineExceeded)):
        _log_failure(application, request, error)
    application.publish_error(request, reply, error)
    return reply


def stop_error(reason: StopReason) -> BaseException:
    """The exception that says why a request was stopped."""
    kind, text = _STOPS[reason]
    return kind(text) if text else kind()


def collapse(error: BaseException) -> BaseException:
    """A group that holds nothing but `KeyboardInterrupt` as one such."""
    if isinstance(error, BaseExceptionGroup) and error.split(KeyboardInterrupt)[1] is None:
        return KeyboardInterrupt()
    return error
