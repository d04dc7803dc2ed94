"""Where code stands: the events of a session, as frontends get them.

An event about what runs goes out under the cell that it is about. A stop in the kernel's own code,
to which a step or an exception has led, is none for the person: it is passed by.

The person's code stands in pydevd's wait, in the thread of a cell mostly. An interrupt or a
shutdown is raised there, as in any code of the user's. pydevd does not expect that: it is told that
the thread goes on, and the thread is traced anew. Where nothing can be raised, what stands is told
to go on (`Stops.release`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

import trio

from ..core import Request, current_request
from .local import Debuggee
from .tasks import FIRST_TASK, TaskFrames, find_context, is_users, living_tasks
from .tracing import find_thread, trace_this_thread

__all__ = ["Stops"]

LOOK_EVERY = 0.1  # seconds, while something stands
MOST_STEPS = 1000  # through the kernel's own code, before it just goes on
_OF_CODE = {"stopped", "continued", "output", "thread"}  # events about what runs
_GOES_ON = {"continue", "next", "stepIn", "stepOut", "goto", "disconnect"}

Send = Callable[[str, Mapping[str, Any]], object]


class Stops:
    """What is stopped, if anything is. ``send`` sends the debugger a request.

    ``numbers`` are those of messages to frontends.
    """

    def __init__(self, debuggee: Debuggee, send: Send, numbers: itertools.count[int]) -> None:
        self._debuggee = debuggee
        self._send = send
        self._numbers = numbers
        self._is_told_to_go_on = False
        self._is_passing = False
        self._passed = 0
        self._last_step = "next"
        self._cell: Request | None = None  # the request whose code stands, or stood last
        self._since = 0.0  # when that came to stand, by `time.monotonic`
        self._paused_at = 0.0
        self._stands = trio.Event()
        self.where: dict[str, Any] | None = None  # the body of the event
        self.tasks = TaskFrames()
        self.is_attached = False

    def note_request(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """A request is about to be sent; its arguments, with a task's thread as the real one."""
        if command in _GOES_ON:
            self._is_told_to_go_on, self._last_step = True, command
        if command == "pause":
            self._paused_at = time.monotonic()
        thread = arguments.get("threadId")
        if self.where is not None and isinstance(thread, int) and thread >= FIRST_TASK:
            return {**arguments, "threadId": self.where["threadId"]}  # all tasks run in that one
        return dict(arguments)

    def go_on(self) -> None:
        """Nothing is stopped any more."""
        self.where, self._stands = None, trio.Event()
        self.tasks.forget()

    async def release(self) -> None:
        """Have what stands go on once it is to stop and cannot hear of it: a loop that was paused
        in its own code, or a worker thread. Until cancelled.
        """
        while True:
            await self._stands.wait()
            await trio.sleep(LOOK_EVERY)
            if self.where is not None and self._debuggee.is_stopping(self._since):
                self._since = time.monotonic()
                self._send("continue", self.note_request("continue", {"threadId": 0}))

    def hear(self, event: Mapping[str, Any]) -> None:
        """An event of the debugger's."""
        name, body = event.get("event"), event.get("body") or {}
        if name == "initialized" and not self.is_attached:
            return  # of the session's own start
        if name == "output" and "callback set in sys.settrace" in str(body.get("output")):
            return  # an interrupt has hit it, see `_repair`
        if name == "continued" and self._is_passing:
            return
        thread = find_thread(body.get("threadId"))
        context = self._context(thread) if name in _OF_CODE else None
        if name == "stopped":
            if self._pass_by(body, thread, context):
                return
            self.where, self._is_told_to_go_on = dict(body), False
            is_pause = body.get("reason") == "pause"  # which an interrupt may have had come to it
            self._since = self._paused_at if is_pause else time.monotonic()
            self._cell = _cell_of(context)
            self._stands.set()
            if context is not None or is_pause:
                self._take_tasks(thread, context)
        self._debuggee.publish({**event, "seq": next(self._numbers)}, context)
        if name == "continued":
            was_told = self._is_told_to_go_on
            self.go_on()
            if not was_told:
                self._repair()

    def _context(self, thread: int) -> Context | None:
        try:
            found = find_context(living_tasks(self._debuggee.tasks_in(thread)), thread)
        except RuntimeError:  # the loop turns: tasks come and go
            found = None
        return self._debuggee.context_of(thread) if found is None else found

    def _take_tasks(self, thread: int, context: Context | None) -> None:
        """Note the tasks that wait while their loop stands; all, if it was paused between them."""
        try:
            others = living_tasks(self._debuggee.tasks_in(thread))
            waiting = [one for one in others if one.context is not context]
            self.tasks.take(waiting, tuple(self._debuggee.machinery))
        except RuntimeError:
            self.tasks.forget()

    def _pass_by(self, body: Mapping[str, Any], thread: int, context: Context | None) -> bool:
        """Go on by itself if a step, or an exception, has led into the kernel's own code; or a step
        off the end of a task into another cell.
        """
        reason, self._is_passing = body.get("reason"), False
        cell, is_step = _cell_of(context), reason == "step"
        is_other = is_step and None not in (cell, self._cell) and cell is not self._cell
        if not is_other and (reason not in ("step", "exception") or is_users(thread)):
            self._passed = 0
            return False
        self._passed += 1
        self._is_passing = self._is_told_to_go_on = True
        steps = is_step and not is_other and self._passed < MOST_STEPS
        command = self._last_step if steps else "continue"
        self._send(command, {"threadId": body.get("threadId")})
        return True

    def _repair(self) -> None:
        """A thread has left its stop by an exception, as an interrupt is."""
        self._send("continue", {"threadId": 0})
        self._debuggee.in_user_loops(trace_this_thread)


def _cell_of(context: Context | None) -> Request | None:
    return context.get(current_request) if context is not None else None
