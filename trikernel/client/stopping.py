"""Stopping cells, and answering their questions: what a client does beside asking and hearing."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio

from ..errors import KernelDied
from ..transport import ClientTransport
from ..wire import Message
from .execution import Execution
from .requests import LAST_WORDS, Requests

__all__ = ["INTERRUPT_GRACE", "Stopping", "how_stopped"]

ABORT_PATIENCE = 0.1  # seconds that a cell has to end that was aborted as it began
INTERRUPT_GRACE = 5  # seconds that an interrupted cell may take to end, as in trio.run_process
_EOF = "\x04"


def how_stopped(execution: Execution) -> str:
    """What became of a cell that was to be stopped, in words that follow a deadline."""
    if not execution.started:
        return "and had not begun"
    if not execution.done:
        return "and does not end, though it was interrupted"
    return "and was interrupted" if execution.error is not None else "and could not be interrupted"


class Stopping(Requests):
    """Requests whose cells can be stopped and may ask."""

    def __init__(
        self,
        transport: ClientTransport,
        name: str,
        interrupt: Callable[[], Awaitable[None]] | None,
    ) -> None:
        super().__init__(transport, name)
        self._interrupt = interrupt
        self._abandoned: dict[str, Execution] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receive until cancelled."""
        async with trio.open_nursery() as self._nursery:
            await super().run(task_status=task_status)

    # Stopping

    async def interrupt_all(self) -> None:
        """Interrupt what runs, in the way that the kernel is interrupted."""
        for execution in self._waiting():
            execution.interrupted = execution.interrupted or execution.started
        if self._interrupt is not None:
            await self._interrupt()
        else:
            await self.request("interrupt_request", channel="control")

    async def stop(self, execution: Execution) -> None:
        """Stop one cell and see it end, within `INTERRUPT_GRACE`; shielded from cancels.

        A cell that runs is interrupted. One that has not begun is aborted by its id; should the
        kernel not know how, it is interrupted as it begins, so that no other cell is hit. Behind
        others its end is not waited for.
        """
        ahead = (one for one in self._waiting() if one.msg_type == "execute_request")
        is_first = next(ahead, execution) is execution
        with trio.move_on_after(INTERRUPT_GRACE, shield=True), suppress(KernelDied):
            being_stopped, execution.being_stopped = execution.being_stopped, True
            if being_stopped:
                pass  # as its question could not be answered: a second interrupt is a stronger one
            elif not execution.started:
                self._abandoned[execution.msg_id] = execution
                execution.interrupted = True
                self.send("abort_request", {"msg_ids": [execution.msg_id]}, channel="control")
            else:
                await self.interrupt_all()
            if is_first:
                await execution.wait_ended()
                if execution.interrupting is not None:  # or it would hit what is sent next
                    await execution.interrupting.wait()

    async def _interrupt_abandoned(self, execution: Execution, sent: trio.Event) -> None:
        """It has begun all the same. Unless the kernel aborts it in time, interrupt it.

        At once would be too early: the interrupt would hit the next cell if it is being aborted.
        """
        try:
            with suppress(KernelDied):
                with trio.move_on_after(ABORT_PATIENCE):
                    await execution.wait_ended()
                if not execution.idle:
                    await self.interrupt_all()
        finally:
            sent.set()

    def _take(self, message: Message) -> None:
        super()._take(message)
        kind = message.msg_type
        if kind == "execute_input" and (found := self._abandoned.get(message.parent_id or "")):
            found.interrupting = trio.Event()
            self._spawn(self._interrupt_abandoned, found, found.interrupting)
        elif kind == "status" and message.content.get("execution_state") == "idle":
            self._abandoned.pop(message.parent_id or "", None)
            execution = self._known.get(message.parent_id or "")
            if execution is not None and execution.interrupted and not execution.done:
                self._spawn(self._give_up_reply, execution)
        elif kind == "shutdown_reply":
            self._spawn(self._end_after_last_word)

    async def _give_up_reply(self, execution: Execution) -> None:
        """An interrupt at a bad moment costs some kernels the reply; idle is then all there is."""
        await trio.sleep(LAST_WORDS)
        execution.give_up_reply()
        self._tidy(execution)

    async def _end_after_last_word(self) -> None:
        """Replies were sent before the last word, but come over other sockets."""
        if self._waiting():
            await trio.sleep(LAST_WORDS)
        self.die("has shut down", tell_shutdown=False)

    # Answering

    def _take_question(self, message: Message) -> None:
        execution = self._known.get(message.parent_id or "")
        if execution is not None and message.msg_type == "input_request":
            self._spawn(self._answer, message, execution)

    async def _answer(self, question: Message, execution: Execution) -> None:
        """Call the handler, for as long as the cell waits; what it raises stops the cell."""
        handler, content = execution.on_input, question.content
        if handler is None or execution.idle:
            return
        with trio.CancelScope() as execution.answering:
            try:
                value = handler(str(content.get("prompt", "")), bool(content.get("password")))
                if inspect.isawaitable(value):
                    value = await value
                if not isinstance(value, str):
                    raise TypeError(f"on_input must return a string, not {value!r:.80}")
            except EOFError:
                value = _EOF
            except Exception as error:
                execution.fail_handler(error)
                await self.stop(execution)
                return
            frames = self._codec.encode("input_reply", {"value": value}, parent=question.header)
            self._transport.stdin.send_nowait(frames)

    def _spawn(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        assert self._nursery is not None, "a client receives only while it runs"
        self._nursery.start_soon(function, *args)
