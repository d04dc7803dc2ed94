"""Deadlines: by setting, by the request's metadata, by ``%%timeout``."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from trikernel.python import PythonKernel

from ..conftest import Serving
from ..harness import Heard, Peer, open_peer
from ..processes import kernel_process
from .kernels import Recorder


async def timed(peer: Peer, code: str, **metadata: Any) -> tuple[Heard, float]:
    """What a cell brought, and the (virtual) seconds it took."""
    begun = trio.current_time()
    content = {"code": code, "stop_on_error": False}
    heard = await peer.ask("execute_request", content, metadata=metadata)
    return heard, trio.current_time() - begun


async def test_the_setting_stops_a_cell_and_says_that_it_was_the_deadline(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_peer(Recorder(cell_timeout=5.0)) as peer:
        heard, seconds = await timed(peer, "wait")
        assert seconds == pytest.approx(5.0, abs=0.2)
        assert heard.reply["ename"] == heard.contents("error")[0]["ename"] == "DeadlineExceeded"
        heard, seconds = await timed(peer, "sleep 4")
        assert heard.reply["status"] == "ok"


async def test_the_metadata_of_a_request_says_otherwise(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_peer(Recorder(cell_timeout=5.0)) as peer:
        _, seconds = await timed(peer, "wait", **{"trikernel.timeout": 2})
        assert seconds == pytest.approx(2.0, abs=0.2)
        heard, _ = await timed(peer, "sleep 20", **{"trikernel.timeout": 0})
        assert heard.reply["status"] == "ok"
        heard, _ = await timed(peer, "say x", **{"trikernel.timeout": "soon"})
        assert heard.reply["ename"] == "ContentError"


async def test_a_finished_cell_leaves_no_timer(autojump_clock: trio.testing.MockClock) -> None:
    async with open_peer(Recorder(cell_timeout=1000.0)) as peer:
        await timed(peer, "say x")
        await trio.sleep(1)  # the text of the cell has its own timer, for a moment
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline > 1e6


async def test_the_magic_stops_a_nursery_and_its_children_clean_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_peer(PythonKernel()) as peer:
        heard, seconds = await timed(
            peer,
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
        assert heard.text() == "cleaned\ncleaned\n"
        assert heard.reply["ename"] == heard.contents("error")[0]["ename"] == "DeadlineExceeded"
        assert (await peer.execute("%%timeout 3\n1 + 1")).reply["status"] == "ok"


@pytest.mark.parametrize("line", ["%%timeout", "%%timeout soon", "%%timeout -1", "%%timeout nan"])
async def test_the_magic_wants_a_number(autojump_clock: trio.testing.MockClock, line: str) -> None:
    async with open_peer(PythonKernel()) as peer:
        heard, _ = await timed(peer, f"{line}\n1")
        assert heard.reply["ename"] == "UsageError"
        assert "%%timeout" in heard.reply["evalue"]


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

    async with serving(Asking(cell_timeout=0.1)) as peer:
        heard = await peer.execute("x", allow_stdin=True)
    assert heard.reply["ename"] == "DeadlineExceeded"
