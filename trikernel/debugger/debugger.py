"""The debugger of a kernel: each ``debug_request`` is answered by a response.

What is wanted
    A person sets breakpoints in cells, and looks at variables while the code is stopped. Meanwhile
    the kernel still handles other requests on control, interrupts and a shutdown.

What is done
    Requests are handled in the service loop, in order of arrival. While one waits for debugpy's
    response, the next one is begun; it waits only while a session starts or ends, or a file is read
    or written. Some requests are answered here: those that a kernel adds to the protocol, and those
    that come while nothing is stopped. The others are passed on to debugpy, which is started by the
    first ``initialize`` and ended by ``disconnect``: before and after that nothing is traced.
    `COMMANDS` says what each request needs. The session attaches and is configured as part of its
    start, so a breakpoint works from the moment when it is set, and a second frontend may
    initialize and attach as if it had started the session.

What remains
    A step past the end of a task stops wherever code of the same cell runs next that is not left
    out, also in the standard library if that is to be debugged. The deadline of a cell goes on
    while the cell is stopped.

Source: messaging.rst, "Debug request"; JEP 47, JEP 93; the Debug Adapter Protocol 1.39.
"""

from __future__ import annotations

import itertools
import logging
import math
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from functools import partial
from typing import Any

import trio

from .dap import Ask, Refused, is_breakpoint, read_ask, response
from .inspection import Inspection, Rest
from .local import Debuggee, Local
from .session import Pending, Session
from .stops import Stops
from .tracing import Traced, Tracing, start_debugpy

__all__ = ["COMMANDS", "Debugger", "Needs"]

_log = logging.getLogger("trikernel")

TIMEOUT = 20.0  # seconds that debugpy has to answer a request that runs no code of the user's
START_TIMEOUT = 60.0
END_TIMEOUT = 2.0
# these run the user's code, so there is no bound for the time that they may take
_RUNS_CODE = {"evaluate", "setVariable", "setExpression", "variables", "completions"}
_MOVES = {"pause", "next", "stepIn", "stepOut", "goto", "continue"}
_MOVE = "a step or a pause"

NOT_OFFERED = {"supportsTerminateRequest": False}  # pydevd says that it can, a kernel does not


class Needs(Enum):
    """What a request needs to be answered: nothing, a session, or also a stopped thread."""

    NOTHING = "nothing"
    SESSION = "initialize"
    STOP = "a thread that is stopped"


COMMANDS: Mapping[str, Needs] = {
    "debugInfo": Needs.NOTHING,
    "dumpCell": Needs.NOTHING,
    "source": Needs.NOTHING,
    "inspectVariables": Needs.NOTHING,
    "richInspectVariables": Needs.NOTHING,
    "modules": Needs.NOTHING,
    "initialize": Needs.NOTHING,
    "variables": Needs.NOTHING,
    "evaluate": Needs.NOTHING,
    "disconnect": Needs.NOTHING,
    "attach": Needs.SESSION,
    "configurationDone": Needs.SESSION,
    "setBreakpoints": Needs.SESSION,
    "setFunctionBreakpoints": Needs.SESSION,
    "setExceptionBreakpoints": Needs.SESSION,
    "setPydevdSourceMap": Needs.SESSION,
    "threads": Needs.SESSION,
    "pause": Needs.SESSION,
    "copyToGlobals": Needs.STOP,
    "stackTrace": Needs.STOP,
    "scopes": Needs.STOP,
    "setVariable": Needs.STOP,
    "setExpression": Needs.STOP,
    "completions": Needs.STOP,
    "exceptionInfo": Needs.STOP,
    "continue": Needs.STOP,
    "next": Needs.STOP,
    "stepIn": Needs.STOP,
    "stepInTargets": Needs.STOP,
    "stepOut": Needs.STOP,
    "gotoTargets": Needs.STOP,
    "goto": Needs.STOP,
}
"""The known commands, and what each needs. Any other command is refused."""


class Debugger:
    """Answers debug requests. Used in the service loop only.

    ``spawn`` starts a task in that loop. ``connect`` opens a connection to a debugger that traces
    this process.
    """

    def __init__(
        self,
        debuggee: Debuggee,
        spawn: Callable[[Callable[[], Awaitable[None]]], object],
        connect: Callable[[], AbstractAsyncContextManager[Traced]] = start_debugpy,
    ) -> None:
        self._debuggee = debuggee
        self._spawn = spawn
        self._connect = connect
        self._order = trio.Lock()
        self._numbers = itertools.count(1)
        self._session: Session | None = None
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self._capabilities: dict[str, Any] = {}
        self._breakpoints: dict[str, list[dict[str, Any]]] = {}
        self._tracing = Tracing(debuggee.in_user_loops)
        self._stops = stops = Stops(debuggee, self._send_unasked, self._numbers)
        self._local = local = Local(debuggee)
        look = Inspection(debuggee, local, stops, self._send)
        self._own: Mapping[str, Callable[[Ask], Awaitable[dict[str, Any] | Rest]]] = {
            "debugInfo": self._info,
            "initialize": self._initialize,
            "attach": self._attach,
            "configurationDone": _configured,
            "disconnect": self._disconnect,
            "setBreakpoints": self._set_breakpoints,
            "setExceptionBreakpoints": self._set_exception_breakpoints,
            "dumpCell": local.dump_cell,
            "source": local.source,
            "modules": local.modules,
            "inspectVariables": look.inspect,
            "richInspectVariables": look.rich,
            "copyToGlobals": look.copy,
            "threads": look.threads,
            "stackTrace": look.stack,
            "scopes": look.scopes,
            "variables": look.variables,
            "evaluate": look.evaluate,
        }

    async def answer(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The response to a request, which may be malformed. Cancelled, the response is dropped."""
        try:
            ask = read_ask(content)
            async with self._order:
                self._check(ask)
                body = await self._own.get(ask.command, self._forward)(ask)
            if callable(body):
                body = await body()
        except Refused as refused:
            return {"seq": next(self._numbers), **response(content, error=str(refused))}
        return {"seq": next(self._numbers), **response(content, body)}

    def _check(self, ask: Ask) -> None:
        """Raise `Refused` for an unknown command, and for one that needs more than there is now."""
        needs = COMMANDS.get(ask.command)
        if needs is None:
            raise Refused(f"there is no command {ask.command!r:.80}")
        if needs is not Needs.NOTHING and self._session is None:
            raise Refused(f"{ask.command}: the debugger is not started, initialize comes first")
        if needs is Needs.STOP and self._stops.where is None:
            raise Refused(f"{ask.command}: nothing is stopped")

    # The session

    async def _initialize(self, ask: Ask) -> dict[str, Any]:
        """Start debugpy, unless another frontend has started it already."""
        if self._session is None:
            started, failure = trio.Event(), list[Refused]()
            self._scope, self._ended = trio.CancelScope(), trio.Event()
            self._spawn(partial(self._run, dict(ask.arguments), started, failure))
            await started.wait()
            if failure:
                raise failure[0]
        return self._capabilities

    async def _run(
        self, arguments: dict[str, Any], started: trio.Event, failure: list[Refused]
    ) -> None:
        """Run a session from its start to its end, in a task of its own. ``started`` is set when it
        is ready, or when it has failed, for the reason in ``failure``.
        """
        try:
            with self._scope:
                async with self._connect() as traced, trio.open_nursery() as nursery:
                    session = Session(traced.stream, self._stops.hear, traced.is_busy)
                    nursery.start_soon(session.run)
                    nursery.start_soon(self._stops.release)
                    message = await session.ask("initialize", arguments, START_TIMEOUT)
                    options = attach_arguments({}, self._debuggee.machinery)
                    await session.ask("attach", options, START_TIMEOUT)
                    await session.ask("configurationDone", {}, START_TIMEOUT)
                    with trio.fail_after(START_TIMEOUT):
                        await traced.is_on.wait()
                    self._capabilities = {**(message.get("body") or {}), **NOT_OFFERED}
                    self._session = session
                    self._debuggee.keep_lines(True)
                    self._tracing.forget()
                    started.set()
        except* Exception as errors:  # whatever debugpy raises ends the session, not the kernel
            error = _first(errors)
            if not isinstance(error, Refused):
                _log.error("the debugger has ended", exc_info=error)
            failure.append(Refused(str(error) or "debugpy does not start"))
        finally:
            self._session, self._stops.is_attached = None, False
            self._breakpoints = {}
            self._stops.go_on()
            self._debuggee.keep_lines(False)
            self._tracing.forget()
            if not started.is_set():
                failure.append(Refused("the debugger's session has ended"))
            started.set()
            self._ended.set()

    async def _attach(self, ask: Ask) -> Rest:
        """Attach again, with the frontend's options: the session has attached at its start."""
        self._stops.is_attached = True
        return self._send("attach", attach_arguments(ask.arguments, self._debuggee.machinery))

    async def _disconnect(self, ask: Ask) -> dict[str, Any]:
        """End the session, in whatever state it is. Code that is stopped goes on."""
        session = self._session
        if session is not None:
            options = self._stops.note_request(ask.command, {"terminateDebuggee": False})
            with trio.move_on_after(END_TIMEOUT):
                await session.send(ask.command, options).response()
            self._scope.cancel()
            await self._ended.wait()
        return {}

    def _send(self, command: str, arguments: Mapping[str, Any]) -> Rest:
        """Send debugpy a request; the function that is returned waits for the response."""
        if self._session is None:
            raise Refused(f"{command}: the debugger's session has ended")
        seconds = math.inf if command in _RUNS_CODE else TIMEOUT
        return partial(_body_of, self._session.send(command, arguments), seconds)

    def _send_unasked(self, command: str, arguments: Mapping[str, Any]) -> None:
        if self._session is not None and self._session.is_open:
            self._session.send(command, arguments)

    async def _forward(self, ask: Ask) -> Rest:
        if ask.command in _MOVES:
            self._tracing.want(_MOVE, ask.command != "continue")
        elif ask.command == "setFunctionBreakpoints":
            self._tracing.want(ask.command, bool(ask.arguments.get("breakpoints")))
        return self._send(ask.command, self._stops.note_request(ask.command, ask.arguments))

    # Requests

    async def _info(self, ask: Ask) -> dict[str, Any]:
        breakpoints = [
            {"source": path, "breakpoints": found} for path, found in self._breakpoints.items()
        ]
        where = self._stops.where
        return {
            "isStarted": self._session is not None,
            "hashMethod": "Murmur2",
            "hashSeed": self._debuggee.hash_seed,
            "tmpFilePrefix": self._debuggee.folder,
            "tmpFileSuffix": ".py",
            "breakpoints": breakpoints,
            "stoppedThreads": [where["threadId"]] if where is not None else [],
            "richRendering": True,
            "exceptionPaths": ["Python Exceptions"],
            "copyToGlobals": True,
        }

    async def _set_breakpoints(self, ask: Ask) -> Rest:
        """Set the breakpoints of one source, and note the lines where debugpy has placed them, for
        ``debugInfo``.
        """
        source, asked = ask.arguments.get("source"), ask.arguments.get("breakpoints", [])
        path = source.get("path") if isinstance(source, dict) else None
        if not isinstance(path, str) or "\0" in path or not isinstance(asked, list):
            raise Refused("setBreakpoints: source.path must be a string, breakpoints a list")
        if not all(map(is_breakpoint, asked)):  # debugpy would drop those that are set, and fail
            raise Refused("setBreakpoints: a breakpoint needs a line, and conditions are strings")
        placed = await self._local.place(path, asked)
        self._tracing.want(path, bool(asked))
        finish = self._send(ask.command, {**ask.arguments, "breakpoints": placed})

        async def note() -> dict[str, Any]:
            body = await finish()
            found = body.get("breakpoints") or []
            kept = [
                {**old, "line": new.get("line", old.get("line"))}
                for old, new in zip(asked, found, strict=False)
                if isinstance(old, dict) and isinstance(new, dict)
            ]
            self._breakpoints[path] = kept
            if not kept:
                del self._breakpoints[path]
            return body

        return note

    async def _set_exception_breakpoints(self, ask: Ask) -> Rest:
        """Set exception breakpoints. The kernel catches every exception of a cell, so ``uncaught``
        is made to mean an exception that leaves the user's code.

        On 3.11 that is not added: there pydevd would also stop at exceptions that the outermost
        function of the user's handles.
        """
        filters = ask.arguments.get("filters", [])
        if not isinstance(filters, list):
            raise Refused("setExceptionBreakpoints: filters must be a list")
        found = list(filters)
        if "uncaught" in filters and sys.version_info >= (3, 12):
            found.append("userUnhandled")
        wanted = bool(found or ask.arguments.get("filterOptions"))
        self._tracing.want(ask.command, wanted)
        return self._send(ask.command, {**ask.arguments, "filters": found})


async def _configured(ask: Ask) -> dict[str, Any]:
    """Nothing is left to do: the session was configured when it started."""
    return {}


async def _body_of(pending: Pending, seconds: float) -> dict[str, Any]:
    message = await pending.response(seconds)
    if not message.get("success"):
        raise Refused(str(message.get("message") or f"{pending.command} has failed"))
    body: dict[str, Any] = message.get("body") or {}
    return body


def attach_arguments(given: Mapping[str, Any], machinery: Sequence[str]) -> dict[str, Any]:
    """The arguments of ``attach`` for debugpy: code in the folders ``machinery`` is left out, and
    child processes are not debugged.

    The standard library is left out as well, unless the frontend says ``justMyCode: false``.
    """
    just_my_code, rules = given.get("justMyCode"), given.get("rules")
    own = [(folder, False) for folder in machinery]
    if just_my_code is None:
        paths = sysconfig.get_paths()
        own += [(paths[one], True) for one in ("purelib", "platlib")]
        own += [(paths[one], False) for one in ("stdlib", "platstdlib")]
    own_rules = [{"path": folder, "include": include} for folder, include in own]
    return {
        **given,
        "justMyCode": just_my_code is True,
        "rules": [*(rules if isinstance(rules, list) else ()), *own_rules],
        "subProcess": False,
        "redirectOutput": False,
        "autoReload": {"enable": False},
    }


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
