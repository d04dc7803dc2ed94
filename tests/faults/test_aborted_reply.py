"""A cell that did not run has no number: frontends would show it as if it had run."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from trikernel.testing import CheckedClient

from ..cells import Cells, ask, reply_of, served, until_input
from ..conftest import Serving
from ..kernel.kernels import Recorder

ABORTED = {"status": "aborted"}


async def replies_of(client: CheckedClient, *codes: str) -> list[dict[str, Any]]:
    """Send cells at once; the contents of their replies."""
    cells = Cells(client, *codes)
    await cells.statuses()
    return [reply_of(one) for one in cells.sent]


async def test_a_queued_cell_that_an_error_aborts_gets_no_number(serving: Serving) -> None:
    async with serving(Recorder()) as client:
        failed, aborted = await replies_of(client, "fail", "say x")
        assert failed["execution_count"] == 1
        assert aborted == ABORTED


async def test_neither_does_one_that_is_aborted_by_its_id_while_it_waits(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        running = client.start("wait")
        queued = client.start("say x")
        await ask(client, "abort_request", {"msg_ids": [queued.msg_id]}, channel="control")
        kernel.released.set()
        assert reply_of(await running.wait())["execution_count"] == 1
        assert reply_of(await queued.wait()) == ABORTED


async def test_neither_does_one_that_is_aborted_as_it_runs(serving: Serving) -> None:
    async with serving(Recorder()) as client:
        running = client.start("wait")
        await until_input(running)
        await ask(client, "abort_request", {"msg_ids": [running.msg_id]}, channel="control")
        assert reply_of(await running.wait()) == ABORTED


async def test_neither_do_those_that_a_shutdown_finds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served(Recorder()) as client:
        cells = [client.start(code) for code in ("wait", "say x")]
        await until_input(cells[0])
        client.send("shutdown_request", {"restart": False}, channel="control")
        assert [reply_of(await one.wait()) for one in cells] == [ABORTED] * 2


async def test_an_error_has_its_number_as_before(serving: Serving) -> None:
    async with serving(Recorder()) as client:
        await client.execute("say x")
        assert reply_of(await client.execute("fail"))["execution_count"] == 2


@pytest.mark.parametrize("status", ["aborted", "abort"])
async def test_what_an_author_answers_himself_is_left_alone(serving: Serving, status: str) -> None:
    class Own(Recorder):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            return {"status": status, "execution_count": 7}

    async with serving(Own()) as client:
        assert (await client.execute("x")).status == "aborted"
