"""When a request's code does not come back: it is left behind, or its loop is lost.

*Left behind*: after a second interrupt the code still waits in a shield or for a thread. Its reply
and ``idle`` are sent now, and the shell lane goes on in a new task, with a copy of the old one's
context, so that the context variables of earlier cells keep their values. The old task ends when
its code does.

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
from .shell_lane import ShellLane
from .user_code import UserNursery

__all__ = [
    "admit_again",
    "answer",
    "answer_lost",
    "follow_abandoned",
    "loses_loop",
    "take_what_waits",
    "what_crashed",
    "what_is_gone",
]

MOST_NAMES = 10  # of tasks that are gone


async def follow_abandoned(lane: ShellLane, nursery: UserNursery) -> None:
    """Answer the requests whose code is to be left behind, and go on in a new lane; forever."""
    left_behind = LeftBehind()
    async for request in lane.stopper.abandoned:
        if request in lane.stopper.running:
            if request.task is not None:
                left_behind.watch(request.task)
            if request.beside:
                lane.stopper.running.remove(request)
                answer(lane, request, request.stop_error(), Event.ABANDON)
            else:
                _leave_behind(lane, request, nursery)


@enable_ki_protection
def _leave_behind(lane: ShellLane, request: Request, nursery: UserNursery) -> None:
    """Answer a request, what runs inside of it, and the requests inside of which it runs: their
    code waits for it. Unless all of that is beside the lane, a new task becomes the lane.
    """
    running, outermost = lane.stopper.running, request
    chain = [one for one in running if _is_within(one, request) or _is_within(request, one)]
    for outermost in reversed(chain):
        running.remove(outermost)
        answer(lane, outermost, outermost.stop_error(), Event.ABANDON)
    if outermost.beside:
        return
    lane.turn.pass_on()
    start = partial(nursery.start_soon, lane.run, name="shell lane")
    if outermost.task is None:
        start()
    else:
        context = outermost.task.context.copy()
        context.run(current_request.set, None)
        context.run(start)


def _is_within(request: Request, other: Request) -> bool:
    """Whether it is that one, or one that runs inside of it."""
    one: Request | None = request
    while one is not None and one is not other:
        one = one.within
    return one is other


@enable_ki_protection
def answer_lost(dispatcher: Dispatcher, error: BaseException) -> None:
    """Answer what ran in a loop that is lost with ``error``. Outside of any loop.

    Like any failure it may abort the queued requests: then ``lane.shell.window.known_at`` is set.
    """
    lane = dispatcher.main
    lane.shell.window.known_at = None
    lost = [*reversed(lane.stopper.running), *lane.comm.active]
    if any(request.stop_on_error for request in lost):
        lane.shell.window.abort_all()
    for request in lost:
        answer(lane, request, error, Event.FINISH)
    lane.stopper.running.clear()


@enable_ki_protection
def take_what_waits(lane: ShellLane) -> list[Request]:
    """What a lost loop has left in its queues, for the next one. Outside of any loop.

    The control queue is the service loop's, which has refused what was left there as it ended.
    """
    lane.shell.lose()
    lane.comm.lose()
    lane.posted.drain()
    return lane.shell.close() + lane.comm.close()


def loses_loop(crash: BaseException) -> bool:
    """Whether that was raised by `trio.run` because the user's code has crashed the loop or
    cancelled all of its tasks.
    """
    if isinstance(crash, BaseExceptionGroup):
        return crash.split(trio.Cancelled)[1] is None
    return isinstance(crash, (trio.TrioInternalError, trio.Cancelled))


def what_crashed(crash: BaseException) -> BaseException:
    """The user's own exception that has crashed Trio, without the cancels that it has caused."""
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
    """Queue what `take_what_waits` has taken from a lost loop; in the new one."""
    on_control = request.channel is dispatcher.connection.transport.control
    lane, _ = route(request.type, on_control)
    dispatcher.main.admit(request, lane)


@enable_ki_protection
def answer(lane: ShellLane, request: Request, error: BaseException, end: Event) -> None:
    """Answer a request whose code does not come back with ``error``; ``end`` is the event that it
    comes to by that.
    """
    token = current_request.set(request)
    try:
        reply = lane.reply_to(request, Outcome(error=error))
        lane.connection.iopub.drain(wait=True)
        lane.send_reply_and_idle(request, reply, end)
    finally:
        current_request.reset(token)
