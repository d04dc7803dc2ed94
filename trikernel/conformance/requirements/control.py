"""Requests on control, most of which a kernel must handle while a cell runs: interrupts, questions,
and a shutdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from ..manifest import AFTERWARDS, ENDS, NotOffered, requirement
from ..probe import Probe, ok
from ..schema import require


@requirement(
    "control.while-busy", "Control is answered while a cell runs.", "Sockets: Control", "core"
)
async def check_while_busy(probe: Probe) -> None:
    code = probe.sample("sleeping")
    probe.needs_apart()
    cell = await probe.begun(probe.client.start(code))
    for _ in range(3):
        execution = probe.client.send("kernel_info_request", {}, channel="control")
        await probe.reply(execution, 1.5, "while a cell runs")
    require(cell.reply is None, "the cell has ended before the replies were there")
    ok(await probe.answer(cell))


@requirement(
    "control.parent", "What control says meanwhile has the right parents.", "Parent header", "core"
)
async def check_parents(probe: Probe) -> None:
    code = probe.sample("sleeping")
    probe.needs_apart()
    cell = await probe.begun(probe.client.start(code))
    asked = probe.client.send("kernel_info_request", {}, channel="control")
    await probe.answer(asked)
    ok(await probe.answer(cell))
    for one in (asked, cell):
        states = [
            message.content.get("execution_state")
            for message in one.messages
            if message.msg_type == "status"
        ]
        require(states == ["busy", "idle"], f"{one.msg_type} has {states}")


@requirement(
    "interrupt.reply", "An interrupt that interrupts nothing is answered.", "Kernel interrupt"
)
async def check_interrupt_idle(probe: Probe) -> None:
    ok(await probe.ask("interrupt_request", channel="control"))
    if probe.samples.code is not None:
        ok(await probe.execute(probe.samples.code))


@requirement(
    "interrupt.running",
    "An interrupt ends the running cell, in the way that the kernelspec says.",
    "Kernel interrupt",
)
async def check_interrupt(probe: Probe) -> None:
    await _interrupt(probe, by_message=False)


@requirement("interrupt.message", "An interrupt_request ends the running cell.", "Kernel interrupt")
async def check_interrupt_by_message(probe: Probe) -> None:
    await _interrupt(probe, by_message=True)


async def _interrupt(probe: Probe, *, by_message: bool) -> None:
    code = probe.sample("endless")
    probe.needs_apart()
    cell = await probe.begun(probe.client.start(code))
    await trio.sleep(0.2)  # `execute_input` has come; the cell's code should run, too
    if by_message:
        ok(await probe.ask("interrupt_request", channel="control"))
    else:
        await probe.client.interrupt()
    await probe.answer(cell)
    require(cell.status == "error", f"the cell's status is {cell.status!r}")
    ok(await probe.execute(probe.sample("code")))


@requirement(
    "usage.reply", "A usage_reply tells process, memory, processors.", "ipykernel: usage_request",
    "usage",
)  # fmt: skip
async def check_usage(probe: Probe) -> None:
    content: Mapping[str, Any] = {}
    for _ in range(2):  # the first reply lacks what is measured between two requests
        execution = probe.client.send("usage_request", {}, channel="control")
        try:
            content = await probe.reply(execution, 3)
        except AssertionError:
            raise NotOffered("usage_request is not answered") from None
        await trio.sleep(0.2)
    if content.get("status") == "error":
        raise NotOffered("usage_request is answered by an error")
    found = content.get("content", content)
    fields: dict[str, Any] = {"hostname": str, "pid": int, "cpu_count": int}
    measured = {"kernel_cpu": (int, float), "kernel_memory": int, "host_virtual_memory": dict}
    is_measured = any(name in found for name in measured)
    wrong = [
        name
        for name, kind in (fields | (measured if is_measured else {})).items()
        if not isinstance(found.get(name), kind)
    ]
    require(not wrong, f"the reply has no {', '.join(wrong)}")
    if not is_measured:  # where psutil is not installed, for example
        raise NotOffered("usage_request is answered without what is used")


@requirement(
    "shutdown.reply",
    "A shutdown is answered with what it was asked.",
    "Kernel shutdown",
    stage=ENDS,
)
async def check_shutdown(probe: Probe) -> None:
    execution = probe.client.send("shutdown_request", {"restart": False}, channel="control")
    probe.log.finished.append(execution)
    content = await probe.reply(execution)
    require(content.get("status") == "ok", f"the reply is {dict(content)}")
    require(content.get("restart") is False, "restart is not false")
    with probe.client.subscribe() as messages, trio.move_on_after(5):
        async for _ in messages:  # until the kernel's end; its broadcast is kept for later
            pass


@requirement(
    "shutdown.broadcast",
    "A shutdown is told to all on iopub, with the same content.",
    "Kernel shutdown",
    stage=AFTERWARDS,
)
async def check_broadcast(probe: Probe) -> None:
    requests = [one for one in probe.log.finished if one.msg_type == "shutdown_request"]
    told = [one for one in probe.iopub if one.msg_type == "shutdown_reply"]
    if not requests and not told:
        raise NotOffered("the kernel was not shut down")
    require(told, "there is no shutdown_reply on iopub")
    replies = [dict(one.reply.content) for one in requests if one.reply is not None]
    content = dict(told[-1].content)
    require(content in replies, f"its content is {content}, the reply's is {replies}")
