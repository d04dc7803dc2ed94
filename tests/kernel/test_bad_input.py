"""Messages that are wrong: each is logged once and counted, and the next good one is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ..conftest import Serving
from ..harness import Peer
from .kernels import Recorder

pytestmark = pytest.mark.seed(8)


def signed(peer: Peer, *parts: bytes) -> list[bytes]:
    return [b"<IDS|MSG>", peer.codec.sign(parts), *parts]


def good(peer: Peer, **options: Any) -> list[bytes]:
    return peer.codec.encode("execute_request", {"code": "say x"}, **options)


HEADER = b'{"msg_id":"1","msg_type":"execute_request"}'

BAD: dict[str, tuple[str, Callable[[Peer], list[bytes]]]] = {
    "wrong signature": ("signature", lambda peer: [good(peer)[0], b"0" * 64, *good(peer)[2:]]),
    "no signature": ("signature", lambda peer: [good(peer)[0], b"", *good(peer)[2:]]),
    "too few frames": ("frames", lambda peer: good(peer)[:4]),
    "no delimiter": ("delimiter", lambda peer: [b"a", b"b"]),
    "an empty frame": ("delimiter", lambda peer: [b""]),
    "invalid UTF-8": ("json", lambda peer: signed(peer, HEADER, b"{}", b"{}", b'{"code":"\xff"}')),
    "invalid JSON": ("json", lambda peer: signed(peer, HEADER, b"{}", b"{}", b"{")),
    "no object": ("json", lambda peer: signed(peer, HEADER, b"{}", b"{}", b"[]")),
    "missing header fields": ("header", lambda peer: signed(peer, b"{}", b"{}", b"{}", b"{}")),
    "many identities": ("frames", lambda peer: [b"i"] * 100_000 + good(peer)),
    "a frame over the bound": ("size", lambda peer: good(peer, buffers=[bytes(1 << 20)])),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("channel", ["shell", "control"])
async def test_a_bad_message_is_dropped_and_the_next_good_one_answered(
    serving: Serving, channel: str, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind, make = BAD[case]
    kernel = Recorder(max_message_bytes=1 << 20)
    async with serving(kernel) as peer:
        remembered = len(peer.server.connection.codec._seen._known)
        peer.send_frames(make(peer), channel=channel)
        heard = await peer.ask("kernel_info_request", channel=channel)
        assert heard.reply["status"] == "ok"
        assert dict(peer.server.rejected) == {kind: 1}
        assert len(peer.server.connection.codec._seen._known) == remembered + 1
        assert (await peer.execute("say on")).text() == "on"
    assert len([one for one in caplog.messages if "dropped a message" in one]) == 1
    assert kernel.ran == ["say on"]


async def test_a_replayed_message_runs_once(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as peer:
        frames = good(peer)
        for _ in range(3):
            peer.send_frames(frames)
        await peer.receive()
        await peer.execute("say on")
        assert dict(peer.server.rejected) == {"replay": 2}
    assert kernel.ran == ["say x", "say on"]


@pytest.mark.parametrize("channel", ["shell", "control"])
async def test_an_unknown_request_is_an_error_reply(serving: Serving, channel: str) -> None:
    async with serving(Recorder()) as peer:
        heard = await peer.ask("frobnicate_request", {"a": 1}, channel=channel)
        assert heard.message is not None
        assert heard.message.msg_type == "frobnicate_reply"
        assert heard.reply["status"] == "error"
        assert heard.reply["ename"] == "UnknownMessageType"
        assert "frobnicate_request" in heard.reply["evalue"]
        assert heard.types == ["status:busy", "status:idle"]


async def test_an_unknown_message_that_is_no_request_is_logged_only(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Recorder()) as peer:
        msg_id = peer.send("rumour", {})
        about = await peer.until_idle(msg_id)
        assert [one.msg_type for one in about] == ["status", "status"]
        assert (await peer.execute("say on")).text() == "on"
    assert "no handler for 'rumour'" in caplog.text


@pytest.mark.parametrize(
    ("msg_type", "content"),
    [
        ("complete_request", {}),
        ("complete_request", {"code": "x", "cursor_pos": "1"}),
        ("inspect_request", {"code": 3}),
        ("history_request", {"hist_access_type": "never"}),
        ("is_complete_request", {}),
        ("comm_info_request", {"target_name": 1}),
        ("shutdown_request", {"restart": "x"}),
        ("abort_request", {"msg_ids": 5}),
    ],
)
async def test_bad_content_gets_a_whole_error_reply(
    serving: Serving, msg_type: str, content: dict[str, Any]
) -> None:
    async with serving(Recorder()) as peer:
        channel = "control" if msg_type == "abort_request" else "shell"
        heard = await peer.ask(msg_type, content, channel=channel)
        assert set(heard.reply) == {"status", "ename", "evalue", "traceback"}
        assert (heard.reply["status"], heard.reply["ename"]) == ("error", "ContentError")
        assert heard.reply["evalue"].startswith(msg_type)
        assert all(isinstance(line, str) for line in heard.reply["traceback"])
        assert heard.types == ["status:busy", "status:idle"]
        assert (await peer.execute("say on")).text() == "on"


async def test_a_comm_message_with_bad_content_is_logged_and_goes_idle(serving: Serving) -> None:
    async with serving(Recorder()) as peer:
        msg_id = peer.send("comm_open", {"comm_id": 3})
        assert [one.msg_type for one in await peer.until_idle(msg_id)] == ["status", "status"]
        assert (await peer.execute("say on")).text() == "on"


async def test_a_comm_of_an_unknown_target_is_closed_at_once(serving: Serving) -> None:
    async with serving(Recorder()) as peer:
        msg_id = peer.send("comm_open", {"comm_id": "c1", "target_name": "none", "data": {}})
        about = await peer.until_idle(msg_id)
    assert [one.msg_type for one in about] == ["status", "comm_close", "status"]
    assert about[1].content == {"comm_id": "c1", "data": {}}


async def test_odd_json_in_a_good_message_is_read_as_python_reads_it(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as peer:
        content = json.dumps({"code": "say \ud800", "big": 2**70, "nan": float("nan")}).encode()
        peer.send_frames(signed(peer, peer.codec.header("execute_request"), b"{}", b"{}", content))
        assert (await peer.receive()).content["status"] == "ok"
    assert kernel.ran == ["say \ud800"]
