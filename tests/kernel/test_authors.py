"""What an author may write, and what is said about what cannot work: by class and member."""

from __future__ import annotations

import functools
import logging
import pydoc
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing

import trikernel
from trikernel import Kernel
from trikernel.errors import KernelClassError
from trikernel.testing import message_types, open_memory_client

from ..cells import Cells, ask, contents, reply_of, served, until_input
from ..conftest import ROOT, Serving
from .kernels import Recorder

virtual = pytest.mark.usefixtures("autojump_clock")


# Plain or async, whatever the decorator


def plainly(function: Callable[..., Any]) -> Any:
    return function


def awaited(function: Callable[..., Any]) -> Any:
    async def later(*args: Any, **options: Any) -> Any:
        await trio.sleep(0.001)
        return function(*args, **options)

    return functools.wraps(function)(later)


def decorated(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def decorator(*args: Any, **options: Any) -> Any:
        return awaited(function)(*args, **options)

    return decorator


def partially(function: Callable[..., Any]) -> Any:
    return functools.partialmethod(awaited(lambda self, none, *args: function(self, *args)), None)


class CallableObject:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __get__(self, kernel: Any, owner: Any = None) -> Any:
        return functools.partial(self, kernel)

    async def __call__(self, kernel: Any, *args: Any) -> Any:
        return self.function(kernel, *args)


WAYS = [plainly, awaited, decorated, partially, CallableObject]


def kernel_of_hooks(way: Callable[..., Any]) -> Kernel:
    """A kernel that notes which of its hooks ran, written in one way."""
    ran: list[str] = []

    def hook(name: str, value: Any = None) -> Any:
        def run(self: Any, *args: Any) -> Any:
            ran.append(name)
            return value

        return way(run)

    verbs = {f"do_{name}": hook(f"do_{name}") for name in ("execute", "inspect", "is_complete")}
    body = {
        **verbs,
        "do_complete": hook("do_complete", {"matches": ["x"]}),
        "do_shutdown": hook("do_shutdown", {"by": "hook"}),
        "start": hook("start"),
        "started": hook("started"),
        "init_metadata": hook("init_metadata", {"begun": True}),
        "finish_metadata": hook("finish_metadata", {"ended": True}),
        "should_handle": hook("should_handle", True),
        "pre_handler_hook": hook("pre_handler_hook"),
        "post_handler_hook": hook("post_handler_hook"),
        "own_request": hook("own_request", {"own": True}),
        "msg_types": [*Kernel.msg_types, "own_request"],
        "ran": ran,
    }
    kernel: Kernel = type("Hooked", (Kernel,), body)()
    return kernel


@virtual
@pytest.mark.parametrize("way", WAYS)
async def test_every_hook_is_plain_or_async(way: Callable[..., Any]) -> None:
    kernel: Any = kernel_of_hooks(way)
    async with served(kernel) as client:
        heard = await client.execute("x")
        assert heard.status == "ok", reply_of(heard)
        assert heard.reply is not None
        assert heard.reply.metadata == {"ended": True}
        for name in ("complete", "inspect", "is_complete"):
            reply = reply_of(await ask(client, f"{name}_request", {"code": "x"}))
            assert reply["status"] != "error", reply
        assert reply_of(await ask(client, "own_request")) == {"own": True}
        shut = await ask(client, "shutdown_request", channel="control")
        assert reply_of(shut) == {"status": "ok", "restart": False, "by": "hook"}
    execute = ["should_handle", "pre_handler_hook", "init_metadata", "do_execute"]
    assert kernel.ran[:2] == ["start", "started"]
    assert kernel.ran[2:8] == [*execute, "finish_metadata", "post_handler_hook"]
    for name in ("complete", "inspect", "is_complete", "shutdown"):
        assert f"do_{name}" in kernel.ran


@virtual
@pytest.mark.parametrize("way", [plainly, awaited])
async def test_what_the_base_does_may_be_called_in_either_way(way: Callable[..., Any]) -> None:
    class Plain(Recorder):
        def started(self) -> Any:
            self.ran.append("started")
            super().started()
            super().start()

    class Async(Recorder):
        async def started(self) -> None:
            self.ran.append("started")
            await super().started()

    kernel = Plain() if way is plainly else Async()
    async with served(kernel) as client:
        await client.execute("x")
    assert kernel.ran == ["started", "x"]


@virtual
@pytest.mark.parametrize("name", ["init_metadata", "finish_metadata", "should_handle",
                                  "pre_handler_hook", "post_handler_hook"])  # fmt: skip
@pytest.mark.parametrize("way", [plainly, awaited])
async def test_an_error_in_a_hook_names_it(way: Callable[..., Any], name: str) -> None:
    def broken(self: Any, *args: Any) -> Any:
        raise RuntimeError("broken hook")

    kernel: Kernel = type("NodeKernel", (Recorder,), {name: way(broken)})()
    async with served(kernel) as client:
        reply = reply_of(await client.execute("say x"))
    assert (reply["ename"], reply["evalue"]) == ("RuntimeError", "broken hook")
    assert f"in NodeKernel.{name}" in reply["traceback"]


@virtual
@pytest.mark.parametrize("name", ["start", "started"])
async def test_an_error_at_the_start_names_the_hook_and_ends_the_kernel(name: str) -> None:
    async def broken(self: Any) -> None:
        raise RuntimeError("no node here")

    kernel: Kernel = type("NodeKernel", (Recorder,), {name: broken})()
    with pytest.raises(ExceptionGroup) as caught:
        async with served(kernel):
            pass
    errors = caught.value
    while isinstance(errors, ExceptionGroup):
        (errors,) = errors.exceptions
    assert errors.__notes__ == [f"in NodeKernel.{name}"]


@virtual
async def test_an_error_in_do_shutdown_is_logged_by_name_and_the_kernel_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class NodeKernel(Recorder):
        async def do_shutdown(self, restart: bool) -> Any:
            return {"status": "okay"}

    async with served(NodeKernel()) as client:
        reply = reply_of(await ask(client, "shutdown_request", channel="control"))
    assert reply == {"status": "ok", "restart": False}
    assert "NodeKernel.do_shutdown failed" in caplog.text
    assert "NodeKernel.do_shutdown returned the status 'okay'" in caplog.text


# What cannot work is said at the start


def no_super(self: Any) -> None:
    self.child = None


async def coroutine(self: Any, *args: Any, **options: Any) -> None:
    """Where a plain function must be."""


def yields(self: Any, code: str, silent: bool) -> Iterator[str]:
    yield code


async def async_yields(self: Any, code: str, cursor_pos: int) -> AsyncIterator[str]:
    yield code


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"__init__": no_super}, "NodeKernel.__init__ must call super().__init__("),
    ({"language_info": "node"}, "NodeKernel.language_info must be a dictionary, such as"),
    ({"language_info": {"name": "node", "version": 20}}, "NodeKernel.language_info['version']"),
    ({"banner": b"hello"}, "NodeKernel.banner must be a string, not bytes b'hello'"),
    ({"banner": lambda self: "hello"}, "NodeKernel.banner is a method: make it a @property"),
    ({"implementation": ["node"]}, "NodeKernel.implementation must be a string, not list"),
    ({"help_links": {"text": "x"}}, "NodeKernel.help_links must be a list of dictionaries"),
    ({"supported_features": "debugger"}, "NodeKernel.supported_features must be a list of strings"),
    ({"interrupt_mode": "sigint"}, "NodeKernel.interrupt_mode must be 'signal' or 'message'"),
    ({"do_execute": lambda self, code: None}, "NodeKernel.do_execute(code) cannot be called as"),
    ({"do_execute": lambda self, code, silent, more: None}, "missing a required argument: 'more'"),
    ({"do_execute": "run"}, "NodeKernel.do_execute must be a function, plain or async, not str"),
    ({"do_execute": yields}, "NodeKernel.do_execute must return its value, not yield"),
    ({"do_inspect": async_yields}, "NodeKernel.do_inspect must return its value, not yield"),
    ({"do_complete": lambda self, code: None}, "do_complete(code, cursor_pos): too many"),
    ({"do_is_complete": lambda: None}, "NodeKernel.do_is_complete must take self"),
    ({"do_shutdown": lambda self: None}, "do_shutdown(restart): too many"),
    ({"started": lambda self, server: None}, "started(): missing a required argument: 'server'"),
    ({"pre_handler_hook": lambda self, x: None}, "NodeKernel.pre_handler_hook"),
    ({"do_history": lambda self, last: None}, "missing a required argument: 'last'"),
    ({"send_response": coroutine}, "NodeKernel.send_response must be a plain function, not async"),
    ({"msg_types": [*Kernel.msg_types, "own_request"]}, "NodeKernel.msg_types names 'own_request'"),
    (
        {"execute_request": lambda self: None},
        "NodeKernel.execute_request() must take the request, or (stream, ident, message)",
    ),
]  # fmt: skip


@virtual
@pytest.mark.parametrize(("body", "words"), WRONG, ids=[words for _, words in WRONG])
async def test_a_class_that_cannot_work_is_refused_at_the_start(
    body: dict[str, Any], words: str
) -> None:
    with pytest.raises(KernelClassError, match=re.escape(words)):
        async with open_memory_client(type("NodeKernel", (Kernel,), body)()):
            pass


@virtual
async def test_a_start_that_does_not_end_is_told_by_the_hooks_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Waits(Recorder):
        async def started(self) -> None:
            await trio.sleep(11)

    async with served(Waits()) as client:
        await client.expect("say on", stdout="on")
    (told,) = [one.message for one in caplog.records if "has not returned" in one.message]
    assert told == (
        "Waits.started has not returned for 10 seconds: nothing is answered before it has"
    )


@virtual
async def test_a_start_that_leaves_the_process_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Leaves(Recorder):
        async def started(self) -> None:
            sys.exit(3)

    with pytest.raises(BaseExceptionGroup) as raised:
        async with served(Leaves()):
            pass
    assert raised.value.subgroup(SystemExit) is not None
    assert "the kernel ends: Leaves.started has left the process" in caplog.text


@virtual
async def test_a_fact_that_is_computed_may_need_what_started_has_made() -> None:
    class Late(Recorder):
        version = None

        @property
        def language_info(self) -> dict[str, Any]:  # type: ignore[override]
            assert self.version is not None, "asked too early"
            return {"name": "late", "version": self.version}

        async def started(self) -> None:
            self.version = "2"

    async with served(Late()) as client:
        assert reply_of(await ask(client, "kernel_info_request"))["language_info"]["version"] == "2"


@virtual
@pytest.mark.parametrize("value", ["late", {"name": "late", "version": 2}, {"name": None}])
async def test_a_computed_fact_of_a_wrong_shape_is_never_sent(value: Any) -> None:
    class Late(Recorder):
        language_info = property(lambda self: value)

    async with served(Late()) as client:
        reply = reply_of(await ask(client, "kernel_info_request"))
    assert reply["ename"] == "KernelClassError"
    assert "Late.language_info" in reply["evalue"]


# What a verb returns


COMPLETED: list[tuple[str, Any, dict[str, Any]]] = [
    ("complete", {"matches": ["print", "private"]}, {"cursor_start": 2, "cursor_end": 4}),
    ("complete", {"matches": ["()", ")"]}, {"cursor_start": 4, "cursor_end": 4}),
    ("complete", {"matches": ("prx",), "cursor_start": 1}, {"matches": ["prx"], "cursor_start": 1}),
    ("complete", {}, {"matches": [], "cursor_start": 4, "status": "ok", "metadata": {}}),
    ("inspect", {"data": {"text/plain": "x"}}, {"found": True, "metadata": {}, "status": "ok"}),
    ("inspect", {}, {"found": False, "data": {}}),
    ("is_complete", {"status": "incomplete"}, {"indent": ""}),
    ("is_complete", {}, {"status": "unknown"}),
    ("history", {"history": ()}, {"history": [], "status": "ok"}),
    ("clear", {}, {"status": "ok"}),
    ("complete", {"status": "error"}, {"ename": "Error", "evalue": "", "traceback": []}),
    ("inspect", {"status": "error", "evalue": ValueError("v"), "traceback": "a\nb"},
     {"evalue": "v", "traceback": ["a", "b"]}),
    ("complete", {"status": "abort"}, {"status": "aborted"}),
]  # fmt: skip


def kernel_that_returns(verb: str, value: Any) -> Kernel:
    body = {f"do_{name}": lambda self, *args, **options: value for name in ("execute", verb)}
    kernel: Kernel = type("NodeKernel", (Kernel,), body)()
    return kernel


async def reply_to(verb: str, value: Any) -> dict[str, Any]:
    async with served(kernel_that_returns(verb, value)) as client:
        content = {"code": "a pr", "cursor_pos": 4, "hist_access_type": "tail"}
        return reply_of(await ask(client, f"{verb}_request", content, channel="control"))


@virtual
@pytest.mark.parametrize(("verb", "returned", "filled"), COMPLETED)
async def test_a_reply_that_lacks_fields_is_filled_up(
    verb: str, returned: Any, filled: dict[str, Any]
) -> None:
    reply = await reply_to(verb, returned)
    assert reply.items() >= filled.items()


REFUSED: list[tuple[str, Any, str]] = [
    ("execute", {"status": "okay"}, "returned the status 'okay', which must be ok, error or"),
    ("execute", {"payload": "text"}, "returned the payload 'text', which must be a list of dict"),
    ("execute", {"user_expressions": [1]}, "which must be a dictionary"),
    ("execute", {"status": "error", "evalue": b"no"}, "returned an error whose text is bytes"),
    ("execute", b"text", ": a verb returns a content dictionary"),
    (
        "complete",
        {"matches": "print"},
        ": the field 'matches' must be an array of strings, not str",
    ),
    ("complete", {"matches": [b"print"]}, ": the field 'matches' must be an array of strings"),
    ("complete", {"cursor_start": "1"}, ": the field 'cursor_start' must be an integer"),
    ("complete", ["print"], ": a verb returns a content dictionary"),
    ("inspect", {"data": "text"}, ": the field 'data' must be an object"),
    ("is_complete", {"status": "ok"}, "returned the status 'ok', which must be one of complete,"),
    ("is_complete", {"indent": 1, "status": "done"}, "returned the status 'done'"),
    ("history", {"history": "x"}, ": the field 'history' must be an array"),
    ("clear", {"status": True}, "returned the status True"),
    ("apply", {"status": "ok"}, "returns (reply_content, result_buffers), not {'status': 'ok'}"),
]


@virtual
@pytest.mark.parametrize(("verb", "returned", "words"), REFUSED)
async def test_a_reply_that_no_client_could_read_is_an_error_by_class_and_verb(
    verb: str, returned: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await reply_to(verb, returned)
    assert reply["status"] == "error"
    assert reply["evalue"].startswith(f"NodeKernel.do_{verb}")
    assert words in reply["evalue"]
    assert [one.levelname for one in caplog.records if one.levelno > logging.INFO] == ["ERROR"]


@virtual
@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ({"name": "stdout", "text": b"hi"}, "TypeError", "decode it"),
        ({"name": "stdout", "text": bytearray(b"hi")}, "TypeError", "decode it"),
        ({"name": "stdout", "text": 3}, "TypeError", "use str()"),
        ({"name": "stdout"}, "TypeError", "not NoneType"),
        ({"name": "out", "text": "hi"}, "ValueError", "'stdout' or 'stderr', not 'out'"),
    ],
)
async def test_a_stream_that_is_no_text_is_refused_where_it_is_sent(
    content: dict[str, Any], error: str, words: str
) -> None:
    class Speaks(Kernel):
        def do_execute(self, code: str, silent: bool) -> Any:
            self.send_response(self.iopub_socket, "stream", content)

    async with served(Speaks()) as client:
        heard = await client.execute("x")
    assert reply_of(heard)["ename"] == error
    assert reply_of(heard)["evalue"].startswith("Speaks.send_response: ")
    assert words in reply_of(heard)["evalue"]
    assert "stream" not in message_types(heard)
    assert any("in do_execute" in line for line in reply_of(heard)["traceback"])


# What is logged


@virtual
async def test_a_failing_cell_is_the_users_and_any_other_failure_the_kernels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class NodeKernel(Recorder):
        def do_complete(self, code: str, cursor_pos: int) -> Any:
            raise RuntimeError("broken verb")

    caplog.set_level(logging.DEBUG)
    async with served(NodeKernel()) as client:
        assert reply_of(await client.execute("fail"))["ename"] == "ValueError"
        (cell,) = [one for one in caplog.records if one.exc_info]
        assert (cell.levelname, cell.getMessage()) == ("DEBUG", "NodeKernel.do_execute failed")
        await ask(client, "complete_request", {"code": ""})
    verb = [one for one in caplog.records if one.exc_info][-1]
    assert (verb.levelname, verb.getMessage()) == ("ERROR", "NodeKernel.do_complete failed")


# Message types of one's own


class Measured(Recorder):
    """Says how far it is while a cell runs."""

    implementation = "measured"
    entered = 0

    @trikernel.message_type(beside_cells=True)
    async def memory_request(self, request: trikernel.Request) -> dict[str, Any]:
        self.entered += 1
        if request.message.content.get("wait"):
            await trio.sleep_forever()
        if request.message.content.get("fail"):
            raise RuntimeError("no memory")
        return {"status": "ok", "ran": list(self.ran)}

    @trikernel.message_type
    def queued_request(self, request: trikernel.Request) -> dict[str, Any]:
        return {"status": "ok", "ran": list(self.ran)}

    @trikernel.message_type(beside_cells=True)
    def note(self, request: trikernel.Request) -> None:
        self.entered += 1


class Replaced(Measured):
    """A subclass replaces the method and says nothing of the type."""

    def memory_request(self, request: trikernel.Request) -> Any:
        return {"status": "ok", "ran": list(self.ran)}


@pytest.mark.parametrize("kernel_class", [Measured, Replaced])
async def test_a_type_of_ones_own_is_answered_beside_a_cell(
    kernel_class: type[Measured], serving: Serving
) -> None:
    kernel = kernel_class()
    async with serving(kernel) as client:
        cell = await until_input(client.start("wait"))
        assert reply_of(await ask(client, "memory_request", channel="control"))["ran"] == ["wait"]
        kernel.released.set()
        assert (await cell.wait()).status == "ok"
        assert reply_of(await ask(client, "memory_request"))["ran"] == ["wait"]


@virtual
async def test_one_without_that_waits_for_the_cell() -> None:
    kernel = Measured()
    async with served(kernel) as client:
        cells = Cells(client, "wait", "say x")
        await until_input(cells.sent[0])
        queued = client.send("queued_request", {}, channel="control")
        await trio.testing.wait_all_tasks_blocked()
        kernel.released.set()
        assert reply_of(await queued.wait())["ran"] == ["wait"]
        assert await cells.statuses() == ["ok", "ok"]


@virtual
async def test_one_that_waits_holds_up_nobody_on_control() -> None:
    kernel = Measured()
    async with served(kernel) as client:
        waiting = client.send("memory_request", {"wait": True}, channel="control")
        client.send("note", {}, channel="control")
        cell = await until_input(client.start("wait"))
        await ask(client, "interrupt_request", channel="control")
        assert waiting.reply is None
        assert (await cell.wait()).status == "error"
        failed = await ask(client, "memory_request", {"fail": True}, channel="control")
        assert reply_of(failed)["evalue"] == "no memory"
        assert kernel.entered == 3


# What help() shows


def documented() -> Iterator[str]:
    """The public names of the class, as `help` lists them."""
    for base in Kernel.__mro__[:-1]:
        yield from (name for name in vars(base) if not name.startswith("_"))


def test_help_shows_what_is_an_authors_and_each_with_a_word() -> None:
    text = pydoc.render_doc(Kernel, renderer=pydoc.plaintext)  # type: ignore[attr-defined]
    for name in ("bind", "find", "begin_execution", "application_class", "latest", "server_ref"):
        assert not re.search(rf"^ \|  {name}\b", text, re.M), name
        assert name not in set(documented())
    for name in documented():
        assert re.search(rf"^ \|  (async )?{name}\b", text, re.M), name
    assert "seconds after which a cell is stopped" in text


def test_the_reference_page_names_each_public_name_of_the_class() -> None:
    page = (ROOT / "docs" / "reference" / "kernel.md").read_text("utf-8")
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page, flags=re.S))
    named = set(re.findall(r"\w+", " ".join(inline)))
    settings = set(trikernel.kernel.settings_of(Kernel))
    handlers = {name for name in documented() if name in Kernel.control_msg_types}
    missing = set(documented()) - settings - handlers - named
    assert not missing
    assert "settings.md" in page
    assert "messages.md" in page


@virtual
async def test_what_the_reference_page_shows_runs() -> None:
    page = (ROOT / "docs" / "reference" / "kernel.md").read_text("utf-8")
    sending, typed, comms = re.findall(r"```python\n(.*?)```", page, re.S)
    names: dict[str, Any] = {"trikernel": trikernel, "png": b"a picture"}
    exec(typed, names)
    measured = names["MyKernel"]()
    measured.bytes = 7
    async with served(measured) as client:
        reply = reply_of(await ask(client, "memory_request", channel="control"))
        assert reply == {"status": "ok", "bytes": 7}
    exec(comms, names)
    async with served(names["MyKernel"]()) as client:
        opened = {"comm_id": "c", "target_name": "plot", "data": {}}
        answered = await ask(client, "comm_open", opened)
        assert [one["data"] for one in contents(answered, "comm_msg")] == [{"ready": True}]

    class Speaks(Kernel):
        def do_execute(self, code: str, silent: bool) -> None:
            exec(sending, {**names, "self": self})

    async with served(Speaks()) as client:
        heard = await client.execute("x")
    shown = ["stream", "display_data", "execute_result", "clear_output"]
    assert message_types(heard)[2:-1] == shown
    assert contents(heard, "display_data")[0]["data"] == {"image/png": "YSBwaWN0dXJl"}
