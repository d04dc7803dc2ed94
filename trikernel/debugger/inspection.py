"""Requests that look at stopped code: threads and tasks, their stacks, variables and expressions.

Questions about a task that waits, or about the notebook's variables while nothing is stopped, are
answered here; the others are passed on to debugpy. Frames, tasks and references of ours have
numbers that debugpy does not use: see `tasks` and `values`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import FrameType
from typing import Any

from .dap import Ask, Refused, number_argument, text_argument
from .local import Debuggee, Local
from .stops import Stops
from .tasks import FIRST_FRAME, FIRST_TASK
from .values import FIRST_REFERENCE, is_shown

__all__ = ["Inspection", "Rest"]

Rest = Callable[[], Awaitable[dict[str, Any]]]
"""The rest of a request's work, which may be done while the next request is handled. Returns the
body of the response.
"""


class Inspection:
    """Answers for one kernel. ``send`` sends debugpy a request; the function that it returns waits
    for the response.
    """

    def __init__(
        self,
        debuggee: Debuggee,
        local: Local,
        stops: Stops,
        send: Callable[[str, Mapping[str, Any]], Rest],
    ) -> None:
        self._debuggee = debuggee
        self._local = local
        self._stops = stops
        self._send = send

    async def threads(self, ask: Ask) -> Rest:
        """The threads, and the tasks that wait while a thread is stopped."""
        finish, tasks = self._send(ask.command, ask.arguments), self._stops.tasks

        async def add_tasks() -> dict[str, Any]:
            body = await finish()
            return {**body, "threads": [*(body.get("threads") or []), *tasks.threads()]}

        return add_tasks

    async def stack(self, ask: Ask) -> dict[str, Any] | Rest:
        """The frames of a thread or a task, without the kernel's own."""
        thread = number_argument(ask, "threadId")
        if thread >= FIRST_TASK:
            try:
                frames = self._stops.tasks.stack(thread)
            except KeyError:
                raise Refused("stackTrace: there is no such task any more") from None
            return {"stackFrames": frames, "totalFrames": len(frames)}
        finish = self._send(ask.command, ask.arguments)

        async def leave_out_machinery() -> dict[str, Any]:
            body = await finish()
            found = body.get("stackFrames") or []
            frames = [one for one in found if not self._is_machinery(one)] or found
            if not frames:  # the loop was paused between two tasks: show a task that waits
                frames = self._stops.tasks.first_stack()
                return {"stackFrames": frames, "totalFrames": len(frames)}
            left_out = len(found) - len(frames)
            return {"stackFrames": frames, "totalFrames": body.get("totalFrames", 0) - left_out}

        return leave_out_machinery

    def _is_machinery(self, frame: Mapping[str, Any]) -> bool:
        path = (frame.get("source") or {}).get("path")
        return isinstance(path, str) and path.startswith(tuple(self._debuggee.machinery))

    async def scopes(self, ask: Ask) -> dict[str, Any] | Rest:
        """The scopes of a frame: its local and its global variables."""
        number = number_argument(ask, "frameId")
        if number < FIRST_FRAME:
            return self._send(ask.command, ask.arguments)
        frame, scopes = self._frame(number), []
        if frame.f_locals is not frame.f_globals:
            scopes.append(("Locals", self._local.values.keep(dict(frame.f_locals))))
        scopes.append(("Globals", self._local.values.keep(frame.f_globals)))
        return {
            "scopes": [
                {"name": name, "variablesReference": reference, "expensive": False}
                for name, reference in scopes
            ]
        }

    def _frame(self, number: int) -> FrameType:
        try:
            return self._stops.tasks.frame(number)
        except KeyError:
            raise Refused("there is no such frame any more") from None

    async def variables(self, ask: Ask) -> Rest:
        """The variables in a scope, or the parts of a value."""
        reference = number_argument(ask, "variablesReference")
        if reference >= FIRST_REFERENCE or self._stops.where is None:
            return partial(self._local.inside, reference)
        finish = self._send(ask.command, ask.arguments)

        async def leave_out_names() -> dict[str, Any]:
            body = await finish()
            found = [one for one in body.get("variables") or [] if is_shown(str(one.get("name")))]
            return {**body, "variables": found}

        return leave_out_names

    async def inspect(self, ask: Ask) -> Rest:
        """The notebook's variables; there need not be a session."""
        return self._local.inspect

    async def rich(self, ask: Ask) -> Rest:
        """The representations of a variable of a frame, or of the notebook (JEP 47)."""
        name = text_argument(ask, "variableName")
        number = number_argument(ask, "frameId")
        if self._stops.where is None or not number or not name.isidentifier():
            return partial(self._local.rich, name)
        expression = f"{self._debuggee.formatter}({name})"
        finish: Rest
        if number >= FIRST_FRAME:
            frame = self._frame(number)
            names = frame.f_globals, frame.f_locals
            finish = partial(self._local.evaluate_text, expression, *names)
        else:
            asked = {"expression": expression, "frameId": number, "context": "clipboard"}
            finish = self._send("evaluate", asked)

        async def read() -> dict[str, Any]:
            body = await finish()
            return _representations(str(body.get("result")))

        return read

    async def evaluate(self, ask: Ask) -> Rest:
        """The value of an expression in a frame, or among the notebook's variables."""
        number = number_argument(ask, "frameId")
        expression = text_argument(ask, "expression")
        if number >= FIRST_FRAME:
            frame = self._frame(number)
            return partial(self._local.evaluate, expression, frame.f_globals, frame.f_locals)
        if self._stops.where is None or not number:
            return partial(self._local.evaluate, expression, self._debuggee.namespace)
        return self._send(ask.command, ask.arguments)

    async def copy(self, ask: Ask) -> Rest:
        """Copy a variable of a frame to a global one of the notebook (JEP 93)."""
        source, target = (text_argument(ask, f"{one}VariableName") for one in ("src", "dst"))
        if not source.isidentifier() or not target.isidentifier():
            raise Refused("copyToGlobals: srcVariableName and dstVariableName must be names")
        number = number_argument(ask, "srcFrameId")
        if number >= FIRST_FRAME:
            frame = self._frame(number)
            if source not in frame.f_locals:
                raise Refused(f"there is no variable {source!r}")
            frame.f_globals[target] = frame.f_locals[source]
            return _nothing
        expression = f"globals()[{target!r}]"
        return self._send(
            "setExpression", {"expression": expression, "value": source, "frameId": number}
        )


async def _nothing() -> dict[str, Any]:
    return {}


def _representations(text: str) -> dict[str, Any]:
    """The body in the text that `as_json` made, which debugpy returns with or without quotes.
    Raises `Refused` if the text is something else.
    """
    try:
        text = str(ast.literal_eval(text)) if text[:1] in "'\"" else text
        body: dict[str, Any] = json.loads(text)
        return body
    except (SyntaxError, ValueError):
        raise Refused(f"the variable cannot be shown: {text:.200}") from None
