"""Each block of code on a page runs: as part of a file that a test runs, or here.

A block in Python is found, part by part, in a file of docs/examples or of the tests; or it is run
here, in cells of a Python kernel, with what `AROUND` puts around it. Without an entry there it is
run as it stands. ``console`` is typed by `test_docs_commands`, ``text`` is output, ``toml`` part of
a file; a command that cannot be typed as it stands names the test that runs its like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import attrs
import pytest
import trio

from trikernel.python import PythonKernel
from trikernel.testing import open_memory_client

from .processes import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = ROOT / "docs" / "examples"
FENCE = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)^\1$", re.S | re.M)
LANGUAGES = {"python", "console", "sh", "toml", "text", "{eval-rst}"}
LIKE = {
    "ipcluster start -n 4 --engines=trio": "engine/test_launcher.py",
    "trikernel install --wrap bash": "cli/test_wrap.py",
    "python -m trikernel.compat bash_kernel -f FILE": "compat/test_process.py",
    "python3 -m venv .venv": "../.ci/run",
    ".venv/bin/pip install -q '.[test]'": "../.ci/run",
}


ELSEWHERE: dict[tuple[str, str], str] = {
    ("docs/how-to/gui-windows.md", "%gui qt"): "python/test_windows.py",
    ("docs/how-to/gui-windows.md", "import trio"): "python/test_windows.py",
    ("docs/how-to/asyncio-in-a-notebook.md", "%%asyncio"): "python/test_asyncio_cells.py",
}
"""Blocks that need what is not everywhere, a display for example: by page and beginning, the test
that does the like, where there is what it needs."""


@attrs.frozen
class Around:
    """What is run before a block, in its place (``BLOCK`` is the block), and after it."""

    before: str = ""
    cell: str = "BLOCK"
    after: str = ""


KIT = """\
import pytest
import trio
import trikernel
from trikernel.testing import open_memory_client
"""
CONFIG = Around(
    "from traitlets.config import Config\nc = Config()\nget_config = lambda: c", "BLOCK"
)
METHOD = "class Mine(trikernel.Kernel):\n    child = CHILD\n\nBLOCK"

AROUND: dict[tuple[str, str], Around] = {
    ("README.md", "import trikernel"): Around(
        "__name__ = 'echo_kernel'",
        after="""\
async with open_memory_client(EchoKernel()) as client:
    await client.expect("hello", stdout="hello")
""",
    ),
    ("README.md", "async def test_mine"): Around(
        after="""\
async with open_memory_client(EchoKernel()) as client:
    await test_mine(client, None)
"""
    ),
    ("docs/how-to/asyncio-in-a-notebook.md", "from trikernel.notebook"): Around(
        """\
import asyncio
class Connection:
    async def fetch(self, query):
        await asyncio.sleep(0)
        return [1]
class Browser:
    async def new_page(self):
        await asyncio.sleep(0)
        return "page"
connection, browser = Connection(), Browser()
""",
        after="assert (rows, page) == ([1], 'page')",
    ),
    ("docs/how-to/see-what-your-tasks-do.md", "%%timeline"): Around(
        "async def fetch(number): await trio.sleep(0)"
    ),
    ("docs/how-to/see-what-your-tasks-do.md", "with kernel.record()"): Around(
        "kernel = trikernel.current_request.get().kernel"
    ),
    ("docs/how-to/background-tasks.md", "from trikernel.notebook"): Around(
        """\
from contextlib import asynccontextmanager
async def watch(folder): await trio.sleep_forever()
async def serve(task_status):
    task_status.started(8000)
    await trio.sleep_forever()
@asynccontextmanager
async def open_client(): yield "open"
""",
        after="assert (port, client) == (8000, 'open')\nnursery.cancel_scope.cancel()",
    ),
    ("docs/how-to/configure-ipython.md", "# ~/.ipython"): attrs.evolve(
        CONFIG, after="assert c.InteractiveShellApp.extensions == ['autoreload']"
    ),
    ("docs/how-to/encrypt-a-connection.md", "c.MappingKernelManager"): CONFIG,
    ("docs/how-to/coming-from-ipykernel.md", "c.MultiKernelManager"): CONFIG,
    ("docs/how-to/run-on-a-cluster.md", "import sys"): CONFIG,
    ("docs/how-to/deadlines.md", "%%timeout 10"): Around(
        "everything = []\nasync def crawl(what): await trio.sleep(0)"
    ),
    ("docs/how-to/embed-a-kernel.md", "async with trikernel.embed"): Around(
        "class trikernel:\n    @staticmethod\n    def embed(namespace):\n"
        "        return trio.open_nursery()  # a kernel in a cell's own loop is no program's",
        after="import trikernel",
    ),
    ("docs/how-to/embed-a-kernel.md", "from trikernel.transport"): Around(
        "import pathlib, tempfile\nfrom trikernel.client import connect",
        after="""\
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "connection.json")
    async with trio.open_nursery() as group:
        group.start_soon(serve_over_sockets, trikernel.Kernel(), path)
        with trio.fail_after(30):
            while not path.exists():
                await trio.sleep(0.01)
        async with connect(path) as client:
            info = await client.kernel_info()
        assert info.content["implementation"] == "trikernel"
        group.cancel_scope.cancel()
""",
    ),
    ("docs/how-to/run-notebooks-in-ci.md", "from trikernel.client"): Around(
        """\
import os, tempfile, nbformat
old = os.getcwd()
folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)
cell = nbformat.v4.new_code_cell("year = 2025", metadata={"tags": ["parameters"]})
nbformat.write(nbformat.v4.new_notebook(cells=[cell]), "report.ipynb")
""",
        after="""\
assert notebook.cells[1].source.endswith("year = 2026")
os.chdir(old)
folder.cleanup()
""",
    ),
    ("docs/how-to/run-untrusted-code.md", "async with open_service"): Around(
        f"""\
import sys
sys.path.append({str(EXAMPLES / "code_interpreter")!r})
from code_interpreter import Limits, open_service
sys.path.pop()
""",
        after="assert (answer.status, answer.text) == ('ok', '45\\n')",
    ),
    ("docs/how-to/settings.md", "trikernel.run"): Around(
        """\
from types import SimpleNamespace
class MyKernel(trikernel.Kernel): ...
ran = []
trikernel = SimpleNamespace(run=ran.append)
""",
        after="assert ran[0].stop_on_error_timeout == 0.5",
    ),
    ("docs/how-to/subshells.md", "class Mine"): Around(after="assert Mine().has_subshells"),
    ("docs/reference/kernel.md", "self.send_response"): Around(
        """\
class Sending(trikernel.Kernel):
    def do_execute(self, code, silent, **options):
        exec(code, {"self": self, "png": b"a picture"})
""",
        cell="code = CODE",
        after="""\
async with open_memory_client(Sending()) as client:
    execution = await client.expect(code)
    kinds = [one.msg_type for one in execution.messages]
    assert {"stream", "display_data", "execute_result", "clear_output"} <= set(kinds)
""",
    ),
    ("docs/reference/kernel.md", "class MyKernel(trikernel.Kernel):\n    @"): Around(
        after="""\
kernel = MyKernel()
kernel.bytes = 5
async with open_memory_client(kernel) as client:
    reply = await client.request("memory_request", channel="control")
    assert reply.content == {"status": "ok", "bytes": 5}
"""
    ),
    ("docs/reference/kernel.md", "class MyKernel(trikernel.Kernel):\n    def"): Around(
        after="""\
async with open_memory_client(MyKernel()) as client:
    message = await client.comm_open("plot").receive()
    assert message.content["data"] == {"ready": True}
"""
    ),
    ("docs/tutorial/a-kernel-in-20-lines.md", "    async def do_execute"): Around(
        "ran = []\nasync def run_remotely(code): ran.append(code)",
        METHOD.replace("CHILD", "None"),
        """\
async with open_memory_client(Mine()) as client:
    await client.expect("hello")
assert ran == ["hello"]
""",
    ),
    ("docs/tutorial/a-kernel-in-20-lines.md", "    def do_execute"): Around(
        """\
class Child:
    told = False
    def run(self, code): raise KeyboardInterrupt
    def send_interrupt(self): self.told = True
""",
        METHOD.replace("CHILD", "Child()"),
        """\
async with open_memory_client(Mine()) as client:
    execution = await client.execute("hello")
    assert execution.status == "aborted"
assert Mine.child.told
""",
    ),
    ("docs/tutorial/a-kernel-in-20-lines.md", "class ShellKernel"): Around(
        after="assert (ShellKernel().prompt, ShellKernel(prompt='> ').prompt) == ('$ ', '> ')"
    ),
    ("docs/tutorial/test-your-kernel.md", "    execution = kernel_client"): Around(
        f"""\
import sys
sys.path.append({str(EXAMPLES / "countdown")!r})
from countdown_kernel import CountdownKernel
sys.path.pop()
""",
        "async with open_memory_client(CountdownKernel()) as kernel_client:\nBLOCK",
        "assert execution.stdout == '100\\n99\\naborted\\n'",
    ),
}
"""By page, and how the block begins."""


@attrs.frozen
class Block:
    """One block of a page."""

    page: str
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        yield Block(page.relative_to(ROOT).as_posix(), found[2], found[3])


def lines_of(text: str) -> str:
    """Its lines, however they are indented."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


@cache
def run_elsewhere() -> list[str]:
    """The files that tests run, and the tests."""
    found = [*EXAMPLES.rglob("*.py"), *(ROOT / "tests").rglob("test_*.py")]
    return [lines_of(one.read_text("utf-8")) for one in found if one != Path(__file__)]


def is_in_a_file(block: Block) -> bool:
    """Whether each of its parts is. A part ends with two empty lines, as in a module."""
    parts = [lines_of(part) for part in block.text.split("\n\n\n")]
    return all(any(part in file for file in run_elsewhere()) for part in parts if part)


def is_elsewhere(block: Block) -> bool:
    found = [
        test
        for (page, beginning), test in ELSEWHERE.items()
        if page == block.page and block.text.startswith(beginning)
    ]
    return any((ROOT / "tests" / test).exists() for test in found)


def to_be_run() -> dict[str, list[Block]]:
    """The blocks that are in no such file, by page."""
    found: dict[str, list[Block]] = {}
    for page in PAGES:
        for block in blocks(page):
            if block.language != "python" or is_elsewhere(block):
                continue
            if not is_in_a_file(block):
                found.setdefault(block.page, []).append(block)
    return found


TO_BE_RUN = to_be_run()


def around(block: Block) -> Around:
    for (page, beginning), what in AROUND.items():
        if page == block.page and block.text.startswith(beginning):
            return what
    return Around()


LONG = {"docs/how-to/run-untrusted-code.md"}  # a process, which the example's own tests have, too


@pytest.mark.parametrize(
    "page",
    [pytest.param(one, marks=pytest.mark.thorough if one in LONG else ()) for one in TO_BE_RUN],
)
async def test_the_code_of_a_page_runs(page: str) -> None:
    with trio.fail_after(120):
        async with open_memory_client(PythonKernel()) as client:
            await client.expect(KIT)
            for block in TO_BE_RUN[page]:
                what = around(block)
                cell = what.cell.replace("BLOCK", block.text).replace("CODE", repr(block.text))
                for code in filter(None, (what.before, cell, what.after)):
                    await client.expect(code)


def test_what_stands_around_a_block_is_of_a_block_that_is_there() -> None:
    texts = {(block.page, block.text) for page in PAGES for block in blocks(page)}
    for page, beginning in (*AROUND, *ELSEWHERE):
        begun = [text for one, text in texts if one == page and text.startswith(beginning)]
        assert begun or not (ROOT / page).exists(), (page, beginning)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, block.text
        if block.language == "sh":
            (test,) = {test for line, test in LIKE.items() if block.text.startswith(line)}
            assert (ROOT / "tests" / test).exists()
        if block.language == "toml":
            files = [*EXAMPLES.rglob("*.toml")]
            assert any(lines_of(block.text) in lines_of(one.read_text("utf-8")) for one in files)
