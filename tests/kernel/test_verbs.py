"""Verbs, their replies, and what a client is told when they are missing, sketchy or wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

import trikernel
from trikernel import Kernel
from trikernel.testing import message_types

from ..cells import ask, reply_of
from ..conftest import Serving
from .kernels import Asynchronous, Recorder, Synchronous

VERBS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "execute_request": (
        {"code": "hi"},
        {
            "status": "ok",
            "payload": [{"source": "x"}],
            "user_expressions": {"a": 1},
            "execution_count": 1,
        },
    ),
    "complete_request": (
        {"code": "ab", "cursor_pos": 1},
        {"status": "ok", "matches": ["AB"], "cursor_start": 0, "cursor_end": 1, "metadata": {}},
    ),
    "inspect_request": (
        {"code": "ab", "cursor_pos": 0},
        {"status": "ok", "found": True, "data": {"text/plain": "ab"}, "metadata": {}},
    ),
    "is_complete_request": ({"code": "ab"}, {"status": "complete"}),
    "clear_request": ({}, {"status": "ok", "cleared": True}),
}


@pytest.mark.seed(1, 16)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kernel_class", [Synchronous, Asynchronous])
async def test_a_verb_is_plain_or_async(
    serving: Serving, kernel_class: type[Kernel], verb: str
) -> None:
    content, expected = VERBS[verb]
    channel = "control" if verb == "clear_request" else "shell"
    async with serving(kernel_class()) as client:
        heard = await ask(client, verb, content, channel=channel)
        assert reply_of(heard) == expected
        assert (message_types(heard)[0], message_types(heard)[-1]) == ("status:busy", "status:idle")


@pytest.mark.seed(1, 16)
@pytest.mark.parametrize("kernel_class", [Synchronous, Asynchronous])
async def test_history_gets_the_specifications_fields_only(
    serving: Serving, kernel_class: type[Kernel]
) -> None:
    async with serving(kernel_class()) as client:
        asked = {"hist_access_type": "tail", "n": 3, "output": True, "raw": False, "extra": 1}
        names = reply_of(await ask(client, "history_request", asked))["history"][0][2]
    assert "extra" not in names
    assert {"hist_access_type", "output", "raw", "n", "pattern", "unique", "session"} < set(names)


@pytest.mark.seed(17)
@pytest.mark.parametrize("kernel_class", [Synchronous, Asynchronous])
async def test_apply_carries_buffers_both_ways(
    serving: Serving, kernel_class: type[Kernel]
) -> None:
    async with serving(kernel_class()) as client:
        heard = await ask(client, "apply_request", {}, buffers=[b"abc", b"\x00\x01"])
        assert heard.reply is not None
        assert heard.reply.msg_type == "apply_reply"
        assert reply_of(heard) == {"status": "ok", "n": 2}
        assert [bytes(one) for one in heard.reply.buffers] == [b"cba", b"\x01\x00"]
        assert "started" in heard.reply.metadata


@pytest.mark.seed(17)
async def test_an_engine_has_its_numbers(serving: Serving) -> None:
    kernel = Recorder()
    assert kernel.int_id == -1
    assert len(kernel.ident) == 36
    assert kernel.ident != Recorder().ident


@pytest.mark.seed(1, 9, 17)
@pytest.mark.parametrize("msg_type", ["execute_request", "apply_request", "clear_request"])
async def test_a_verb_that_is_not_written_is_an_error_reply(
    serving: Serving, msg_type: str
) -> None:
    async with serving(Kernel()) as client:
        heard = await ask(client, msg_type, {"code": ""}, channel="control")
    assert heard.status == "error"
    assert reply_of(heard)["ename"] == "UnknownMessageType"
    assert "does not implement do_" in reply_of(heard)["evalue"]


@pytest.mark.seed(16)
async def test_the_default_replies(serving: Serving) -> None:
    code: dict[str, Any] = {"code": "a\U0001f600b", "cursor_pos": 2}
    async with serving(Kernel()) as client:
        replies = [
            reply_of(await ask(client, f"{name}_request", content))
            for name, content in [
                ("complete", code),
                ("inspect", code),
                ("history", {"hist_access_type": "tail"}),
                ("is_complete", code),
                ("comm_info", {}),
            ]
        ]
    assert replies == [
        {"status": "ok", "matches": [], "cursor_start": 2, "cursor_end": 2, "metadata": {}},
        {"status": "ok", "found": False, "data": {}, "metadata": {}},
        {"status": "ok", "history": []},
        {"status": "unknown"},
        {"status": "ok", "comms": {}},
    ]


@pytest.mark.seed(16)
async def test_comm_info_filters_by_target(serving: Serving) -> None:
    class Comm:
        def __init__(self, target_name: str) -> None:
            self.target_name = target_name

    class Manager:
        comms = {"1": Comm("a"), "2": Comm("b")}

    kernel = Kernel()
    kernel.comm_manager = Manager()
    async with serving(kernel) as client:
        everything = reply_of(await ask(client, "comm_info_request", {}))["comms"]
        some = reply_of(await ask(client, "comm_info_request", {"target_name": "b"}))["comms"]
    assert everything == {"1": {"target_name": "a"}, "2": {"target_name": "b"}}
    assert some == {"2": {"target_name": "b"}}


@pytest.mark.parametrize("cursor_pos", [-5, 0, 2, 1000])
async def test_a_cursor_outside_the_code_is_taken_to_its_edge(
    serving: Serving, cursor_pos: int
) -> None:
    async with serving(Kernel()) as client:
        code = {"code": "abc", "cursor_pos": cursor_pos}
        reply = reply_of(await ask(client, "complete_request", code))
    assert reply["cursor_start"] == min(max(cursor_pos, 0), 3)


@pytest.mark.seed(2)
async def test_kernel_info_says_what_the_class_says(serving: Serving) -> None:
    class Fancy(Kernel):
        implementation = "fancy"
        implementation_version = "3.1"
        language_info = {"name": "fancy", "version": "1", "file_extension": ".f"}
        banner = "Welcome"
        help_links = [{"text": "Help", "url": "https://example.org"}]

    for channel in ("shell", "control"):
        async with serving(Fancy()) as client:
            reply = reply_of(await ask(client, "kernel_info_request", channel=channel))
        assert reply["implementation"] == "fancy"
        assert reply["implementation_version"] == "3.1"
        assert reply["language_info"]["file_extension"] == ".f"
        assert reply["language_info"]["mimetype"] == "text/plain"
        assert reply["banner"] == "Welcome"
        assert reply["help_links"] == [{"text": "Help", "url": "https://example.org"}]
        assert reply["protocol_version"] == "5.6"


@pytest.mark.seed(2)
async def test_missing_facts_have_defaults(serving: Serving) -> None:
    class Bare(Kernel):
        language_info = None  # type: ignore[assignment]
        banner = None  # type: ignore[assignment]
        help_links = None  # type: ignore[assignment]

    async with serving(Bare()) as client:
        reply = reply_of(await ask(client, "kernel_info_request"))
    assert reply["status"] == "ok"
    assert set(reply["language_info"]) == {"name", "version", "mimetype", "file_extension"}
    assert reply["help_links"] == []
    assert isinstance(reply["banner"], str)


@pytest.mark.seed(2)
async def test_a_fact_may_be_a_property_of_the_older_kind(serving: Serving) -> None:
    class Old(Kernel):
        language = "old"
        language_version = "0.1"

        @property
        def banner(self) -> str:  # type: ignore[override]
            return "computed"

    async with serving(Old()) as client:
        reply = reply_of(await ask(client, "kernel_info_request"))
    assert (reply["language_info"]["name"], reply["language_info"]["version"]) == ("old", "0.1")
    assert reply["banner"] == "computed"


SKETCHY: list[tuple[Any, dict[str, Any]]] = [
    (None, {"status": "ok", "payload": [], "user_expressions": {}}),
    ({}, {"status": "ok", "payload": [], "user_expressions": {}}),
    ({"status": "abort"}, {"status": "aborted"}),
    (
        {"status": "error", "traceback": None},
        {"status": "error", "ename": "Error", "evalue": "", "traceback": []},
    ),
    ({"status": "ok", "payload": None, "execution_count": "x"}, {"status": "ok", "payload": []}),
]


@pytest.mark.seed(11)
@pytest.mark.parametrize(("returned", "expected"), SKETCHY)
async def test_a_sketchy_reply_is_completed(
    serving: Serving, returned: Any, expected: dict[str, Any]
) -> None:
    class Sketchy(Kernel):
        def do_execute(self, code: str, silent: bool, *args: Any) -> Any:
            return returned

    async with serving(Sketchy()) as client:
        reply = reply_of(await client.execute("x"))
    if expected["status"] == "aborted":  # a cell that did not run has no number
        assert reply == expected
    else:
        assert reply.items() >= {**expected, "execution_count": 1}.items()


@pytest.mark.seed(9)
@pytest.mark.parametrize("returned", [5, "ok", [1], iter(())])
async def test_a_wrong_return_value_is_an_error_that_says_what_to_return(
    serving: Serving, returned: Any
) -> None:
    class Wrong(Kernel):
        def do_execute(self, code: str, silent: bool, *args: Any) -> Any:
            return returned

        def do_is_complete(self, code: str) -> Any:
            return returned

    async with serving(Wrong()) as client:
        for msg_type in ("execute_request", "is_complete_request"):
            reply = reply_of(await ask(client, msg_type, {"code": "", "stop_on_error": False}))
            assert reply["ename"] == "TypeError"
            assert "a verb returns a content dictionary" in reply["evalue"]


@pytest.mark.seed(1)
async def test_a_verb_may_leave_out_what_it_does_not_need(serving: Serving) -> None:
    got: list[Any] = []

    class Short(Kernel):
        def do_execute(self, code: str, silent: bool) -> Any:
            got.append((code, silent))

    class Long(Kernel):
        def do_execute(
            self,
            code: str,
            silent: bool,
            store_history: bool = True,
            user_expressions: Any = None,
            allow_stdin: bool = False,
            *,
            cell_meta: Any = None,
            cell_id: Any = None,
        ) -> Any:
            got.append((store_history, user_expressions, allow_stdin, cell_meta, cell_id))

    content = {"code": "x", "allow_stdin": True, "user_expressions": {"a": "b"}}
    for kernel in (Short(), Long()):
        async with serving(kernel) as client:
            await ask(client, "execute_request", content, metadata={"cellId": "c1"})
    assert got == [("x", False), (True, {"a": "b"}, True, {"cellId": "c1"}, "c1")]


@pytest.mark.seed(9)
@pytest.mark.parametrize("verb", ["complete", "inspect", "history", "is_complete"])
async def test_a_verb_that_raises_is_logged_and_answered(
    serving: Serving, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorder):
        def broken(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("broken verb")

        do_complete = do_inspect = do_history = do_is_complete = broken

    async with serving(Broken()) as client:
        content = {"code": "", "hist_access_type": "tail"}
        heard = await ask(client, f"{verb}_request", content)
        assert heard.status == "error"
        assert reply_of(heard)["ename"] == "RuntimeError"
        assert reply_of(heard)["evalue"] == "broken verb"
        assert any("broken verb" in line for line in reply_of(heard)["traceback"])
        assert not any("trikernel/core" in line for line in reply_of(heard)["traceback"])
        assert message_types(heard) == ["status:busy", "status:idle"]
        assert (await client.execute("say on")).stdout == "on"
    assert "broken verb" in caplog.text


@pytest.mark.seed(22)
async def test_connect_lists_the_recorded_ports(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        reply = reply_of(await ask(client, "connect_request"))
        assert reply == {"status": "ok", **kernel.server.transport.ports}
        kernel.record_ports({"shell_port": 7})
        assert reply_of(await ask(client, "connect_request")) == {"status": "ok", "shell_port": 7}


@pytest.mark.parametrize(
    "call",
    [
        lambda kernel: kernel.send_response(kernel.iopub_socket, "stream", {}),
        lambda kernel: kernel.raw_input("who?"),
        lambda kernel: kernel.getpass(),
        lambda kernel: trio.run(kernel.async_input),
        lambda kernel: kernel.session,
        lambda kernel: kernel.nursery,
    ],
    ids=["send_response", "raw_input", "getpass", "async_input", "session", "nursery"],
)
def test_a_kernel_that_is_not_served_says_so(call: Callable[[Kernel], object]) -> None:
    with pytest.raises(trikernel.errors.TrikernelError, match="not being served"):
        call(Kernel())
