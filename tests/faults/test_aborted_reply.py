"""A cell that did not run has no number: frontends would show it as if it had run."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from ..conftest import Serving
from ..harness import Heard, Peer, open_peer
from ..kernel.kernels import Recorder

ABORTED = {"status": "aborted"}


async def replies_of(peer: Peer, *codes: str) -> list[dict[str, Any]]:
    """Send cells at once; the contents of their replies."""
    ids = [peer.send("execute_request", {"code": code}) for code in codes]
    replies = [await peer.receive() for _ in ids]
    assert [one.parent_id for one in replies] == ids
    return [dict(one.content) for one in replies]


async def test_a_queued_cell_that_an_error_aborts_gets_no_number(serving: Serving) -> None:
    async with serving(Recorder()) as peer:
        failed, aborted = await replies_of(peer, "fail", "say x")
        assert failed["execution_count"] == 1
        assert aborted == ABORTED


async def test_neither_does_one_that_is_aborted_by_its_id_while_it_waits(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as peer:
        running = peer.send("execute_request", {"code": "wait"})
        queued = peer.send("execute_request", {"code": "say x"})
        await peer.ask("abort_request", {"msg_ids": [queued]}, channel="control")
        kernel.released.set()
        contents = {one.parent_id: one.content for one in [await peer.receive() for _ in range(2)]}
        assert contents[running]["execution_count"] == 1
        assert contents[queued] == ABORTED


async def test_neither_does_one_that_is_aborted_as_it_runs(serving: Serving) -> None:
    async with serving(Recorder()) as peer:
        running = peer.send("execute_request", {"code": "wait"})
        while (await peer.hear()).msg_type != "execute_input":
            continue
        await peer.ask("abort_request", {"msg_ids": [running]}, channel="control")
        heard = Heard(await peer.receive(), await peer.until_idle(running))
        assert heard.reply == ABORTED


async def test_neither_do_those_that_a_shutdown_finds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_peer(Recorder()) as peer:
        for code in ("wait", "say x"):
            peer.send("execute_request", {"code": code})
        while (await peer.hear()).msg_type != "execute_input":
            continue
        peer.send("shutdown_request", {"restart": False}, channel="control")
        assert [dict((await peer.receive()).content) for _ in range(2)] == [ABORTED] * 2


async def test_an_error_has_its_number_as_before(serving: Serving) -> None:
    async with serving(Recorder()) as peer:
        await peer.execute("say x")
        assert (await peer.execute("fail")).reply["execution_count"] == 2


@pytest.mark.parametrize("status", ["aborted", "abort"])
async def test_what_an_author_answers_himself_is_left_alone(serving: Serving, status: str) -> None:
    class Own(Recorder):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            return {"status": status, "execution_count": 7}

    async with serving(Own()) as peer:
        assert (await peer.execute("x")).reply["status"] == "aborted"
