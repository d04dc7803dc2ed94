"""What becomes of code that is to be run."""

from __future__ import annotations

import trio

from ..probe import Probe, Requirement
from .table import adding_to, is_error, ok, require

__all__ = ["REQUIREMENTS"]

REQUIREMENTS: list[Requirement] = []
requirement = adding_to(REQUIREMENTS)


@requirement("execute.reply", "Code that ends well gets a reply that says ok.", "Execute")
async def _execute(probe: Probe) -> None:
    ok(await probe.execute(probe.sample("code")))


@requirement("execute.input", "execute_input repeats the code and the number.", "Code inputs")
async def _execute_input(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("code"))
    reply = ok(execution)
    inputs = [dict(one.content) for one in execution.messages if one.msg_type == "execute_input"]
    expected = {"code": execution.code, "execution_count": reply["execution_count"]}
    require(inputs == [expected], f"execute_input is {inputs}, but should be {expected}")


@requirement("execute.count", "The number grows by one with each cell.", "Execution counter")
async def _execute_count(probe: Probe) -> None:
    counts = [ok(await probe.execute(probe.sample("code")))["execution_count"] for _ in range(3)]
    require(counts == [counts[0], counts[0] + 1, counts[0] + 2], f"the numbers are {counts}")


@requirement("execute.silent", "A silent cell publishes nothing and is not counted.", "Execute")
async def _execute_silent(probe: Probe) -> None:
    before = ok(await probe.execute(probe.sample("code")))["execution_count"]
    silent = await probe.execute(probe.sample("code"), silent=True, store_history=False)
    ok(silent)
    kinds = {one.msg_type for one in silent.messages}
    require(kinds == {"status"}, f"iopub has {sorted(kinds)}")
    after = ok(await probe.execute(probe.sample("code")))["execution_count"]
    require(after == before + 1, f"the number goes from {before} to {after}")


@requirement("execute.empty", "Empty code ends well.", "Execute")
async def _execute_empty(probe: Probe) -> None:
    ok(await probe.execute(""))


@requirement("execute.stdout", "What code prints comes as a stream named stdout.", "Streams")
async def _execute_stdout(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("printing"))
    ok(execution)
    require(execution.stdout, f"the outputs are {execution.outputs}")


@requirement("execute.error", "Failing code gets an error reply and an error output.", "Execute")
async def _execute_error(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("failing"))
    is_error(execution)
    assert execution.reply is not None
    require("execution_count" in execution.reply.content, "the reply has no execution_count")
    names = [one["ename"] for one in execution.outputs if one["output_type"] == "error"]
    require(names == [execution.reply.content["ename"]], f"the error outputs are {names}")


@requirement("execute.goes-on", "After an error, code runs as before.", "Execute")
async def _execute_goes_on(probe: Probe) -> None:
    await probe.execute(probe.sample("failing"))
    ok(await probe.execute(probe.sample("code")))


@requirement(
    "execute.aborts", "With stop_on_error an error aborts what is queued behind it.", "Execute"
)
async def _execute_aborts(probe: Probe) -> None:
    client = probe.client
    first = client.start(probe.sample("failing"), stop_on_error=True)
    second = client.start(probe.sample("code"))
    third = client.send("kernel_info_request", {})
    probe.finished += [await one.wait() for one in (first, second, third)]
    is_error(first)
    require(second.status == "aborted", f"the queued cell's status is {second.status!r}")
    ok(third)
    while (await probe.execute(probe.sample("code"))).status == "aborted":  # noqa: ASYNC110
        await trio.sleep(0.1)  # a kernel may go on aborting for a while, and tells nobody


@requirement(
    "execute.fifo", "Cells run one after the other, in the order they came.", "Request-Reply"
)
async def _execute_fifo(probe: Probe) -> None:
    cells = [probe.client.start(probe.sample("code")) for _ in range(5)]
    probe.finished += [await one.wait() for one in cells]
    counts = [ok(one)["execution_count"] for one in cells]
    require(counts == sorted(counts), f"the numbers are {counts}")
    ids = [one.msg_id for one in cells]
    states = [
        (message.parent_id, message.content["execution_state"])
        for message in probe.iopub
        if message.msg_type == "status" and message.parent_id in ids
    ]
    expected = [(one, state) for one in ids for state in ("busy", "idle")]
    require(states == expected, "the cells' busy and idle overlap")


@requirement("execute.expressions", "A failing user expression is an error of its own.", "Execute")
async def _user_expressions(probe: Probe) -> None:
    reply = ok(await probe.execute(probe.sample("code"), user_expressions={"x": ")("}))
    values = reply.get("user_expressions", {})
    status = values.get("x", {}).get("status", "error")
    require(status == "error", f"user_expressions is {values}")
