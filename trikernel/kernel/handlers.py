"""One method for each row of the message table: content in, reply out.

A handler parses the content, calls the verb across the line where interrupts may be raised,
and makes what the author returned a proper reply. Errors are not its business: whatever it
raises is turned into a reply by the core's one boundary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from trio.lowlevel import enable_ki_protection

from ..core import Reply, Request, run_unprotected
from ..errors import ContentError
from ..wire import Message, as_content
from ..wire import contents as c
from ..wire import replies as r
from .comms import KernelComms
from .promptness import computes_info, prompt
from .rendering import render_error
from .signatures import accepted
from .verbs import KernelVerbs

__all__ = ["BACKGROUND_FAILED", "KernelHandlers"]

_LONGEST = 1e9  # seconds that a deadline may be away
BACKGROUND_FAILED = "a background task failed"  # in the log, with the error


class KernelHandlers(KernelComms):
    """The built-in handlers. Override one, or add one for a type of your own.

    A handler takes the `Request` and returns a content, a `Reply`, or None (then
    ``{"status": "ok"}`` is sent, if a reply is due). One that takes three arguments is called
    as ``handler(stream, ident, message)`` and may send its reply itself.
    """

    @prompt
    @enable_ki_protection
    async def execute_request(self, request: Request) -> Reply:
        """Count, show the input, run the code."""
        content = self._parse(c.ExecuteRequest, request)
        request.stop_on_error = content.stop_on_error and not content.silent
        store_history = content.store_history and not content.silent
        request.number = self.begin_execution(content)
        message = request.message
        metadata = self._init_metadata(message)
        self._set_deadline(request)
        if not content.silent:
            self.send_response(
                self.iopub_socket,
                "execute_input",
                {"code": content.code, "execution_count": request.number},
            )
        self.server.outbox.drain()  # it is silent, or what it sends is filtered by an author
        reply = await self._call(
            self.do_execute,
            content.code,
            content.silent,
            store_history=store_history,
            user_expressions=content.user_expressions or {},
            allow_stdin=content.allow_stdin,
            cell_meta=dict(message.metadata),
            cell_id=message.metadata.get("cellId"),
        )
        return self._finish(message, metadata, self.complete_execute_reply(request, reply))

    def _set_deadline(self, request: Request) -> None:
        """The kernel's `cell_timeout`, or what the request's metadata says instead."""
        seconds = request.message.metadata.get("trikernel.timeout", self.cell_timeout)
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not is_number or not 0 <= seconds <= _LONGEST:
            raise ContentError(
                "execute_request: the metadata 'trikernel.timeout' must be a number of seconds "
                f"from 0 to {_LONGEST:g}, not {seconds!r:.80}"
            )
        if seconds:
            self.server.interrupts.stop_after(request, seconds)

    @prompt
    def begin_execution(self, content: c.ExecuteRequest) -> int:
        """The number of the cell that starts; silent ones do not count."""
        if not content.silent:
            self.execution_count += 1
        return self.execution_count

    def complete_execute_reply(self, request: Request, reply: Any) -> dict[str, Any]:
        """A whole ``execute_reply`` out of what an author returned, however sketchy."""
        content = dict(as_content(reply)) if reply is not None else {}
        content.setdefault("status", "ok")
        if content["status"] in ("abort", "aborted"):
            content["status"] = "aborted"
        elif content["status"] == "error":
            content["ename"] = str(content.get("ename", "Error"))
            content["evalue"] = str(content.get("evalue", ""))
            content["traceback"] = [str(line) for line in content.get("traceback") or ()]
        else:
            content["payload"] = list(content.get("payload") or ())
            content["user_expressions"] = dict(content.get("user_expressions") or {})
        if not isinstance(content.get("execution_count"), int):
            content["execution_count"] = (
                request.number if request.number is not None else self.execution_count
            )
        return content

    @enable_ki_protection
    async def complete_request(self, request: Request) -> Any:
        """Completion; a cursor beyond the code is taken to its end."""
        content = self._parse(c.CompleteRequest, request)
        cursor_pos = _clip(content.cursor_pos, content.code)
        reply = await self._call(self.do_complete, content.code, cursor_pos)
        return (
            r.CompleteReply(cursor_start=cursor_pos, cursor_end=cursor_pos)
            if reply is None
            else reply
        )

    @enable_ki_protection
    async def inspect_request(self, request: Request) -> Any:
        """Inspection."""
        content = self._parse(c.InspectRequest, request)
        reply = await self._call(
            self.do_inspect,
            content.code,
            _clip(content.cursor_pos, content.code),
            detail_level=content.detail_level,
            omit_sections=tuple(content.omit_sections),
        )
        return r.InspectReply() if reply is None else reply

    @enable_ki_protection
    async def history_request(self, request: Request) -> Any:
        """History; fields that the specification does not know are dropped."""
        content = self._parse(c.HistoryRequest, request)
        reply = await self._call(self.do_history, **as_content(content))
        return r.HistoryReply() if reply is None else reply

    @enable_ki_protection
    async def is_complete_request(self, request: Request) -> Any:
        """Whether code is ready to run."""
        content = self._parse(c.IsCompleteRequest, request)
        reply = await self._call(self.do_is_complete, content.code)
        return r.IsCompleteReply() if reply is None else reply

    @prompt
    async def kernel_info_request(self, request: Request) -> dict[str, Any]:
        """Who this kernel is."""
        if computes_info(type(self)):  # type: ignore[arg-type]  # every class is hashable
            self.server.outbox.drain()
        return self.kernel_info

    @prompt
    async def connect_request(self, request: Request) -> dict[str, Any]:
        """The recorded ports."""
        return {"status": "ok", **self._ports}

    async def shutdown_request(self, request: Request) -> dict[str, Any]:
        """Stop what runs, call `do_shutdown`, and end the kernel after idle."""
        restart = self._parse(c.ShutdownRequest, request).restart
        return await self.server.shut_down(request, restart)

    async def interrupt_request(self, request: Request) -> r.OkReply:
        """Interrupt what runs; the reply does not wait for its end."""
        self.server.interrupts.interrupt()
        return r.OkReply()

    async def abort_request(self, request: Request) -> r.OkReply:
        """Abort requests by id, queued or running; without ids, everything queued."""
        msg_ids = self._parse(c.AbortRequest, request).msg_ids
        if isinstance(msg_ids, str):
            msg_ids = [msg_ids]
        await self.server.abort(set(msg_ids) if msg_ids else None)
        return r.OkReply()

    @enable_ki_protection
    async def apply_request(self, request: Request) -> Reply:
        """A function call of an IPython.parallel client."""
        message = request.message
        request.content = self._parse(c.ApplyRequest, request)
        metadata = self._init_metadata(message)
        content, buffers = await self._call(
            self.do_apply, dict(message.content), list(message.buffers), request.msg_id, metadata
        )
        reply = self._finish(message, metadata, dict(content))
        return Reply(reply.content, reply.metadata, [bytes(buffer) for buffer in buffers or ()])

    @enable_ki_protection
    async def clear_request(self, request: Request) -> Any:
        """Clear an engine's namespace."""
        return await self._call(self.do_clear) or r.OkReply()

    # What handlers share

    async def _call(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call an author's verb with the keywords that it takes."""
        return await run_unprotected(verb, *args, **accepted(verb, kwargs))

    def _init_metadata(self, message: Message) -> dict[str, Any]:
        started = {"started": datetime.now(UTC).isoformat()}
        if type(self).init_metadata is KernelVerbs.init_metadata:
            return started
        return {**started, **(self.init_metadata(message.as_dict()) or {})}

    def _finish(self, message: Message, metadata: dict[str, Any], content: dict[str, Any]) -> Reply:
        if type(self).finish_metadata is not KernelVerbs.finish_metadata:
            metadata = self.finish_metadata(message.as_dict(), metadata, content) or metadata
        return Reply(content, metadata)

    # What the core asks when something went another way

    def error_reply(self, request: Request, error: BaseException) -> Reply:
        """The reply that says what was raised, complete for its type."""
        return Reply(self._completed(request, as_content(render_error(error))))

    def aborted_reply(self, request: Request) -> Reply:
        """The reply to a request that was not run, or stopped by its id."""
        metadata = {"status": "aborted", "engine": self.ident}
        return Reply(self._completed(request, {"status": "aborted"}), metadata)

    def _completed(self, request: Request, content: dict[str, Any]) -> dict[str, Any]:
        if request.msg_type == "execute_request":
            return self.complete_execute_reply(request, content)
        return content

    def publish_error(self, request: Request, reply: Reply, error: BaseException) -> None:
        """Show what stopped or failed a cell under it; a refused request has no cell yet."""
        if request.msg_type == "execute_request" and not isinstance(error, ContentError):
            self.show_error(error)

    def report_background_error(self, error: BaseException) -> None:
        """Show what a background task raised under the cell that started it; else log it."""
        level = logging.ERROR if self.current() is None else logging.DEBUG
        self.log.log(level, BACKGROUND_FAILED, exc_info=error)
        self.show_error(error)

    def show_error(self, error: BaseException) -> None:
        """Publish an ``error`` under the cell that this code runs for."""
        shown = as_content(render_error(error))
        content = {name: shown[name] for name in ("ename", "evalue", "traceback")}
        self.send_response(self.iopub_socket, "error", content)


def _clip(cursor_pos: int, code: str) -> int:
    return min(max(cursor_pos, 0), len(code))
