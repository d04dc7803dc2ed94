"""The core's side of a kernel: `Application` holds a `Kernel`, and answers what the core asks.

The core knows requests, lanes and replies, an author knows verbs and hooks; an `Application`
translates. The kernel does not know its application.
"""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from .. import core
from ..core import (
    OutputLimits,
    Reply,
    Request,
    Server,
    Services,
    is_cancel,
    run_unprotected,
)
from ..errors import (
    ContentError,
    KernelClassError,
    LeftOpenError,
    TrikernelError,
    UnknownMessageType,
)
from ..transport import Transport
from ..wire import REQUESTS, Limits, MessageType, as_content, parse
from ..wire import contents as c
from .checks import check_kernel, doubts
from .handlers import complete_execute_reply, is_built_in, positional_count
from .hooks import name_of, run_hook, run_protected_hook, telling_if_it_lasts
from .ipykernel_names import note_served
from .kernel import Kernel
from .own_types import declared_row
from .recording import note_error
from .replies import whole_reply
from .sender import ChannelHandle
from .stdin import Asker
from .takeover import Takeover
from .tracebacks import render_error

__all__ = [
    "BACKGROUND_FAILED",
    "FACTS",
    "Application",
    "application_of",
    "serve",
    "use_application",
]

BACKGROUND_FAILED = "a background task failed"  # in the log, with the error
_VERBS = {
    f"{name}_request": f"do_{name}"
    for name in ("execute", "complete", "inspect", "history", "is_complete", "apply", "clear")
}
_HOOKS = frozenset(
    {
        "should_handle",
        "pre_handler_hook",
        "post_handler_hook",
        "_begin_execution",
        "init_metadata",
        "send_response",
    }
)
FACTS = (
    "implementation",
    "implementation_version",
    "language",
    "language_version",
    "language_info",
    "banner",
    "help_links",
    "supported_features",
)
"""What a class says of its kernel, in a ``kernel_info_reply``."""


async def serve(
    kernel: Kernel,
    transport: Transport,
    *,
    services: Services = "thread",
    owns_process: bool = False,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``kernel`` over ``transport`` until it is told to shut down, or cancelled.

    With ``services="thread"`` control, interrupts and output live in a thread of their own, so
    that they work while a cell computes; in the main thread SIGINT is taken over meanwhile.
    With ``services="inline"`` everything is in this loop: for embedding, and for tests under a
    virtual clock. Synchronous code cannot be stopped then, and output that nobody reads is bounded
    by the budget, not by waiting. Some classes replace more in the process, `PythonKernel` for
    example: see the discussion page "two loops".

    Usable with ``nursery.start``, which returns once requests are answered. The transport stays
    open: whoever opened it closes it. ``owns_process`` allows `os._exit` where the user's code
    blocks the shutdown beyond its grace. Cancelled, it ends in the same order, without a last
    message. Raises `TrikernelError` for a kernel that is served already, and the error that has
    crashed a service.
    """
    application = application_of(kernel)
    await core.serve(
        application,
        transport,
        services=services,
        owns_process=owns_process,
        task_status=task_status,
    )


class Application:
    """One kernel as the core sees it. ``at_end`` is closed when it is no longer served."""

    captures_anywhere = False  # whether its code prints to the cell also in a process of a host's
    most_aborted = 10_000  # ids of requests that are aborted when they come

    def __init__(self, kernel: Kernel) -> None:
        """Raises `KernelClassError` for a class that cannot work as it is written."""
        check_kernel(kernel)
        self.kernel = kernel
        self.start_error: BaseException | None = None  # raised by the kernel's `start` or `started`
        self.at_end = ExitStack()
        self.takeover = Takeover(kernel, anywhere=self.captures_anywhere)
        self._rows: dict[str, MessageType] = dict(REQUESTS)
        cls, static = type(kernel), inspect.getattr_static
        self._overrides_hooks = not all(is_built_in(static(cls, name)) for name in _HOOKS)
        facts = [static(cls, name) for name in FACTS]
        self._computes_facts = not is_built_in(
            getattr(static(cls, "kernel_info"), "fget", None)
        ) or any(hasattr(one, "__get__") and not is_built_in(one) for one in facts)

    # Being served

    def bind(self, server: Server) -> None:
        """The kernel is about to be served. Raises `TrikernelError` if it is already."""
        kernel = self.kernel
        if kernel.sender.is_connected:
            raise TrikernelError("this kernel is being served already; make another one")
        kernel.server_ref = weakref.ref(server)
        note_served(kernel)
        if not kernel.ports:
            kernel.record_ports(server.transport.ports)
        self._connect(server)

    def _connect(self, server: Server) -> None:
        kernel, connection = self.kernel, server.connection
        kernel.sender.connect(connection, server.stopper)
        kernel.served_asker = Asker(
            connection, server.stopper, server.dispatcher.rejected, server.user_thread
        )

    def unbind(self) -> None:
        """It is no longer served."""
        kernel = self.kernel
        self.at_end.close()
        self.takeover.give_back()
        kernel.sender.disconnect()
        kernel.server_ref = _no_server
        kernel.served_asker = kernel.kept_session = None

    async def enter_loop(self) -> None:
        """Called in each user loop: before `start`, and again when a loop was lost."""
        self._connect(self.kernel.server)
        self.takeover.enter_loop()

    async def enter_subshell(self) -> None:
        """Called in the loop of each subshell, before it takes requests."""
        self.takeover.enter_task()

    async def start(self) -> None:
        """Called once, before anything is received. Interrupts do not reach it."""
        self.takeover.begin()
        for doubt in doubts(self.kernel):
            self.kernel.log.warning("%s", doubt)
        self.prepare()
        nursery = self.kernel.server.background
        assert nursery is not None
        try:
            for hook in ("start", "started"):
                with telling_if_it_lasts(self.kernel, hook, nursery):
                    await run_protected_hook(self.kernel, hook)
        except BaseException as raised:
            self.start_error = None if is_cancel(raised) else raised
            if isinstance(raised, SystemExit):
                name = name_of(self.kernel, hook)
                self.kernel.log.warning("the kernel ends: %s has left the process", name)
            raise

    def prepare(self) -> None:
        """Called before the author's hooks; for subclasses."""

    def connection_limits(self) -> tuple[Limits, OutputLimits, int]:
        """The bounds of a message, of output, and of the bytes of replies that are kept."""
        kernel = self.kernel
        return (
            Limits(
                kernel.max_frames,
                kernel.max_message_bytes,
                kernel.max_identities,
                kernel.replay_window,
            ),
            OutputLimits(
                kernel.max_merge,
                kernel.flush_interval,
                kernel.output_budget_bytes,
                kernel.output_budget_seconds,
            ),
            kernel.max_backlog_bytes,
        )

    # Requests

    def find(self, msg_type: str) -> MessageType | None:
        """The row of a message type that this kernel has a handler for."""
        kernel = self.kernel
        if msg_type not in kernel.shell_handlers and msg_type not in kernel.control_handlers:
            return None
        row = self._rows.get(msg_type)
        if row is None:
            handler = kernel.control_handlers.get(msg_type)
            row = self._rows[msg_type] = declared_row(type(kernel), msg_type, handler)
        return row

    def busy_may_wait(self, request: Request) -> bool:
        """Whether ``busy`` need not be sent at once, because the handler sends a message or returns
        before it waits or calls code of an author's.

        Both then leave together, which wakes libzmq's own thread once instead of twice.
        """
        kernel, msg_type = self.kernel, request.msg_type
        if self._overrides_hooks or not _HOOKS.isdisjoint(kernel.__dict__):
            return False
        if msg_type == "kernel_info_request" and self._computes_facts:
            return False
        at_once = msg_type in ("execute_request", "kernel_info_request")
        return at_once and is_built_in(kernel.shell_handlers.get(msg_type))

    def content_error(self, request: Request) -> ContentError | None:
        """The error that our own handler would raise for its content; None if there is none, or if
        code of an author's comes first. With an error it need not wait for its turn.
        """
        kernel = self.kernel
        hooks = self._overrides_hooks or not _HOOKS.isdisjoint(kernel.__dict__)
        handler = kernel.control_handlers.get(request.msg_type)
        if hooks or kernel.aborted or request.type is None or not is_built_in(handler):
            return None
        try:
            parse(request.type.content, request.msg_type, request.message.content)
        except ContentError as error:
            return error
        return None

    @enable_ki_protection
    async def handle(self, request: Request) -> Reply | None:
        """Run the handler of a request; its reply, or None if none is due."""
        kernel, channel = self.kernel, request.channel.name
        hooks = self._overrides_hooks or not _HOOKS.isdisjoint(kernel.__dict__)
        if (hooks or kernel.aborted) and not await self._is_allowed(request):
            return self.aborted_reply(request)
        on_control = channel == "control"
        known = kernel.control_handlers if on_control else kernel.shell_handlers
        handler = known.get(request.msg_type)
        if handler is None:
            raise UnknownMessageType(
                f"{type(kernel).__name__} has no handler for {request.msg_type!r} "
                f"on the {channel} channel"
            )
        is_beside_cells = on_control and request.type is not None and request.type.concurrent
        if not is_beside_cells:
            kernel.sender.last_request = request
        if is_beside_cells or not hooks:
            return _as_reply(kernel, request, await _call(kernel, handler, request))
        await run_hook(kernel, "pre_handler_hook")
        try:
            return _as_reply(kernel, request, await _call(kernel, handler, request))
        finally:
            await run_hook(kernel, "post_handler_hook")

    async def _is_allowed(self, request: Request) -> bool:
        """Ask `should_handle`. The id is then no longer among those that are to be aborted."""
        kernel = self.kernel
        if is_built_in(kernel.should_handle):
            return kernel.aborted.pop(request.msg_id, self) is self
        message = request.message
        stream = ChannelHandle(kernel.sender, request.channel.name)
        idents = list(message.identities)
        verdict = await run_hook(kernel, "should_handle", stream, message.as_dict(), idents)
        kernel.aborted.pop(request.msg_id, None)
        return bool(verdict)

    def remember_aborted(self, msg_ids: set[str]) -> None:
        """Abort these when they start; the oldest ids beyond `most_aborted` are forgotten. From any
        thread: each loop of a shell takes its own from there.
        """
        aborted = self.kernel.aborted
        aborted.update(dict.fromkeys(msg_ids))
        self.forget_aborted(list(aborted)[: max(0, len(aborted) - self.most_aborted)])

    def forget_aborted(self, msg_ids: Iterable[str]) -> None:
        """These are aborted already; from any thread."""
        for msg_id in msg_ids:
            self.kernel.aborted.pop(msg_id, None)

    # Errors and aborts

    def error_reply(self, request: Request, error: BaseException) -> Reply:
        """The reply that tells of an exception, complete for its type."""
        return Reply(_completed(self.kernel, request, as_content(render_error(error))))

    def aborted_reply(self, request: Request) -> Reply:
        """The reply to a request that was not run, or stopped by its id."""
        metadata = {"status": "aborted", "engine": self.kernel.ident}
        return Reply(_completed(self.kernel, request, {"status": "aborted"}), metadata)

    def report_failure(self, request: Request, error: BaseException) -> None:
        """Log what a handler raised. An error of a cell is the user's, and is shown under the cell:
        it is logged for debugging only. Any other one is an error of the kernel.
        """
        kernel, verb = self.kernel, _VERBS.get(request.msg_type)
        if isinstance(error, KeyboardInterrupt):
            return
        users = request.runs_user_code and not is_built_in(kernel.do_execute)
        level = logging.DEBUG if users or isinstance(error, LeftOpenError) else logging.ERROR
        where = name_of(kernel, verb or request.msg_type)
        kernel.log.log(level, "%s failed", where, exc_info=error)

    def publish_error(self, request: Request, error: BaseException) -> None:
        """Show the error of a cell under it, except for one that was refused for its content."""
        if request.msg_type == "execute_request" and not isinstance(error, ContentError):
            note_error(error)
            self.kernel.show_error(error)

    def report_background_error(self, error: BaseException) -> None:
        """Show what a background task raised under the cell that started it; else log it."""
        kernel = self.kernel
        level = logging.ERROR if kernel.sender.current() is None else logging.DEBUG
        kernel.log.log(level, BACKGROUND_FAILED, exc_info=error)
        note_error(error)
        kernel.show_error(error)

    @enable_ki_protection
    async def call_shutdown(self, restart: bool) -> dict[str, Any]:
        """Call `do_shutdown`; its content, or a default one if it raises, which is logged."""
        default = {"status": "ok", "restart": restart}
        try:
            content = await run_unprotected(self.kernel.do_shutdown, restart)
            return whole_reply(self.kernel, "do_shutdown", c.ShutdownReply, content, default)
        except BaseException as raised:
            if is_cancel(raised):
                raise
            self.kernel.log.exception("%s failed", name_of(self.kernel, "do_shutdown"))
            return default


async def _call(kernel: Kernel, handler: Any, request: Request) -> Any:
    """Call a handler with what it takes: the request, or ipykernel's three arguments."""
    if is_built_in(handler):
        return await handler(request)
    if positional_count(handler) < 3:
        return await run_unprotected(handler, request)
    message = request.message
    stream = ChannelHandle(kernel.sender, request.channel.name)
    return await run_unprotected(handler, stream, list(message.identities), message.as_dict())


def _as_reply(kernel: Kernel, request: Request, value: Any) -> Reply | None:
    if isinstance(value, Reply):
        return value
    if value is not None:
        try:
            return Reply(as_content(value))
        except TypeError as error:
            raise TypeError(f"{name_of(kernel, request.msg_type)}: {error}") from None
    return Reply({"status": "ok"}) if request.wants_reply else None


def _completed(kernel: Kernel, request: Request, content: dict[str, Any]) -> dict[str, Any]:
    if request.msg_type == "execute_request":
        return complete_execute_reply(kernel, request, content)
    return content


def _no_server() -> None:
    return None


_makers: dict[type, Callable[[Any], Application]] = {Kernel: Application}


def use_application(make: Callable[[Any], Application], kernel_class: type) -> None:
    """Register ``make`` to make the application of kernels of that class.

    Such a class need not be a `Kernel`, if the application that is made for it holds one.
    """
    _makers[kernel_class] = make


def application_of(kernel: Kernel) -> Application:
    """A new application for that kernel. Raises `KernelClassError` if it is none."""
    if isinstance(kernel, type) and any(cls in _makers for cls in kernel.__mro__):
        name = kernel.__name__
        raise KernelClassError(f"a kernel is served, not its class: make one, as in {name}()")
    make = next((_makers[cls] for cls in type(kernel).__mro__ if cls in _makers), None)
    if make is None:
        raise KernelClassError(f"a kernel is served, not {type(kernel).__name__} {kernel!r:.80}")
    return make(kernel)
