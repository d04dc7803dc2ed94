"""`Kernel`: the class that authors subclass, and the bridge from the core to its handlers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from trio.lowlevel import enable_ki_protection

from ..core import (
    BackgroundNursery,
    Reply,
    Request,
    await_unprotected,
    call_unprotected,
    is_cancel,
    run_unprotected,
)
from ..errors import TrikernelError, UnknownMessageType
from ..wire import as_content
from .handlers import KernelHandlers
from .promptness import calls_nobody_first, is_prompt
from .sending import ChannelHandle
from .signatures import positional_count
from .verbs import KernelVerbs

__all__ = ["Kernel"]


class Kernel(KernelHandlers):
    """A Jupyter kernel. Subclass it and write the verbs: ``do_execute``, ``do_complete`` ...

    ::

        class Echo(Kernel):
            implementation = "echo"

            async def do_execute(self, code, silent, **options):
                self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})

        trikernel.main(Echo)

    Settings are keywords, flags or environment variables; see ``trikernel info``.
    One kernel object is served once at a time, by `trikernel.serve` or `trikernel.run`.
    """

    async def start(self) -> None:
        """Called by the core before anything is received."""
        await self.started()

    @enable_ki_protection
    async def handle(self, request: Request) -> Reply | None:
        """Run the handler of a request; what it returned, as a reply, or None if none is due."""
        on_control = request.channel.name == "control"
        handlers = self.control_handlers if on_control else self.shell_handlers
        handler = handlers.get(request.msg_type)
        if handler is None:
            raise UnknownMessageType(
                f"{type(self).__name__} has no handler for {request.msg_type!r} "
                f"on the {request.channel.name} channel"
            )
        if request.type is not None and request.type.beside and on_control:
            self.server.outbox.drain()
            return self._as_reply(request, await self._run(handler, request))
        self._last_request = request
        if not self._says_more_soon(handler):
            self.server.outbox.drain()
        call_unprotected(self.pre_handler_hook)
        try:
            return self._as_reply(request, await self._run(handler, request))
        finally:
            call_unprotected(self.post_handler_hook)

    async def allows(self, request: Request) -> bool:
        """Ask `should_handle`; an id that an abort named before is used up."""
        if type(self).should_handle is KernelVerbs.should_handle:
            allowed = request.msg_id not in self.aborted
        else:
            message = request.message
            self.server.outbox.drain()
            verdict = call_unprotected(
                self.should_handle,
                ChannelHandle(self, request.channel.name),
                message.as_dict(),
                list(message.identities),
            )
            if inspect.isawaitable(verdict):
                verdict = await await_unprotected(verdict)
            allowed = bool(verdict)
        self.aborted.pop(request.msg_id, None)
        return allowed

    @enable_ki_protection
    async def call_shutdown(self, restart: bool) -> dict[str, Any]:
        """`do_shutdown` in the user loop; what it raises is logged, and the kernel ends anyway."""
        default = {"status": "ok", "restart": restart}
        try:
            content = await run_unprotected(self.do_shutdown, restart)
            return {**default, **as_content(content)} if content is not None else default
        except BaseException as raised:
            if is_cancel(raised):
                raise
            self.log.exception("do_shutdown failed")
            return default

    @property
    def nursery(self) -> BackgroundNursery:
        """A nursery for tasks that outlive the request that starts them."""
        if self.server.background is None:
            raise TrikernelError("the background nursery is open once the kernel is served")
        return BackgroundNursery(self, self.server.background_tasks)

    async def process_one(self, wait: bool = True) -> int | None:
        """Handle the most urgent queued request; its priority, or None if none waits.

        With ``wait`` it waits for one. From inside a running cell the request is handled
        within that cell's turn: a failure of it aborts queued requests, never the cell.
        """
        return await self.server.shell.process_one(wait)

    async def do_one_iteration(self) -> None:
        """Handle everything queued above shell priority, and at most one shell request."""
        from ..wire import Priority

        while True:
            priority = await self.process_one(wait=False)
            if priority is None or priority >= Priority.SHELL:
                return

    def _says_more_soon(self, handler: Callable[..., Any]) -> bool:
        """Whether ``busy`` may wait for what the handler says: no author is called before that."""
        return is_prompt(handler) and calls_nobody_first(type(self), vars(self))

    async def _run(self, handler: Callable[..., Any], request: Request) -> Any:
        if getattr(handler, "__module__", "").startswith("trikernel."):
            return await handler(request)
        if positional_count(handler) < 3:
            return await run_unprotected(handler, request)
        message = request.message
        stream = ChannelHandle(self, request.channel.name)
        return await run_unprotected(handler, stream, list(message.identities), message.as_dict())

    def _as_reply(self, request: Request, value: Any) -> Reply | None:
        if isinstance(value, Reply):
            return value
        if value is not None:
            return Reply(as_content(value))
        return Reply({"status": "ok"}) if request.wants_reply else None
