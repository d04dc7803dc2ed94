"""Stopping cells, and answering their questions.

What is wanted: a cell whose client has given it up (by a deadline or a cancellation) ends soon, and
no other cell is hit. What does not work: an interrupt does not name a cell, it hits whatever runs
when it arrives. Sent for a cell in the queue, it would end the one ahead of it; sent when that
cell begins, it may be late and end the next one. What is done: see `Stopper.stop`. What
remains: in a kernel without ``abort_request``, a cell that is so short that it ends while the
interrupt is on its way.
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

ABORT_GRACE = 0.1  # seconds that the kernel has to abort a cell that has just begun
STOP_GRACE = 1  # seconds between two interrupts of a cell that goes on
INSIST_AFTER = 0.1  # between the second and the third: it has had its time to clean up
INTERRUPT_GRACE = 5  # seconds that an interrupted cell may take to end, as in trio.run_process
REPLY_GRACE = 0.5  # seconds that a reply may arrive later than the idle on iopub
_EOF = "\x04"


def timed_out(text: str, execution: Execution | None) -> ExecutionTimeout:
    """The error for a cell that was stopped because of a deadline; ``text`` says which one."""
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
    """Stops the cells of a connection. ``interrupt`` interrupts the kernel; if it is None, an
    ``interrupt_request`` is sent.
    """

    def __init__(
        self, connection: Connection, interrupt: Callable[[], Awaitable[None]] | None
    ) -> None:
        self._connection = connection
        self._interrupt = interrupt
        self._abandoned: dict[str, Execution] = {}  # given up in the queue: stopped if they begin

    async def interrupt(self, subshell_id: str | None = None) -> None:
        """Interrupt what runs, in the way that the kernelspec says. With ``subshell_id`` interrupt
        what runs in that subshell, always by message.
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
        """Stop one cell and wait until it has ended, `INTERRUPT_GRACE` seconds at most. Shielded
        from cancellation.

        A cell that runs is interrupted. A cell that has not begun is aborted by its id; if the
        kernel does not support that, it is interrupted when it begins, so that no other cell is
        hit. If other cells are ahead of it, its end is not waited for. A cell that has begun and
        does not end is marked as ``stuck``.
        """
        waiting = self._connection.waiting()
        if execution not in waiting:
            return  # it has ended, or the kernel has: there is nothing to stop
        same_shell = [one for one in waiting if one.subshell_id == execution.subshell_id]
        ahead = (one for one in same_shell if one.msg_type == "execute_request")
        is_first = next(ahead, execution) is execution
        with trio.move_on_after(INTERRUPT_GRACE, shield=True), suppress(KernelDied):
            being_stopped, execution.being_stopped = execution.being_stopped, True
            if being_stopped:
                pass  # an earlier call has interrupted it; a second interrupt would be stronger
            elif not execution.started:
                self._abandoned[execution.msg_id] = execution
                execution.interrupted = True
                content = {"msg_ids": [execution.msg_id]}
                self._connection.send("abort_request", content, channel="control")
            else:
                await self.interrupt(execution.subshell_id)
            if is_first:
                await self._insist(execution)
                if execution.interrupting is not None:  # a late one would hit the next request
                    await execution.interrupting.wait()
        runs = execution.started and execution.reply is None and not execution.done
        execution.stuck = runs and is_first and not self._connection.is_dead

    async def _insist(self, execution: Execution) -> None:
        """Interrupt a running cell repeatedly until it has ended. In some kernels each interrupt
        after the first has a stronger effect.
        """
        for seconds in chain((STOP_GRACE, INSIST_AFTER), repeat(STOP_GRACE)):
            with trio.move_on_after(seconds):
                await execution.wait_ended()
                return
            if execution.started and not execution.idle:
                await self.interrupt(execution.subshell_id)

    def hear(self, message: Message) -> None:
        """Look at an iopub message: a cell that was given up may begin, or a cell may end."""
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
        """A cell that was given up has begun. Interrupt it, unless the kernel aborts it soon.

        It is not interrupted at once: if the kernel is just aborting it, the interrupt would hit
        the next cell.
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
        """Stop waiting for the reply of an interrupted request that is idle: some kernels, when
        interrupted at a bad moment, send none.
        """
        await trio.sleep(REPLY_GRACE)
        execution.give_up_reply()
        self._connection.tidy(execution)

    async def answer(self, question: Message, execution: Execution) -> None:
        """Call the handler of a question and send its answer. The handler is cancelled when the
        cell has ended.

        If the handler raises, the cell is stopped, and `Execution.wait` raises the error.
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
            except Exception as error:  # the boundary to the caller's function
                execution.handler_error = error
                execution.waiters.wake()
                await self.stop(execution)
                return
            self._connection.answer(question, value)
