"""Tasks and threads that outlive their cell: where they print, how they crash, how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from trikernel.errors import TrikernelError
from trikernel.python import PythonKernel

from ..harness import Peer, open_peer
from ..processes import PATIENCE, kernel_process


@pytest.fixture
async def peer(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Peer]:
    async with open_peer(PythonKernel()) as peer:
        await peer.execute("import trio\nfrom trikernel.notebook import enter, nursery")
        yield peer


@pytest.mark.promise(11)
async def test_a_background_task_prints_under_its_own_cell_long_after_it_ended(peer: Peer) -> None:
    first = await peer.execute(
        "async def later():\n    await trio.sleep(5)\n    print('later')\nnursery.start_soon(later)"
    )
    assert first.text() == ""
    second = await peer.execute("print('now')\nawait trio.sleep(10)\nprint('end')")
    assert second.text() == "now\nend\n"
    assert first.message is not None
    late = [one for one in peer.iopub if one.content.get("text") == "later\n"]
    assert [one.parent_id for one in late] == [first.message.parent_id]


@pytest.mark.promise(13, 17)
async def test_a_crash_is_shown_under_its_cell_and_nothing_else_falls(peer: Peer) -> None:
    first = await peer.execute(
        "ticks = 0\n"
        "async def crash():\n"
        "    await trio.sleep(1)\n"
        "    raise ValueError('in the background')\n"
        "async def tick():\n"
        "    global ticks\n"
        "    while True:\n"
        "        ticks += 1\n"
        "        await trio.sleep(1)\n"
        "nursery.start_soon(tick)\n"
        "nursery.start_soon(crash)"
    )
    second = await peer.execute("await trio.sleep(10)\nprint(ticks > 8)")
    assert second.text() == "True\n"
    assert first.message is not None
    (error,) = [one for one in peer.iopub if one.msg_type == "error"]
    assert error.parent_id == first.message.parent_id
    assert (error.content["ename"], error.content["evalue"]) == ("ValueError", "in the background")
    assert "trikernel" not in "".join(error.content["traceback"])


async def test_start_waits_and_raises_what_comes_before_started(peer: Peer) -> None:
    heard = await peer.execute(
        "async def serve(task_status):\n"
        "    await trio.sleep(1)\n"
        "    task_status.started('ready')\n"
        "    await trio.sleep_forever()\n"
        "print(await nursery.start(serve))\n"
        "async def fail(task_status):\n"
        "    raise KeyError('early')\n"
        "await nursery.start(fail)"
    )
    assert heard.text() == "ready\n"
    assert heard.reply["ename"] == "KeyError"


@pytest.mark.promise(17)
async def test_it_serves_where_trio_takes_a_nursery(peer: Peer) -> None:
    heard = await peer.execute(
        "async def handle(stream): await stream.send_all(b'hi')\n"
        "listeners = await nursery.start(trio.serve_tcp, handle, 0)\n"
        "len(listeners) >= 1"
    )
    assert heard.contents("execute_result")[0]["data"]["text/plain"] == "True"


@pytest.mark.promise(11)
async def test_an_entered_context_manager_stays_open_across_cells_until_the_end() -> None:
    events: list[str] = []

    async def main() -> None:
        async with open_peer(PythonKernel()) as peer:
            peer.server.application.user_ns["events"] = events  # type: ignore[attr-defined]
            heard = await peer.execute(
                "import contextlib\n"
                "from trikernel.notebook import enter\n"
                "@contextlib.asynccontextmanager\n"
                "async def resource():\n"
                "    events.append('open')\n"
                "    try:\n"
                "        yield 'value'\n"
                "    finally:\n"
                "        events.append(f'closed with {marker}')\n"
                "marker = 'the namespace'\n"
                "await enter(resource())"
            )
            assert heard.contents("execute_result")[0]["data"]["text/plain"] == "'value'"
            await peer.execute("events.append('next cell')")

    await main()
    assert events == ["open", "next cell", "closed with the namespace"]


async def test_awaitable_input_lets_other_tasks_go_on(peer: Peer) -> None:
    code = "from trikernel.notebook import input\nprint('hello', await input('who? '))"
    peer.send("execute_request", {"code": code, "allow_stdin": True})
    question = await peer.receive("stdin")
    assert question.content == {"prompt": "who? ", "password": False}
    peer.send("input_reply", {"value": "Ada"}, channel="stdin", parent=question.header)
    assert (await peer.receive()).content["status"] == "ok"


def test_outside_of_a_kernel_it_says_so() -> None:
    import trikernel.notebook

    with pytest.raises(TrikernelError, match="in a cell"):
        _ = trikernel.notebook.nursery


async def test_threads_and_pools_print_under_the_cell_that_started_them(peer: Peer) -> None:
    first = await peer.execute(
        "import threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "go, pool = threading.Event(), ThreadPoolExecutor(1)\n"
        "def wait_and_print():\n"
        "    go.wait()\n"
        "    print('from the first cell')\n"
        "thread = threading.Thread(target=wait_and_print)\n"
        "thread.start()\n"
        "pool.submit(print, 'pool, first').result()"
    )
    assert first.text() == "pool, first\n"
    second = await peer.execute(
        "go.set(); thread.join(); pool.submit(print, 'pool, second').result()"
    )
    assert second.text() == "pool, second\n"
    assert first.message is not None
    (late,) = [one for one in peer.iopub if one.content.get("text") == "from the first cell\n"]
    assert late.parent_id == first.message.parent_id
    await peer.execute("pool.shutdown()")


def test_background_tasks_clean_up_at_shutdown_with_the_namespace_intact() -> None:
    with kernel_process() as kernel:
        kernel.execute(
            "import trio\n"
            "from trikernel.notebook import nursery\n"
            "marker = 'intact'\n"
            "async def wait():\n"
            "    try:\n"
            "        await trio.sleep_forever()\n"
            "    finally:\n"
            "        print(marker, flush=True)\n"
            "nursery.start_soon(wait)"
        )
        kernel.client.shutdown()
        assert kernel.until("stream")["content"]["text"] == "intact\n"
        assert kernel.process.wait(PATIENCE) == 0


def test_an_interrupt_breaks_a_background_task_that_spins_and_not_the_kernel() -> None:
    with kernel_process() as kernel:
        kernel.execute(
            "import trio\n"
            "from trikernel.notebook import nursery\n"
            "async def spin():\n"
            "    await trio.sleep(0.2)\n"
            "    print('spinning', flush=True)\n"
            "    while True: pass\n"
            "nursery.start_soon(spin)"
        )
        kernel.until("stream")
        kernel.interrupt()
        assert kernel.until("error")["content"]["ename"] == "KeyboardInterrupt"
        assert kernel.text("print('alive')") == "alive\n"


async def test_a_cancelled_of_somebody_else_is_a_crash_like_any(peer: Peer) -> None:
    heard = await peer.execute(
        "async def sibling():\n"
        "    await trio.sleep(5)\n"
        "    print('sibling goes on')\n"
        "async def stray():\n"
        "    with trio.move_on_after(0):\n"
        "        try: await trio.sleep(1)\n"
        "        except trio.Cancelled as error:\n"
        "            saved = error\n"
        "            raise\n"
        "    raise saved\n"
        "nursery.start_soon(sibling)\n"
        "nursery.start_soon(stray)\n"
        "await trio.sleep(10)"
    )
    assert heard.text() == "sibling goes on\n"
    (error,) = heard.contents("error")
    assert error["ename"] == "Cancelled"
