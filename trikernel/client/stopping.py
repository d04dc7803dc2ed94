"""Stopping cells, and answering their questions.

What is wanted: a cell that somebody gives up (a deadline, a cancel) ends soon, and nobody else's
cell is hit. What does not work: an interrupt names no cell, it hits whatever runs when it
arrives. Sent for a cell that waits in the queue, it would end the one ahead of it; sent as that
cell begins, it may be late, and end the next one. What is done: see `Stopper.stop`. What
remains: a kernel that knows no ``abort_request``, and a cell that is so short that it ends while
the interrupt is on its way.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import chain, repeat

import trio

from ..errors import CellStillRuns, ExecutionTimeout, KernelDied
from ..wire import Message, place_in
from .connection import Connection
from .execution import Execution

__all__ = ["INTERRUPT_GRACE", "REPLY_GRACE", "STOP_GRACE", "Stopper", "timed_out"]

ABORT_GRACE = 0.1  # seconds that a cell has to end that was aborted as it began
STOP_GRACE = 1  # seconds between two interrupts of a cell that goes on
INSIST_AFTER = 0.1  # but from the second one to the third: whoever heard the second has cleaned up
INTERRUPT_GRACE = 5  # seconds that an interrupted cell may take to end, as in trio.run_process
REPLY_GRACE = 0.5  # seconds that replies may take to arrive after what followed them on iopub
_EOF = "\x04"


def timed_out(text: str, execution: Execution | None) -> ExecutionTimeout:
    """The error for a cell that has passed a deadline, which ``text`` tells of, and was stopped."""
    if execution is None:
        return ExecutionTimeout(text)
    if execution.stuck:
        place = execution.stands_in or place_in(execution.stderr)
        text += f" and does not end: it still runs{', in ' * bool(place)}{place}"
        if execution.restarted:
            text += "; the kernel was restarted, and its names are lost"
        else:
            text += "; if that does not return, only a restart helps"
        return CellStillRuns(text, execution, place, restarted=execution.restarted)
    if not execution.started:
        how = "had not begun"
    elif execution.reply is None and not execution.done:
        how = "its kernel has ended"
    else:
        how = "was interrupted" if execution.error is not None else "could not be interrupted"
    return ExecutionTimeout(f"{text} and {how}", execution)


class Stopper:
    """Stops the cells of a connection. ``interrupt`` interrupts its kernel; None is by message."""

    def __init__(
        self, connection: Connection, interrupt: Callable[[], Awaitable[None]] | None
    ) -> None:
        self._connection = connection
        self._interrupt = interrupt
        self._abandoned: dict[str, Execution] = {}  # to be stopped as they begin

    async def interrupt(self, subshell_id: str | None = None) -> None:
        """Interrupt what runs, in the way that the kernel is interrupted; with ``subshell_id`` what
        runs in that subshell, which is by message always.
        """

        def meant() -> list[Execution]:
            everything = self._connection.waiting()
            return [one for one in everything if subshell_id in (None, one.subshell_id)]

        for execution in meant():
            execution.interrupted = execution.interrupted or execution.started
        if self._interrupt is not None and subshell_id is None:
            await self._interrupt()
        else:
            asked = self._connection.send(
                "interrupt_request", {}, channel="control", subshell_id=subshell_id
            )
            place = (await (await asked.wait()).wait_reply()).content.get("still_runs")
            for execution in meant():
                if execution.interrupted and isinstance(place, str):
                    execution.stands_in = place

    async def stop(self, execution: Execution) -> None:
        """Stop one cell and see it end, within `INTERRUPT_GRACE`; shielded from cancels.

        A cell that runs is interrupted. One that has not begun is aborted by its id; should the
        kernel not know how, it is interrupted as it begins, so that no other cell is hit. Behind
        others its end is not waited for. One that has begun and does not end is ``stuck`` then.
        """
        waiting = self._connection.waiting()
        if execution not in waiting:
            return  # nobody will answer it any more
        same_shell = [one for one in waiting if one.subshell_id == execution.subshell_id]
        ahead = (one for one in same_shell if one.msg_type == "execute_request")
        is_first = next(ahead, execution) is execution
        with trio.move_on_after(INTERRUPT_GRACE, shield=True), suppress(KernelDied):
            being_stopped, execution.being_stopped = execution.being_stopped, True
            if being_stopped:
                pass  # as its question could not be answered: a second interrupt is a stronger one
            elif not execution.started:
                self._abandoned[execution.msg_id] = execution
                execution.interrupted = True
                content = {"msg_ids": [execution.msg_id]}
                self._connection.send("abort_request", content, channel="control")
            else:
                await self.interrupt(execution.subshell_id)
            if is_first:
                await self._insist(execution)
                if execution.interrupting is not None:  # or it would hit what is sent next
                    await execution.interrupting.wait()
        runs = execution.started and execution.reply is None and not execution.done
        execution.stuck = runs and is_first and not self._connection.is_dead

    async def _insist(self, execution: Execution) -> None:
        """See a running cell end. Each interrupt after the first is a stronger one, for kernels
        that know more than one.
        """
        for seconds in chain((STOP_GRACE, INSIST_AFTER), repeat(STOP_GRACE)):
            with trio.move_on_after(seconds):
                await execution.wait_ended()
                return
            if execution.started and not execution.idle:
                await self.interrupt(execution.subshell_id)

    def hear(self, message: Message) -> None:
        """An iopub message has come: a cell that was given up begins, or one ends."""
        parent_id = message.parent_id or ""
        if message.msg_type == "execute_input" and (found := self._abandoned.get(parent_id)):
            found.interrupting = trio.Event()
            self._connection.spawn(self._interrupt_abandoned, found, found.interrupting)
        elif message.content.get("execution_state") == "idle" and message.msg_type == "status":
            self._abandoned.pop(parent_id, None)
            execution = self._connection.find(parent_id)
            if execution is not None and execution.interrupted and not execution.done:
                self._connection.spawn(self._give_up_reply, execution)

    async def _interrupt_abandoned(self, execution: Execution, sent: trio.Event) -> None:
        """It has begun all the same. Unless the kernel aborts it in time, interrupt it.

        At once would be too early: the interrupt would hit the next cell if it is being aborted.
        """
        try:
            with suppress(KernelDied):
                with trio.move_on_after(ABORT_GRACE):
                    await execution.wait_ended()
                if not execution.idle:
                    await self.interrupt(execution.subshell_id)
        finally:
            sent.set()

    async def _give_up_reply(self, execution: Execution) -> None:
        """An interrupt at a bad moment costs some kernels the reply; idle is then all there is."""
        await trio.sleep(REPLY_GRACE)
        execution.give_up_reply()
        self._connection.tidy(execution)

    async def answer(self, question: Message, execution: Execution) -> None:
        """Call the handler of a question, for as long as the cell waits.

        What the handler raises stops the cell, and is then raised by `Execution.wait`.
        """
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
            except Exception as error:  # the boundary of somebody else's function
                execution.handler_error = error
                execution.waiters.wake()
                await self.stop(execution)
                return
            self._connection.answer(question, value)
