"""Requests that are signed, but malformed or of an unknown type: the kernel must not end by them.

They are sent on shell and on control, some of them to a kernel that runs a cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...client import Execution
from ..manifest import NotOffered, requirement
from ..probe import Probe, is_error, ok
from ..schema import require

Bad = tuple[str, Any]

EMPTY: list[Bad] = [
    ("execute_request", {"stop_on_error": False}),
    ("complete_request", {}),
    ("inspect_request", {}),
    ("is_complete_request", {}),
]
WRONG: list[Bad] = [
    ("execute_request", {"code": 5, "stop_on_error": False}),
    ("execute_request", {"code": None, "stop_on_error": False}),
    ("complete_request", {"code": "x", "cursor_pos": "end"}),
    ("complete_request", {"code": ["x"], "cursor_pos": 1}),
    ("inspect_request", {"code": {}, "cursor_pos": 0}),
    ("is_complete_request", {"code": 1.5}),
]
HISTORY: list[Bad] = [
    ("history_request", {"hist_access_type": "no such type", "output": False, "raw": True}),
    ("history_request", {"hist_access_type": 5}),
]


async def _all_are_errors(probe: Probe, requests: Iterable[Bad], channel: str = "shell") -> None:
    """Send all requests; then raise `AssertionError` if any of them got no error reply."""
    faults: list[str] = []
    for msg_type, content in requests:
        try:
            execution = probe.client.send(msg_type, content, channel=channel)
            is_error(await _answer(probe, execution, 5))
        except AssertionError as error:
            faults.append(f"{error} (its content: {content})")
    require(not faults, "; ".join(faults))


async def _answer(probe: Probe, execution: Execution, *seconds: float, **more: float) -> Execution:
    """As `Probe.answer`, but the execution is not kept for the checks of all messages: the answer
    to a malformed request need not be in order.
    """
    try:
        return await probe.answer(execution, *seconds, **more)
    finally:
        probe.log.finished.remove(execution)


@requirement(
    "request.malformed", "A request without a needed field gets an error reply.", "Request-Reply"
)
async def check_malformed(probe: Probe) -> None:
    await _all_are_errors(probe, EMPTY)


@requirement(
    "request.malformed-history",
    "A history_request of an unknown type gets an error reply, one without a type any reply.",
    "Request-Reply; History",
)
async def check_malformed_history(probe: Probe) -> None:
    await _all_are_errors(probe, HISTORY)
    execution = await probe.ask("history_request", {})
    if execution.status != "ok":
        is_error(execution)


@requirement("request.wrong-types", "A field of a wrong type gets an error reply.", "Request-Reply")
async def check_wrong_types(probe: Probe) -> None:
    await _all_are_errors(probe, WRONG)


@requirement(
    "request.malformed-control",
    "What is malformed on control is answered, and stops nothing.",
    "Request-Reply",
)
async def check_malformed_on_control(probe: Probe) -> None:
    try:
        for msg_type, content in (*EMPTY, ("no_such_request", {})):
            execution = probe.client.send(msg_type, content, channel="control")
            content = await probe.reply(execution, 3)
            require(content.get("status") == "error", f"{msg_type}: the reply is {dict(content)}")
    finally:
        await probe.lives_on("malformed requests on control")


@requirement(
    "request.malformed-busy",
    "What is malformed while a cell runs is answered, and stops nothing.",
    "Request-Reply",
)
async def check_malformed_while_busy(probe: Probe) -> None:
    code = probe.sample("sleeping")
    probe.needs_apart()
    cell = await probe.begun(probe.client.start(code))
    queued = [probe.client.send(kind, content) for kind, content in (*EMPTY, *WRONG[:3])]
    steering = [probe.client.send(*one, channel="control") for one in EMPTY]
    ok(await probe.answer(cell))
    faults = []
    for one in (*queued, *steering):
        try:
            is_error(await _answer(probe, one, 3, patience=0.2))
        except AssertionError as error:
            faults.append(str(error))
    await probe.lives_on("malformed requests while a cell runs")
    require(not faults, "; ".join(dict.fromkeys(faults)))


@requirement("request.unknown-fields", "Fields that nobody knows are ignored.", "Compatibility")
async def check_unknown_fields(probe: Probe) -> None:
    ok(await probe.execute(probe.sample("code"), no_such_field=[1, {}]))
    ok(await probe.ask("kernel_info_request", {"no_such_field": None}))


@requirement("request.unknown-type", "A message of an unknown type stops nothing.", "Compatibility")
async def check_unknown_type(probe: Probe) -> None:
    for channel in ("shell", "control", "stdin"):
        probe.client.send("no_such_thing", {}, channel=channel)
    await probe.lives_on("messages of an unknown type")
    ok(await probe.ask("kernel_info_request"))


@requirement(
    "request.not-offered",
    "A request of a feature that is not offered gets no ok, and stops nothing.",
    "Kernel info: supported_features; JEP 91; JEP 92",
)
async def check_not_offered(probe: Probe) -> None:
    info = probe.client.info or (await probe.client.kernel_info()).content
    features = info.get("supported_features") or []
    requests: list[Bad] = []
    if "debugger" not in features and info.get("debugger") is not True:
        requests.append(("debug_request", {"seq": 1, "type": "request", "command": "debugInfo"}))
    if "kernel subshells" not in features:
        requests.append(("create_subshell_request", {}))
    if not requests:
        raise NotOffered("the kernel offers both features that could be asked for")
    for msg_type, content in requests:
        execution = probe.client.send(msg_type, content, channel="control")
        probe.asked.append(execution)
        try:
            reply = await probe.reply(execution, 2)
        except AssertionError:  # no reply at all is allowed as well
            continue
        require(reply.get("status") != "ok", f"{msg_type}: the reply is {dict(reply)}")
    await probe.lives_on("requests of features that it does not offer")
