"""Cells of the Python kernel: Trio at the top level, results, displays, errors, streams."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio.testing

from trikernel.client import Execution
from trikernel.python import PythonKernel
from trikernel.python.shell import ZMQInteractiveShell
from trikernel.testing import CheckedClient, message_types

from ..cells import ask, contents, reply_of, served, until_input
from ..conftest import Serving


@pytest.fixture
async def client(autojump_clock: trio.testing.MockClock) -> AsyncIterator[CheckedClient]:
    async with served(PythonKernel()) as client:
        yield client


def results(heard: Execution) -> list[str]:
    return [one["data"]["text/plain"] for one in contents(heard, "execute_result")]


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
async def test_the_last_expression_is_the_result(
    client: CheckedClient, code: str, result: str | None
) -> None:
    heard = await client.execute(code)
    assert heard.status == "ok"
    assert results(heard) == ([] if result is None else [result])


@pytest.mark.promise(17)
async def test_a_nursery_at_the_top_level(client: CheckedClient) -> None:
    heard = await client.execute(
        "import trio\n"
        "async def say(word, seconds):\n"
        "    await trio.sleep(seconds)\n"
        "    print(word)\n"
        "async with trio.open_nursery() as nursery:\n"
        "    nursery.start_soon(say, 'second', 2)\n"
        "    nursery.start_soon(say, 'first', 1)\n"
        "trio.current_time() > 0"
    )
    assert heard.stdout == "first\nsecond\n"
    assert results(heard) == ["True"]


async def test_names_last_from_cell_to_cell_and_results_are_kept(client: CheckedClient) -> None:
    await client.execute("a = 20")
    await client.execute("a + 1")
    assert results(await client.execute("_ + 1, Out[2], In[1], __name__")) == [
        "(22, 21, 'a = 20', '__main__')"
    ]


@pytest.mark.promise(12)
async def test_context_variables_last_from_cell_to_cell(client: CheckedClient) -> None:
    await client.execute("import contextvars; v = contextvars.ContextVar('v', default=0); v.set(1)")
    await client.execute(
        "await trio.lowlevel.checkpoint() if 'trio' in dir() else v.set(v.get() + 1)"
    )
    assert results(await client.execute("v.get()")) == ["2"]


async def test_cells_run_in_one_task_one_after_the_other(client: CheckedClient) -> None:
    await client.execute("import trio; first = trio.lowlevel.current_task()")
    assert results(await client.execute("trio.lowlevel.current_task() is first")) == ["True"]


async def test_the_counter_follows_store_history(client: CheckedClient) -> None:
    assert reply_of(await client.execute("1"))["execution_count"] == 1
    assert reply_of(await client.execute("2", store_history=False))["execution_count"] == 1
    assert reply_of(await client.execute("3", silent=True))["execution_count"] == 1
    assert reply_of(await client.execute(""))["execution_count"] == 1
    assert reply_of(await client.execute("4"))["execution_count"] == 2
    assert reply_of(await client.execute("5"))["execution_count"] == 3


async def test_streams_keep_their_order_and_their_names(client: CheckedClient) -> None:
    heard = await client.execute(
        "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c', flush=True)\n"
        "sys.stdout.writelines(['d', 'e'])"
    )
    assert [(one["name"], one["text"]) for one in contents(heard, "stream")] == [
        ("stdout", "a\n"),
        ("stderr", "b\n"),
        ("stdout", "c\n"),
        ("stdout", "de"),
    ]


async def test_many_prints_are_few_messages(client: CheckedClient) -> None:
    heard = await client.execute("for number in range(20_000): print(number)")
    assert heard.stdout == "".join(f"{number}\n" for number in range(20_000))
    assert len(contents(heard, "stream")) < 20


async def test_output_of_this_process_stays_where_it_was(
    client: CheckedClient, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = await client.execute("print('cell')")
    print("test")
    assert heard.stdout == "cell\n"


def test_streams_are_put_back_when_no_kernel_is_served() -> None:
    before = (sys.stdout, sys.stderr, input)

    async def main() -> None:
        async with served(PythonKernel()) as client:
            assert sys.stdout is not before[0]
            await client.execute("1")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (sys.stdout, sys.stderr, input) == before


@pytest.mark.seed(30)
async def test_a_stdout_of_none_fails_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    async with served(PythonKernel()) as client:
        heard = await client.execute("print('x')")
        assert heard.stdout == "x\n"
        heard = await client.execute("import sys; sys.stdout = None; print('lost')")
        assert heard.status == "ok"


async def test_display_and_its_updates(client: CheckedClient) -> None:
    heard = await client.execute(
        "from IPython.display import HTML, clear_output, display\n"
        "handle = display(HTML('<b>x</b>'), display_id='one')\n"
        "handle.update(HTML('<b>y</b>'))\n"
        "clear_output(wait=True)\n"
        "display({'text/plain': 'raw'}, raw=True)"
    )
    assert message_types(heard)[2:-1] == [
        "display_data",
        "update_display_data",
        "clear_output",
        "display_data",
    ]
    first, last = contents(heard, "display_data")
    assert first["data"]["text/html"] == "<b>x</b>"
    assert first["transient"] == {"display_id": "one"}
    assert contents(heard, "update_display_data")[0]["data"]["text/html"] == "<b>y</b>"
    assert contents(heard, "clear_output") == [{"wait": True}]
    assert last["data"] == {"text/plain": "raw"}


async def test_an_error_shows_the_users_lines_only(client: CheckedClient) -> None:
    heard = await client.execute("def f():\n    raise ValueError('no good')\n\nf()")
    (error,) = contents(heard, "error")
    assert (error["ename"], error["evalue"]) == ("ValueError", "no good")
    text = "\n".join(error["traceback"])
    assert "raise" in text
    assert "trikernel" not in text
    assert reply_of(heard)["traceback"] == error["traceback"]
    assert (reply_of(heard)["ename"], reply_of(heard)["evalue"]) == ("ValueError", "no good")
    assert message_types(heard) == ["status:busy", "execute_input", "error", "status:idle"]


async def test_trios_own_frames_are_left_out(client: CheckedClient) -> None:
    heard = await client.execute(
        "import trio\nwith trio.fail_after(1):\n    await trio.sleep_forever()"
    )
    assert reply_of(heard)["ename"] == "TooSlowError"
    text = "\n".join(reply_of(heard)["traceback"])
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
    client: CheckedClient, code: str, ename: str
) -> None:
    heard = await client.execute(code, stop_on_error=False)
    assert heard.status == "error"
    assert reply_of(heard)["ename"] == ename
    assert results(await client.execute("1 + 1")) == ["2"]


async def test_an_exception_group_shows_every_leaf(client: CheckedClient) -> None:
    heard = await client.execute(
        "import trio\n"
        "async def fail(error):\n"
        "    raise error\n"
        "async with trio.open_nursery() as nursery:\n"
        "    nursery.start_soon(fail, ValueError('one'))\n"
        "    nursery.start_soon(fail, KeyError('two'))\n"
    )
    (error,) = contents(heard, "error")
    text = "\n".join(error["traceback"])
    assert error["ename"] == "ExceptionGroup"
    assert "ValueError: one" in text
    assert "KeyError: 'two'" in text
    assert "Cell In[1], line 3, in fail" in text
    assert not any("\n" in line for line in error["traceback"])


async def test_a_silent_cell_shows_nothing(client: CheckedClient) -> None:
    heard = await client.execute("print('x')\n1 + 1", silent=True)
    assert message_types(heard) == ["status:busy", "status:idle"]
    assert message_types(await client.execute("1/0", silent=True)) == ["status:busy", "status:idle"]


async def test_user_expressions_are_evaluated(client: CheckedClient) -> None:
    expressions = {"good": "1 + 1", "bad": "1 / 0"}
    reply = reply_of(await client.execute("x = 1", user_expressions=expressions))
    values = reply["user_expressions"]
    assert values["good"]["data"]["text/plain"] == "2"
    assert values["bad"]["ename"] == "ZeroDivisionError"


async def test_payloads_ask_the_frontend(client: CheckedClient) -> None:
    (page,) = reply_of(await client.execute("print?"))["payload"]
    assert page["source"] == "page"
    assert "text/plain" in page["data"]
    heard = await client.execute("get_ipython().set_next_input('next')")
    assert reply_of(heard)["payload"] == [
        {"source": "set_next_input", "text": "next", "replace": False}
    ]
    assert reply_of(await client.execute("exit"))["payload"] == [
        {"source": "ask_exit", "keepkernel": False}
    ]
    assert reply_of(await client.execute("1"))["payload"] == []


async def test_an_awaiting_cell_is_interrupted(client: CheckedClient) -> None:
    heard = client.start(
        "import trio\ntry:\n    await trio.sleep_forever()\nfinally:\n    print('end')"
    )
    await until_input(heard)
    await trio.testing.wait_all_tasks_blocked()
    await ask(client, "interrupt_request", channel="control")
    await heard.wait()
    assert reply_of(heard)["ename"] == contents(heard, "error")[0]["ename"] == "KeyboardInterrupt"
    assert heard.stdout == "end\n"
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(reply_of(heard)["traceback"]))
    assert "----> 3     await trio.sleep_forever()" in text
    assert "trikernel" not in text
    assert "_core" not in text


async def test_an_aborted_cell_says_so(client: CheckedClient) -> None:
    heard = client.start("import trio\nawait trio.sleep_forever()")
    await until_input(heard)
    await trio.testing.wait_all_tasks_blocked()
    await ask(client, "abort_request", {"msg_ids": [heard.msg_id]}, channel="control")
    await heard.wait()
    assert heard.status == "aborted"
    assert contents(heard, "error")[0]["ename"] == "AbortedError"


async def test_two_kernels_in_one_process_keep_apart(
    autojump_clock: trio.testing.MockClock,
) -> None:
    code = "from IPython.display import display\nprint('{0}')\ndisplay('{0}')\nx = '{0}'"
    async with served(PythonKernel()) as one, served(PythonKernel()) as two:
        for client, name in [(one, "one"), (two, "two"), (one, "one")]:
            heard = await client.execute(code.format(name))
            assert heard.stdout == f"{name}\n"
            assert contents(heard, "display_data")[0]["data"]["text/plain"] == f"'{name}'"
        assert results(await one.execute("x")) == ["'one'"]
        assert results(await two.execute("x")) == ["'two'"]


@pytest.mark.seed(16)
async def test_completion_inspection_and_completeness(serving: Serving) -> None:
    async with serving(PythonKernel()) as client:
        await client.execute("variable_one = variable_two = 'text'")
        reply = reply_of(await ask(client, "complete_request", {"code": "print(variable_"}))
        assert reply["matches"] == ["variable_one", "variable_two"]
        assert (reply["cursor_start"], reply["cursor_end"]) == (6, 15)
        details = reply["metadata"]["_jupyter_types_experimental"]
        assert [one["text"] for one in details] == reply["matches"]

        reply = reply_of(await ask(client, "inspect_request", {"code": "variable_one"}))
        assert reply["found"]
        assert "str" in reply["data"]["text/plain"]
        assert not reply_of(await ask(client, "inspect_request", {"code": "no_such_name"}))["found"]

        for code, expected in [
            ("x = 1", {"status": "complete"}),
            ("for n in x:", {"status": "incomplete", "indent": "    "}),
            ("await trio.sleep(1)", {"status": "complete"}),
            ("x = = 1", {"status": "invalid"}),
        ]:
            assert reply_of(await ask(client, "is_complete_request", {"code": code})) == expected


@pytest.mark.seed(16)
async def test_history_of_every_kind(serving: Serving) -> None:
    async with serving(PythonKernel()) as client:
        for code in ("alpha = 1", "alpha + 1", "beta = 2"):
            await client.execute(code)

        async def history(**asked: Any) -> list[Any]:
            content = {"raw": True, "output": False, **asked}
            reply = await client.request("history_request", content)
            return [entry[2] for entry in reply.content["history"]]

        assert reply_of(await client.execute("'\ud800'"))["ename"] == "UnicodeEncodeError"
        assert await history(hist_access_type="tail", n=2) == ["alpha + 1", "beta = 2"]
        found = await history(hist_access_type="range", session=0, start=1, stop=3)
        assert found == ["alpha = 1", "alpha + 1"]
        assert await history(hist_access_type="search", pattern="alpha*", n=5) == [
            "alpha = 1",
            "alpha + 1",
        ]


@pytest.mark.seed(17)
async def test_clear_empties_the_namespace(serving: Serving) -> None:
    async with serving(PythonKernel()) as client:
        await client.execute("x = 1")
        assert reply_of(await ask(client, "clear_request", channel="control")) == {"status": "ok"}
        assert reply_of(await client.execute("x"))["ename"] == "NameError"


async def test_a_comm_opens_speaks_and_closes(serving: Serving) -> None:
    async with serving(PythonKernel()) as client:
        heard = await client.execute(
            "import comm\n"
            "got = []\n"
            "def target(one, message):\n"
            "    one.on_msg(lambda message: (got.append(message['content']['data']),\n"
            "                                print('heard'), one.send({'echo': True})))\n"
            "comm.get_comm_manager().register_target('mine', target)\n"
            "mine = comm.create_comm(target_name='theirs', data={'a': 1})"
        )
        (opened,) = contents(heard, "comm_open")
        assert (opened["target_name"], opened["data"]) == ("theirs", {"a": 1})

        content = {"comm_id": "c1", "target_name": "mine", "data": {}}
        await ask(client, "comm_open", content)
        heard = await ask(client, "comm_msg", {"comm_id": "c1", "data": {"x": 2}})
        assert message_types(heard) == ["status:busy", "stream", "comm_msg", "status:idle"]
        assert contents(heard, "comm_msg")[0]["data"] == {"echo": True}
        comms = reply_of(await ask(client, "comm_info_request", {"target_name": "mine"}))["comms"]
        assert comms == {"c1": {"target_name": "mine"}}
        assert results(await client.execute("got")) == ["[{'x': 2}]"]
        await ask(client, "comm_close", {"comm_id": "c1", "data": {}})
        comms = reply_of(await ask(client, "comm_info_request", {"target_name": "mine"}))["comms"]
        assert comms == {}


@pytest.mark.promise(6)
async def test_comm_messages_are_served_while_a_cell_awaits(serving: Serving) -> None:
    async with serving(PythonKernel()) as client:
        await client.execute(
            "import comm, trio\n"
            "event = trio.Event()\n"
            "def target(one, message):\n"
            "    one.on_msg(lambda message: event.set())\n"
            "comm.get_comm_manager().register_target('mine', target)"
        )
        heard = await until_input(client.start("await event.wait()\n'woken'"))
        content = {"comm_id": "c1", "target_name": "mine", "data": {}}
        client.send("comm_open", content)
        client.send("comm_msg", {"comm_id": "c1", "data": {}})
        await heard.wait()
        assert heard.status == "ok"
        assert results(heard) == ["'woken'"]


class OwnShell(ZMQInteractiveShell):
    def run_cell(self, raw_cell: str, store_history: bool = False, silent: bool = False) -> Any:
        self.user_ns.setdefault("seen", []).append(raw_cell)
        return super().run_cell(raw_cell, store_history, silent)


async def test_the_run_cell_of_a_subclass_runs_what_awaits_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    kernel = PythonKernel()
    kernel.shell_class = OwnShell
    async with served(kernel) as client:
        for code, status in (
            ("x = 1", "ok"),
            ("await __import__('trio').sleep(1)", "ok"),
            ("%time x", "ok"),
            ("%time await __import__('trio').sleep(1)", "ok"),
            ("get_ipython().run_line_magic('who', '')", "ok"),
            ("1/0", "error"),
        ):
            heard = await client.execute(code, stop_on_error=False)
            assert reply_of(heard)["status"] == status
            assert len(contents(heard, "error")) == (status == "error")
        heard = await client.execute("seen")
        (result,) = contents(heard, "execute_result")
        assert result["data"]["text/plain"] == (
            "['x = 1', '%time x', \"get_ipython().run_line_magic('who', '')\", '1/0', 'seen']"
        )
        assert reply_of(heard)["execution_count"] == 7


async def test_a_run_cell_that_was_put_on_the_shell_is_called(client: CheckedClient) -> None:
    await client.expect(
        "ip, seen = get_ipython(), []\nown = ip.run_cell\n"
        "def run_cell(code, *args, **options):\n"
        "    seen.append(code)\n    return own(code, *args, **options)\n"
        "ip.run_cell = run_cell"
    )
    await client.expect("x = 1")
    await client.expect("await __import__('trio').sleep(0)")
    await client.expect("seen", result="['x = 1', 'seen']")
    await client.expect("del ip.run_cell\n0", result="0")
    await client.expect("len(seen)", result="3")
