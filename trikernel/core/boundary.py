"""The one boundary that turns values, exceptions, cancels and interrupts into replies.

Whatever a handler does, `attempt` gives a `Reply` (or None, where none is due), except for
`trio.Cancelled` from outside, which passes through.
"""

from __future__ import annotations

import trio

from ..errors import AbortedError, ContentError, DeadlineExceeded
from .application import Application
from .request import Reply, Request, StopReason

__all__ = ["attempt", "collapse", "render", "stop_error"]

_STOPS: dict[StopReason, tuple[type[BaseException], str]] = {
    StopReason.INTERRUPT: (KeyboardInterrupt, ""),
    StopReason.TIMEOUT: (DeadlineExceeded, "the cell was stopped at its deadline"),
    StopReason.ABORT: (AbortedError, "aborted by an abort_request"),
    StopReason.SHUTDOWN: (AbortedError, "the kernel is shutting down"),
}


async def attempt(application: Application, request: Request) -> Reply | None:
    """Run a request's handler inside its cancel scope; what is to be answered."""
    error: BaseException
    try:
        with request.open_scope() as scope:
            if not await application.allows(request):
                return application.aborted_reply(request)
            return await application.handle(request)
    except (Exception, KeyboardInterrupt, SystemExit, BaseExceptionGroup) as raised:
        error = collapse(raised)
        if isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled):
            raise
    else:
        assert scope.cancelled_caught
        error = KeyboardInterrupt()
    return render(application, request, error)


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
    elif not isinstance(error, (KeyboardInterrupt, AbortedError, DeadlineExceeded)):
        application.log.error("%s failed", request.msg_type, exc_info=error)
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
