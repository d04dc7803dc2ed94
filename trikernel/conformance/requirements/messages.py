"""What must be true of every message from the kernel; checked last, on the messages that all other
checks have received.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...wire import Message
from ..manifest import AFTERWARDS, NotChecked, requirement
from ..probe import Probe, Unread
from ..schema import content_faults, header_faults, order_faults, require


@requirement("messages.content", "Every content has the fields that it should.", "",
             stage=AFTERWARDS)  # fmt: skip
async def check_contents(probe: Probe) -> None:
    _must_be_right(probe, [(one, list(content_faults(one))) for one in await _came(probe)])


@requirement("messages.header", "Every header is whole, its date in ISO 8601.", "Message header",
             stage=AFTERWARDS)  # fmt: skip
async def check_headers(probe: Probe) -> None:
    came = await _came(probe)
    _must_be_right(probe, [(one, list(header_faults(one))) for one in came])


@requirement("messages.ids", "No msg_id is used twice, and a kernel has one session.",
             "Message header", stage=AFTERWARDS)  # fmt: skip
async def check_ids(probe: Probe) -> None:
    came = await _came(probe)
    seen: set[str] = set()
    for one in came:
        if one.msg_id in seen:
            probe.seen.append(one)
        seen.add(one.msg_id)
    require(not probe.seen, f"{len(probe.seen)} messages have the msg_id of another one")
    sessions = {one.header.session for one in came}
    kernels = probe.log.kernels
    require(len(sessions) <= kernels, f"{kernels} kernels have {len(sessions)} sessions")


@requirement("messages.version", "Headers name the version of the protocol that the kernel says.",
             "Message header: version; Versioning", stage=AFTERWARDS)  # fmt: skip
async def check_version(probe: Probe) -> None:
    came = await _came(probe)
    told = [one for one in came if one.msg_type == "kernel_info_reply"]
    if not told:
        raise NotChecked("no kernel_info_reply came")
    version = str(told[-1].content.get("protocol_version"))
    wrong = [one for one in came if one.header.version != version]
    probe.seen.extend(wrong[:1])
    said = ", ".join(sorted({one.header.version for one in wrong}))
    require(not wrong, f"the kernel_info_reply says {version}, headers say {said}")


@requirement("messages.readable", "Every message can be read: its frames, signature and JSON.",
             "The Wire Protocol", stage=AFTERWARDS)  # fmt: skip
async def check_readable(probe: Probe) -> None:
    await _came(probe)
    _must_be_none(probe, [one for one in probe.log.unread if not _is_of_parent(one)])


@requirement("messages.parent-object", "The parent header is an object, {} where there is none.",
             "Parent header", stage=AFTERWARDS)  # fmt: skip
async def check_parent_object(probe: Probe) -> None:
    await _came(probe)
    _must_be_none(probe, [one for one in probe.log.unread if _is_of_parent(one)])


def _is_of_parent(unread: Unread) -> bool:
    return "the parent frame" in str(unread[1])


def _must_be_none(probe: Probe, unread: Sequence[Unread]) -> None:
    if unread:
        probe.unread.extend(unread[:2])
        require(False, f"{len(unread)} messages cannot be read: {unread[0][1]}")


@requirement("messages.parent", "Every reply carries a copy of its request's header.",
             "Parent header", stage=AFTERWARDS)  # fmt: skip
async def check_parents(probe: Probe) -> None:
    await probe.some_traffic()
    for execution in probe.finished:
        if execution.reply is None:
            continue
        parent = execution.reply.parent_header
        require(parent.get("msg_type") == execution.msg_type, f"a parent header is {dict(parent)}")
        expected = execution.msg_type.replace("_request", "_reply")
        require(execution.reply.msg_type == expected, f"the reply is a {execution.reply.msg_type}")


@requirement("messages.order", "Busy comes first, idle last, one reply, outputs in between.",
             "Kernel status", stage=AFTERWARDS)  # fmt: skip
async def check_order(probe: Probe) -> None:
    await probe.some_traffic()
    faults = []
    for one in probe.finished:
        if one.silent:  # has requirements of its own
            continue
        found = [f"{one.msg_type}: {fault}" for fault in order_faults(one)]
        if found:
            probe.asked.append(one)
        faults += found
    require(not faults, _listed(faults))


async def _came(probe: Probe) -> list[Message]:
    """Every reply and every message on iopub that was received."""
    await probe.some_traffic()
    replies = [one.reply for one in probe.log.finished if one.reply is not None]
    return [*replies, *probe.iopub]


def _must_be_right(probe: Probe, found: Iterable[tuple[Message, list[str]]]) -> None:
    bad = [(message, faults) for message, faults in found if faults]
    probe.seen.extend(message for message, _ in bad)
    require(not bad, _listed([fault for _, faults in bad for fault in faults]))


def _listed(faults: list[str]) -> str:
    """The first three different faults, and the number of the others."""
    different = list(dict.fromkeys(faults))
    more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
    return "; ".join(different[:3]) + more
