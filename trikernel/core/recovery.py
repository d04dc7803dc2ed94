"""When a request's code does not come back: it is left behind, or its loop is lost.

*Left behind*: a second interrupt, and the code still waits in a shield or for a thread. Its reply
and ``idle`` go out now, and the shell lane goes on in a new task, with a copy of the context of the
old one, so that what cells have set in context variables lasts. The old task ends when its code
does.

*Lost*: the user's code has crashed Trio itself (`trio.TrioInternalError`, by a system task that
raises, say). No task of that loop runs again, and no ``finally`` of it can be relied on. What ran
gets an error reply that says what crashed; what waited is handed to the next loop.
"""

from __future__ import annotations

from functools import partial

import trio
from trio.lowlevel import enable_ki_protection

from .dispatch import Dispatcher, route
from .left_behind import LeftBehind
from .request import Event, Outcome, Request, current_request
from .user_code import UserNursery

__all__ = [
    "admit_again",
    "answer_lost",
    "follow_abandoned",
    "loses_loop",
    "take_what_waits",
    "what_crashed",
    "what_is_gone",
]

MOST_NAMES = 10  # of tasks that are gone


async def follow_abandoned(dispatcher: Dispatcher, nursery: UserNursery) -> None:
    """Answer the requests whose code is to be left behind, and go on in a new lane; forever."""
    left_behind = LeftBehind()
    async for request in dispatcher.stopper.abandoned:
        if request in dispatcher.stopper.running:
            if request.task is not None:
                left_behind.watch(request.task)
            _leave_behind(dispatcher, request, nursery)


@enable_ki_protection
def _leave_behind(dispatcher: Dispatcher, request: Request, nursery: UserNursery) -> None:
    """Answer it now, and all that it runs within, whose code does not come back either."""
    running, context = dispatcher.stopper.running, None
    while running:
        left = running.pop()
        _answer(dispatcher, left, left.stop_error(), Event.ABANDON)
        context = left.task.context if left.task is not None else None
    dispatcher.turn.pass_on()
    start = partial(nursery.start_soon, dispatcher.run_shell_lane, name="shell lane")
    if context is None:
        start()
    else:
        context.copy().run(start)


@enable_ki_protection
def answer_lost(dispatcher: Dispatcher, error: BaseException) -> None:
    """Answer what ran in a loop that is lost with ``error``. Outside of any loop.

    ``dispatcher.shell.window.known_at`` is when that could be known, if it aborts what is queued.
    """
    dispatcher.shell.window.known_at = None
    lost = [*reversed(dispatcher.stopper.running), *dispatcher.comm.active]
    if any(request.stop_on_error for request in lost):
        dispatcher.shell.window.abort_all()
    for request in lost:
        _answer(dispatcher, request, error, Event.FINISH)
    dispatcher.stopper.running.clear()


@enable_ki_protection
def take_what_waits(dispatcher: Dispatcher) -> list[Request]:
    """What a lost loop has left in its queues, for the next one. Outside of any loop."""
    dispatcher.posted.drain()
    queues = dispatcher.shell, dispatcher.comm, dispatcher.control
    return [request for queue in queues for request in queue.close()]


def loses_loop(crash: BaseException) -> bool:
    """Whether `trio.run` has raised what the user's code has done to the loop: crashed it, or
    cancelled all of it.
    """
    if isinstance(crash, BaseExceptionGroup):
        return crash.split(trio.Cancelled)[1] is None
    return isinstance(crash, (trio.TrioInternalError, trio.Cancelled))


def what_crashed(crash: BaseException) -> BaseException:
    """The user's own exception behind a crash of Trio, without the cancels that it has led to."""
    seen: list[BaseException | None] = [crash]
    for one in seen:  # grows while it is walked
        if one is None or len(seen) > 1000:
            continue
        if isinstance(one, BaseExceptionGroup):
            seen.extend(one.exceptions)
        elif not isinstance(one, (trio.Cancelled, trio.TrioInternalError)):
            return one
        seen += [one.__cause__, one.__context__]
    return trio.TrioInternalError("all of its tasks were cancelled")


def what_is_gone(background: UserNursery) -> str:
    """What to say of the background tasks of a loop that is lost."""
    names = [*background.ended_with_it, *(task.name for task in background.child_tasks)]
    if not names:
        return "and no background task was running"
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"background tasks are gone: {', '.join(names[:MOST_NAMES])}{more}"


def admit_again(dispatcher: Dispatcher, request: Request) -> None:
    """Queue what waited in a loop that is lost; in the new one."""
    on_control = request.channel is dispatcher.connection.transport.control
    dispatcher.admit(request, route(request.type, on_control)[0])


def _answer(dispatcher: Dispatcher, request: Request, error: BaseException, end: Event) -> None:
    token = current_request.set(request)
    try:
        reply = dispatcher.reply_to(request, Outcome(error=error))
        dispatcher.connection.iopub.drain(wait=True)
        dispatcher.send_reply_and_idle(request, reply, end)
    finally:
        current_request.reset(token)
