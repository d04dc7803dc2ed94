"""Comms that the frontend opens: the kernel closes one at once if it does not know the target."""

from __future__ import annotations

import uuid

import trio

from ...client.comms import Comm
from ..manifest import requirement
from ..probe import ANSWER, Probe, ok
from ..schema import require


@requirement("comm.info", "The open comms can be listed.", "Comm info", "comm")
async def check_comm_info(probe: Probe) -> None:
    ok(await probe.ask("comm_info_request", {}))
    reply = ok(await probe.ask("comm_info_request", {"target_name": "no such target"}))
    require(reply["comms"] == {}, f"comms is {reply['comms']}")


@requirement(
    "comm.unknown-target",
    "A comm to an unknown target is closed at once.",
    "Opening a Comm",
    "comm",
)
async def check_unknown_target(probe: Probe) -> None:
    comm = await _open(probe, "no such target")
    require(comm.closed, "it stays open")


@requirement(
    "comm.unknown-id",
    "A message to an unknown comm, and its close, get busy and idle.",
    "Comm messages; Kernel status",
    "comm",
)
async def check_unknown_id(probe: Probe) -> None:
    for kind in ("comm_msg", "comm_close"):
        await probe.ask(kind, {"comm_id": uuid.uuid4().hex, "data": {}})
    await probe.lives_on("messages to an unknown comm")


@requirement("comm.open", "A comm to a known target stays open.", "Opening a Comm", "comm")
async def check_open(probe: Probe) -> None:
    ok(await probe.execute(probe.sample("comm")))
    comm = await _open(probe, "conform")
    require(not comm.closed, "it is closed")
    await _close(probe, comm)


@requirement("comm.listed", "An open comm is listed, and a closed one not.", "Comm info", "comm")
async def check_listed(probe: Probe) -> None:
    ok(await probe.execute(probe.sample("comm")))
    comm = await _open(probe, "conform")
    listed = ok(await probe.ask("comm_info_request", {"target_name": "conform"}))["comms"]
    require(listed.get(comm.comm_id) == {"target_name": "conform"}, f"comms is {listed}")
    await _close(probe, comm)
    listed = ok(await probe.ask("comm_info_request", {}))["comms"]
    require(comm.comm_id not in listed, "it is listed after it was closed")


@requirement(
    "comm.messages",
    "Data and buffers reach a comm, and come back from it.",
    "Comm messages",
    "comm",
)
async def check_messages(probe: Probe) -> None:
    ok(await probe.execute(probe.sample("comm")))
    comm = await _open(probe, "conform")
    content = {"comm_id": comm.comm_id, "data": {"x": [1, "two"]}}
    sent = probe.client.send("comm_msg", content, buffers=[b"\x00\xff"])
    await probe.answer(sent)
    came = [one for one in sent.messages if one.msg_type == "comm_msg"]
    require(len(came) == 1, f"{len(came)} messages came back, under the one that was sent")
    require(came[0].content["data"] == content["data"], f"the data is {came[0].content['data']}")
    buffers = [bytes(one) for one in came[0].buffers]
    require(buffers == [b"\x00\xff"], f"the buffers are {buffers}")
    await _close(probe, comm)


async def _open(probe: Probe, target: str) -> Comm:
    comm = probe.client.comm_open(target)
    assert comm.opened is not None
    probe.asked.append(comm.opened)
    with trio.move_on_after(ANSWER) as scope:
        await comm.opened.waiters.until(lambda: comm.opened is not None and comm.opened.idle)
    require(not scope.cancelled_caught, f"comm_open: no idle in {ANSWER} seconds")
    return comm


async def _close(probe: Probe, comm: Comm) -> None:
    await probe.ask("comm_close", {"comm_id": comm.comm_id, "data": {}})
