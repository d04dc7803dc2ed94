"""What tests of cells share, on top of the test kit: a kernel served, and what a cell brought."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import trio.testing

import trikernel
from trikernel.client import Client, Execution
from trikernel.testing import CheckedClient, open_clients
from trikernel.testing.serving import Medium
from trikernel.wire import Message

__all__ = ["Cells", "Medium", "ask", "contents", "reply_of", "served", "so_far", "until_input"]

TIMEOUT = 120  # seconds; far more than any test needs
FOR_EVER = 1e9  # seconds of virtual time: that is where it jumps to when nothing else will happen


@asynccontextmanager
async def served(
    kernel: trikernel.Kernel, over: Medium = "memory", **options: Any
) -> AsyncIterator[CheckedClient]:
    """Serve ``kernel`` and have a client of it; a test that hangs fails."""
    is_virtual = isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    with trio.fail_after(FOR_EVER if is_virtual else TIMEOUT):
        async with open_clients(kernel, over=over, **options) as (client,):
            yield client


async def ask(
    client: Client, msg_type: str, content: dict[str, Any] | None = None, **options: Any
) -> Execution:
    """Send a message and wait for its end; asserts that a request gets its reply, and one."""
    execution = await client.send(msg_type, content or {}, **options).wait()
    _assert_answered(execution)
    return execution


def _assert_answered(execution: Execution) -> None:
    expected = [execution.msg_type.replace("_request", "_reply")] * execution.has_reply
    found = [execution.reply.msg_type] * execution.replies if execution.reply else []
    assert found == expected


def reply_of(execution: Execution) -> dict[str, Any]:
    """The content of its reply."""
    assert execution.reply is not None
    return dict(execution.reply.content)


def contents(execution: Execution, msg_type: str) -> list[dict[str, Any]]:
    """The contents of the iopub messages of one type, up to idle."""
    return [dict(one.content) for one in execution.messages if one.msg_type == msg_type]


def so_far(messages: trio.MemoryReceiveChannel[Message]) -> list[Message]:
    """What has come of a client's subscription until now."""
    found: list[Message] = []
    with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            found.append(messages.receive_nowait())
    return found


async def until_input(execution: Execution) -> Execution:
    """Wait until ``execute_input`` is out: the cell runs."""
    await execution.waiters.until(lambda: contents(execution, "execute_input") != [])
    return execution


class Cells:
    """Cells that are sent at once: ``sent`` in this order, ``answered`` in that of the replies."""

    def __init__(self, client: Client, *codes: str, **options: Any) -> None:
        self.sent: list[Execution] = []
        self.answered: list[Execution] = []
        for code in codes:
            self.add(client.start(code, **options))

    def add(self, execution: Execution) -> None:
        """One more request, which has just been sent."""
        self.sent.append(execution)
        execution.on_change = partial(self._note, execution)

    def _note(self, one: Execution) -> None:
        if one.reply is not None and one not in self.answered:
            self.answered.append(one)

    async def statuses(self) -> list[str]:
        """How each was answered; asserts that each was, once, in the order they were sent."""
        await self.wait()
        assert self.answered == self.sent
        return [one.status for one in self.sent]

    async def wait(self) -> None:
        """Wait until each is answered and idle; asserts that none is answered twice."""
        for one in self.sent:
            _assert_answered(await one.wait())
