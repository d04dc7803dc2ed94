"""What is stopped, and the events of a session as frontends get them.

An event about running code is published with the request of its cell as parent. If a step or an
exception stops in the kernel's own code, the frontend is not told: the code goes on by itself.

Stopped code waits in a function of pydevd's, mostly in the thread that runs cells. An interrupt or
a shutdown is raised there, as in any code of the user's. pydevd does not expect that: it is told
that the thread goes on, and the thread is traced again. Where nothing can be raised, the stopped
code is told to go on (`Stops.release`).
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

LOOK_EVERY = 0.1  # seconds, while something is stopped
MOST_STEPS = 1000  # steps through the kernel's own code, before "continue" ends them
_OF_CODE = {"stopped", "continued", "output", "thread"}  # events about running code
_GOES_ON = {"continue", "next", "stepIn", "stepOut", "goto", "disconnect"}

Send = Callable[[str, Mapping[str, Any]], object]


class Stops:
    """Knows what is stopped, if anything is. ``send`` sends debugpy a request.

    ``numbers`` gives the ``seq`` of each message to frontends.
    """

    def __init__(self, debuggee: Debuggee, send: Send, numbers: itertools.count[int]) -> None:
        self._debuggee = debuggee
        self._send = send
        self._numbers = numbers
        self._is_told_to_go_on = False
        self._is_passing = False
        self._passed = 0
        self._last_step = "next"
        self._cell: Request | None = None  # the request whose code is stopped, or was last
        self._since = 0.0  # when that was stopped, by `time.monotonic`
        self._paused_at = 0.0
        self._stands = trio.Event()
        self.where: dict[str, Any] | None = None  # the body of the `stopped` event, if any is
        self.tasks = TaskFrames()
        self.is_attached = False

    def note_request(self, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Note a request that is about to be sent. Its arguments, in which the number of a task is
        replaced by that of the stopped thread.
        """
        if command in _GOES_ON:
            self._is_told_to_go_on, self._last_step = True, command
        if command == "pause":
            self._paused_at = time.monotonic()
        thread = arguments.get("threadId")
        if self.where is not None and isinstance(thread, int) and thread >= FIRST_TASK:
            return {**arguments, "threadId": self.where["threadId"]}  # all tasks run in that one
        return dict(arguments)

    def go_on(self) -> None:
        """Note that nothing is stopped any more."""
        self.where, self._stands = None, trio.Event()
        self.tasks.forget()

    async def release(self) -> None:
        """Until cancelled, let stopped code go on if its request is to be interrupted or ended and
        no exception can be raised there: in a loop that was paused in its own code, or in a worker
        thread.
        """
        while True:
            await self._stands.wait()
            await trio.sleep(LOOK_EVERY)
            if self.where is not None and self._debuggee.is_stopping(self._since):
                self._since = time.monotonic()
                self._send("continue", self.note_request("continue", {"threadId": 0}))

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take an event of debugpy's, and publish it unless it means nothing to a frontend."""
        name, body = event.get("event"), event.get("body") or {}
        if name == "initialized" and not self.is_attached:
            return  # it belongs to the session's own start
        if name == "output" and "callback set in sys.settrace" in str(body.get("output")):
            return  # an interrupt was raised in pydevd's trace function, see `_repair`
        if name == "continued" and self._is_passing:
            return
        thread = find_thread(body.get("threadId"))
        context = self._context(thread) if name in _OF_CODE else None
        if name == "stopped":
            if self._pass_by(body, thread, context):
                return
            self.where, self._is_told_to_go_on = dict(body), False
            # A pause may take effect only because an interrupt came: count from the request on.
            is_pause = body.get("reason") == "pause"
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
        except RuntimeError:  # the loop runs, and tasks begin or end meanwhile
            found = None
        return self._debuggee.context_of(thread) if found is None else found

    def _take_tasks(self, thread: int, context: Context | None) -> None:
        """Note the tasks that wait while a task of their loop is stopped; all of them, if the loop
        was paused between two tasks.
        """
        try:
            others = living_tasks(self._debuggee.tasks_in(thread))
            waiting = [one for one in others if one.context is not context]
            self.tasks.take(waiting, tuple(self._debuggee.machinery))
        except RuntimeError:
            self.tasks.forget()

    def _pass_by(self, body: Mapping[str, Any], thread: int, context: Context | None) -> bool:
        """Let the code go on, and return true, if a step or an exception has stopped in the
        kernel's own code, or if a step past the end of a task has stopped in another cell.
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
        """A thread has left its stop by an exception, an interrupt for example: tell pydevd that it
        goes on, and trace it again.
        """
        self._send("continue", {"threadId": 0})
        self._debuggee.in_user_loops(trace_this_thread)


def _cell_of(context: Context | None) -> Request | None:
    return context.get(current_request) if context is not None else None
