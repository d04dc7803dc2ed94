"""Subshells, which run code while the main shell runs code, too (JEP 91)."""

from __future__ import annotations

from typing import Any

import trio

from ...client import Execution
from ..manifest import requirement
from ..probe import Probe, is_error, ok
from ..schema import require

JEP, FEATURE = "JEP 91:", "kernel subshells"


async def _create(probe: Probe) -> str:
    reply = ok(await probe.ask("create_subshell_request", channel="control"))
    found: str = reply["subshell_id"]
    require(isinstance(found, str) and found, f"subshell_id is {found!r}")
    return found


async def _delete(probe: Probe, subshell: str) -> None:
    ok(await probe.ask("delete_subshell_request", {"subshell_id": subshell}, "control"))


def _run(probe: Probe, subshell: Any, code: str) -> Execution:
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
    content |= {"allow_stdin": False, "stop_on_error": False}
    frames = probe.frames("execute_request", content, {"subshell_id": subshell})
    return probe.post(frames, "execute_request")


@requirement("subshells.list", "A subshell is listed until it is deleted.", JEP, FEATURE)
async def check_list(probe: Probe) -> None:
    subshell = await _create(probe)
    listed = ok(await probe.ask("list_subshell_request", channel="control"))["subshell_id"]
    require(subshell in listed, f"the list is {listed}")
    await _delete(probe, subshell)
    listed = ok(await probe.ask("list_subshell_request", channel="control"))["subshell_id"]
    require(subshell not in listed, f"the list is {listed}")


@requirement("subshells.executes", "Code runs in a subshell while the main shell runs other code.",
             JEP, FEATURE)  # fmt: skip
async def check_executes(probe: Probe) -> None:
    code, sleeping = probe.sample("code"), probe.sample("sleeping")
    subshell = await _create(probe)
    main = await probe.begun(probe.client.start(sleeping))
    inner = _run(probe, subshell, code)
    ok(await probe.answer(inner))
    require(main.reply is None, "the main shell's cell ended first")
    ok(await probe.answer(main))
    await _delete(probe, subshell)


@requirement("subshells.main", "A subshell_id of null is the main shell.", JEP, FEATURE)
async def check_main(probe: Probe) -> None:
    ok(await probe.answer(_run(probe, None, probe.sample("code"))))


@requirement("subshells.unknown", "An unknown subshell gets an error reply, on shell and control.",
             JEP, FEATURE)  # fmt: skip
async def check_unknown(probe: Probe) -> None:
    content = {"subshell_id": "no such subshell"}
    faults = []
    for asked in (
        probe.client.send("delete_subshell_request", content, channel="control"),
        _run(probe, "no such subshell", probe.sample("code")),
    ):
        try:
            is_error(await probe.answer(asked, 3))
        except AssertionError as error:
            faults.append(str(error))
    await probe.lives_on("requests to an unknown subshell")
    require(not faults, "; ".join(faults))


@requirement("subshells.malformed", "A delete without an id gets an error reply.", JEP, FEATURE)
async def check_malformed(probe: Probe) -> None:
    try:
        is_error(await probe.ask("delete_subshell_request", {}, "control"))
    finally:
        await probe.lives_on("a delete without an id")


@requirement("subshells.count", "A subshell has an execution count of its own.", JEP, FEATURE)
async def check_count(probe: Probe) -> None:
    code = probe.sample("code")
    before = ok(await probe.execute(code))["execution_count"]
    subshell = await _create(probe)
    inner = ok(await probe.answer(_run(probe, subshell, code)))["execution_count"]
    after = ok(await probe.execute(code))["execution_count"]
    await _delete(probe, subshell)
    require(after == before + 1, f"the main shell's number goes from {before} to {after}")
    require(inner == 1, f"the first cell of the subshell has the number {inner}")


@requirement("subshells.interrupt", "An interrupt ends a subshell's cell.", JEP, FEATURE)
async def check_interrupt(probe: Probe) -> None:
    subshell = await _create(probe)
    cell = await probe.begun(_run(probe, subshell, probe.sample("endless")))
    await trio.sleep(0.2)
    await probe.client.interrupt()
    await probe.answer(cell, 5)
    require(cell.status == "error", f"the cell's status is {cell.status!r}")
    await _delete(probe, subshell)


@requirement("subshells.delete-busy", "Deleting a busy subshell keeps neither shell nor control.",
             JEP, FEATURE)  # fmt: skip
async def check_delete_busy(probe: Probe) -> None:
    subshell = await _create(probe)
    await probe.begun(_run(probe, subshell, probe.sample("sleeping")))
    content = {"subshell_id": subshell}
    deleting = probe.client.send("delete_subshell_request", content, channel="control")
    try:
        for channel in ("control", "shell"):
            asked = probe.client.send("kernel_info_request", {}, channel=channel)
            await probe.reply(asked, 1, f"on {channel} while a busy subshell is deleted")
    finally:
        await probe.answer(deleting)
