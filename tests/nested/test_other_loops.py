"""Whatever starts a loop for itself: pytest-trio, AnyIO, HTTPX, asyncio, threads, forks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..processes import KernelProcess, kernel_process


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute("import anyio, asyncio, os, sniffio, threading, trio")
        yield kernel


def result(kernel: KernelProcess, code: str) -> str:
    """What the last line of a cell gives."""
    reply, outputs = kernel.execute(code)
    assert reply["status"] == "ok", reply
    (shown,) = [one["content"]["data"] for one in outputs if one["msg_type"] == "execute_result"]
    return str(shown["text/plain"])


def test_pytest_runs_tests_of_pytest_trio_in_a_cell(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest, trio\n"
        "@pytest.fixture\n"
        "async def value():\n"
        "    await trio.sleep(0)\n"
        "    yield 5\n"
        "    await trio.sleep(0)\n"
        "async def test_a_fixture(value):\n"
        "    assert value == 5\n"
        "async def test_a_clock(autojump_clock):\n"
        "    await trio.sleep(10 ** 6)\n"
        "async def test_a_nursery(nursery):\n"
        "    nursery.start_soon(trio.sleep_forever)\n"
        "async def test_that_fails():\n"
        "    assert 1 == 2\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    options = ["-q", "-p", "no:cacheprovider", "--color=no", f"--rootdir={tmp_path}", str(tmp_path)]
    with kernel_process() as kernel:
        text = kernel.text(f"import pytest, trio\nprint(int(pytest.main({options!r})))")
        assert "1 failed, 3 passed" in text
        assert text.splitlines()[-1] == "1"
        assert kernel.text("await trio.sleep(0)\nprint('on')") == "on\n"


ASK = """
async def ask():
    await anyio.sleep(0.001)
    await anyio.to_thread.run_sync(int)
    return sniffio.current_async_library()
"""


@pytest.mark.parametrize(
    ("call", "library"),
    [
        ("anyio.run(ask)", "asyncio"),
        ("anyio.run(ask, backend='trio')", "trio"),
        ("asyncio.run(ask())", "asyncio"),
        ("trio.run(ask)", "trio"),
        ("await ask()", "trio"),
    ],
)
def test_each_loop_is_known_by_its_name(kernel: KernelProcess, call: str, library: str) -> None:
    kernel.execute(ASK)
    assert result(kernel, call) == repr(library)
    assert result(kernel, "await ask(), sniffio.current_async_library()") == "('trio', 'trio')"


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [
        ("asyncio.run(f({}))", "trio.run(f, {})", "trio"),
        ("trio.run(f, {})", "asyncio.run(f({}))", "asyncio"),
        ("trio.run(f, {})", "anyio.run(f, {})", "asyncio"),
        ("trio.run(f, {})", "trio.run(f, {})", "trio"),
    ],
)
def test_a_loop_in_a_loop_in_a_cell(
    kernel: KernelProcess, first: str, second: str, third: str
) -> None:
    """Each calls ``f`` with what it has to call in turn, and tells what it is before and after."""
    kernel.execute("async def f(call):\n    name = sniffio.current_async_library\n"
                   "    return name(), call(), name()")  # fmt: skip
    inner = second.format("sniffio.current_async_library")
    outer = "asyncio" if first.startswith("asyncio") else "trio"
    expected = (outer, (third, third, third), outer)
    assert result(kernel, first.format(f"lambda: {inner}")) == repr(expected)


def test_httpx_asks_over_the_loop_that_runs(kernel: KernelProcess) -> None:
    code = """
import http.server, httpx

class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers()
        self.wfile.write(b"hi")
    def log_message(self, *args): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"

async def get():
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(url)).text

def sync_get():  # as libraries with a synchronous front do it
    return anyio.run(get)
"""
    kernel.execute(code)
    calls = "asyncio.run(get()), trio.run(get), sync_get(), await get()"
    assert result(kernel, calls) == "('hi', 'hi', 'hi', 'hi')"
    kernel.execute("server.shutdown(); server.server_close()")


def test_a_library_that_has_imported_run_by_name_gets_the_same(kernel: KernelProcess) -> None:
    code = "from trio import run\nasync def five(): return 5\nrun(five), run is trio.run"
    assert result(kernel, code) == "(5, True)"


def test_a_run_in_a_thread_is_what_it_is_anywhere(kernel: KernelProcess) -> None:
    code = """
async def name():
    return threading.current_thread() is threading.main_thread()
found = []
thread = threading.Thread(target=lambda: found.append(trio.run(name)))
thread.start(); thread.join()
found + [await trio.to_thread.run_sync(trio.run, name), trio.run(name)]
"""
    assert result(kernel, code) == "[False, False, True]"


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_process_that_a_cell_forks_may_run_trio(kernel: KernelProcess) -> None:
    code = """
import multiprocessing
def work(number):
    async def twice():
        await trio.sleep(0.001)
        return 2 * number
    return trio.run(twice)
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map(work, range(3))
found
"""
    assert result(kernel, code) == "[0, 2, 4]"


def test_guest_mode_is_left_alone(kernel: KernelProcess) -> None:
    code = (
        "trio.lowlevel.start_guest_run(trio.sleep, 0, run_sync_soon_threadsafe=print, "
        "done_callback=print)"
    )
    reply, _ = kernel.execute(code)
    assert "inside a run()" in reply["evalue"]
