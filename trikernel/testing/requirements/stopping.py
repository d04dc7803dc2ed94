"""What is wrong, what is unknown, and what stops."""

from __future__ import annotations

from ..probe import Probe, Requirement
from .table import adding_to, is_error, ok, require

__all__ = ["REQUIREMENTS"]

REQUIREMENTS: list[Requirement] = []
requirement = adding_to(REQUIREMENTS)


@requirement(
    "request.malformed", "A request without a needed field gets an error reply.", "Request-Reply"
)
async def _malformed(probe: Probe) -> None:
    for kind in ("execute", "complete", "inspect", "is_complete"):
        is_error(await probe.ask(f"{kind}_request", {}))


@requirement("request.unknown-fields", "Fields that nobody knows are ignored.", "Compatibility")
async def _unknown_fields(probe: Probe) -> None:
    ok(await probe.execute(probe.sample("code"), no_such_field=[1, {}]))
    ok(await probe.ask("kernel_info_request", {"no_such_field": None}))


@requirement("request.unknown-type", "A message of an unknown type stops nothing.", "Compatibility")
async def _unknown_type(probe: Probe) -> None:
    probe.client.send("no_such_thing", {})
    ok(await probe.ask("kernel_info_request"))


@requirement(
    "interrupt.reply", "An interrupt that interrupts nothing is answered.", "Kernel interrupt"
)
async def _interrupt(probe: Probe) -> None:
    ok(await probe.ask("interrupt_request", channel="control"))
    ok(await probe.execute(probe.sample("code")))


@requirement("shutdown.reply", "A shutdown is answered with what it was asked.", "Kernel shutdown")
async def _shutdown(probe: Probe) -> None:
    reply = await probe.client.shutdown()
    require(reply.content.get("status") == "ok", f"the reply is {dict(reply.content)}")
    require(reply.content.get("restart") is False, "restart is not false")
