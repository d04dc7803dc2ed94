"""Messages that are wrong: each is logged once and counted, and the next good one is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from trikernel.testing import message_types

from ..cells import ask, contents, reply_of
from ..conftest import Serving
from ..harness import Peer, open_peer
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
    "metadata that is no object": ("json", lambda peer: signed(peer, HEADER, b"{}", b"[]", b"[]")),
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
    async with serving(kernel) as client, open_peer(kernel) as peer:
        server = kernel.server
        remembered = len(server.connection.codec._seen._known)
        peer.send_frames(make(peer), channel=channel)
        msg_id = peer.send("kernel_info_request", channel=channel)
        reply = await peer.receive(channel)
        assert (reply.parent_id, reply.content["status"]) == (msg_id, "ok")
        assert dict(server.dispatcher.rejected) == {kind: 1}
        assert len(server.connection.codec._seen._known) == remembered + 1
        assert (await client.execute("say on")).stdout == "on"
    assert len([one for one in caplog.messages if "dropped a message" in one]) == 1
    assert kernel.ran == ["say on"]


@pytest.mark.parametrize("channel", ["shell", "control"])
async def test_content_that_is_no_object_is_answered(serving: Serving, channel: str) -> None:
    """The header is whole: somebody waits. What is no request gets ``busy`` and ``idle``."""
    kernel = Recorder()
    async with serving(kernel) as client, open_peer(kernel) as peer:
        for number, content in enumerate((b"null", b"[]", b"5", b'"x"', b"true", b"")):
            for msg_type in ("execute_request", "kernel_info_request", "no_request"):
                header = peer.codec.header(msg_type, f"{msg_type} {number}")
                frames = signed(peer, header, b"{}", b"{}", content)
                peer.send_frames(frames, channel=channel)
                peer.send_frames(frames, channel=channel)  # comes again: dropped
                reply = await peer.receive(channel)
                assert reply.msg_type == msg_type.replace("request", "reply")
                assert reply.parent_id == f"{msg_type} {number}"
                assert (reply.content["status"], reply.content["ename"]) == (
                    "error",
                    "ContentError",
                )
                assert "content frame" in reply.content["evalue"]
        peer.send_frames(signed(peer, peer.codec.header("comm_msg"), b"{}", b"{}", b"[]"))
        peer.send("kernel_info_request")
        assert (await peer.receive()).content["status"] == "ok"
        assert dict(kernel.server.dispatcher.rejected) == {"json": 19, "replay": 18}
        assert (await client.execute("say on")).stdout == "on"
    assert kernel.ran == ["say on"]


async def test_a_replayed_message_runs_once(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel), open_peer(kernel) as peer:
        frames = good(peer)
        for _ in range(3):
            peer.send_frames(frames)
        await peer.receive()
        peer.send("execute_request", {"code": "say on"})
        await peer.receive()
        assert dict(kernel.server.dispatcher.rejected) == {"replay": 2}
    assert kernel.ran == ["say x", "say on"]


@pytest.mark.parametrize("channel", ["shell", "control"])
async def test_an_unknown_request_is_an_error_reply(serving: Serving, channel: str) -> None:
    async with serving(Recorder()) as client:
        heard = await ask(client, "frobnicate_request", {"a": 1}, channel=channel)
        assert heard.reply is not None
        assert heard.reply.msg_type == "frobnicate_reply"
        assert heard.status == "error"
        assert reply_of(heard)["ename"] == "UnknownMessageType"
        assert "frobnicate_request" in reply_of(heard)["evalue"]
        assert message_types(heard) == ["status:busy", "status:idle"]


async def test_an_unknown_message_that_is_no_request_is_logged_only(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Recorder()) as client:
        assert message_types(await ask(client, "rumour")) == ["status:busy", "status:idle"]
        assert (await client.execute("say on")).stdout == "on"
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
    async with serving(Recorder()) as client:
        channel = "control" if msg_type == "abort_request" else "shell"
        heard = await ask(client, msg_type, content, channel=channel)
        assert set(reply_of(heard)) == {"status", "ename", "evalue", "traceback"}
        assert (heard.status, reply_of(heard)["ename"]) == ("error", "ContentError")
        assert reply_of(heard)["evalue"].startswith(msg_type)
        assert all(isinstance(line, str) for line in reply_of(heard)["traceback"])
        assert message_types(heard) == ["status:busy", "status:idle"]
        assert (await client.execute("say on")).stdout == "on"


async def test_bad_content_on_control_does_not_wait_for_the_running_cell(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client, open_peer(kernel) as peer:
        cell = peer.send("execute_request", {"code": "sleep 1000"})
        while (await peer.receive("iopub")).msg_type != "execute_input":
            continue
        for msg_type in ("execute_request", "complete_request", "comm_msg"):
            peer.send(msg_type, {"code": 5}, channel="control")
        for msg_type in ("execute_reply", "complete_reply"):
            reply = await peer.receive("control")
            assert (reply.msg_type, reply.content["ename"]) == (msg_type, "ContentError")
        peer.send("interrupt_request", channel="control")
        assert (await peer.receive("control")).content["status"] == "ok"
        reply = await peer.receive()
        assert (reply.parent_id, reply.content["ename"]) == (cell, "KeyboardInterrupt")
        assert (await client.execute("say on")).stdout == "on"


async def test_a_comm_message_with_bad_content_is_logged_and_goes_idle(serving: Serving) -> None:
    async with serving(Recorder()) as client:
        opened = await ask(client, "comm_open", {"comm_id": 3})
        assert message_types(opened) == ["status:busy", "status:idle"]
        assert (await client.execute("say on")).stdout == "on"


async def test_a_comm_of_an_unknown_target_is_closed_at_once(serving: Serving) -> None:
    async with serving(Recorder()) as client:
        content = {"comm_id": "c1", "target_name": "none", "data": {}}
        opened = await ask(client, "comm_open", content)
    assert message_types(opened) == ["status:busy", "comm_close", "status:idle"]
    assert contents(opened, "comm_close") == [{"comm_id": "c1", "data": {}}]


async def test_odd_json_in_a_good_message_is_read_as_python_reads_it(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel), open_peer(kernel) as peer:
        content = json.dumps({"code": "say \ud800", "big": 2**70, "nan": float("nan")}).encode()
        peer.send_frames(signed(peer, peer.codec.header("execute_request"), b"{}", b"{}", content))
        assert (await peer.receive()).content["status"] == "ok"
    assert kernel.ran == ["say \ud800"]
