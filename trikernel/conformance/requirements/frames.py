"""The wire: signatures, frames that are no message, and unusual headers.

Source: messaging.rst, "The wire protocol".
"""

from __future__ import annotations

import json as plain_json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ...client import Execution
from ...wire import DELIMITER
from ..manifest import NotOffered, requirement
from ..probe import Probe, ok
from ..schema import require

WIRE = "The Wire Protocol"


@requirement("wire.buffers", "The signature covers neither identities nor buffers.", WIRE)
async def check_buffers(probe: Probe) -> None:
    frames = probe.frames("kernel_info_request")
    await _is_answered(probe, [*frames, b"a buffer", b""], "shell", "with buffers")


@requirement(
    "wire.header-fields",
    "Fields of a header that nobody knows are taken, and copied to the parent header.",
    "Message header; Parent header",
)
async def check_header_fields(probe: Probe) -> None:
    frames = probe.frames("kernel_info_request", header={"no_such_field": [1]})
    sent = plain_json.loads(frames[2])
    execution = probe.post(frames)
    await probe.reply(execution)
    assert execution.reply is not None
    _is_copy(execution.reply.parent_header, sent)


def _is_copy(found: Mapping[str, Any], sent: Mapping[str, Any]) -> None:
    for name, value in sent.items():
        other = found.get(name)
        same = _instant(other) == _instant(value) if name == "date" else other == value
        require(same, f"the parent header's {name!r} is {other!r}, but was {value!r}")


def _instant(text: Any) -> datetime | str:
    """A date as a value, so that the same date may be written in another way."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)


@requirement(
    "wire.unsigned", "A message without a signature, or with a wrong one, is not answered.", WIRE
)
async def check_unsigned(probe: Probe) -> None:
    _needs_key(probe)
    sent = []
    for channel in ("shell", "control"):
        for signature in (b"", b"0" * 64, b"\xff\x00", b"x"):
            frames = probe.frames("kernel_info_request")
            wrong = [frames[0], signature, *frames[2:]]
            sent.append((signature, probe.post(wrong, channel=channel)))
    await probe.lives_on("messages with a wrong signature")
    for signature, one in sent:
        if one.started or one.reply is not None:
            probe.asked.append(one)
            require(False, f"a message with the signature {signature!r} is answered")


@requirement("wire.replay", "A message that comes a second time is not answered.", WIRE)
async def check_replay(probe: Probe) -> None:
    _needs_key(probe)
    sent = []
    for channel in ("shell", "control"):
        frames = probe.frames("kernel_info_request")
        sent.append(await _is_answered(probe, frames, channel, "the first time"))
        probe.send_frames(frames, channel)
    await probe.lives_on("a message that came before")
    replies = [one.replies for one in sent]
    require(replies == [1, 1], f"on shell and control there are {replies} replies")


@requirement(
    "wire.verify-first",
    "A forged message makes nothing be remembered: the true one with its signature is answered.",
    WIRE,
)
async def check_verify_first(probe: Probe) -> None:
    _needs_key(probe)
    for channel in ("shell", "control"):
        frames = probe.frames("kernel_info_request")
        forged = [*frames[:5], b'{"forged": true}']
        probe.send_frames(forged, channel)
        await probe.lives_on("a forged message")
        await _is_answered(probe, frames, channel, "after a forged one with its signature")


@requirement("wire.odd-frames", "Frames that are no message stop nothing.", WIRE)
async def check_odd_frames(probe: Probe) -> None:
    whole = probe.frames("kernel_info_request")
    odd: list[Sequence[bytes]] = [
        [b""],
        [b"x"],
        [b"\x00", b"\xff", b""],
        [DELIMITER],
        whole[:2],
        whole[:4],
        [b"no delimiter", *whole[1:]],
        [DELIMITER, DELIMITER, *whole[1:]],
    ]
    for channel in ("shell", "control", "stdin"):
        for frames in odd:
            probe.send_frames(frames, channel)
    await probe.lives_on("frames that are no message")


@requirement("wire.odd-json", "JSON that is no message stops nothing.", WIRE)
async def check_odd_json(probe: Probe) -> None:
    header = probe.codec.header("kernel_info_request")
    no_id = plain_json.dumps({"msg_type": "kernel_info_request"}).encode()
    no_type = plain_json.dumps({"msg_id": "x"}).encode()
    bodies = [
        [b"no JSON", b"{}", b"{}", b"{}"],
        [b"[]", b"{}", b"{}", b"{}"],
        [b"null", b"null", b"null", b"null"],
        [b"{}", b"{}", b"{}", b"{}"],
        [no_id, b"{}", b"{}", b"{}"],
        [no_type, b"{}", b"{}", b"{}"],
        [header, b"{}", b"{}", b"[1]"],
        [header, b"{}", b"{}", b"\xff\xfe"],
        [header, b"{}", b"{}", b"[" * 5000],
        [header, b"5", b"5", b"5"],
    ]
    for channel in ("shell", "control", "stdin"):
        for body in bodies:
            probe.send_frames([DELIMITER, probe.codec.sign(body), *body], channel)
    await probe.lives_on("JSON that is no message")


def _needs_key(probe: Probe) -> None:
    if not probe.codec.key:
        raise NotOffered("the connection has no key")


async def _is_answered(probe: Probe, frames: Sequence[bytes], channel: str, when: str) -> Execution:
    execution = probe.post(frames, channel=channel)
    await probe.reply(execution, 5, f"on {channel} {when}")
    ok(execution)
    return execution
