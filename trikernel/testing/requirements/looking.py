"""What a kernel says of itself, of code that is being written, and of comms."""

from __future__ import annotations

from ..probe import Probe, Requirement
from .table import adding_to, ok, require

__all__ = ["REQUIREMENTS"]

REQUIREMENTS: list[Requirement] = []
requirement = adding_to(REQUIREMENTS)


@requirement("kernel-info.shell", "It says on shell who it is.", "Kernel info")
async def _kernel_info(probe: Probe) -> None:
    ok(await probe.ask("kernel_info_request"))


@requirement("kernel-info.control", "It says the same on control.", "Kernel info; JEP 80")
async def _kernel_info_on_control(probe: Probe) -> None:
    on_shell = ok(await probe.ask("kernel_info_request"))
    on_control = ok(await probe.ask("kernel_info_request", channel="control"))
    require(on_shell == on_control, "the two replies differ")


@requirement("complete.reply", "A completion has its matches and what they replace.", "Completion")
async def _complete(probe: Probe) -> None:
    code = probe.sample("completing")
    reply = ok(await probe.ask("complete_request", {"code": code, "cursor_pos": len(code)}))
    require(reply["matches"], f"there is no match for {code!r}")
    start, end = reply["cursor_start"], reply["cursor_end"]
    require(0 <= start <= end <= len(code), f"what is replaced is {start} to {end}")


@requirement("complete.nothing", "Where nothing completes, the reply is still ok.", "Completion")
async def _complete_nothing(probe: Probe) -> None:
    ok(await probe.ask("complete_request", {"code": "", "cursor_pos": 0}))


@requirement("inspect.reply", "An inspection says whether it found something.", "Introspection")
async def _inspect(probe: Probe) -> None:
    content = {"code": "no_such_name_anywhere", "cursor_pos": 3, "detail_level": 0}
    reply = ok(await probe.ask("inspect_request", content))
    require(isinstance(reply.get("found"), bool), f"found is {reply.get('found')!r}")


@requirement("history.tail", "The end of the history can be asked for.", "History")
async def _history(probe: Probe) -> None:
    content = {"hist_access_type": "tail", "n": 3, "output": False, "raw": True}
    ok(await probe.ask("history_request", content))


@requirement(
    "is-complete.status", "Code is complete, incomplete, invalid or unknown.", "Code completeness"
)
async def _is_complete(probe: Probe) -> None:
    execution = await probe.ask("is_complete_request", {"code": probe.sample("code")})
    require(execution.status in ("complete", "incomplete", "invalid", "unknown"), execution.status)


@requirement("comm.info", "The open comms can be listed.", "Comm info")
async def _comm_info(probe: Probe) -> None:
    ok(await probe.ask("comm_info_request", {}))
    reply = ok(await probe.ask("comm_info_request", {"target_name": "no such target"}))
    require(reply["comms"] == {}, f"comms is {reply['comms']}")


@requirement(
    "comm.unknown-target", "A comm to an unknown target is closed at once.", "Opening a Comm"
)
async def _comm_unknown_target(probe: Probe) -> None:
    comm = probe.client.comm_open("no such target")
    assert comm.opened is not None
    await comm.opened.wait()
    require(comm.closed, "it stays open")
