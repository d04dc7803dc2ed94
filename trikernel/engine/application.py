"""The application of an engine: adds to replies what ipyparallel's schedulers and clients read.

The metadata of each reply says which engine has sent it, whether the call's dependencies were met,
and what the scheduler needs to combine the replies to a broadcast. An error reply says on which
engine it was raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ..core import Reply, Request, Server, current_request
from ..errors import AbortedError
from ..python.kernel import PythonApplication, PythonKernel
from ..transport import Controller
from .binding import stand_in_for_engine_app
from .calls import CONTROL_HANDLERS, SHELL_HANDLERS
from .data import DataPublisher
from .packing import serializer
from .registrar import Registered, Registrar

__all__ = ["EngineApplication"]

_CALLS = ("apply_request", "execute_request")
_COPIED = {"is_broadcast": False, "is_coalescing": False, "original_msg_id": "", "label": None}


class EngineApplication(PythonApplication):
    """Connects a `PythonKernel` that is an engine to the core.

    ``registered`` is the engine's registration. ``registrar``, if given, renews that while the
    kernel is served, and calls ``reread`` to learn where the controller is.
    """

    most_aborted = 1_000_000  # a controller sends each engine the ids that wait for any engine

    def __init__(
        self,
        kernel: PythonKernel,
        registered: Registered,
        registrar: Registrar | None = None,
        reread: Callable[[], Controller] | None = None,
    ) -> None:
        super().__init__(kernel)
        self._registrar = registrar
        self._reread = reread
        kernel.shell_handlers.update(SHELL_HANDLERS)
        kernel.control_handlers.update(CONTROL_HANDLERS)
        kernel.sender.keeps_silence = False
        kernel.session_id = registered.identity
        kernel.topics = f"engine.{registered.engine_id}"
        self.note(registered)

    def note(self, registered: Registered) -> None:
        """Give the kernel the name and the number of a new registration."""
        kernel: Any = self.kernel
        kernel.ident, kernel.int_id = registered.identity, registered.engine_id
        kernel.engine_id = registered.engine_id  # by which users of ipyparallel know it
        if kernel.sender.is_connected:
            connection = kernel.sender.connection
            connection.codec.mark({"engine": registered.identity})
            if connection.codec.key != connection.transport.key:
                connection.codec.change_key(connection.transport.key)

    def bind(self, server: Server) -> None:
        """The kernel is about to be served: mark its messages with the engine's name."""
        super().bind(server)
        server.connection.codec.mark({"engine": self.kernel.ident})

    def prepare(self) -> None:
        """Before anything is received: set up what code on an engine expects, and start following
        the controller.
        """
        self.at_end.enter_context(stand_in_for_engine_app())
        serializer()  # imported now, so that the first call does not wait for it
        self.kernel.shell.data_pub = DataPublisher()
        super().prepare()
        if self._registrar is not None and self._reread is not None:
            server = self.kernel.server
            follow, leave = self._registrar.follow, server.leave
            server.stopper.services.start_soon(follow, self._reread, leave, self.drop_calls)

    async def drop_calls(self) -> None:
        """Abort all queued requests and all running calls: the controller has told their clients
        that they have failed.
        """
        server = self.kernel.server
        running = {one.msg_id for one in server.stopper.running if one.msg_type in _CALLS}
        self.kernel.log.warning(
            "the controller has given up this engine: %d calls are stopped, and all that wait",
            len(running),
        )
        await server.abort(None, waits=False)
        if running:
            await server.abort(running, waits=False)

    # Requests

    def busy_may_wait(self, request: Request) -> bool:
        """A call's ``busy`` may be sent with its reply. The flusher of iopub is woken, and sends it
        if the call takes longer.
        """
        if request.msg_type != "apply_request":
            return super().busy_may_wait(request)
        self.kernel.sender.connection.iopub.wake()
        return True

    async def handle(self, request: Request) -> Reply | None:
        """Run the handler. The reply that it returned, with what the schedulers read."""
        self._describe(request)
        reply = await super().handle(request)
        if reply is not None:
            status = request.metadata["status"] = reply.content.get("status", "ok")
            if status == "error":
                return self._with_engine_info(request, reply)
        return reply

    def error_reply(self, request: Request, error: BaseException) -> Reply:
        """The reply that says what was raised, and on which engine."""
        self._describe(request)
        request.metadata["status"] = "error"
        if type(error).__name__ == "UnmetDependency":
            request.metadata["dependencies_met"] = False
        if request.msg_type != "apply_request":
            return self._with_engine_info(request, super().error_reply(request, error))
        shell = self.kernel.shell
        if current_request.get() is request:  # otherwise it has not run, and shows nothing
            shell.errors.forget()
            self.kernel.show_error(error)
        content = {"status": "error", **shell.errors.content(error)}
        return self._with_engine_info(request, Reply(content))

    def aborted_reply(self, request: Request) -> Reply:
        """The reply to a request that was not run, or stopped by its id."""
        self._describe(request)
        request.metadata["status"] = "aborted"
        return super().aborted_reply(request)

    def report_failure(self, request: Request, error: BaseException) -> None:
        """Log what a handler raised. An error in a call goes to its client, so that is logged at
        level DEBUG only.
        """
        if request.msg_type == "apply_request" and not isinstance(error, AbortedError):
            self.kernel.log.log(logging.DEBUG, "a call failed", exc_info=error)
        else:
            super().report_failure(request, error)

    def _describe(self, request: Request) -> None:
        if "engine" in request.metadata:
            return
        given = request.message.metadata
        request.metadata.update(
            started=datetime.now(UTC).isoformat(),
            dependencies_met=True,
            engine=self.kernel.ident,
            **{name: given.get(name, default) for name, default in _COPIED.items()},
        )

    def _with_engine_info(self, request: Request, reply: Reply) -> Reply:
        kernel = self.kernel
        info = {"engine_uuid": kernel.ident, "engine_id": kernel.int_id}
        request.metadata["engine_info"] = info
        method = request.msg_type.partition("_")[0]
        content = {**reply.content, "engine_info": {**info, "method": method}}
        return Reply(content, reply.metadata, reply.buffers)
