"""Cells of the Python kernel: Trio at the top level, results, displays, errors, streams."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio.testing

from trikernel.python import PythonKernel

from ..conftest import Serving
from ..harness import Heard, Peer, open_peer


@pytest.fixture
async def peer(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Peer]:
    async with open_peer(PythonKernel()) as peer:
        yield peer


def results(heard: Heard) -> list[str]:
    return [one["data"]["text/plain"] for one in heard.contents("execute_result")]


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("1 + 1", "2"),
        ("x = 3\nx ** 2", "9"),
        ("'a' * 3", "'aaa'"),
        ("import trio\nawait trio.sleep(20)\n'slept'", "'slept'"),
        ("None", None),
        ("1;", None),
        ("", None),
        ("def f(): return 5\nf()", "5"),
        ("[n * n for n in (1, 2)]", "[1, 4]"),
    ],
)
async def test_the_last_expression_is_the_result(peer: Peer, code: str, result: str | None) -> None:
    heard = await peer.execute(code)
    assert heard.reply["status"] == "ok"
    assert results(heard) == ([] if result is None else [result])


@pytest.mark.promise(17)
async def test_a_nursery_at_the_top_level(peer: Peer) -> None:
    heard = await peer.execute(
        "import trio\n"
        "async def say(word, seconds):\n"
        "    await trio.sleep(seconds)\n"
        "    print(word)\n"
        "async with trio.open_nursery() as nursery:\n"
        "    nursery.start_soon(say, 'second', 2)\n"
        "    nursery.start_soon(say, 'first', 1)\n"
        "trio.current_time() > 0"
    )
    assert heard.text() == "first\nsecond\n"
    assert results(heard) == ["True"]


async def test_names_last_from_cell_to_cell_and_results_are_kept(peer: Peer) -> None:
    await peer.execute("a = 20")
    await peer.execute("a + 1")
    assert results(await peer.execute("_ + 1, Out[2], In[1], __name__")) == [
        "(22, 21, 'a = 20', '__main__')"
    ]


@pytest.mark.promise(12)
async def test_context_variables_last_from_cell_to_cell(peer: Peer) -> None:
    await peer.execute("import contextvars; v = contextvars.ContextVar('v', default=0); v.set(1)")
    await peer.execute(
        "await trio.lowlevel.checkpoint() if 'trio' in dir() else v.set(v.get() + 1)"
    )
    assert results(await peer.execute("v.get()")) == ["2"]


async def test_cells_run_in_one_task_one_after_the_other(peer: Peer) -> None:
    await peer.execute("import trio; first = trio.lowlevel.current_task()")
    assert results(await peer.execute("trio.lowlevel.current_task() is first")) == ["True"]


async def test_the_counter_follows_store_history(peer: Peer) -> None:
    assert (await peer.execute("1")).reply["execution_count"] == 1
    assert (await peer.execute("2", store_history=False)).reply["execution_count"] == 2
    assert (await peer.execute("3", silent=True)).reply["execution_count"] == 2
    assert (await peer.execute("4")).reply["execution_count"] == 2
    assert (await peer.execute("5")).reply["execution_count"] == 3


async def test_streams_keep_their_order_and_their_names(peer: Peer) -> None:
    heard = await peer.execute(
        "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c', flush=True)\n"
        "sys.stdout.writelines(['d', 'e'])"
    )
    assert [(one["name"], one["text"]) for one in heard.contents("stream")] == [
        ("stdout", "a\n"),
        ("stderr", "b\n"),
        ("stdout", "c\n"),
        ("stdout", "de"),
    ]


async def test_many_prints_are_few_messages(peer: Peer) -> None:
    heard = await peer.execute("for number in range(20_000): print(number)")
    assert heard.text() == "".join(f"{number}\n" for number in range(20_000))
    assert len(heard.contents("stream")) < 20


async def test_output_of_this_process_stays_where_it_was(
    peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = await peer.execute("print('cell')")
    print("test")
    assert heard.text() == "cell\n"


def test_streams_are_put_back_when_no_kernel_is_served() -> None:
    before = (sys.stdout, sys.stderr, input)

    async def main() -> None:
        async with open_peer(PythonKernel()) as peer:
            assert sys.stdout is not before[0]
            await peer.execute("1")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (sys.stdout, sys.stderr, input) == before


@pytest.mark.seed(30)
async def test_a_stdout_of_none_fails_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    async with open_peer(PythonKernel()) as peer:
        heard = await peer.execute("print('x')")
        assert heard.text() == "x\n"
        heard = await peer.execute("import sys; sys.stdout = None; print('lost')")
        assert heard.reply["status"] == "ok"


async def test_display_and_its_updates(peer: Peer) -> None:
    heard = await peer.execute(
        "from IPython.display import HTML, clear_output, display\n"
        "handle = display(HTML('<b>x</b>'), display_id='one')\n"
        "handle.update(HTML('<b>y</b>'))\n"
        "clear_output(wait=True)\n"
        "display({'text/plain': 'raw'}, raw=True)"
    )
    assert heard.types[2:-1] == [
        "display_data",
        "update_display_data",
        "clear_output",
        "display_data",
    ]
    first, last = heard.contents("display_data")
    assert first["data"]["text/html"] == "<b>x</b>"
    assert first["transient"] == {"display_id": "one"}
    assert heard.contents("update_display_data")[0]["data"]["text/html"] == "<b>y</b>"
    assert heard.contents("clear_output") == [{"wait": True}]
    assert last["data"] == {"text/plain": "raw"}


async def test_an_error_shows_the_users_lines_only(peer: Peer) -> None:
    heard = await peer.execute("def f():\n    raise ValueError('no good')\n\nf()")
    (error,) = heard.contents("error")
    assert (error["ename"], error["evalue"]) == ("ValueError", "no good")
    text = "\n".join(error["traceback"])
    assert "raise" in text
    assert "trikernel" not in text
    assert heard.reply["traceback"] == error["traceback"]
    assert (heard.reply["ename"], heard.reply["evalue"]) == ("ValueError", "no good")
    assert heard.types == ["status:busy", "execute_input", "error", "status:idle"]


async def test_trios_own_frames_are_left_out(peer: Peer) -> None:
    heard = await peer.execute(
        "import trio\nwith trio.fail_after(1):\n    await trio.sleep_forever()"
    )
    assert heard.reply["ename"] == "TooSlowError"
    text = "\n".join(heard.reply["traceback"])
    assert "fail_after" in text
    assert "Cancelled" not in text
    assert "_run.py" not in text
    assert "trikernel" not in text


@pytest.mark.parametrize(
    ("code", "ename"),
    [
        ("1/0", "ZeroDivisionError"),
        ("x =", "SyntaxError"),
        ("def f():\nreturn 1", "IndentationError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise SystemExit(3)", "SystemExit"),
        ("import sys; sys.exit()", "SystemExit"),
        ("return 5", "SyntaxError"),
        ("def f(): f()\nf()", "RecursionError"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
        ("raise ValueError('\\ud800')", "ValueError"),
        ("import trio\nasync with trio.open_nursery() as n: 1/0", "ExceptionGroup"),
        ("%no_such_magic", "UsageError"),
        ("\0", "SyntaxError"),
    ],
)
async def test_errors_of_every_kind_are_answered_and_the_kernel_goes_on(
    peer: Peer, code: str, ename: str
) -> None:
    heard = await peer.execute(code, stop_on_error=False)
    assert heard.reply["status"] == "error"
    assert heard.reply["ename"] == ename
    assert results(await peer.execute("1 + 1")) == ["2"]


async def test_an_exception_group_shows_every_leaf(peer: Peer) -> None:
    heard = await peer.execute(
        "import trio\n"
        "async def fail(error):\n"
        "    raise error\n"
        "async with trio.open_nursery() as nursery:\n"
        "    nursery.start_soon(fail, ValueError('one'))\n"
        "    nursery.start_soon(fail, KeyError('two'))\n"
    )
    (error,) = heard.contents("error")
    text = "\n".join(error["traceback"])
    assert error["ename"] == "ExceptionGroup"
    assert "ValueError: one" in text
    assert "KeyError: 'two'" in text
    assert "Cell In[1], line 3, in fail" in text
    assert not any("\n" in line for line in error["traceback"])


async def test_a_silent_cell_shows_nothing(peer: Peer) -> None:
    heard = await peer.execute("print('x')\n1 + 1", silent=True)
    assert heard.types == ["status:busy", "status:idle"]
    assert (await peer.execute("1/0", silent=True)).types == ["status:busy", "status:idle"]


async def test_user_expressions_are_evaluated(peer: Peer) -> None:
    expressions = {"good": "1 + 1", "bad": "1 / 0"}
    reply = (await peer.execute("x = 1", user_expressions=expressions)).reply
    values = reply["user_expressions"]
    assert values["good"]["data"]["text/plain"] == "2"
    assert values["bad"]["ename"] == "ZeroDivisionError"


async def test_payloads_ask_the_frontend(peer: Peer) -> None:
    (page,) = (await peer.execute("print?")).reply["payload"]
    assert page["source"] == "page"
    assert "text/plain" in page["data"]
    heard = await peer.execute("get_ipython().set_next_input('next')")
    assert heard.reply["payload"] == [
        {"source": "set_next_input", "text": "next", "replace": False}
    ]
    assert (await peer.execute("exit")).reply["payload"] == [
        {"source": "ask_exit", "keepkernel": False}
    ]
    assert (await peer.execute("1")).reply["payload"] == []


async def test_an_awaiting_cell_is_interrupted(peer: Peer) -> None:
    msg_id = peer.send(
        "execute_request",
        {"code": "import trio\ntry:\n    await trio.sleep_forever()\nfinally:\n    print('end')"},
    )
    while (await peer.hear()).msg_type != "execute_input":
        continue
    await trio.testing.wait_all_tasks_blocked()
    await peer.ask("interrupt_request", channel="control")
    heard = Heard(await peer.receive(), await peer.until_idle(msg_id))
    assert heard.reply["ename"] == heard.contents("error")[0]["ename"] == "KeyboardInterrupt"
    assert heard.text() == "end\n"
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(heard.reply["traceback"]))
    assert "----> 3     await trio.sleep_forever()" in text
    assert "trikernel" not in text
    assert "_core" not in text


async def test_an_aborted_cell_says_so(peer: Peer) -> None:
    code = {"code": "import trio\nawait trio.sleep_forever()"}
    msg_id = peer.send("execute_request", code)
    while (await peer.hear()).msg_type != "execute_input":
        continue
    await trio.testing.wait_all_tasks_blocked()
    await peer.ask("abort_request", {"msg_ids": [msg_id]}, channel="control")
    heard = Heard(await peer.receive(), await peer.until_idle(msg_id))
    assert heard.reply["status"] == "aborted"
    assert heard.contents("error")[0]["ename"] == "AbortedError"


async def test_two_kernels_in_one_process_keep_apart(
    autojump_clock: trio.testing.MockClock,
) -> None:
    code = "from IPython.display import display\nprint('{0}')\ndisplay('{0}')\nx = '{0}'"
    async with open_peer(PythonKernel()) as one, open_peer(PythonKernel()) as two:
        for peer, name in [(one, "one"), (two, "two"), (one, "one")]:
            heard = await peer.execute(code.format(name))
            assert heard.text() == f"{name}\n"
            assert heard.contents("display_data")[0]["data"]["text/plain"] == f"'{name}'"
        assert results(await one.execute("x")) == ["'one'"]
        assert results(await two.execute("x")) == ["'two'"]


@pytest.mark.seed(16)
async def test_completion_inspection_and_completeness(serving: Serving) -> None:
    async with serving(PythonKernel()) as peer:
        await peer.execute("variable_one = variable_two = 'text'")
        reply = (await peer.ask("complete_request", {"code": "print(variable_"})).reply
        assert reply["matches"] == ["variable_one", "variable_two"]
        assert (reply["cursor_start"], reply["cursor_end"]) == (6, 15)
        details = reply["metadata"]["_jupyter_types_experimental"]
        assert [one["text"] for one in details] == reply["matches"]

        reply = (await peer.ask("inspect_request", {"code": "variable_one"})).reply
        assert reply["found"]
        assert "str" in reply["data"]["text/plain"]
        assert not (await peer.ask("inspect_request", {"code": "no_such_name"})).reply["found"]

        for code, expected in [
            ("x = 1", {"status": "complete"}),
            ("for n in x:", {"status": "incomplete", "indent": "    "}),
            ("await trio.sleep(1)", {"status": "complete"}),
            ("x = = 1", {"status": "invalid"}),
        ]:
            assert (await peer.ask("is_complete_request", {"code": code})).reply == expected


@pytest.mark.seed(16)
async def test_history_of_every_kind(serving: Serving) -> None:
    async with serving(PythonKernel()) as peer:
        for code in ("alpha = 1", "alpha + 1", "beta = 2"):
            await peer.execute(code)

        async def history(**asked: Any) -> list[Any]:
            reply = (
                await peer.ask("history_request", {"raw": True, "output": False, **asked})
            ).reply
            return [entry[2] for entry in reply["history"]]

        assert await history(hist_access_type="tail", n=2) == ["alpha + 1", "beta = 2"]
        found = await history(hist_access_type="range", session=0, start=1, stop=3)
        assert found == ["alpha = 1", "alpha + 1"]
        assert await history(hist_access_type="search", pattern="alpha*", n=5) == [
            "alpha = 1",
            "alpha + 1",
        ]


@pytest.mark.seed(17)
async def test_clear_empties_the_namespace(serving: Serving) -> None:
    async with serving(PythonKernel()) as peer:
        await peer.execute("x = 1")
        assert (await peer.ask("clear_request", channel="control")).reply == {"status": "ok"}
        assert (await peer.execute("x")).reply["ename"] == "NameError"


async def test_a_comm_opens_speaks_and_closes(serving: Serving) -> None:
    async with serving(PythonKernel()) as peer:
        heard = await peer.execute(
            "import comm\n"
            "got = []\n"
            "def target(one, message):\n"
            "    one.on_msg(lambda message: (got.append(message['content']['data']),\n"
            "                                print('heard'), one.send({'echo': True})))\n"
            "comm.get_comm_manager().register_target('mine', target)\n"
            "mine = comm.create_comm(target_name='theirs', data={'a': 1})"
        )
        (opened,) = heard.contents("comm_open")
        assert (opened["target_name"], opened["data"]) == ("theirs", {"a": 1})

        content = {"comm_id": "c1", "target_name": "mine", "data": {}}
        await peer.until_idle(peer.send("comm_open", content))
        about = await peer.until_idle(peer.send("comm_msg", {"comm_id": "c1", "data": {"x": 2}}))
        assert [one.msg_type for one in about] == ["status", "stream", "comm_msg", "status"]
        assert about[2].content["data"] == {"echo": True}
        comms = (await peer.ask("comm_info_request", {"target_name": "mine"})).reply["comms"]
        assert comms == {"c1": {"target_name": "mine"}}
        assert results(await peer.execute("got")) == ["[{'x': 2}]"]
        await peer.until_idle(peer.send("comm_close", {"comm_id": "c1", "data": {}}))
        comms = (await peer.ask("comm_info_request", {"target_name": "mine"})).reply["comms"]
        assert comms == {}


@pytest.mark.promise(6)
async def test_comm_messages_are_served_while_a_cell_awaits(serving: Serving) -> None:
    async with serving(PythonKernel()) as peer:
        await peer.execute(
            "import comm, trio\n"
            "event = trio.Event()\n"
            "def target(one, message):\n"
            "    one.on_msg(lambda message: event.set())\n"
            "comm.get_comm_manager().register_target('mine', target)"
        )
        msg_id = peer.send("execute_request", {"code": "await event.wait()\n'woken'"})
        while "event.wait" not in (await peer.hear()).content.get("code", ""):
            continue
        content = {"comm_id": "c1", "target_name": "mine", "data": {}}
        peer.send("comm_open", content)
        peer.send("comm_msg", {"comm_id": "c1", "data": {}})
        heard = Heard(await peer.receive(), await peer.until_idle(msg_id))
        assert heard.reply["status"] == "ok"
        assert results(heard) == ["'woken'"]
