"""Tasks and threads that outlive their cell: where they print, how they crash, how they end."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trikernel.errors import TrikernelError
from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient, open_memory_client

from ..processes import TIMEOUT, kernel_process


@pytest.fixture
async def client(
    kernel_client: CheckedClient, autojump_clock: trio.testing.MockClock
) -> CheckedClient:
    await kernel_client.expect("import trio\nfrom trikernel.notebook import enter, nursery")
    return kernel_client


@pytest.mark.promise(11)
async def test_a_background_task_prints_under_its_own_cell_long_after_it_ended(
    client: CheckedClient,
) -> None:
    first = await client.expect(
        "async def later():\n"
        "    await trio.sleep(5)\n"
        "    print('later')\n"
        "nursery.start_soon(later)",
        stdout="",
    )
    await client.expect("print('now')\nawait trio.sleep(10)\nprint('end')", stdout="now\nend")
    assert [one.content["text"] for one in first.late] == ["later\n"]


@pytest.mark.promise(13, 17)
async def test_a_crash_is_shown_under_its_cell_and_nothing_else_falls(
    client: CheckedClient,
) -> None:
    first = await client.expect(
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
    await client.expect("await trio.sleep(10)\nprint(ticks > 8)", stdout="True")
    assert [type(one) for one in client.pop_background_errors()] == [ValueError]
    (error,) = first.late
    assert (error.content["ename"], error.content["evalue"]) == ("ValueError", "in the background")
    assert "trikernel" not in "".join(error.content["traceback"])


async def test_start_waits_and_raises_what_comes_before_started(client: CheckedClient) -> None:
    await client.expect(
        "async def serve(task_status):\n"
        "    await trio.sleep(1)\n"
        "    task_status.started('ready')\n"
        "    await trio.sleep_forever()\n"
        "print(await nursery.start(serve))\n"
        "async def fail(task_status):\n"
        "    raise KeyError('early')\n"
        "await nursery.start(fail)",
        stdout="ready",
        error="KeyError: 'early'",
    )


@pytest.mark.promise(17)
async def test_it_serves_where_trio_takes_a_nursery(client: CheckedClient) -> None:
    await client.expect(
        "async def handle(stream): await stream.send_all(b'hi')\n"
        "listeners = await nursery.start(trio.serve_tcp, handle, 0)\n"
        "len(listeners) >= 1",
        result=True,
    )


@pytest.mark.promise(11)
async def test_an_entered_context_manager_stays_open_across_cells_until_the_end() -> None:
    events: list[str] = []

    async def main() -> None:
        kernel = PythonKernel()
        async with open_memory_client(kernel) as client:
            kernel.user_ns["events"] = events
            await client.expect(
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
                "await enter(resource())",
                result="'value'",
            )
            await client.expect("events.append('next cell')")

    await main()
    assert events == ["open", "next cell", "closed with the namespace"]


async def test_awaitable_input_lets_other_tasks_go_on(client: CheckedClient) -> None:
    async def answer(prompt: str, password: bool) -> str:
        assert (prompt, password) == ("who? ", False)
        await trio.sleep(5)
        return "Ada"

    await client.expect(
        "from trikernel.notebook import input\n"
        "async def ask(): print('hello', await input('who? '))\n"
        "async with trio.open_nursery() as asking:\n"
        "    asking.start_soon(ask)\n"
        "    await trio.sleep(1)\n"
        "    print('meanwhile')",
        on_input=answer,
        stdout="meanwhile\nhello Ada",
    )


def test_outside_of_a_kernel_it_says_so() -> None:
    import trikernel.notebook

    with pytest.raises(TrikernelError, match="in a cell"):
        _ = trikernel.notebook.nursery


async def test_threads_and_pools_print_under_the_cell_that_started_them(
    client: CheckedClient,
) -> None:
    first = await client.expect(
        "import threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "go, pool = threading.Event(), ThreadPoolExecutor(1)\n"
        "def wait_and_print():\n"
        "    go.wait()\n"
        "    print('from the first cell')\n"
        "thread = threading.Thread(target=wait_and_print)\n"
        "thread.start()\n"
        "pool.submit(print, 'pool, first').result()",
        stdout="pool, first",
    )
    await client.expect(
        "go.set(); thread.join(); pool.submit(print, 'pool, second').result()",
        stdout="pool, second",
    )
    assert [one.content["text"] for one in first.late] == ["from the first cell\n"]
    await client.expect("pool.shutdown()")


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
        assert kernel.process.wait(TIMEOUT) == 0


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


async def test_a_cancelled_of_somebody_else_is_a_crash_like_any(client: CheckedClient) -> None:
    execution = await client.expect(
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
        "await trio.sleep(10)",
        stdout="sibling goes on",
    )
    assert [type(one) for one in client.pop_background_errors()] == [trio.Cancelled]
    (error,) = [one for one in execution.outputs if one["output_type"] == "error"]
    assert error["ename"] == "Cancelled"
