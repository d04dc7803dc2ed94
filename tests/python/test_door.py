"""`trikernel.embed`: a door into a program on Trio, AnyIO or asyncio, which goes on meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from jupyter_client.multikernelmanager import MultiKernelManager

import trikernel
from trikernel.client import connect
from trikernel.errors import ConnectionFileError
from trikernel.transport import read_connection_file

from ..processes import ROOT, TIMEOUT, KernelProcess
from ..test_docs import EXAMPLES

PROGRAM = """\
import sys
import {library}
import trikernel

ticks = 0
mistakes = []

class Thing:
    async def answer(self):
        await {library}.sleep(0.01)
        return 42

async def tick():
    global ticks
    try:
        while True:
            await {library}.sleep(0.01)
            ticks += 1
    except {cancelled}:
        raise
    except BaseException as error:
        mistakes.append(error)
        raise

async def serve():
    thing = Thing()
    async with trikernel.embed(namespace=locals(), connection_file=sys.argv[1]):
        print("open", flush=True)
        await {in_thread}(sys.stdin.readline)
    print("left", mistakes, flush=True)
"""
ENDS = {
    "trio": (
        "async def main():\n    async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(tick)\n        await serve()\n"
        "        nursery.cancel_scope.cancel()\ntrio.run(main)\n"
    ),
    "asyncio": (
        "async def main():\n    ticking = asyncio.create_task(tick())\n    await serve()\n"
        "    assert not ticking.done()\n    ticking.cancel()\nasyncio.run(main())\n"
    ),
    "anyio": (
        "async def main():\n    async with anyio.create_task_group() as group:\n"
        "        group.start_soon(tick)\n        await serve()\n"
        "        group.cancel_scope.cancel()\nanyio.run(main, backend='{backend}')\n"
    ),
}


def program(library: str, backend: str = "") -> str:
    names = {
        "trio": ("trio.Cancelled", "trio.to_thread.run_sync"),
        "asyncio": ("asyncio.CancelledError", "asyncio.to_thread"),
        "anyio": ("anyio.get_cancelled_exc_class()", "anyio.to_thread.run_sync"),
    }
    cancelled, in_thread = names[library]
    begin = PROGRAM.format(library=library, cancelled=cancelled, in_thread=in_thread)
    return begin + ENDS[library].format(backend=backend)


@contextmanager
def running(file: Path, connection_file: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", file, connection_file],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = process.stdout.readline()
    assert text or process.stderr is None, process.communicate()[1]
    return text


def shown(kernel: KernelProcess, code: str) -> str:
    reply, outputs = kernel.execute(code)
    assert reply["status"] == "ok", reply
    (data,) = [one["content"]["data"] for one in outputs if "data" in one["content"]]
    return str(data["text/plain"])


def interrupted(kernel: KernelProcess, code: str) -> dict[str, Any]:
    msg_id = kernel.send("print('begun', flush=True)\n" + code)
    kernel.until_begun(msg_id)
    kernel.interrupt("message")
    return kernel.finish(msg_id)[0]


@pytest.mark.skipif(sys.platform == "win32", reason="no interrupt of threads there is tried")
@pytest.mark.parametrize(
    ("library", "backend"),
    [
        ("trio", ""),
        ("asyncio", ""),
        pytest.param("anyio", "trio", marks=pytest.mark.thorough),
        pytest.param("anyio", "asyncio", marks=pytest.mark.thorough),
    ],
)
def test_a_person_comes_in_looks_awaits_interrupts_and_leaves(
    library: str, backend: str, tmp_path: Path
) -> None:
    file, path = tmp_path / "program.py", tmp_path / "door.json"
    file.write_text(program(library, backend))
    with running(file, path) as process:
        assert line(process) == "open\n"
        kernel = KernelProcess(process, path)
        assert shown(kernel, "await thing.answer()") == "42"
        assert shown(kernel, "def same():\n    return thing\nsame() is thing") == "True"
        sleep = f"import {library}\nawait {library}.sleep(99)"
        for code in ("while True: pass", sleep, "while True: print(end='')"):
            assert interrupted(kernel, code)["ename"] == "KeyboardInterrupt"
        main = "__import__('sys').modules['__main__']"
        assert (
            shown(kernel, f"before = {main}.ticks\nawait thing.answer()\n{main}.mistakes") == "[]"
        )
        kernel.execute(f"import {library}\nawait {library}.sleep(0.2)")
        assert shown(kernel, f"{main}.ticks > before") == "True"
        assert kernel.execute("raise SystemExit")[0]["status"] == "error"
        assert kernel.execute("raise KeyboardInterrupt")[0]["status"] == "error"
        kernel.client.stop_channels()  # leaves, and another one comes
        kernel = KernelProcess(process, path)
        assert shown(kernel, "await thing.answer()") == "42"
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert line(process) == "left []\n"
        assert process.wait(TIMEOUT) == 0
        kernel.client.stop_channels()


@pytest.mark.skipif(sys.platform == "win32", reason="no interrupt of threads there is tried")
def test_the_web_server_of_the_docs_serves_while_somebody_looks_in(tmp_path: Path) -> None:
    pytest.importorskip("hypercorn")
    path = tmp_path / "door.json"
    with running(EXAMPLES / "server_with_a_door.py", path) as process:
        url = line(process).strip()
        assert httpx.get(f"{url}/anna").text == "hello anna"
        kernel = KernelProcess(process, path)
        assert shown(kernel, "app.seen") == "Counter({'anna': 1})"
        assert shown(kernel, "await app.greet('door')") == "'hello door'"
        msg_id = kernel.send("import trio\nprint('begun', flush=True)\nawait trio.sleep(99)")
        kernel.until_begun(msg_id)
        assert httpx.get(f"{url}/anna").text == "hello anna"  # beside a cell that awaits
        kernel.interrupt("message")
        assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
        assert interrupted(kernel, "while True: pass")["ename"] == "KeyboardInterrupt"
        assert httpx.get(f"{url}/anna").text == "hello anna"
        assert shown(kernel, "app.seen['anna']") == "3"
        kernel.execute("stop.set()")
        kernel.client.stop_channels()
        assert process.wait(TIMEOUT) == 0


ABANDONED = """\
import sys, threading, anyio, trikernel
async def main():
    for seconds in (0, 0.05, 0.2):
        with anyio.move_on_after(seconds):
            async with trikernel.embed(connection_file=sys.argv[1]):
                await anyio.sleep_forever()
        print([one.name for one in threading.enumerate() if one.name == "trikernel"], flush=True)
anyio.run(main, backend="asyncio")
"""


def test_a_door_that_is_cancelled_as_it_opens_leaves_nothing_behind(tmp_path: Path) -> None:
    file, path = tmp_path / "program.py", tmp_path / "door.json"
    file.write_text(ABANDONED)
    with running(file, path) as process:
        assert [line(process) for _ in range(3)] == ["[]\n"] * 3
        assert process.wait(TIMEOUT) == 0
    assert not path.exists()


@pytest.mark.parametrize(
    "raised", [KeyboardInterrupt, SystemExit, ExceptionGroup("of", [KeyError()])]
)
async def test_what_the_program_raises_comes_out_as_it_is(
    tmp_path: Path, raised: BaseException
) -> None:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - it is looked at below
        async with trikernel.embed(connection_file=tmp_path / "door.json"):
            raise raised
    assert isinstance(caught.value, raised if isinstance(raised, type) else type(raised))


async def open_and_fail(path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    async with trikernel.embed(namespace={"seven": 7}, connection_file=path) as kernel:
        assert signal.getsignal(signal.SIGINT) is before
        assert kernel.connection_file == str(path)
        async with connect(path) as client:
            execution = await client.execute("seven, trikernel.__name__")
            assert execution.result is not None
            assert execution.result["text/plain"] == "(7, 'trikernel')"
        raise ValueError("of the program")


async def test_signals_and_errors_of_the_program_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the program"):
        await open_and_fail(tmp_path / "door.json")


async def test_a_jupyter_server_offers_the_door_among_its_kernels(tmp_path: Path) -> None:
    manager = MultiKernelManager(external_connection_dir=str(tmp_path))
    path = tmp_path / "door.json"
    async with trikernel.embed(connection_file=path):
        (kernel_id,) = manager.list_kernel_ids()
        shell_port = manager.get_connection_info(kernel_id)["shell_port"]
        assert shell_port == read_connection_file(path).shell_port
    assert manager.list_kernel_ids() == []


async def test_who_exits_leaves_the_door_open(tmp_path: Path) -> None:
    path = tmp_path / "door.json"
    async with trikernel.embed(connection_file=path), connect(path) as client:
        reply = (await client.execute("exit")).reply
        assert reply is not None
        assert reply.content["payload"] == [{"source": "ask_exit", "keepkernel": True}]


async def test_a_clients_shutdown_ends_the_kernel_and_not_the_program(tmp_path: Path) -> None:
    path = tmp_path / "door.json"
    async with trikernel.embed(connection_file=path):
        async with connect(path) as client:
            await client.shutdown()
        await trio.sleep(0.01)


async def test_the_modules_own_names_are_shared_where_they_are_given(tmp_path: Path) -> None:
    path = tmp_path / "door.json"
    async with trikernel.embed(namespace=globals(), connection_file=path), connect(path) as client:
        await client.execute("kept_of_the_door = 7")
    assert globals().pop("kept_of_the_door") == 7
    assert globals()["trikernel"] is trikernel
    assert not {"In", "exit", "open", "get_ipython"} & globals().keys()
    async with trikernel.embed(connection_file=path), connect(path) as client:
        await client.execute("kept_of_the_door = 7")
    assert "kept_of_the_door" not in globals()


async def test_a_file_that_cannot_be_used_is_an_error_of_the_program(tmp_path: Path) -> None:
    path = tmp_path / "door.json"
    path.write_text("no")
    door = trikernel.embed(connection_file=path)
    with pytest.raises(ConnectionFileError):
        await door.__aenter__()
