"""What an author gets to read: of a class that is hardly meant, of an error, of a wrong message."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

import trikernel
from trikernel import Kernel
from trikernel.errors import KernelClassError
from trikernel.testing import message_types, open_memory_client

from ..cells import contents, reply_of, served
from ..processes import ROOT, TIMEOUT
from .kernels import Recorder

virtual = pytest.mark.usefixtures("autojump_clock")


def verb(self: Any, *args: Any, **options: Any) -> None:
    """As good as any other."""


# Names that are no verbs


@virtual
@pytest.mark.parametrize("name", ["do_excute", "do_exec", "doExecute", "do_execute_"])
async def test_a_misspelt_do_execute_is_refused(name: str) -> None:
    with pytest.raises(KernelClassError, match=rf"^NodeKernel\.{name} is no verb: .* do_execute,"):
        async with open_memory_client(type("NodeKernel", (Kernel,), {name: verb})()):
            pass


DOUBTS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["NodeKernel has no do_execute: it answers every cell with an error"]),
    (
        {"do_execute": verb, "do_completion": verb},
        ["NodeKernel.do_completion is no verb, and NodeKernel has no do_complete: is that what is"
         " meant?"],
    ),
    ({"do_execute": verb, "do_executed": verb, "do_something": verb, "done": verb}, []),
    ({"do_execute": verb, "do_complete": verb, "do_completion": verb}, []),
    ({"execute_request": lambda self, request: None}, []),
]  # fmt: skip


@virtual
@pytest.mark.parametrize(("body", "said"), DOUBTS)
async def test_what_is_hardly_meant_is_a_line_of_the_log_at_the_start(
    body: dict[str, Any], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_memory_client(type("NodeKernel", (Kernel,), body)()):
        assert [one.getMessage() for one in caplog.records] == said


@virtual
async def test_a_subclass_of_the_python_kernel_needs_no_do_execute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from trikernel.python import PythonKernel

    caplog.set_level(logging.WARNING)
    async with open_memory_client(type("Own", (PythonKernel,), {"do_executing": verb})()):
        assert caplog.records == []


# What is served in place of a kernel


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Recorder, "a kernel is served, not its class: make one, as in Recorder()"),
        ("text", "a kernel is served, not str 'text'"),
        (None, "a kernel is served, not NoneType None"),
    ],
)
def test_run_takes_a_kernel_and_says_so(given: Any, words: str) -> None:
    with pytest.raises(KernelClassError, match=re.escape(words)):
        trikernel.run(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Recorder(), "as in trikernel.main(Recorder), not an instance of Recorder\n"),
        ("text", "as in trikernel.main(MyKernel), not 'text'\n"),
        (int, "not <class 'int'>\n"),
    ],
)
def test_main_takes_a_class_and_says_so(
    given: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        trikernel.main(given, [])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: trikernel.main takes a kernel's class, as in ")
    assert said.endswith(words)
    assert said.count("\n") == 1


# Tracebacks


class Deep(Recorder):
    async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        if code == "another":
            with trio.move_on_after(1):
                try:
                    await trio.sleep(1000)
                finally:
                    raise RuntimeError("while it is cancelled")
        await self.wait(code)

    async def wait(self, code: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            if code == "fails":
                nursery.start_soon(self.fail)
            await trio.sleep(1000)

    async def fail(self) -> None:
        await trio.sleep(-1)


def functions(traceback: list[str]) -> list[str]:
    """The functions that a traceback shows; their files are this one."""
    found = [re.search(r'File "(.*)", line \d+, in (\w+)', line) for line in traceback]
    assert {one[1] for one in found if one} == {__file__}
    return [one[2] for one in found if one]


@virtual
async def test_an_interrupted_verb_shows_the_authors_frames_and_no_others() -> None:
    async with served(Deep()) as client:
        cell = client.start("x")
        await trio.sleep(1)
        await client.interrupt()
        traceback = reply_of(await cell.wait())["traceback"]
        assert traceback[-1] == "KeyboardInterrupt"
        assert functions(traceback) == ["do_execute", "wait"]
        assert "    await trio.sleep(1000)" in traceback
        assert len(traceback) <= 7


@virtual
@pytest.mark.parametrize(
    ("code", "shown", "last"),
    [
        ("fails", ["do_execute", "wait", "fail"], "ValueError: "),
        ("another", ["do_execute"], "RuntimeError: while it is cancelled"),
    ],
)
async def test_so_do_errors_in_a_group_and_in_a_cancel(
    code: str, shown: list[str], last: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with served(Deep()) as client:
        traceback = reply_of(await client.execute(code))["traceback"]
    assert functions(traceback) == shown
    assert any(last in line for line in traceback)
    assert "Cancelled" not in "".join(traceback)
    (logged,) = [one for one in caplog.records if one.exc_info]
    assert logging.Formatter().format(logged).count("/trio/") > 0  # nothing is kept from a log


# The end of a process


STARTS = """
import trio, trikernel

class NodeKernel(trikernel.Kernel):
    async def started(self):
        await self.find()

    async def find(self):
        raise FileNotFoundError("no node here")

    def do_execute(self, code, silent): ...

class Unmade(trikernel.Kernel):
    def __init__(self, **settings):
        super().__init__(**settings)
        raise FileNotFoundError("no node here")

trikernel.main({})
"""


@pytest.mark.parametrize(
    ("name", "lines", "member"),
    [("NodeKernel", ["started", "find"], "started"), ("Unmade", ["__init__"], "__init__")],
)
def test_an_error_at_the_start_is_the_authors_traceback_and_names_the_method(
    name: str, lines: list[str], member: str, tmp_path: Path
) -> None:
    script = tmp_path / "node.py"
    script.write_text(STARTS.replace("{}", name), "utf-8")
    ended = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_RUNTIME_DIR": str(tmp_path)},
    )
    assert ended.returncode == 1
    said = ended.stderr[ended.stderr.index("Traceback") :].splitlines()
    assert re.findall(r'File "(.*)", line \d+, in (\w+)', ended.stderr) == [
        (str(script), line) for line in lines
    ]
    assert said[-2:] == ["FileNotFoundError: no node here", f"in {name}.{member}"]
    assert ended.stderr.count("Traceback") == 1


# What is sent


FILLED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("execute_result", {"data": {"text/plain": "42"}},
     {"data": {"text/plain": "42"}, "metadata": {}, "execution_count": 1}),
    ("execute_result", {"data": {"text/html": ["a\n", "b"]}, "execution_count": 7},
     {"data": {"text/html": ["a\n", "b"]}, "metadata": {}, "execution_count": 7}),
    ("display_data", {"data": {"application/json": 42}, "metadata": None},
     {"data": {"application/json": 42}, "metadata": {}}),
    ("error", {"evalue": ValueError("v"), "traceback": "a\nb"},
     {"ename": "Error", "evalue": "v", "traceback": ["a", "b"]}),
]  # fmt: skip


class Shows(Kernel):
    def __init__(self, msg_type: str, content: dict[str, Any]) -> None:
        super().__init__()
        self.message = msg_type, content

    def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        self.send_response(self.iopub_socket, *self.message)


@virtual
@pytest.mark.parametrize(("msg_type", "content", "sent"), FILLED)
async def test_a_message_that_lacks_fields_is_filled_up(
    msg_type: str, content: dict[str, Any], sent: dict[str, Any]
) -> None:
    async with served(Shows(msg_type, content)) as client:
        assert contents(await client.execute("x"), msg_type) == [sent]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("execute_result", {"data": {"text/plain": 42}},
     "an execute_result's data['text/plain'] is a str, not int 42: use str()"),
    ("display_data", {"data": {"text/html": b"<b>"}}, "is a str, not bytes b'<b>': decode it"),
    ("execute_result", {"data": "42"}, 'is a dictionary, such as {"text/plain": "42"}, not str'),
    ("update_display_data", {}, 'is a dictionary, such as {"text/plain": "42"}, not NoneType'),
    ("display_data", {"data": {}, "metadata": "none"}, "metadata is a dictionary, not str 'none'"),
    ("execute_result", {"data": {}, "execution_count": "1"}, "execution_count is an int, as self."),
    ("error", {"ename": b"Error"}, "an error's fields are text, not bytes b'Error': decode it"),
    ("error", {"traceback": 3}, "an error's traceback is a list of strings, not int 3"),
]  # fmt: skip


@virtual
@pytest.mark.parametrize(("msg_type", "content", "words"), REFUSED)
async def test_a_message_that_no_frontend_could_show_is_refused_where_it_is_sent(
    msg_type: str, content: dict[str, Any], words: str
) -> None:
    async with served(Shows(msg_type, content)) as client:
        heard = await client.execute("x")
    reply = reply_of(heard)
    assert reply["ename"] == "TypeError"
    assert reply["evalue"].startswith("Shows.send_response: ")
    assert words in reply["evalue"]
    assert functions(reply["traceback"]) == ["do_execute"]
    assert message_types(heard).count(msg_type) == (msg_type == "error")  # that of the refusal


@virtual
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("stream", {"name": "stdout", "text": "hi"}), "is a channel, as self.iopub_socket, not s"),
        ((None, "stream", {}), "as self.iopub_socket, not NoneType None"),
        (("iopub", "stream", "hi"), "the content is a dictionary, not str 'hi'"),
        (("iopub", "stream", 3), "the content is a dictionary, not int 3"),
    ],
)
async def test_a_call_with_other_arguments_says_what_it_takes(
    arguments: tuple[Any, ...], words: str
) -> None:
    class Calls(Kernel):
        def do_execute(self, code: str, silent: bool) -> None:
            first, *others = arguments
            self.send_response(self.iopub_socket if first == "iopub" else first, *others)

    async with served(Calls()) as client:
        reply = reply_of(await client.execute("x"))
    assert reply["ename"] == "TypeError"
    assert reply["evalue"].startswith("Calls.send_response: ")
    assert words in reply["evalue"]


@virtual
@pytest.mark.parametrize("payload", [{"source": "page"}, ["page"], [{"source": "page"}, None], 3])
async def test_a_payload_is_a_list_of_dictionaries(payload: Any) -> None:
    class NodeKernel(Kernel):
        def do_execute(self, code: str, silent: bool) -> Any:
            return {"payload": payload}

    async with served(NodeKernel()) as client:
        reply = reply_of(await client.execute("x"))
    assert reply["evalue"].startswith("NodeKernel.do_execute returned the payload ")
    assert reply["evalue"].endswith("which must be a list of dictionaries")


@virtual
async def test_any_iterable_of_dictionaries_is_a_payload() -> None:
    class NodeKernel(Kernel):
        def do_execute(self, code: str, silent: bool) -> Any:
            return {"payload": iter([{"source": "page"}])}

    async with served(NodeKernel()) as client:
        assert reply_of(await client.execute("x"))["payload"] == [{"source": "page"}]


async def test_a_fact_that_cannot_be_computed_is_a_line_in_the_log_and_has_a_default(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Kernel):
        implementation = "broken"

        @property
        def banner(self) -> str:  # type: ignore[override]
            raise OSError("no such program")

    async with open_memory_client(Broken()) as client:
        info = (await client.kernel_info()).content
    assert (info["status"], info["banner"]) == ("ok", "broken")
    assert "Broken.banner cannot be told: OSError: no such program" in caplog.text
