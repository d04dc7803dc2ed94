"""Cells in asyncio, in a process: signals, threads, child processes, sockets, subshells, an end."""

from __future__ import annotations

import contextlib
import queue
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ..processes import KernelProcess, kernel_process

SETUP = """\
%autoawait asyncio
import asyncio, os, signal, sys, time, trio, warnings
warnings.simplefilter("ignore", RuntimeWarning)  # a cell that is stopped may not await what it made
from trikernel.notebook import aio

async def tick(name="tick"):
    while True:
        await asyncio.sleep(0.01)
        counts[name] = counts.get(name, 0) + 1

counts = {}
kept = asyncio.create_task(tick())
"""
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute(SETUP)
        yield kernel
        assert kernel.text("await asyncio.sleep(0.1)\nprint(not kept.done())") == "True\n"


def ends(kernel: KernelProcess, code: str) -> dict[str, Any]:
    """The error by which a cell ends that is interrupted once it has said something."""
    msg_id = kernel.send(code)
    kernel.until_begun(msg_id)
    kernel.interrupt()
    return kernel.finish(msg_id)[0]


def said(outputs: list[dict[str, Any]]) -> str:
    return "".join(one["content"]["text"] for one in outputs if one["msg_type"] == "stream")


SAY = "print('begun', flush=True)\n"
STOPPED = {
    "awaits": "await asyncio.sleep(99)",
    "computes": "while True: pass",
    "computes after it has awaited": "await asyncio.sleep(0)\nwhile True: pass",
    "sleeps": "time.sleep(99)",
    "prints": "await asyncio.sleep(0)\nwhile True: print(end='')",
    "waits for a thread": "await asyncio.to_thread(time.sleep, 2)",
    "waits for its own loop": (
        "asyncio.run_coroutine_threadsafe(asyncio.sleep(0), asyncio.get_running_loop()).result()"
    ),
    "runs another loop": "asyncio.run(asyncio.sleep(99))",
    "awaits Trio": "await trio.sleep(99)",
    "turns": "while True: await asyncio.sleep(0)",
    "gathers": "await asyncio.gather(*[asyncio.sleep(99) for _ in range(100)])",
    "has a group of tasks": (
        "async with asyncio.TaskGroup() as group:\n    group.create_task(asyncio.sleep(99))"
    ),
}


@POSIX
@pytest.mark.parametrize("code", STOPPED.values(), ids=STOPPED)
def test_an_interrupt_ends_an_asyncio_cell(kernel: KernelProcess, code: str) -> None:
    assert ends(kernel, SAY + code)["ename"] == "KeyboardInterrupt"
    assert kernel.text("await asyncio.sleep(0.01)\nprint('next')") == "next\n"


CLEANS_UP = """\
try:
    print("begun", flush=True)
    {body}
finally:
    with trio.move_on_after(0.1):
        await asyncio.sleep(99)
    with trio.CancelScope(shield=True):
        await trio.sleep(0.1)
    await asyncio.sleep(0.1)
    print("cleaned")
"""
CLEANED = {
    "awaits": "await asyncio.sleep(99)",
    "computes": "while True: pass",
    "computes after it has awaited": "await asyncio.sleep(0)\n    while True: pass",
    "awaits in a scope": "with trio.move_on_after(98): await asyncio.sleep(99)",
    "awaits in a nursery": (
        "async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(trio.sleep, 99)\n"
        "        await asyncio.sleep(99)"
    ),
}


@POSIX
@pytest.mark.parametrize("body", CLEANED.values(), ids=CLEANED)
@pytest.mark.parametrize("in_scope", [False, True])
def test_an_interrupted_cell_awaits_both_as_it_cleans_up(
    kernel: KernelProcess, in_scope: bool, body: str
) -> None:
    code = CLEANS_UP.format(body=body)
    if in_scope:
        code = "with trio.CancelScope():\n" + "".join(f"    {one}\n" for one in code.splitlines())
    msg_id = kernel.send(code)
    kernel.until_begun(msg_id)
    kernel.interrupt()
    reply, outputs = kernel.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"
    assert "cleaned\n" in said(outputs)


@POSIX
def test_an_interrupt_that_hits_a_callback_ends_the_cell_that_awaits_beside_it(
    kernel: KernelProcess,
) -> None:
    code = (
        "def spin():\n    print('begun', flush=True)\n    while True: len('')\n"
        "asyncio.get_running_loop().call_later(0.1, spin)\nawait asyncio.sleep(1000)"
    )
    assert ends(kernel, code)["ename"] == "KeyboardInterrupt"
    assert kernel.text("await asyncio.sleep(0.01)\nprint('next')") == "next\n"


BESIDE = {
    "a task, while the cell awaits Trio": (
        "async def spin():\n    print('begun', flush=True)\n    while True: pass\n"
        "asyncio.create_task(spin())\nawait trio.sleep(99)"
    ),
    "the callback of another thread's future": (
        "def spin(future):\n    print('begun', flush=True)\n    while True: pass\n"
        "loop = asyncio.get_running_loop()\n"
        "def later():\n"
        "    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), loop).add_done_callback(spin)\n"
        "import threading\nthreading.Timer(0.1, later).start()\nawait asyncio.sleep(99)"
    ),
}


@POSIX
@pytest.mark.parametrize("code", BESIDE.values(), ids=BESIDE)
def test_an_interrupt_ends_a_cell_beside_which_something_computes(
    kernel: KernelProcess, code: str
) -> None:
    # what the callback of a `concurrent.futures.Future` raises is dropped, so it takes a third one
    msg_id = kernel.send(code)
    kernel.until_begun(msg_id)
    ended: dict[str, Any] = {}
    for _ in range(4):
        kernel.interrupt()
        with contextlib.suppress(queue.Empty):
            ended = kernel.client.get_shell_msg(timeout=1)["content"]
            break
    assert ended["ename"] == "KeyboardInterrupt"
    assert kernel.text("await asyncio.sleep(0.01)\nprint('next')") == "next\n"


@pytest.mark.parametrize("opens", ["scope = trio.CancelScope()", "scope = trio.open_nursery()"])
@pytest.mark.parametrize("then", ["", "await asyncio.sleep(0)\n", "1 / 0\n"])
def test_what_an_asyncio_cell_leaves_open_is_told_as_in_a_trio_cell(
    kernel: KernelProcess, opens: str, then: str
) -> None:
    enter = "scope.__enter__()" if "Cancel" in opens else "await scope.__aenter__()"
    reply, _ = kernel.execute(f"{opens}\n{enter}\n{then}")
    assert reply["ename"] == ("ZeroDivisionError" if "/" in then else "LeftOpenError")
    assert kernel.text("await asyncio.sleep(0.01)\nprint('next')") == "next\n"


def test_a_scope_that_one_statement_enters_and_another_one_leaves(kernel: KernelProcess) -> None:
    code = (
        "scope = trio.move_on_after(99)\nscope.__enter__()\nawait asyncio.sleep(0)\n"
        "print(trio.current_effective_deadline() < trio.current_time() + 100)\n"
        "scope.__exit__(None, None, None)\nprint(trio.current_effective_deadline())"
    )
    assert kernel.text(code) == "True\ninf\n"


def test_a_loop_that_a_thread_closes_is_replaced() -> None:
    with kernel_process() as kernel:
        kernel.execute(SETUP)
        loop = "loop = asyncio.get_running_loop()\n"
        reply, _ = kernel.execute(f"{loop}await asyncio.to_thread(loop.close)")
        assert reply.get("evalue", "") in ("", "Event loop is closed")
        assert kernel.text("await asyncio.sleep(0.01)\nprint('next')").endswith("next\n")


@POSIX
def test_an_interrupt_breaks_a_task_that_spins_and_it_is_told_under_its_cell(
    kernel: KernelProcess,
) -> None:
    msg_id = kernel.send(
        "async def spin():\n    await asyncio.sleep(0.3)\n    print('begun', flush=True)\n"
        "    while True: pass\nspinning = asyncio.create_task(spin())"
    )
    if "begun" not in said(kernel.finish(msg_id)[1]):
        kernel.until_begun(msg_id)
    kernel.interrupt()
    error = kernel.until("error")
    assert error["parent_header"]["msg_id"] == msg_id
    assert error["content"]["ename"] == "KeyboardInterrupt"
    assert kernel.text("print('next')") == "next\n"


CALLED = {
    "from another thread": (
        "threading.Thread(target=loop.call_soon_threadsafe, args=(spin,)).start()"
    ),
    "when a descriptor is readable": "loop.add_reader(reading, spin); os.write(writing, b'x')",
    "when a descriptor is writable": "loop.add_writer(writing, spin)",
    "at a signal": (
        "loop.add_signal_handler(signal.SIGUSR1, spin); os.kill(os.getpid(), signal.SIGUSR1)"
    ),
}
SPINS = """\
import threading
def spin():
    began = time.monotonic()
    while time.monotonic() < began + 0.1: pass  # it has held the loop when it says so
    try:
        print('begun', flush=True)
        while True: len('')
    finally: left.set()
left, loop = asyncio.Event(), asyncio.get_running_loop()
reading, writing = os.pipe()
"""


@POSIX
@pytest.mark.parametrize("by", ["signal", "message"])
@pytest.mark.parametrize("code", CALLED.values(), ids=CALLED)
def test_an_interrupt_breaks_a_callback_that_spins(
    kernel: KernelProcess, code: str, by: str
) -> None:
    msg_id = kernel.send(f"{SPINS}{code}\nawait left.wait()")
    kernel.until_begun(msg_id)
    kernel.interrupt(by)
    # whether the cell is broken, too, depends on whose turn it was to call what is ready
    reply, outputs = kernel.finish(msg_id)
    assert reply.get("ename") in (None, "KeyboardInterrupt"), (reply, outputs)
    assert kernel.text("await asyncio.sleep(0.01)\nprint('next')") == "next\n"


def test_a_reader_that_is_interrupted_at_once_is_called_again(kernel: KernelProcess) -> None:
    code = (
        "called = []\nreading, writing = os.pipe()\nloop = asyncio.get_running_loop()\n"
        "def read():\n    called.append(reading)\n"
        "    if len(called) == 1: raise KeyboardInterrupt\n"
        "    os.read(reading, 1); loop.remove_reader(reading)\n"
        "loop.add_reader(reading, read)\nos.write(writing, b'x')\nawait asyncio.sleep(99)"
    )
    assert kernel.execute(code)[0]["ename"] == "KeyboardInterrupt"
    assert kernel.text("while len(called) < 2: await asyncio.sleep(0)\nprint('read')") == "read\n"


@POSIX
def test_a_child_process_is_run_and_read(kernel: KernelProcess) -> None:
    code = (
        "child = await asyncio.create_subprocess_exec(\n"
        "    sys.executable, '-c', 'print(7)', stdout=asyncio.subprocess.PIPE)\n"
        "out, _ = await child.communicate()\nprint(out, child.returncode)"
    )
    assert kernel.text(code) == "b'7\\n' 0\n"


@POSIX
def test_a_signal_handler_of_the_loop_is_called_and_interrupts_work_after_it(
    kernel: KernelProcess,
) -> None:
    code = (
        "heard = asyncio.Event()\nloop = asyncio.get_running_loop()\n"
        "loop.add_signal_handler(signal.SIGUSR1, heard.set)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\nawait asyncio.wait_for(heard.wait(), 20)\n"
    )
    assert kernel.text(code + "print('heard')") == "heard\n"
    later = "heard.clear()\nos.kill(os.getpid(), signal.SIGUSR1)\nawait heard.wait()\nprint('too')"
    assert kernel.text(later) == "too\n"
    assert ends(kernel, SAY + "await asyncio.sleep(99)")["ename"] == "KeyboardInterrupt"
    assert kernel.text("print(loop.remove_signal_handler(signal.SIGUSR1))") == "True\n"


@POSIX
def test_after_a_signal_handler_of_the_loop_comes_the_one_from_before(
    kernel: KernelProcess,
) -> None:
    """The kernel's own above all, which ends it in an orderly way. Others are not removed."""
    code = (
        "loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)\n"
        "others = loop.remove_signal_handler(signal.SIGTERM)\n"
        "for function in (print, len):\n    loop.add_signal_handler(signal.SIGTERM, function)\n"
        "removed = [loop.remove_signal_handler(signal.SIGTERM) for _ in range(2)]\n"
        "print(others, removed, before is signal.getsignal(signal.SIGTERM), callable(before))"
    )
    assert kernel.text(code) == "False [True, False] True True\n"


def test_what_threads_and_other_threads_callbacks_print_is_their_cells(
    kernel: KernelProcess,
) -> None:
    assert kernel.text("await asyncio.to_thread(print, 'one')") == "one\n"
    code = (
        "import threading\nloop, told = asyncio.get_running_loop(), asyncio.Event()\n"
        "threading.Thread(target=loop.call_soon_threadsafe, args=(told.set,)).start()\n"
        "await asyncio.wait_for(told.wait(), 20)\n"
        "print(await loop.run_in_executor(None, lambda: print('two') or 3))"
    )
    assert kernel.text(code) == "two\n3\n"


def test_servers_clients_and_streams(kernel: KernelProcess) -> None:
    code = (
        "async def serve(reader, writer):\n"
        "    writer.write((await reader.readline()).upper())\n    writer.close()\n"
        "server = await asyncio.start_server(serve, '127.0.0.1', 0)\n"
        "port = server.sockets[0].getsockname()[1]"
    )
    assert kernel.text(code) == ""
    ask = (
        "reader, writer = await asyncio.open_connection('127.0.0.1', port)\n"
        "writer.write(b'hello\\n')\nprint(await reader.read())\nwriter.close()"
    )
    assert kernel.text(ask) == "b'HELLO\\n'\n"
    assert kernel.text("server.close()\nawait server.wait_closed()\nprint('closed')") == "closed\n"


def test_aiohttp_serves_and_asks_and_httpx_too(kernel: KernelProcess) -> None:
    pytest.importorskip("aiohttp")
    code = (
        "import aiohttp, httpx\nfrom aiohttp import web\n"
        "async def answer(request): return web.Response(text='hello')\n"
        "app = web.Application()\napp.router.add_get('/', answer)\n"
        "runner = web.AppRunner(app)\nawait runner.setup()\n"
        "site = web.TCPSite(runner, '127.0.0.1', 0)\nawait site.start()\n"
        "url = 'http://127.0.0.1:%d/' % runner.addresses[0][1]"
    )
    assert kernel.text(code) == ""
    ask = (
        "async with aiohttp.ClientSession() as session:\n"
        "    async with session.get(url) as response:\n        print(await response.text())\n"
        "async with httpx.AsyncClient() as client:\n    print((await client.get(url)).text)"
    )
    assert kernel.text(ask) == "hello\nhello\n"
    in_trio = "%autoawait trio\nasync with httpx.AsyncClient() as client:\n    print((await client.get(url)).text)"  # noqa: E501
    assert kernel.text(in_trio) == "hello\n"
    assert kernel.text("%autoawait asyncio\nawait runner.cleanup()") == ""


def test_get_event_loop_and_ensure_future_as_in_ipywidgets_documentation(
    kernel: KernelProcess,
) -> None:
    code = (
        "%gui asyncio\nfrom ipywidgets import IntSlider\n"
        "def wait_for_change(widget, value):\n"
        "    future = asyncio.Future()\n"
        "    def getvalue(change):\n"
        "        future.set_result(change.new)\n"
        "        widget.unobserve(getvalue, value)\n"
        "    widget.observe(getvalue, value)\n"
        "    return future\n"
        "slider = IntSlider()\n"
        "async def f():\n"
        "    for i in range(2):\n"
        "        x = await wait_for_change(slider, 'value')\n"
        "        print('value', x, flush=True)\n"
        "future = asyncio.ensure_future(f())\n"
        "assert asyncio.get_event_loop() is future.get_loop()"
    )
    msg_id = kernel.send(code)
    assert kernel.finish(msg_id)[0]["status"] == "ok"
    for value in (3, 4):
        kernel.send(f"slider.value = {value}")
        while True:
            stream = kernel.until("stream")
            if stream["parent_header"]["msg_id"] == msg_id:
                break
        assert stream["content"]["text"] == f"value {value}\n"
    assert kernel.text("%autoawait trio\nprint(asyncio.get_event_loop() is future.get_loop())") == (
        "True\n"
    )
    assert kernel.text("asyncio.run(asyncio.sleep(0))\nprint('ran')") == "ran\n"
    assert kernel.text("print(asyncio.get_event_loop() is future.get_loop())") == "True\n"
    assert kernel.text("%autoawait asyncio") == ""


def test_each_subshell_has_a_loop_of_its_own(kernel: KernelProcess) -> None:
    subshell = kernel.ask_control("create_subshell_request")["subshell_id"]

    def in_subshell(code: str) -> tuple[dict[str, Any], str]:
        reply, outputs = kernel.finish(kernel.send_to(subshell, code))
        return reply, said(outputs)

    kernel.execute("mine = asyncio.get_running_loop()")
    code = "theirs = asyncio.get_running_loop()\nawait asyncio.sleep(0.01)\nprint(theirs is mine)"
    assert in_subshell(code)[1] == "False\n"
    blocking = kernel.send("time.sleep(1)")
    began = time.monotonic()
    assert in_subshell("await asyncio.sleep(0.01)\nprint(1)")[1] == "1\n"
    assert time.monotonic() - began < 0.9
    assert kernel.finish(blocking)[0]["status"] == "ok"
    kernel.ask_control("delete_subshell_request", subshell_id=subshell)
    kernel.execute("await asyncio.sleep(0.05)")
    assert kernel.text("print(theirs.is_closed(), mine.is_closed())") == "True False\n"


def test_asyncio_cells_warn_of_nothing() -> None:
    code = (
        f"{SETUP}asyncio.get_running_loop().slow_callback_duration = 1000  # on a busy machine\n"
        "await asyncio.sleep(0.01)\nawait asyncio.to_thread(time.sleep, 0)\nprint('ok')"
    )
    code = code.replace("warnings.simplefilter", "# ")
    with kernel_process(PYTHONWARNINGS="error", PYTHONASYNCIODEBUG="1") as kernel:
        assert kernel.text(code) == "ok\n"
        kernel.execute(
            "async def rest(seconds):\n"
            "    try:\n        await asyncio.sleep(99)\n"
            "    finally:\n        await asyncio.sleep(seconds)\n"
            "        print('rested', seconds, flush=True)\n"
            "resting = [asyncio.create_task(rest(one)) for one in (0.1, 1000)]\n"
            "await asyncio.sleep(0.1)"
        )
        began = time.monotonic()
        kernel.client.shutdown()
        assert kernel.until("stream")["content"]["text"] == "rested 0.1\n"
        assert kernel.process.wait(60) == 0
        assert time.monotonic() - began < 20
        assert kernel.process.stderr is not None
        assert not re.search("Warning|Traceback", kernel.process.stderr.read())


def test_nest_asyncio_runs_the_loop_within_a_cell_of_either_kind() -> None:
    pytest.importorskip("nest_asyncio2")
    run = "asyncio.run(asyncio.sleep(0.01, 'ran'))"
    within = "asyncio.get_event_loop().run_until_complete(asyncio.sleep(0.01, 'ran'))"
    with kernel_process() as kernel:
        kernel.execute("import asyncio, nest_asyncio2\nnest_asyncio2.apply()")
        assert kernel.text(f"print({run}, {within})") == "ran ran\n"
        kernel.execute("%autoawait asyncio")
        kernel.execute("import nest_asyncio2\nnest_asyncio2.apply()")
        assert kernel.text(f"print({run}, {within})") == "ran ran\n"
        assert kernel.text("print(await asyncio.sleep(0.01, 'awaited'))") == "awaited\n"
        assert ends(kernel, SAY + run.replace("0.01", "99"))["ename"] == "KeyboardInterrupt"
        kernel.execute("%autoawait trio")
        assert kernel.text(f"print({run}, {within})") == "ran ran\n"
