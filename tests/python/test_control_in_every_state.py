"""Control is answered in whatever state the kernel is, and a shutdown ends it there.

A state is a row of `STATES`: a cell, and where one sees that the kernel is in it. One process each.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from trikernel.client.kernel_process import KernelProcess
from trikernel.transport import ZmqClientTransport
from trikernel.wire import Message

from ..harness import Peer

pytestmark = pytest.mark.slow  # processes, whatever the Python

SECONDS = 60  # far more than any test needs


@attrs.frozen
class State:
    """``code`` brings the kernel into it, in so many ``subshells`` or else in the main shell; then
    ``channel`` has a message of type ``begun`` for each. With a ``breakpoint`` in that line.
    """

    code: str
    begun: str = "stream"
    channel: str = "iopub"
    subshells: int = 0
    breakpoint: int | None = None


BLOCKED = "import time; print('begun', flush=True); time.sleep(1000)"
SPINNING = "print('begun', flush=True)\nwhile True: pass"
AWAITING = "import trio; print('begun', flush=True); await trio.sleep_forever()"
STATES = {
    "idle": State(""),
    "blocked": State(BLOCKED),
    "spinning": State(SPINNING),
    "flooding": State("while True: print('x' * 1000)"),
    "awaiting": State(AWAITING),
    "asking": State("input('name? ')", "input_request", "stdin"),
    "subshells": State(AWAITING, subshells=3),
    "debugged": State("x = 1\ny = 2\nz = 3", "debug_event", breakpoint=2),
}

AT_ONCE: list[tuple[str, dict[str, Any]]] = [  # on control, beside whatever runs
    ("shutdown_request", {"restart": "yes"}),
    ("abort_request", {"msg_ids": 5}),
    ("execute_request", {"stop_on_error": False}),
    ("execute_request", {"code": 5, "stop_on_error": False}),
    ("complete_request", {}),
    ("no_such_request", {}),
]
IN_TURN: list[tuple[str, dict[str, Any]]] = [
    ("execute_request", {"stop_on_error": False}),
    ("execute_request", {"code": 5, "stop_on_error": False}),
    ("complete_request", {}),
    ("complete_request", {"code": "x", "cursor_pos": "end"}),
    ("inspect_request", {"code": {}}),
    ("history_request", {"hist_access_type": "no such type"}),
    ("is_complete_request", {"code": 1.5}),
    ("comm_info_request", {"target_name": 1}),
    ("no_such_request", {}),
]


async def replies(peer: Peer, channel: str, ids: list[str]) -> dict[str, Message]:
    """The reply to each of these, and nothing else, and to none of them two."""
    found: dict[str, Message] = {}
    while len(found) < len(ids):
        message = await peer.receive(channel)
        assert message.parent_id in ids
        assert message.parent_id not in found
        found[message.parent_id] = message
    return found


async def ask(peer: Peer, msg_type: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    """The content of the reply on control."""
    msg_id = peer.send(msg_type, content, channel="control")
    return dict((await replies(peer, "control", [msg_id]))[msg_id].content)


async def enter(peer: Peer, state: State) -> list[str]:
    """Bring the kernel into a state; the ids of the cells that it takes."""
    if not state.code:
        return []
    if state.breakpoint is not None:
        await attach_debugger(peer, state.code, state.breakpoint)
    content = {"code": state.code, "stop_on_error": False, "allow_stdin": True}
    shells = [await new_subshell(peer) for _ in range(state.subshells)] or [None]
    headers = [peer.codec.header("execute_request", subshell_id=one) for one in shells]
    cells = [peer.send("execute_request", content, header=one) for one in headers]
    waiting = set(cells)
    while waiting:
        message = await peer.receive(state.channel)
        event = message.content.get("event", "stopped")
        if message.msg_type == state.begun and event == "stopped":
            waiting.discard(message.parent_id or "")
    return cells


async def new_subshell(peer: Peer) -> str | None:
    return str((await ask(peer, "create_subshell_request"))["subshell_id"])


async def attach_debugger(peer: Peer, code: str, line: int) -> None:
    """As a frontend does it; a second time after the first one's end."""

    async def debug(command: str, **arguments: Any) -> Any:
        content = {"seq": 1, "type": "request", "command": command, "arguments": arguments}
        response = await ask(peer, "debug_request", content)
        assert response["success"], response
        return response["body"]

    if (await debug("debugInfo"))["isStarted"]:
        return
    await debug("initialize", clientID="tests", adapterID="", pathFormat="path")
    await debug("attach")
    path = (await debug("dumpCell", code=code))["sourcePath"]
    await debug("setBreakpoints", source={"path": path}, breakpoints=[{"line": line}])


@pytest.mark.parametrize("name", STATES)
async def test_control_is_answered_and_a_shutdown_ends_it(name: str) -> None:
    state, process = STATES[name], KernelProcess()
    if state.breakpoint is not None:
        pytest.importorskip("debugpy")
    try:
        with trio.fail_after(SECONDS):
            await process.start()
            with ZmqClientTransport(process.info) as transport:
                peer = Peer(transport)
                await peer.until_subscribed()
                await control_is_answered(peer, await enter(peer, state))
                await enter(peer, state)
                await shutdown_is_told(peer)
                await process.wait_ended()
    finally:
        await process.kill()


async def control_is_answered(peer: Peer, cells: list[str]) -> None:
    """Questions and malformed requests at once, what waits for the cell once it is interrupted."""
    for _ in range(2):
        assert (await ask(peer, "kernel_info_request"))["implementation"] == "trikernel"
        assert (await ask(peer, "usage_request"))["pid"]
    for msg_type, content in AT_ONCE:
        assert (await ask(peer, msg_type, content))["status"] == "error", msg_type
    in_turn = {
        channel: [peer.send(*one, channel=channel) for one in IN_TURN]
        for channel in ("shell", "control")
    }
    interrupt = peer.send("interrupt_request", channel="control")
    on_shell = await replies(peer, "shell", [*cells, *in_turn["shell"]])
    assert [on_shell[one].content.get("ename") for one in cells] == ["KeyboardInterrupt"] * len(
        cells
    )
    on_control = await replies(peer, "control", [interrupt, *in_turn["control"]])
    assert on_control.pop(interrupt).content["status"] == "ok"
    for message in (*on_shell.values(), *on_control.values()):
        assert message.content["status"] == "error", message.content
        assert {"ename", "evalue", "traceback"} <= set(message.content)


async def shutdown_is_told(peer: Peer) -> None:
    """By the reply on control, and the same content on iopub."""
    content = await ask(peer, "shutdown_request", {"restart": True})
    assert content == {"status": "ok", "restart": True}
    while (message := await peer.receive("iopub")).msg_type != "shutdown_reply":
        pass
    assert message.content == content
