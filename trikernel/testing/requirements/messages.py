"""What holds for every message that came; checked last."""

from __future__ import annotations

from ..order import order_faults
from ..probe import Probe, Requirement
from ..schema import content_faults, header_faults
from .table import adding_to, require

__all__ = ["REQUIREMENTS"]

REQUIREMENTS: list[Requirement] = []
requirement = adding_to(REQUIREMENTS)


@requirement("messages.content", "Every content has the fields that it should.", "")
async def _contents(probe: Probe) -> None:
    replies = [one.reply for one in probe.finished if one.reply is not None]
    faults = [fault for one in (*replies, *probe.iopub) for fault in content_faults(one)]
    require(not faults, _listed(faults))


@requirement("messages.header", "Every header is whole, its date in ISO 8601.", "Message header")
async def _headers(probe: Probe) -> None:
    replies = [one.reply for one in probe.finished if one.reply is not None]
    faults = [fault for one in (*replies, *probe.iopub) for fault in header_faults(one)]
    require(not faults, _listed(faults))
    ids = [one.msg_id for one in (*replies, *probe.iopub)]
    require(len(ids) == len(set(ids)), "a msg_id was used twice")
    sessions = {one.header.session for one in (*replies, *probe.iopub)}
    require(len(sessions) == 1, f"the kernel has {len(sessions)} session ids")


@requirement(
    "messages.parent", "Every reply carries a copy of its request's header.", "Parent header"
)
async def _parents(probe: Probe) -> None:
    for execution in probe.finished:
        assert execution.reply is not None
        parent = execution.reply.parent_header
        require(parent.get("msg_type") == execution.msg_type, f"a parent header is {dict(parent)}")
        expected = execution.msg_type.replace("_request", "_reply")
        require(execution.reply.msg_type == expected, f"the reply is a {execution.reply.msg_type}")


@requirement(
    "messages.order", "Busy comes first, idle last, one reply, outputs in between.", "Kernel status"
)
async def _order(probe: Probe) -> None:
    faults = [f"{one}: {fault}" for one in probe.finished for fault in order_faults(one)]
    require(not faults, _listed(faults))


def _listed(faults: list[str]) -> str:
    """The first faults, each once."""
    different = list(dict.fromkeys(faults))
    more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
    return "; ".join(different[:3]) + more
