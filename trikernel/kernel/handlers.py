"""One function for each row of the message table: a request in, a reply out.

They are the methods ``execute_request``, ``complete_request`` and so on of `Kernel`, so that a
subclass can replace each. A handler parses the content, calls the verb in such a way that an
interrupt may be raised in it (`run_unprotected`), and makes a complete reply of what the author's
verb returned. It catches nothing: `core.ShellLane.run_handler` makes a reply of whatever it raises.
A content with a field of a wrong type is a `ContentError` that names the field. Cancelled (by an
interrupt, a deadline, an abort, the kernel's end), a handler passes the cancel on, and the request
is answered there, too.
Source: messaging.rst, "Messages on the shell (ROUTER/DEALER) channel", "Custom Messages".
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

from trio.lowlevel import enable_ki_protection

from ..core import Reply, Request, Subshells, current_subshell, run_unprotected
from ..errors import ContentError, NoSubshell, UnknownMessageType
from ..system import run_in_own_thread
from ..wire import REQUESTS, Message, as_content, parse
from ..wire import contents as c
from .hooks import run_hook
from .replies import (
    apply_reply,
    complete_error,
    completion,
    converted,
    inspection,
    refuse,
    refuse_status,
    whole_reply,
)
from .served import ServedKernel
from .tasks import tell_tasks
from .usage import measure

__all__ = [
    "HANDLERS",
    "accepted",
    "begin_execution",
    "built_in",
    "complete_execute_reply",
    "is_built_in",
    "offer_no_debugger",
    "positional_count",
]

T = TypeVar("T")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
WIDGETS = "jupyter.widget"  # comms of widgets, and ``.control``
_LONGEST = 1e9  # seconds that a deadline may be away


# Running code


@enable_ki_protection
async def execute_request(self: ServedKernel, request: Request) -> Reply:
    """Count, show the input, run the code.

    Content: `ExecuteRequest`. Reply: ``status``, ``execution_count`` (int), and ``payload`` and
    ``user_expressions`` or ``ename``, ``evalue`` and ``traceback`` (a list of str).
    """
    content = _parse(c.ExecuteRequest, request)
    silent, message = content.silent, request.message
    request.stop_on_error = content.stop_on_error and not silent
    request.number = self._begin_execution(content)
    metadata = await _init_metadata(self, message)
    _set_deadline(self, request)
    if not silent:
        self.sender.last_cell = request
        self.send_response(
            self.iopub_socket,
            "execute_input",
            {"code": content.code, "execution_count": request.number},
        )
    self.sender.connection.iopub.drain(wait=True)  # that it runs is known, whatever it does
    options = {
        "store_history": content.store_history and not silent,
        "user_expressions": content.user_expressions or {},
        "allow_stdin": content.allow_stdin,
        "cell_meta": dict(message.metadata),
        "cell_id": message.metadata.get("cellId"),
    }
    verb = self.do_execute
    try:
        reply = await run_unprotected(verb, content.code, silent, **accepted(verb, options))
    finally:
        if self.descriptors is not None:  # what child processes have written goes before the reply
            self.descriptors.collect()
    reply = complete_execute_reply(self, request, reply)
    if not is_built_in(self.finish_metadata):
        metadata = await _finish_metadata(self, message, metadata, reply)
    return Reply(reply, metadata)


def complete_execute_reply(self: ServedKernel, request: Request, reply: Any) -> dict[str, Any]:
    """A complete ``execute_reply`` out of what an author's verb returned, whatever it left out.

    An aborted one has no ``execution_count``: frontends would show the cell as one that ran.
    """
    try:
        content = dict(as_content(reply)) if reply is not None else {}
    except TypeError as error:
        refuse(self, "do_execute", str(error), ": ")
    status = content.setdefault("status", "ok")
    if status in ("abort", "aborted"):
        content["status"] = "aborted"
        content.pop("execution_count", None)
        return content
    if status == "error":
        complete_error(self, "do_execute", content)
    elif status == "ok":
        for name, kind in (("payload", list), ("user_expressions", dict)):
            value = content.get(name) or kind()
            if value and (kind is list or type(value) is not kind):
                value = converted(self, name, kind, value)
            content[name] = value
    else:
        refuse_status(self, "do_execute", status, "ok, error or aborted")
    if not _is_count(content.get("execution_count")):
        number = request.number if request.number is not None else self.execution_count
        content["execution_count"] = number if _is_count(number) else 0
    return content


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _set_deadline(self: ServedKernel, request: Request) -> None:
    """The kernel's `cell_timeout`, or what the request's metadata says instead."""
    seconds = request.message.metadata.get("trikernel.timeout", self.cell_timeout)
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= _LONGEST:
        raise ContentError(
            "execute_request: the metadata 'trikernel.timeout' must be a number of seconds "
            f"from 0 to {_LONGEST:g}, not {seconds!r:.80}"
        )
    if seconds:
        self.server.stopper_here.stop_after(request, seconds)


@enable_ki_protection
async def apply_request(self: ServedKernel, request: Request) -> Reply:
    """A function call of an IPython.parallel client: the content is the author's, the call itself
    in the message's buffers. Reply: what `do_apply` returned, with its buffers.
    """
    message = request.message
    _parse(c.ApplyRequest, request)
    metadata = await _init_metadata(self, message)
    returned = await run_unprotected(
        self.do_apply, dict(message.content), list(message.buffers), request.msg_id, metadata
    )
    content, buffers = apply_reply(self, returned)
    if not is_built_in(self.finish_metadata):
        metadata = await _finish_metadata(self, message, metadata, content)
    return Reply(content, metadata, buffers)


@enable_ki_protection
async def clear_request(self: ServedKernel, request: Request) -> Any:
    """Clear an engine's namespace. Content: none. Reply: what `do_clear` returned, or ``ok``."""
    return whole_reply(self, "do_clear", c.OkReply, await run_unprotected(self.do_clear))


# Asking about code


@enable_ki_protection
async def complete_request(self: ServedKernel, request: Request) -> Any:
    """Completion; a cursor beyond the code is taken to its end.

    Content: ``code``, ``cursor_pos`` (code points). Reply: ``matches`` (a list of str),
    ``cursor_start``, ``cursor_end``, ``metadata``.
    """
    content = _parse(c.CompleteRequest, request)
    cursor_pos = _clip(content.cursor_pos, content.code)
    reply = await run_unprotected(self.do_complete, content.code, cursor_pos)
    return completion(self, content.code, cursor_pos, reply)


@enable_ki_protection
async def inspect_request(self: ServedKernel, request: Request) -> Any:
    """Inspection.

    Content: ``code``, ``cursor_pos``, ``detail_level`` (0 or 1), ``omit_sections``. Reply:
    ``found`` (bool), ``data`` and ``metadata`` by MIME type.
    """
    content = _parse(c.InspectRequest, request)
    cursor_pos = _clip(content.cursor_pos, content.code)
    options = {
        "detail_level": content.detail_level,
        "omit_sections": tuple(content.omit_sections),
    }
    verb = self.do_inspect
    reply = await run_unprotected(verb, content.code, cursor_pos, **accepted(verb, options))
    return inspection(self, reply)


@enable_ki_protection
async def history_request(self: ServedKernel, request: Request) -> Any:
    """History; fields that the specification does not know are dropped.

    Content: ``hist_access_type`` and what goes with it, see `HistoryRequest`. Reply: ``history``, a
    list of ``(session, line, input)``, or of ``(session, line, (input, output))``.
    """
    content = _parse(c.HistoryRequest, request)
    verb = self.do_history
    reply = await run_unprotected(verb, **accepted(verb, as_content(content)))
    return whole_reply(self, "do_history", c.HistoryReply, reply)


@enable_ki_protection
async def is_complete_request(self: ServedKernel, request: Request) -> Any:
    """Whether code is ready to run.

    Content: ``code``. Reply: ``status`` is ``complete``, ``incomplete`` (then with ``indent``),
    ``invalid`` or ``unknown``.
    """
    content = _parse(c.IsCompleteRequest, request)
    reply = await run_unprotected(self.do_is_complete, content.code)
    return whole_reply(self, "do_is_complete", c.IsCompleteReply, reply)


def _clip(cursor_pos: int, code: str) -> int:
    return min(max(cursor_pos, 0), len(code))


# Asking about the kernel, and steering it


async def kernel_info_request(self: ServedKernel, request: Request) -> dict[str, Any]:
    """Who this kernel is. Content: none. Reply: `Kernel.kernel_info`."""
    return self.kernel_info


async def connect_request(self: ServedKernel, request: Request) -> dict[str, Any]:
    """The recorded ports. Content: none. Reply: ``shell_port`` and so on, of type int."""
    return {"status": "ok", **self.ports}


async def usage_request(self: ServedKernel, request: Request) -> dict[str, Any]:
    """What this process and its children use. Content: none. Reply: see `usage.measure`."""
    if self.server.inline:  # one loop does everything, under a virtual clock perhaps
        return {"status": "ok", **measure()}
    return {"status": "ok", **await run_in_own_thread(measure, "trikernel usage")}


async def tasks_request(self: ServedKernel, request: Request) -> dict[str, Any]:
    """Which tasks cells have started and still live. Content: none. Reply: see `TasksReply`."""
    return {"status": "ok", **(await tell_tasks(self)).as_content()}


async def shutdown_request(self: ServedKernel, request: Request) -> dict[str, Any]:
    """Stop what runs, call `do_shutdown`, and end the kernel after idle.

    Content: ``restart`` (bool). Reply: what `do_shutdown` returned, with ``restart``.
    """
    restart = _parse(c.ShutdownRequest, request).restart
    content: dict[str, Any] = await self.server.shut_down(request, restart)
    return content


async def interrupt_request(self: ServedKernel, request: Request) -> dict[str, Any]:
    """Interrupt what runs; the reply does not wait for its end.

    With a ``subshell_id`` in its header, what runs in that subshell; else what runs in every shell.

    Content: none. Reply: ``ok``, and as ``still_runs`` (str) where the user's code stands, if it
    has been told to stop before: it has not heard of that for `stop_grace`, or goes on after the
    third step.
    """
    place = self.server.interrupt(request.message.header.subshell_id)
    return {"status": "ok", **({"still_runs": place} if place else {})}


@enable_ki_protection
async def debug_request(self: ServedKernel, request: Request) -> Any:
    """A request of the Debug Adapter Protocol, for `do_debug_request`.

    Content: `DebugRequest`. Reply: a DAP response, see `DebugReply`.
    """
    return await run_unprotected(self.do_debug_request, dict(request.message.content))


async def abort_request(self: ServedKernel, request: Request) -> c.OkReply:
    """Abort requests by id, queued or running; without ids, everything queued.

    Content: ``msg_ids``, one id or a list. Reply: ``ok``, once it is done, or after half a second
    if the user's code does not let its loop turn.
    """
    msg_ids = _parse(c.AbortRequest, request).msg_ids
    if isinstance(msg_ids, str):
        msg_ids = [msg_ids]
    await self.server.abort(set(msg_ids) if msg_ids else None)
    return c.OkReply()


# Subshells


async def create_subshell_request(self: ServedKernel, request: Request) -> c.CreateSubshellReply:
    """A new subshell, for kernels whose class says that its verbs may run in several threads.

    Content: none. Reply: ``subshell_id`` (str).
    """
    return c.CreateSubshellReply(subshell_id=_subshells(self).create())


async def delete_subshell_request(self: ServedKernel, request: Request) -> c.OkReply:
    """End a subshell: what runs in it is stopped, or left behind after `shutdown_grace`.

    Content: ``subshell_id`` (str). Reply: ``ok``, once it has ended; an error for an unknown id.
    """
    subshell_id = _parse(c.DeleteSubshellRequest, request).subshell_id
    await _subshells(self).delete(subshell_id)
    return c.OkReply()


async def list_subshell_request(self: ServedKernel, request: Request) -> c.ListSubshellReply:
    """Which subshells there are. Content: none. Reply: ``subshell_id``, a list of str."""
    return c.ListSubshellReply(subshell_id=_subshells(self).ids)


def _subshells(self: ServedKernel) -> Subshells:
    if not self.has_subshells:
        name = type(self).__name__
        raise NoSubshell(
            f"{name} has no subshells: its class has to say has_subshells = True, "
            "for its verbs would run in several threads"
        )
    return self.server.subshells


# Comms: a manager is any object with ``comms``, ``comm_open``, ``comm_msg`` and ``comm_close``


async def comm_info_request(self: ServedKernel, request: Request) -> c.CommInfoReply:
    """The open comms, all or those of one target.

    Content: ``target_name``, or none. Reply: ``comms``, ``{comm_id: {"target_name": str}}``.
    """
    target_name = _parse(c.CommInfoRequest, request).target_name
    comms = self.comm_manager.comms
    _note_widgets(self, target_name)
    return c.CommInfoReply(
        comms={
            comm_id: {"target_name": comm.target_name}
            for comm_id, comm in tuple(comms.items())
            if target_name in (None, comm.target_name)
        }
    )


@enable_ki_protection
async def comm_open(self: ServedKernel, request: Request) -> None:
    """Open a comm; one of an unknown target is closed at once. Content: `CommOpen`. No reply."""
    _note_widgets(self, _parse(c.CommOpen, request).target_name)
    await _call_manager(self, self.comm_manager.comm_open, request)


@enable_ki_protection
async def comm_msg(self: ServedKernel, request: Request) -> None:
    """A message for an open comm. Content: ``comm_id``, ``data``. No reply."""
    _parse(c.CommMsg, request)
    await _call_manager(self, self.comm_manager.comm_msg, request)


@enable_ki_protection
async def comm_close(self: ServedKernel, request: Request) -> None:
    """The frontend closes a comm. Content: ``comm_id``, ``data``. No reply."""
    _parse(c.CommClose, request)
    await _call_manager(self, self.comm_manager.comm_close, request)


def _note_widgets(self: ServedKernel, target_name: str | None) -> None:
    """A frontend that shows widgets asks for their comms, or opens one, as it connects."""
    if target_name is not None and target_name.startswith(WIDGETS):
        self.has_widgets = True


async def _call_manager(self: ServedKernel, function: Callable[..., Any], request: Request) -> None:
    message = request.message
    idents = list(message.identities)
    await run_unprotected(function, self.shell_stream, idents, message.as_dict())


# What handlers share


def _parse(cls: type[Any], request: Request) -> Any:
    request.content = parse(cls, request.msg_type, request.message.content)
    return request.content


async def _init_metadata(self: ServedKernel, message: Message) -> dict[str, Any]:
    metadata: dict[str, Any] = {"started": datetime.now(UTC).isoformat()}
    if not is_built_in(self.init_metadata):
        metadata |= await run_hook(self, "init_metadata", message.as_dict()) or {}
    return metadata


async def _finish_metadata(
    self: ServedKernel, message: Message, metadata: dict[str, Any], content: dict[str, Any]
) -> dict[str, Any]:
    name, parent = "finish_metadata", message.as_dict()
    return await run_hook(self, name, parent, metadata, content) or metadata


HANDLERS = {name: globals()[name] for name in REQUESTS}
"""Each message type and its handler."""

_BUILT_IN: set[object] = set(HANDLERS.values())


def built_in(value: T) -> T:
    """Mark a method (or a fact of a kernel) as ours. It must send something or return before it
    calls any code of an author's, because ``busy`` may be held back until then.
    """
    _BUILT_IN.add(value)
    return value


@built_in
def begin_execution(self: ServedKernel, content: c.ExecuteRequest) -> int:
    """The number of the cell that starts; silent ones do not count."""
    subshell = current_subshell.get()
    if subshell is not None:
        subshell.key.execution_count += not content.silent
        return subshell.key.execution_count
    if not content.silent:
        self.execution_count += 1
    count: int = self.execution_count
    return count


def offer_no_debugger(self: ServedKernel, msg: dict[str, Any]) -> Any:
    """Answer a request of the Debug Adapter Protocol by a DAP response.

    Called in the service loop, beside the running cell; requests come in order, and one may come
    while another one is awaited. A kernel that has this verb says so in `supported_features`
    (``"debugger"``).
    """
    raise UnknownMessageType(f"{type(self).__name__} offers no debugger")


def is_built_in(value: object) -> bool:
    """Whether a handler or hook is ours, and not an author's that replaces or wraps it."""
    return getattr(value, "__func__", value) in _BUILT_IN


# What an author's function takes: verbs and handlers of several ages differ


def accepted(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that ``function`` takes by keyword."""
    names = _keywords(getattr(function, "__func__", function))
    if names is None:
        return options
    return {name: value for name, value in options.items() if name in names}


def positional_count(function: Callable[..., Any]) -> float:
    """How many positional arguments a handler takes; infinity for ``*args``."""
    bound = getattr(function, "__self__", None) is not None
    return _positional(getattr(function, "__func__", function)) - bound


@lru_cache(maxsize=256)
def _keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a function in C, for example, that has no signature: call it without any
        return frozenset()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return None
    return frozenset(parameters)


@lru_cache(maxsize=256)
def _positional(function: Callable[..., Any]) -> float:
    try:
        kinds = [one.kind for one in inspect.signature(function).parameters.values()]
    except ValueError:
        return 1.0
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return math.inf
    return float(sum(kind in _POSITIONAL for kind in kinds))
