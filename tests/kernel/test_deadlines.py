"""Deadlines: by setting, by the request's metadata, by ``%%timeout``."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from trikernel.client import Execution
from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient

from ..cells import ask, contents, reply_of, served
from ..conftest import Serving
from ..processes import kernel_process
from .kernels import Recorder


async def timed(client: CheckedClient, code: str, **metadata: Any) -> tuple[Execution, float]:
    """What a cell brought, and the (virtual) seconds it took."""
    begun = trio.current_time()
    heard = await client.execute(code, stop_on_error=False, metadata=metadata)
    return heard, trio.current_time() - begun


async def test_the_setting_stops_a_cell_and_says_that_it_was_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served(Recorder(cell_timeout=5.0)) as client:
        heard, seconds = await timed(client, "wait")
        assert seconds == pytest.approx(5.0, abs=0.2)
        assert (
            reply_of(heard)["ename"] == contents(heard, "error")[0]["ename"] == "DeadlineExceeded"
        )
        heard, seconds = await timed(client, "sleep 4")
        assert heard.status == "ok"


async def test_the_metadata_of_a_request_says_otherwise(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served(Recorder(cell_timeout=5.0)) as client:
        _, seconds = await timed(client, "wait", **{"trikernel.timeout": 2})
        assert seconds == pytest.approx(2.0, abs=0.2)
        heard, _ = await timed(client, "sleep 20", **{"trikernel.timeout": 0})
        assert heard.status == "ok"
        heard, _ = await timed(client, "say x", **{"trikernel.timeout": "soon"})
        assert reply_of(heard)["ename"] == "ContentError"


async def test_a_finished_cell_leaves_no_timer(autojump_clock: trio.testing.MockClock) -> None:
    async with served(Recorder(cell_timeout=1000.0)) as client:
        await timed(client, "say x")
        await trio.sleep(1)  # the text of the cell has its own timer, for a moment
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline > 1e6


async def test_the_magic_stops_a_nursery_and_its_children_clean_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served(PythonKernel()) as client:
        heard, seconds = await timed(
            client,
            "%%timeout 3\n"
            "import trio\n"
            "async def child():\n"
            "    try:\n"
            "        await trio.sleep_forever()\n"
            "    finally:\n"
            "        print('cleaned')\n"
            "async with trio.open_nursery() as nursery:\n"
            "    nursery.start_soon(child)\n"
            "    nursery.start_soon(child)",
        )
        assert seconds == pytest.approx(3.0, abs=0.2)
        assert heard.stdout == "cleaned\ncleaned\n"
        assert (
            reply_of(heard)["ename"] == contents(heard, "error")[0]["ename"] == "DeadlineExceeded"
        )
        assert (await client.execute("%%timeout 3\n1 + 1")).status == "ok"


@pytest.mark.parametrize("line", ["%%timeout", "%%timeout soon", "%%timeout -1", "%%timeout nan"])
async def test_the_magic_wants_a_number(autojump_clock: trio.testing.MockClock, line: str) -> None:
    async with served(PythonKernel()) as client:
        heard, _ = await timed(client, f"{line}\n1")
        assert reply_of(heard)["ename"] == "UsageError"
        assert "%%timeout" in reply_of(heard)["evalue"]


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(100)"])
def test_synchronous_code_is_stopped_too(code: str) -> None:
    with kernel_process() as kernel:
        reply, outputs = kernel.execute(f"%%timeout 0.2\n{code}")
        assert reply["ename"] == "DeadlineExceeded"
        errors = [one["content"]["ename"] for one in outputs if one["msg_type"] == "error"]
        assert errors == ["DeadlineExceeded"]
        assert kernel.text("print('alive')") == "alive\n"


async def test_a_deadline_ends_a_question(serving: Serving) -> None:
    class Asking(Recorder):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            await self.async_input("name? ")

    async with serving(Asking(cell_timeout=0.1)) as client:
        heard = await ask(client, "execute_request", {"code": "x", "allow_stdin": True})
    assert reply_of(heard)["ename"] == "DeadlineExceeded"
