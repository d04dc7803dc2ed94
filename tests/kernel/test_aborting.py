"""What an error and an ``abort_request`` do to the queue."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
import trio.testing

from trikernel import Kernel
from trikernel.kernel import Application
from trikernel.testing import CheckedClient, message_types

from ..cells import Cells, ask, contents, reply_of, served, until_input
from ..conftest import Serving
from ..harness import open_peer
from .kernels import Recorder


class Failing(Recorder):
    """``block``: fails after 150 ms of blocking; ``later``: after an awaited sleep."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "block":
            time.sleep(0.15)  # noqa: ASYNC251  # the point: the loop stands still meanwhile
            raise ValueError("blocked")
        if code == "later":
            await trio.sleep(0.05)
            raise ValueError("later")
        return await super().do_execute(code, silent, **options)


async def run_all(client: CheckedClient, failing: str) -> list[str]:
    """Send 50 cells at once, the third of which fails; how each was answered."""
    codes = ["say a", "say b", failing, *(f"say {number}" for number in range(47))]
    return await Cells(client, *codes).statuses()


@pytest.mark.slow
@pytest.mark.promise(7)
@pytest.mark.seed(13)
@pytest.mark.parametrize(("failing", "times"), [("fail", 10), ("block", 4), ("later", 4)])
async def test_run_all_aborts_exactly_what_is_after_the_failing_cell(
    serving: Serving, failing: str, times: int, request: pytest.FixtureRequest
) -> None:
    """With ``--thorough`` five times as often."""
    times *= 5 if request.config.getoption("--thorough") else 1
    kernel = Failing()
    async with serving(kernel) as client:
        for _ in range(times):
            statuses = await run_all(client, failing)
            assert statuses == ["ok", "ok", "error"] + ["aborted"] * 47
            await trio.sleep(kernel.stop_on_error_timeout + 0.01)
    assert kernel.ran.count("say 0") == 0


@pytest.mark.promise(7)
@pytest.mark.seed(13)
@pytest.mark.parametrize(
    ("delay", "status"), [(0.0, "aborted"), (0.099, "aborted"), (0.101, "ok"), (1.0, "ok")]
)
async def test_what_was_on_its_way_and_comes_within_the_timeout_is_aborted_too(
    autojump_clock: trio.testing.MockClock, delay: float, status: str
) -> None:
    kernel = Recorder(stop_on_error_timeout=0.1)
    async with served(kernel) as client, open_peer(kernel) as peer:
        header = peer.codec.header("execute_request", "sent before the failure")
        await client.execute("fail")
        await trio.sleep(delay)
        frames = peer.codec.encode("execute_request", {"code": "say x"}, header=header)
        peer.send_frames(frames)
        assert (await peer.receive()).content["status"] == status


@pytest.mark.seed(13)
async def test_a_timeout_of_0_aborts_only_what_is_queued(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served(Recorder(stop_on_error_timeout=0.0)) as client:
        assert await Cells(client, "fail", "say 1").statuses() == ["error", "aborted"]
        assert (await client.execute("say 2")).status == "ok"


@pytest.mark.seed(13)
async def test_other_requests_than_executes_are_not_aborted(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        cells = Cells(client, "wait", "fail", "say never")
        cells.add(client.send("is_complete_request", {"code": "x"}))
        cells.add(client.send("kernel_info_request", {}))
        await until_input(cells.sent[0])
        kernel.released.set()
        assert await cells.statuses() == ["ok", "error", "aborted", "unknown", "ok"]


@pytest.mark.seed(13)
@pytest.mark.parametrize("options", [{"stop_on_error": False}, {"silent": True}])
async def test_nothing_is_aborted_when_the_cell_says_so(serving: Serving, options: Any) -> None:
    async with serving(Recorder()) as client:
        failed, following = client.start("fail", **options), client.start("say x")
        assert (await failed.wait()).status == "error"
        assert (await following.wait()).status == "ok"


@pytest.mark.seed(12, 13)
async def test_an_aborted_request_is_answered_whole(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        cells = Cells(client, "fail", "say x")
        assert await cells.statuses() == ["error", "aborted"]
        heard = cells.sent[1]
        assert heard.reply is not None
    assert message_types(heard) == ["status:busy", "status:idle"]
    assert reply_of(heard) == {"status": "aborted"}
    assert heard.reply.metadata == {"status": "aborted", "engine": kernel.ident}


async def queue_up(client: CheckedClient, *codes: str) -> Cells:
    """Queue cells behind one that waits, until it runs."""
    cells = Cells(client, "wait", *codes)
    await until_input(cells.sent[0])
    return cells


@pytest.mark.seed(14)
@pytest.mark.parametrize("shape", ["string", "list", "nothing", "empty"])
async def test_abort_request_hits_queued_requests(serving: Serving, shape: str) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        cells = await queue_up(client, "say 1", "say 2", "say 3")
        ids = [one.msg_id for one in cells.sent]
        msg_ids = {"string": ids[2], "list": [ids[1], ids[3]], "nothing": None, "empty": []}[shape]
        content = {} if msg_ids is None else {"msg_ids": msg_ids}
        assert reply_of(await ask(client, "abort_request", content, channel="control")) == {
            "status": "ok"
        }
        kernel.released.set()
        statuses = await cells.statuses()
    hit = {"string": {2}, "list": {1, 3}, "nothing": {1, 2, 3}, "empty": {1, 2, 3}}[shape]
    assert statuses == ["aborted" if number in hit else "ok" for number in range(4)]


@pytest.mark.seed(14)
async def test_abort_request_cancels_a_running_request_and_names_the_abort(
    serving: Serving,
) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        cells = await queue_up(client, "say after")
        heard = cells.sent[0]
        await ask(client, "abort_request", {"msg_ids": heard.msg_id}, channel="control")
        await heard.wait()
        assert reply_of(heard) == {"status": "aborted"}
        assert message_types(heard) == ["status:busy", "execute_input", "error", "status:idle"]
        assert contents(heard, "error")[0]["ename"] == "AbortedError"
        assert "abort_request" in contents(heard, "error")[0]["evalue"]
        assert await cells.statuses() == ["aborted", "ok"]
    assert kernel.ran == ["wait", "say after"]


@pytest.mark.seed(14, 15)
async def test_an_id_that_was_not_seen_yet_is_aborted_when_it_comes(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client, open_peer(kernel) as peer:
        header = peer.codec.header("execute_request", "later-id")
        await ask(client, "abort_request", {"msg_ids": "later-id"}, channel="control")
        for status in ("aborted", "ok"):
            frames = peer.codec.encode("execute_request", {"code": "say x"}, header=header)
            if status == "ok":
                frames = peer.codec.encode(
                    "execute_request", {"code": "say x", "silent": False}, header=header
                )
            peer.send_frames(frames)
            assert (await peer.receive()).content["status"] == status
    assert kernel.ran == ["say x"]


async def test_ids_to_abort_are_bounded(serving: Serving) -> None:
    kernel = Kernel()
    Application(kernel).remember_aborted({str(number) for number in range(20_000)})
    assert len(kernel.aborted) == 10_000
