"""Running code, its order and its results, and what happens to requests behind code that fails."""

from __future__ import annotations

from datetime import UTC, datetime

import trio

from ...client import Execution
from ..manifest import requirement
from ..probe import Probe, is_error, ok
from ..schema import require


@requirement("execute.reply", "Code that ends well gets a reply that says ok.", "Execute")
async def check_execute(probe: Probe) -> None:
    ok(await probe.execute(probe.sample("code")))


@requirement("execute.input", "execute_input repeats the code and the number.", "Code inputs")
async def check_execute_input(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("code"))
    reply = ok(execution)
    inputs = [dict(one.content) for one in execution.messages if one.msg_type == "execute_input"]
    expected = {"code": execution.code, "execution_count": reply["execution_count"]}
    require(inputs == [expected], f"execute_input is {inputs}, but should be {expected}")


@requirement("execute.count", "The number grows by one with each cell.", "Execution counter")
async def check_execute_count(probe: Probe) -> None:
    counts = [ok(await probe.execute(probe.sample("code")))["execution_count"] for _ in range(3)]
    require(counts == [counts[0], counts[0] + 1, counts[0] + 2], f"the numbers are {counts}")


@requirement("execute.result", "A result has the cell's number.", "Execution results")
async def check_result(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("resulting"))
    count = ok(execution)["execution_count"]
    found = [one.content for one in execution.messages if one.msg_type == "execute_result"]
    require(len(found) == 1, f"there are {len(found)} results")
    require(found[0]["execution_count"] == count, "the result has another number than the reply")
    require("text/plain" in found[0]["data"], f"data is {found[0]['data']!r:.80}")


@requirement("execute.defaults", "A request needs its code only.", "Execute")
async def check_defaults(probe: Probe) -> None:
    ok(await probe.ask("execute_request", {"code": probe.sample("code")}))


@requirement("execute.silent", "A silent cell publishes nothing and is not counted.", "Execute")
async def check_silent(probe: Probe) -> None:
    code = probe.sample("code")
    before = ok(await probe.execute(code))["execution_count"]
    silent = await probe.execute(code, silent=True, store_history=False)
    ok(silent)
    _publishes_nothing(silent)
    after = ok(await probe.execute(code))["execution_count"]
    require(after == before + 1, f"the number goes from {before} to {after}")


@requirement(
    "execute.silent-output", "A silent cell publishes nothing, even if it prints.", "Execute"
)
async def check_silent_output(probe: Probe) -> None:
    silent = await probe.execute(probe.sample("printing"), silent=True, store_history=False)
    ok(silent)
    _publishes_nothing(silent)


@requirement(
    "execute.silent-error", "A silent cell publishes nothing, even if it fails.", "Execute"
)
async def check_silent_error(probe: Probe) -> None:
    silent = await probe.execute(probe.sample("failing"), silent=True, store_history=False)
    is_error(silent)
    _publishes_nothing(silent)


def _publishes_nothing(execution: Execution) -> None:
    kinds = sorted({one.msg_type for one in execution.messages} - {"status"})
    require(not kinds, f"iopub has {', '.join(kinds)}")


@requirement(
    "execute.silent-history", "A silent cell is not counted, whatever store_history is.", "Execute"
)
async def check_silent_history(probe: Probe) -> None:
    code = probe.sample("code")
    before = ok(await probe.execute(code))["execution_count"]
    ok(await probe.execute(code, silent=True, store_history=True))
    after = ok(await probe.execute(code))["execution_count"]
    require(after == before + 1, f"the number goes from {before} to {after}")


@requirement("execute.empty", "Empty code ends well.", "Execute")
async def check_empty(probe: Probe) -> None:
    ok(await probe.execute(""))


@requirement("execute.stdout", "What code prints comes as a stream named stdout.", "Streams")
async def check_stdout(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("printing"))
    ok(execution)
    require(execution.stdout, f"the outputs are {execution.outputs}")


@requirement("execute.error", "Failing code gets an error reply and an error output.", "Execute")
async def check_error(probe: Probe) -> None:
    execution = await probe.execute(probe.sample("failing"))
    is_error(execution)
    assert execution.reply is not None
    require("execution_count" in execution.reply.content, "the reply has no execution_count")
    names = [one["ename"] for one in execution.outputs if one["output_type"] == "error"]
    require(names == [execution.reply.content["ename"]], f"the error outputs are {names}")


@requirement("execute.goes-on", "After an error, code runs as before.", "Execute")
async def check_goes_on(probe: Probe) -> None:
    await probe.execute(probe.sample("failing"))
    ok(await probe.execute(probe.sample("code")))


@requirement(
    "execute.aborts", "With stop_on_error an error aborts what is queued behind it.", "Execute"
)
async def check_aborts(probe: Probe) -> None:
    _, second, third = await _fail_before(probe)
    require(second.status == "aborted", f"the queued cell's status is {second.status!r}")
    ok(third)


@requirement(
    "execute.aborted-reply",
    "A queued cell that is aborted gets busy, a reply without a number, and idle.",
    "Execute",
)
async def check_aborted_reply(probe: Probe) -> None:
    _, second, _ = await _fail_before(probe)
    assert second.reply is not None
    require(second.status == "aborted", f"the queued cell's status is {second.status!r}")
    require("execution_count" not in second.reply.content, "the reply has an execution_count")
    states = [one.content.get("execution_state") for one in second.messages]
    require(states == ["busy", "idle"], f"iopub has {states}")


async def _fail_before(probe: Probe) -> tuple[Execution, Execution, Execution]:
    """Send a failing cell, another cell and a kernel_info_request at once, and wait for them.
    Returns when cells run again.

    They are sent while a cell runs, if there is a sample for that: on a busy machine the failing
    cell might be answered before the next one has arrived behind it.
    """
    client = probe.client
    sleeping = probe.samples.sleeping if probe.subject.is_apart else None
    for _ in range(5):
        before = [await probe.begun(client.start(sleeping))] if sleeping is not None else []
        first = client.start(probe.sample("failing"), stop_on_error=True)
        second = client.start(probe.sample("code"))
        third = client.send("kernel_info_request", {})
        sent_at = datetime.now(UTC)
        for one in (*before, first, second, third):
            await probe.answer(one)
        is_error(first)
        if second.status == "aborted" or not _was_sent_late(first, sent_at):
            break
    asked = list(probe.asked)
    while (await probe.execute(probe.sample("code"))).status == "aborted":  # noqa: ASYNC110
        await trio.sleep(0.1)  # a kernel may abort for a while, without an end to wait for
    probe.asked[:] = asked
    return first, second, third


def _was_sent_late(failed: Execution, sent_at: datetime) -> bool:
    """Whether this process was delayed so long that the reply of the failed cell is older than the
    requests behind it.
    """
    try:
        return (
            failed.reply is not None and datetime.fromisoformat(failed.reply.header.date) < sent_at
        )
    except (ValueError, TypeError):  # no date, or one without a time zone
        return False


@requirement(
    "execute.stop-on-error-false", "Without stop_on_error an error aborts nothing.", "Execute"
)
async def check_aborts_nothing(probe: Probe) -> None:
    first = probe.client.start(probe.sample("failing"), stop_on_error=False)
    second = probe.client.start(probe.sample("code"))
    is_error(await probe.answer(first))
    ok(await probe.answer(second))


@requirement("execute.silent-aborts-nothing", "A silent cell that fails aborts nothing.", "Execute")
async def check_silent_aborts_nothing(probe: Probe) -> None:
    code = probe.sample("failing")
    first = probe.client.start(code, silent=True, store_history=False, stop_on_error=True)
    second = probe.client.start(probe.sample("code"))
    is_error(await probe.answer(first))
    ok(await probe.answer(second))


@requirement(
    "execute.fifo", "Cells run one after the other, in the order they came.", "Request-Reply"
)
async def check_fifo(probe: Probe) -> None:
    cells = [probe.client.start(probe.sample("code")) for _ in range(5)]
    for one in cells:
        await probe.answer(one)
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


@requirement("execute.expression", "A user expression has its MIME bundle in the reply.", "Execute")
async def check_expression(probe: Probe) -> None:
    code = probe.sample("expression")
    reply = ok(await probe.execute(probe.sample("code"), user_expressions={"x": code}))
    found = reply["user_expressions"].get("x", {})
    bundle = all(isinstance(found.get(name), dict) for name in ("data", "metadata"))
    require(found.get("status") == "ok" and bundle, f"user_expressions has {found}")


@requirement("execute.expressions", "A failing user expression is an error of its own.", "Execute")
async def check_failing_expression(probe: Probe) -> None:
    reply = ok(await probe.execute(probe.sample("code"), user_expressions={"x": ")("}))
    values = reply.get("user_expressions", {})
    status = values.get("x", {}).get("status", "error")
    require(status == "error", f"user_expressions is {values}")
