"""A Trio client of one kernel: the verbs of the Jupyter protocol, each a call to await.

Works the same over sockets and in memory. Knows nothing of kernels' insides, of how their
processes are started, nor of notebooks.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Any, Self, TypedDict, Unpack

import trio

from ..errors import KernelDied
from ..transport import ClientTransport
from ..wire import Message
from .comms import Comm, Comms
from .connection import Connection
from .execution import Execution, InputHandler, first_of
from .stopping import REPLY_GRACE, Stopper, timed_out
from .subshells import create_subshell, delete_subshell

__all__ = ["Client"]

CONTROL_GRACE = 1  # seconds for a reply on control, after which the kernel is asked on shell

Restart = Callable[[Callable[[ClientTransport], Awaitable[None]]], Awaitable[bool]]


class ExecuteOptions(TypedDict, total=False):
    """What `Client.start` takes; `Client.execute` and `Client.executing` hand it on."""

    silent: bool
    store_history: bool
    user_expressions: Mapping[str, str]
    stop_on_error: bool
    metadata: Mapping[str, Any] | None
    on_input: InputHandler | None


class Client:
    """Speaks to one kernel. Made by `open_kernel`, `connect` or `open_client`.

    Any number of tasks may use it at once; answers are told apart by message id. Every call
    raises `KernelDied` when the kernel ends, or has ended. Cancelled, a wait for a cell interrupts
    the kernel, all other waits drop the answer as it comes.

    ``name`` is how errors call the kernel. ``on_input``, which may be set, answers the questions of
    cells that were executed without an ``on_input`` of their own. ``info`` is the content of the
    ``kernel_info_reply`` that the kernel gave when it was ready (empty in memory), ``log_tail()``
    the end of its log, if this program has started it. ``rejected`` counts messages that could not
    be read, by the kind of `WireError`. Functions in ``diverting`` are called with each iopub
    message before anybody else; if one returns true, no execution and no comm gets it.
    ``subshell_id`` is the subshell in which the cells of this client run, None for the main shell:
    see `open_subshell`. ``connection`` is the lower half, for code that sends frames of its own.

    ``restart`` may be set to restart a kernel in which a cell does not stop. It is called with a
    function that takes the transport to the new kernel; it returns whether there is one, and raises
    nothing.
    """

    def __init__(
        self,
        transport: ClientTransport,
        name: str = "the kernel",
        *,
        interrupt: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.on_input: InputHandler | None = None
        self.info: Mapping[str, Any] = {}
        self.subshell_id: str | None = None
        self.log_tail: Callable[[], str] = str
        self.restart: Restart | None = None
        self._info_channel = "control"
        self.connection = Connection(transport, name)
        self._stopper = Stopper(self.connection, interrupt)
        self._comms = Comms(self.connection)
        self.rejected = self.connection.rejected
        self.diverting = self.connection.diverting

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive until cancelled, or until the transport is closed. `open_client` calls it.

        ``task_status.started`` is called once every channel is received from.
        """
        ask = partial(self.connection.spawn, self._stopper.answer)
        await self.connection.run(partial(_hear, self), ask, task_status=task_status)

    def die(self, why: str, *, tell_shutdown: bool = True) -> None:
        """The kernel has ended: every waiter raises `KernelDied`, and so does every request.

        ``why`` follows the kernel's name in the error. With ``tell_shutdown`` off, a task that
        asked for the shutdown still waits for its reply.
        """
        self._comms.fail(self.connection.fail(why, tell_shutdown=tell_shutdown))

    @property
    def is_dead(self) -> bool:
        """Whether the kernel is known to have ended."""
        return self.connection.is_dead

    # Any message

    def send(
        self,
        msg_type: str,
        content: Mapping[str, Any],
        *,
        channel: str = "shell",
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[bytes] = (),
    ) -> Execution:
        """Send a request now; what comes about it gathers in the returned `Execution`.

        Any message type, with its content as on the wire; ``channel`` is ``shell``, ``control`` or
        ``stdin``. Raises `KernelDied` when the kernel is known to have ended.
        """
        return self.connection.send(
            msg_type,
            content,
            channel=channel,
            metadata=metadata,
            buffers=buffers,
            subshell_id=self.subshell_id if channel == "shell" else None,
        )

    async def request(
        self,
        msg_type: str,
        content: Mapping[str, Any] | None = None,
        *,
        channel: str = "shell",
        **options: Any,
    ) -> Message:
        """The reply to a request, once it and ``idle`` are in. ``options`` are those of `send`.

        An error reply is returned like any other: look at ``reply.content["status"]``. Raises
        `KernelDied`. Cancelled, the answer is dropped as it comes.
        """
        execution = self.send(msg_type, content or {}, channel=channel, **options)
        return await (await execution.wait()).wait_reply()

    def subscribe(self) -> AbstractContextManager[trio.MemoryReceiveChannel[Message]]:
        """Every iopub message from now on, whatever it is about; not bounded while it is open.

        It ends when the kernel has ended.

        ::

            with client.subscribe() as messages:
                async for message in messages: ...
        """
        return self.connection.subscribe()

    @property
    def comms(self) -> Mapping[str, Comm]:
        """The open comms by their id, those that the kernel opened too."""
        return self._comms.open

    # Running code

    async def execute(
        self, code: str, *, timeout: float | None = None, **options: Unpack[ExecuteOptions]
    ) -> Execution:
        """Run code; the `Execution`, once its reply and its ``idle`` are in.

        An error in the code is no exception here: look at ``execution.status`` and ``.error``,
        or call ``execution.raise_for_error()``. ``options`` are those of `start`. Raises
        `ExecutionTimeout` when it takes longer than ``timeout`` seconds, `KernelDied` when
        the kernel ends. Timed out or cancelled, the kernel is interrupted, and the cell has
        `INTERRUPT_GRACE` seconds to end; one that runs on after that is a `CellStillRuns`.
        """
        async with self.executing(code, timeout=timeout, **options) as execution:
            await execution.wait()
        return execution

    @asynccontextmanager
    async def executing(
        self, code: str, *, timeout: float | None = None, **options: Unpack[ExecuteOptions]
    ) -> AsyncIterator[Execution]:
        """Run code and have its outputs while they come.

        ::

            async with client.executing(code) as execution:
                async for output in execution: ...

        Left normally, the block waits for the cell's end; left by an exception or a cancel, it
        interrupts the kernel. ``timeout`` holds for the block as a whole. Raises as `execute`.
        """
        execution = self.start(code, **options)
        try:
            with trio.move_on_after(float("inf") if timeout is None else timeout) as scope:
                yield execution
                await execution.wait()
        finally:
            if not execution.done:
                await self.stop(execution)
        if scope.cancelled_caught:
            raise timed_out(f"the cell took longer than {timeout:g} seconds", execution)

    def start(self, code: str, **options: Unpack[ExecuteOptions]) -> Execution:
        """Send an ``execute_request`` now, without waiting; ``await execution.wait()`` later.

        ``options``: ``silent``, ``store_history``, ``user_expressions``, ``stop_on_error`` as the
        protocol has them (the last one is off unless given: an error aborts nothing that others
        sent, and nothing that is sent right after it); ``metadata`` of the request; ``on_input``
        answers its questions (`EOFError` ends the input): without one, here or on the client,
        the cell is told that input is not allowed. Raises `TypeError` for any other option.
        Cancelling the wait for it interrupts nothing.
        """
        unknown = options.keys() - ExecuteOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(ExecuteOptions.__annotations__)
            raise TypeError(f"unknown option {min(unknown)!r}; the options are: {known}, timeout")
        fields: dict[str, Any] = {"silent": False, "stop_on_error": False, **options}
        metadata, handler = fields.pop("metadata", None), fields.pop("on_input", None)
        handler = handler or self.on_input
        if handler is not None and not callable(handler):
            raise TypeError(f"on_input must be a function of prompt and password, not {handler!r}")
        content = {"code": code, "allow_stdin": handler is not None, **fields}
        execution = self.send("execute_request", content, metadata=metadata)
        execution.on_input = handler
        return execution

    async def stop(self, execution: Execution) -> None:
        """Stop one cell, as leaving `executing` early does; no other cell is hit.

        One that runs is interrupted and has 5 seconds to end; one that still waits in the kernel's
        queue is aborted there. Raises nothing, not even if the kernel ends; cancelling does not
        shorten it. If it still runs then, a kernel of `open_kernel` with ``restart_stuck`` is
        restarted.
        """
        await self._stopper.stop(execution)
        if execution.stuck and self.restart is not None:
            why = "was restarted, because a cell did not stop"
            execution.restarted = await self.restart(partial(self.connection.replace, why=why))
            self._comms.fail(lambda: KernelDied(f"{self.name} {why}"))

    async def interrupt(self) -> None:
        """Interrupt whatever runs: by signal or by message, as the kernelspec says. For a client of
        a subshell, interrupt what runs there.

        Returns when the signal is sent, or the message answered. Raises `KernelDied`. Cancelled,
        it may have been sent.
        """
        await self._stopper.interrupt(self.subshell_id)

    @asynccontextmanager
    async def open_subshell(self) -> AsyncIterator[Self]:
        """A subshell of the kernel, deleted with the block: a client of the same class, whose cells
        run there, beside those of the main shell.

        ::

            async with client.open_subshell() as shell:
                await shell.execute("progress")

        Verbs that know no subshell, `shutdown` for example, are about the kernel. Raises
        `NoSubshell` for a kernel that has none, `KernelDied`. Cancelled at any time, the subshell
        is deleted.
        """
        subshell_id = await create_subshell(self.connection)
        try:
            shell = copy.copy(self)
            shell.subshell_id = subshell_id
            yield shell
        finally:
            await delete_subshell(self.connection, subshell_id)

    # The other verbs. Each returns the reply; its docstring names the fields of the content. They
    # raise `KernelDied`; cancelled, the kernel goes on, and the answer is dropped as it comes.

    async def complete(self, code: str, cursor_pos: int | None = None) -> Message:
        """``matches``, ``cursor_start``, ``cursor_end``, ``metadata``.

        ``cursor_pos`` counts code points and defaults to the end. Raises `KernelDied`; cancelled,
        the answer is dropped as it comes.
        """
        return await self.request("complete_request", _code(code, cursor_pos))

    async def inspect(
        self, code: str, cursor_pos: int | None = None, *, detail_level: int = 0
    ) -> Message:
        """``found``, ``data``, ``metadata`` of the object under the cursor. Raises and is cancelled
        as `complete`.
        """
        content = {**_code(code, cursor_pos), "detail_level": detail_level}
        return await self.request("inspect_request", content)

    async def history(
        self,
        hist_access_type: str = "tail",
        *,
        output: bool = False,
        raw: bool = True,
        **fields: Any,
    ) -> Message:
        """``history``. ``fields``: ``n`` for tail, ``session``, ``start``, ``stop`` for range,
        ``pattern``, ``n``, ``unique`` for search. Raises and is cancelled as `complete`.
        """
        if hist_access_type == "tail":
            fields.setdefault("n", 10)
        content = {"hist_access_type": hist_access_type, "output": output, "raw": raw, **fields}
        return await self.request("history_request", content)

    async def is_complete(self, code: str) -> Message:
        """``status``: complete, incomplete (with ``indent``), invalid or unknown. Raises and is
        cancelled as `complete`.
        """
        return await self.request("is_complete_request", {"code": code})

    async def kernel_info(self) -> Message:
        """``implementation``, ``language_info``, ``banner``, ``protocol_version`` ... Raises and is
        cancelled as `complete`.

        It is asked on control, where it waits for no cell. A kernel that does not know it there, or
        is silent for a second, is asked on shell, too; one that answers there only is asked there
        from then on.
        """
        if self._info_channel == "shell":
            return await self.request("kernel_info_request")
        asked = self.send("kernel_info_request", {}, channel="control")
        with trio.move_on_after(CONTROL_GRACE):
            await asked.wait()
        if not _is_ok(asked.reply):
            on_shell = self.send("kernel_info_request", {})
            if asked.reply is None:  # one that is only busy may still answer there
                await first_of((asked.wait, on_shell.wait))
            if not _is_ok(asked.reply):
                self._info_channel = "shell"
                return await (await on_shell.wait()).wait_reply()
        assert asked.reply is not None
        return asked.reply

    async def comm_info(self, target_name: str | None = None) -> Message:
        """``comms``: the kernel's open comms, all of them or those of one target. Raises and is
        cancelled as `complete`.
        """
        content = {} if target_name is None else {"target_name": target_name}
        return await self.request("comm_info_request", content)

    async def shutdown(self, *, restart: bool = False) -> Message:
        """Ask the kernel to end; its reply. Raises `KernelDied` if it ends without one. Cancelled,
        it ends all the same.
        """
        execution = self.send("shutdown_request", {"restart": restart}, channel="control")
        return await execution.wait_reply()

    def comm_open(
        self,
        target_name: str,
        data: Mapping[str, Any] | None = None,
        *,
        buffers: Sequence[bytes] = (),
        metadata: Mapping[str, Any] | None = None,
        comm_id: str | None = None,
    ) -> Comm:
        """Open a comm now; the kernel closes it at once if it does not know the target."""
        comm = self._comms.add(comm_id or uuid.uuid4().hex, target_name)
        content = {"comm_id": comm.comm_id, "target_name": target_name, "data": dict(data or {})}
        comm.opened = self.send("comm_open", content, buffers=buffers, metadata=metadata)
        return comm


def _hear(client: Client, message: Message) -> None:
    client._stopper.hear(message)
    if message.msg_type == "shutdown_reply":  # on iopub it is the last message of all
        client.connection.spawn(_end_after_replies, client)
    elif message.msg_type.startswith("comm_"):
        client._comms.take(message)


async def _end_after_replies(client: Client) -> None:
    """Wait for replies: the kernel sent them before its last message, but over other sockets."""
    if client.connection.waiting():
        await trio.sleep(REPLY_GRACE)
    client.die("has shut down", tell_shutdown=False)


def _is_ok(reply: Message | None) -> bool:
    return reply is not None and reply.content.get("status", "ok") == "ok"


def _code(code: str, cursor_pos: int | None) -> dict[str, Any]:
    return {"code": code, "cursor_pos": len(code) if cursor_pos is None else cursor_pos}
