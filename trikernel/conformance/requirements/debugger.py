"""The debugger: the Debug Adapter Protocol in debug_request and debug_reply (JEP 47, JEP 93)."""

from __future__ import annotations

import itertools
import os
from typing import Any

import trio

from ..manifest import NotOffered, requirement
from ..probe import ANSWER, Probe
from ..schema import require

DEBUG, FEATURE = "Debug request", "debugger"
NAMES = {"srcVariableName": "no_such_name", "dstVariableName": "x", "srcFrameId": 0}
_seq = itertools.count(1)


async def _dap(probe: Probe, command: str, **arguments: Any) -> dict[str, Any]:
    """The content of the reply to a debug_request. That it is a DAP response is not checked here:
    that is a requirement of its own.
    """
    content = {"seq": next(_seq), "type": "request", "command": command, "arguments": arguments}
    execution = probe.client.send("debug_request", content, channel="control")
    reply = dict(await probe.reply(execution))
    require(reply, f"{command}: the reply is empty")
    return {"request": content, **reply}


def _is_response(command: str, reply: dict[str, Any]) -> None:
    """Raise `AssertionError` unless the content is a DAP response, or an error reply."""
    if reply.get("status") == "error" and "ename" in reply:
        return
    seq = reply["request"]["seq"]
    require(reply.get("type") == "response", f"{command}: the reply is {reply!s:.200}")
    require(reply.get("command") == command, f"{command}: the reply is to {reply.get('command')}")
    require(reply.get("request_seq") == seq, f"{command}: it has no request_seq, or another one")
    require(isinstance(reply.get("success"), bool), f"{command}: it has no success")


async def _succeeds(probe: Probe, command: str, **arguments: Any) -> dict[str, Any]:
    """The body of a response. Raises `AssertionError` unless it says success."""
    reply = await _dap(probe, command, **arguments)
    failed = f"{command}: {reply.get('message') or str(reply):.200}"
    require(reply.get("success", True) and reply.get("status") != "error", failed)
    return reply.get("body") or {}


async def _info(probe: Probe) -> dict[str, Any]:
    return await _succeeds(probe, "debugInfo")


@requirement("debugger.info", "debugInfo tells how cells are named, before anything is started.",
             f"{DEBUG}: debugInfo", FEATURE)  # fmt: skip
async def check_info(probe: Probe) -> None:
    info = await _info(probe)
    fields = {"isStarted": bool, "hashMethod": str, "hashSeed": int, "tmpFilePrefix": str}
    fields |= {"tmpFileSuffix": str, "breakpoints": list, "stoppedThreads": list}
    wrong = [name for name, kind in fields.items() if not isinstance(info.get(name), kind)]
    require(not wrong, f"the body has no {', '.join(wrong)}")
    require(info["hashMethod"] == "Murmur2", f"hashMethod is {info['hashMethod']}")


@requirement("debugger.response", "Every debug_reply is a DAP response, or an error reply.",
             f"{DEBUG}: DAP, Response", FEATURE)  # fmt: skip
async def check_response(probe: Probe) -> None:
    faults = []
    for command, arguments in (
        ("debugInfo", {}),
        ("inspectVariables", {}),
        ("richInspectVariables", {"variableName": "no_such_name"}),
        ("modules", {}),
        ("copyToGlobals", NAMES),
    ):
        try:
            _is_response(command, await _dap(probe, command, **arguments))
        except AssertionError as error:
            faults.append(str(error))
    require(not faults, "; ".join(faults))


@requirement("debugger.folder", "The folder of cells' files is its owner's alone.",
             "ipykernel: pull request 1530", FEATURE)  # fmt: skip
async def check_folder(probe: Probe) -> None:
    folder = trio.Path(os.path.dirname((await _info(probe))["tmpFilePrefix"]))
    if not await folder.is_dir():
        raise NotOffered("there is no such folder here before a cell is dumped")
    mode = (await folder.stat()).st_mode & 0o777
    require(mode & 0o077 == 0, f"{folder.name} has the mode {mode:04o}")


@requirement("debugger.variables", "Variables can be inspected before anything is started.",
             f"{DEBUG}: inspectVariables, richInspectVariables", FEATURE)  # fmt: skip
async def check_variables(probe: Probe) -> None:
    try:
        body = await _succeeds(probe, "inspectVariables")
        require(isinstance(body.get("variables"), list), f"the body is {body!s:.200}")
        await _dap(probe, "richInspectVariables", variableName="no_such_name")
    finally:
        await probe.lives_on("inspectVariables before initialize")


@requirement("debugger.modules", "Modules can be listed before anything is started.",
             f"{DEBUG}: modules", FEATURE)  # fmt: skip
async def check_modules(probe: Probe) -> None:
    body = await _succeeds(probe, "modules")
    require(isinstance(body.get("modules"), list), f"the body is {body!s:.200}")


@requirement("debugger.copy", "copyToGlobals is answered before anything is started.",
             "JEP 93: copyToGlobals", FEATURE)  # fmt: skip
async def check_copy(probe: Probe) -> None:
    try:
        await _dap(probe, "copyToGlobals", **NAMES)
    finally:
        await probe.lives_on("copyToGlobals before initialize")


@requirement("debugger.unknown", "An unknown command gets no success.",
             f"{DEBUG}: DAP, ErrorResponse", FEATURE)  # fmt: skip
async def check_unknown(probe: Probe) -> None:
    try:
        reply = await _dap(probe, "noSuchCommand")
        failed = reply.get("success") is False or reply.get("status") == "error"
        require(failed, f"the reply is {reply!s:.200}")
    finally:
        await probe.lives_on("an unknown debug command")


@requirement("debugger.malformed", "A debug_request that is no DAP is answered, and stops nothing.",
             DEBUG, FEATURE)  # fmt: skip
async def check_malformed(probe: Probe) -> None:
    faults = []
    try:
        for content in ({}, {"type": "request", "command": 5, "seq": "x"}, {"command": "attach"}):
            execution = probe.client.send("debug_request", content, channel="control")
            try:
                reply = await probe.reply(execution, 3)
                bad = reply.get("status") == "error" or reply.get("success") is False
                require(bad, f"the reply to {content} is {dict(reply)!s:.200}")
            except AssertionError as error:
                faults.append(str(error))
    finally:
        await probe.lives_on("debug requests that are no DAP")
    require(not faults, "; ".join(faults))


@requirement("debugger.session", "A cell stops at a breakpoint, shows its frames, and goes on.",
             f"{DEBUG}; debug_event", FEATURE)  # fmt: skip
async def check_session(probe: Probe) -> None:
    code = f"{probe.sample('code')}\n{probe.sample('code')}"
    names = {"clientID": "conform", "adapterID": "", "pathFormat": "path"}
    await _succeeds(probe, "initialize", **names, linesStartAt1=True, columnsStartAt1=True)
    await _succeeds(probe, "attach")
    path = (await _succeeds(probe, "dumpCell", code=code))["sourcePath"]
    info = await _info(probe)
    prefix, suffix = info["tmpFilePrefix"], info["tmpFileSuffix"]
    named = f"{prefix}{murmur2(code.encode(), info['hashSeed'])}{suffix}"
    require(path == named, f"sourcePath is {path}, but should be {named}")
    source = {"path": path}
    await _succeeds(
        probe, "setBreakpoints", source=source, breakpoints=[{"line": 2}], sourceModified=False
    )
    await _succeeds(probe, "configurationDone")
    cell = probe.client.start(code)
    probe.asked.append(cell)
    thread = await _stopped(probe)
    frames = (await _succeeds(probe, "stackTrace", threadId=thread))["stackFrames"]
    require(frames and frames[0]["line"] == 2, f"the frames are {frames!s:.200}")
    await _succeeds(probe, "continue", threadId=thread)
    await probe.answer(cell)
    await _succeeds(probe, "disconnect", restart=False, terminateDebuggee=False)


async def _stopped(probe: Probe) -> int:
    """Wait for the debug_event that says that a thread has stopped; the thread's number."""
    with trio.move_on_after(ANSWER):
        while True:
            for one in probe.iopub:
                if one.msg_type == "debug_event" and one.content.get("event") == "stopped":
                    thread: int = one.content["body"]["threadId"]
                    return thread
            await trio.sleep(0.05)
    raise AssertionError("there is no debug_event 'stopped'")


def murmur2(data: bytes, seed: int) -> int:
    """MurmurHash2 (32 bits) by Austin Appleby, with which frontends and kernels name cells."""
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    value = (seed ^ len(data)) & mask
    cut = len(data) & ~3
    for start in range(0, cut, 4):
        part = int.from_bytes(data[start : start + 4], "little") * factor & mask
        part = (part ^ part >> 24) * factor & mask
        value = value * factor & mask ^ part
    if cut < len(data):
        value = (value ^ int.from_bytes(data[cut:], "little")) * factor & mask
    value = (value ^ value >> 13) * factor & mask
    return value ^ value >> 15
