"""A kernel's process is debugged over the wire, as a frontend does; one process for all of it."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("debugpy")

from trikernel.python.cell_names import HASH_SEED, murmur2

from ..processes import ROOT, TIMEOUT
from .frontend import Frontend, frontend

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

FUNCTION = "def f(x):\n    y = x + 1\n    return y\n\nz = f(3)\nw = z"


@pytest.fixture(scope="module")
def process() -> Iterator[Frontend]:
    with frontend() as found:
        yield found


@pytest.fixture
def debugged(process: Frontend) -> Iterator[Frontend]:
    """The kernel with its debugger attached, which is detached afterwards."""
    process.heard.clear()
    process.start()
    yield process
    process.get("disconnect", restart=False, terminateDebuggee=False)
    assert process.run("1")["status"] == "ok"


def test_nothing_is_imported_and_traced_before_a_debugger_starts(process: Frontend) -> None:
    info = process.get("debugInfo")
    assert info["isStarted"] is False
    assert info["hashSeed"] == HASH_SEED
    process.run("there = {'number': 1}")
    variables = process.get("inspectVariables")["variables"]
    assert not [one["name"] for one in variables if one["name"].startswith("_i")]
    (found,) = (one for one in variables if one["name"] == "there")
    inside = process.get("variables", variablesReference=found["variablesReference"])["variables"]
    assert [(one["name"], one["value"]) for one in inside] == [("'number'", "1")]
    rich = process.get("richInspectVariables", variableName="there")
    assert rich["data"]["text/plain"] == "{'number': 1}"
    assert any(one["name"] == "trikernel" for one in process.get("modules")["modules"])
    traced = "import sys; print('pydevd' in sys.modules, sys.gettrace())"
    assert process.text(traced) == "False None\n"


def test_a_session_leaves_nothing_behind_and_a_new_one_can_be_had(process: Frontend) -> None:
    threads = "import sys; print(sys.gettrace(), len(sys._current_frames()))"
    before = process.text(threads)
    for _ in range(2):
        process.start()
        process.breakpoints(FUNCTION, 2)
        cell = process.kernel.send(FUNCTION)
        thread, stack = process.stopped()
        assert stack == [("f", 2), ("<module>", 5)]
        assert process.get("debugInfo")["stoppedThreads"] == [thread]
        process.get("disconnect")  # goes on, without breakpoints
        assert process.finish(cell)["status"] == "ok"
        assert process.get("debugInfo")["isStarted"] is False
    assert process.text(threads) == before
    if sys.version_info >= (3, 12):
        assert process.text("print(sys.monitoring.get_tool(0))") == "None\n"


def test_a_cell_is_stepped_through_and_looked_at(debugged: Frontend) -> None:
    path = Path(debugged.breakpoints(FUNCTION, 2))
    assert path.name == f"{murmur2(FUNCTION, HASH_SEED)}.py"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert debugged.get("source", source={"path": str(path)})["content"] == FUNCTION
    cell = debugged.kernel.send(FUNCTION)
    event = debugged.next("debug_event", "stopped")
    assert event["parent_header"]["msg_id"] == cell
    thread = event["content"]["body"]["threadId"]
    frame = debugged.frame(thread)
    assert debugged.names(frame) == {"x": "3"}
    assert debugged.get("evaluate", expression="x * 2", frameId=frame)["result"] == "6"
    rich = debugged.get("richInspectVariables", variableName="x", frameId=frame)
    assert rich["data"] == {"text/plain": "3"}
    names = {"srcVariableName": "x", "dstVariableName": "copied"}
    debugged.get("copyToGlobals", srcFrameId=frame, **names)
    assert debugged.step("next", thread) == [("f", 3), ("<module>", 5)]
    assert debugged.step("stepOut", thread) == [("<module>", 5)]
    assert debugged.step("next", thread) == [("<module>", 6)]
    assert debugged.finish(cell, thread)["status"] == "ok"
    assert debugged.text("print(copied)") == "3\n"
    info = debugged.get("debugInfo")
    assert info["breakpoints"] == [{"source": str(path), "breakpoints": [{"line": 2}]}]


def test_breakpoints_hold_when_a_cell_runs_again_and_below_empty_lines(debugged: Frontend) -> None:
    code = f"\n\n\n{FUNCTION}"
    debugged.breakpoints(code, 5)
    for _ in range(2):
        cell = debugged.kernel.send(code)
        thread, stack = debugged.stopped()
        assert stack == [("f", 5), ("<module>", 8)]
        assert debugged.finish(cell, thread)["status"] == "ok"
        debugged.run("renumbered = 1")


def test_a_breakpoint_on_a_line_without_code_comes_to_the_next_one(debugged: Frontend) -> None:
    path = debugged.breakpoints("# one\n\nx = 1\n\n# two\ny = 2\n# three", 1, 4, 7)
    (found,) = debugged.get("debugInfo")["breakpoints"]
    assert found["source"] == path
    assert [one["line"] for one in found["breakpoints"]] == [3, 6, 6]
    debugged.breakpoints("%magic\nx = 1", 2)  # no Python: where it is
    assert [one["line"] for one in debugged.get("debugInfo")["breakpoints"][1]["breakpoints"]] == [
        2
    ]


def test_what_computes_already_stops_at_a_new_breakpoint_and_by_a_pause(debugged: Frontend) -> None:
    """Without a reason nothing is traced, on 3.11: there, it begins while the cell runs."""
    if sys.version_info < (3, 12):
        assert debugged.text("import sys; print(sys.gettrace())") == "None\n"
    code = "import time\ndef f():\n    time.sleep(0.01)\nprint('here')\nwhile True:\n    f()"
    cell = debugged.kernel.send(code)
    debugged.next("stream")
    debugged.breakpoints(code, 3)
    thread, stack = debugged.stopped()
    assert stack == [("f", 3), ("<module>", 6)]
    debugged.breakpoints(code)
    debugged.get("continue", threadId=thread)
    debugged.get("pause", threadId=thread)
    assert debugged.stopped()[1][-1][0] == "<module>"
    debugged.get("continue", threadId=thread)
    debugged.kernel.interrupt()
    assert debugged.finish(cell)["ename"] == "KeyboardInterrupt"


def test_control_is_answered_while_hundreds_of_breakpoints_are_set(debugged: Frontend) -> None:
    code = "\n".join(f"x{number} = {number}" for number in range(1, 801))
    source = {"path": debugged.get("dumpCell", code=code)["sourcePath"]}
    lines = [{"line": number} for number in range(1, 801)]
    arguments = {"source": source, "breakpoints": lines, "sourceModified": False}
    message = {"seq": 9000, "type": "request", "command": "setBreakpoints", "arguments": arguments}
    setting = debugged.send(message)
    asked = debugged.kernel.client.session.msg("kernel_info_request", {})
    debugged.kernel.client.control_channel.send(asked)
    order, client = dict[str, Any](), debugged.kernel.client
    while setting not in order:
        reply = client.get_control_msg(timeout=TIMEOUT)
        order[reply["parent_header"]["msg_id"]] = reply["content"]
    assert list(order) == [asked["header"]["msg_id"], setting]
    assert order[setting]["success"], order[setting]
    assert [one["line"] for one in order[setting]["body"]["breakpoints"]] == [*range(1, 801)]


def test_conditions_and_log_points(debugged: Frontend) -> None:
    code = "for i in range(9):\n    x = i"
    debugged.breakpoints(code, 2, condition="i == 5")
    cell = debugged.kernel.send(code)
    thread, _ = debugged.stopped()
    found = debugged.get("evaluate", expression="i", frameId=debugged.frame(thread))
    assert found["result"] == "5"
    assert debugged.finish(cell, thread)["status"] == "ok"
    code = f"import threading\ngo = threading.Event()\n{code}\ngo.wait()"
    debugged.breakpoints(code, 4, logMessage="it is {i}", condition="i > 7")
    cell = debugged.kernel.send(code)
    event = debugged.next("debug_event", "output")
    assert event["content"]["body"]["output"] == "it is 8\n"
    assert event["parent_header"]["msg_id"] == cell
    debugged.get("evaluate", expression="go.set()")
    assert debugged.finish(cell)["status"] == "ok"


AWAITING = """\
import trio
async def g(n):
    await trio.sleep(0.001)
    return n + 1
x = await g(1)
y = x"""


def test_steps_over_into_and_out_of_what_awaits(debugged: Frontend) -> None:
    debugged.breakpoints(AWAITING, 5)
    cell = debugged.kernel.send(AWAITING)
    thread, stack = debugged.stopped()
    assert stack == [("<module>", 5)]
    assert debugged.step("stepIn", thread) == [("g", 3), ("<module>", 5)]
    assert debugged.step("next", thread) == [("g", 4), ("<module>", 5)]
    assert debugged.step("stepOut", thread)[0][0] == "<module>"
    while debugged.stack(thread) == [("<module>", 5)]:
        debugged.step("next", thread)
    assert debugged.stack(thread) == [("<module>", 6)]
    assert debugged.finish(cell, thread)["status"] == "ok"


CHILDREN = """\
import trio
async def child(n):
    await trio.sleep(0.01 * n)
    m = n + 1
    await trio.sleep(0.001)
    return m
async with trio.open_nursery() as children:
    children.start_soon(child, 1)
    children.start_soon(child, 1000)
"""


def test_nursery_children_stop_and_the_other_tasks_are_threads(debugged: Frontend) -> None:
    debugged.breakpoints(CHILDREN, 4)
    cell = debugged.kernel.send(CHILDREN)
    thread, stack = debugged.stopped()
    assert stack == [("child", 4)]
    tasks = {one["name"]: one["id"] for one in debugged.get("threads")["threads"]}
    (other,) = (tasks[name] for name in tasks if name.startswith("task child, of In ["))
    (parent,) = (tasks[name] for name in tasks if name.endswith("its own task"))
    assert debugged.stack(parent) == [("<module>", 7)]
    assert debugged.stack(other) == [("child", 3)]
    frame = debugged.frame(other)
    assert debugged.names(frame) == {"n": "1000"}
    assert debugged.get("evaluate", expression="n + 1", frameId=frame)["result"] == "1001"
    rich = debugged.get("richInspectVariables", variableName="n", frameId=frame)
    assert rich["data"] == {"text/plain": "1000"}
    assert debugged.step("next", other) == [("child", 5)]  # all tasks run in the one thread
    debugged.get("continue", threadId=thread)
    debugged.kernel.interrupt()
    assert debugged.finish(cell)["ename"] == "KeyboardInterrupt"


def test_the_cell_of_the_how_to_stops_in_each_child(debugged: Frontend) -> None:
    code = (ROOT / "docs" / "examples" / "debugged_cell.py").read_text("utf-8")
    page = (ROOT / "docs" / "how-to" / "debug-a-notebook.md").read_text("utf-8")
    assert code.partition('"""\n\n')[2] in page
    line = code.splitlines().index("    total += number") + 1
    debugged.breakpoints(code, line)
    cell = debugged.kernel.send(code)
    numbers = set()
    for number in range(1, 4):
        thread, stack = debugged.stopped()
        assert stack == [("add", line)]
        numbers |= {debugged.names(debugged.frame(thread))["number"]}
        waiting = [one["name"] for one in debugged.get("threads")["threads"] if one["id"] != thread]
        assert sum(name.startswith("task add, of In [") for name in waiting) == 3 - number
        if number < 3:
            debugged.get("continue", threadId=thread)
    assert debugged.finish(cell, thread)["status"] == "ok"
    assert numbers == {"1", "2", "3"}  # in any order, once more than one has slept enough


def test_a_background_task_stops_under_its_cell(debugged: Frontend) -> None:
    code = (
        "import trio\nfrom trikernel.notebook import nursery\n"
        "async def later():\n    await go.wait()\n    done = 1\ngo = trio.Event()\n"
        "nursery.start_soon(later)"
    )
    debugged.breakpoints(code, 5)
    cell = debugged.kernel.send(code)
    assert debugged.finish(cell)["status"] == "ok"
    setting = debugged.kernel.send("go.set()")
    event = debugged.next("debug_event", "stopped")
    assert event["parent_header"]["msg_id"] == cell
    thread = event["content"]["body"]["threadId"]
    assert debugged.stack(thread) == [("later", 5)]
    debugged.get("next", threadId=thread)  # off its end: neither into Trio nor into the next cell
    assert debugged.finish(setting)["status"] == "ok"
    assert debugged.run("a = 1\nb = 2")["status"] == "ok"


@pytest.mark.parametrize("by", ["signal", "message"])
def test_an_interrupt_ends_a_cell_that_stands(debugged: Frontend, by: str) -> None:
    debugged.breakpoints(FUNCTION, 2)
    for _ in range(2):  # the thread is traced as before
        cell = debugged.kernel.send(FUNCTION)
        assert debugged.stopped()[1][0] == ("f", 2)
        debugged.kernel.interrupt(by)
        reply = debugged.finish(cell)
        assert reply["ename"] == "KeyboardInterrupt"
        assert "pydevd" not in "".join(reply["traceback"])
        assert debugged.get("debugInfo")["stoppedThreads"] == []


def test_an_interrupt_ends_what_computes_or_waits_with_a_debugger(debugged: Frontend) -> None:
    wait = "import trio\nprint('here')\nawait trio.sleep_forever()"
    for code in ("print('here')\nwhile True:\n    pass", wait):
        cell = debugged.kernel.send(code)
        debugged.next("stream")
        debugged.kernel.interrupt()
        assert debugged.finish(cell)["ename"] == "KeyboardInterrupt"


@pytest.mark.parametrize("by", ["interrupt", "deletion"])
def test_a_subshell_that_stands_is_stopped(debugged: Frontend, by: str) -> None:
    subshell = debugged.control("create_subshell_request")["subshell_id"]
    debugged.breakpoints(FUNCTION, 2)
    cell = debugged.send_to(subshell, FUNCTION)
    event = debugged.next("debug_event", "stopped")
    assert event["parent_header"]["msg_id"] == cell
    assert debugged.stack(event["content"]["body"]["threadId"]) == [("f", 2), ("<module>", 5)]
    if by == "interrupt":
        debugged.control("interrupt_request", subshell_id=subshell)
        reply = debugged.finish(cell)
        assert reply["ename"] == "KeyboardInterrupt"
        assert "pydevd" not in "".join(reply["traceback"])
    debugged.control("delete_subshell_request", subshell_id=subshell)
    if by == "deletion":
        debugged.next("debug_event", "continued")
        assert debugged.finish(cell)["status"] == "aborted"
    assert debugged.get("debugInfo")["stoppedThreads"] == []
    assert debugged.run("1")["status"] == "ok"


def test_an_interrupt_ends_what_is_paused_while_it_awaits(debugged: Frontend) -> None:
    cell = debugged.kernel.send("import trio\nprint('here')\nawait trio.sleep_forever()")
    debugged.next("stream")
    debugged.get("pause", threadId=1)
    if sys.version_info >= (3, 12):  # else a line of the user's is waited for
        thread, stack = debugged.stopped()
        assert stack == [("<module>", 3)]
        assert debugged.get("debugInfo")["stoppedThreads"] == [thread]
    debugged.kernel.interrupt("message")
    assert debugged.finish(cell)["ename"] == "KeyboardInterrupt"


def test_a_thread_that_a_cell_has_started_stops_under_that_cell(debugged: Frontend) -> None:
    code = "import threading\ndef f():\n    y = 1\none = threading.Thread(target=f)\none.start()"
    debugged.breakpoints(code, 3)
    cell = debugged.kernel.send(code)
    event = debugged.next("debug_event", "stopped")
    assert event["parent_header"]["msg_id"] == cell
    assert debugged.finish(cell, event["content"]["body"]["threadId"])["status"] == "ok"


def test_an_interrupt_has_a_worker_thread_that_stands_go_on(debugged: Frontend) -> None:
    code = "import trio\ndef f():\n    y = 1\n    return y\nawait trio.to_thread.run_sync(f)"
    debugged.breakpoints(code, 3)
    cell = debugged.kernel.send(code)
    event = debugged.next("debug_event", "stopped")
    assert event["parent_header"]["msg_id"] == cell
    debugged.kernel.interrupt("message")
    assert debugged.finish(cell)["ename"] == "KeyboardInterrupt"


def test_the_kernel_answers_while_code_stands(debugged: Frontend) -> None:
    debugged.breakpoints(FUNCTION, 2)
    cell = debugged.kernel.send(FUNCTION)
    thread, _ = debugged.stopped()
    client = debugged.kernel.client
    for name in ("kernel_info_request", "usage_request"):
        client.control_channel.send(client.session.msg(name, {}))
        assert client.get_control_msg(timeout=60)["content"]["status"] == "ok"
    assert client.hb_channel.is_beating()
    assert debugged.finish(cell, thread)["status"] == "ok"


def test_exceptions_stop_where_they_are_raised_and_only_there(debugged: Frontend) -> None:
    debugged.get("setExceptionBreakpoints", filters=["raised"])
    assert debugged.text("print(1)") == "1\n"
    code = "def f():\n    return 1 / 0\ntry:\n    f()\nexcept ZeroDivisionError:\n    pass"
    cell = debugged.kernel.send(code)
    thread, stack = debugged.stopped()
    assert stack == [("f", 2), ("<module>", 4)]
    found = debugged.get("exceptionInfo", threadId=thread)
    assert found["exceptionId"] == "ZeroDivisionError"
    debugged.get("setExceptionBreakpoints", filters=[])
    assert debugged.finish(cell, thread)["status"] == "ok"


def test_what_makes_a_traceback_raises_for_nobody(debugged: Frontend) -> None:
    """pydevd would stop, and be told to go on, at hundreds of exceptions for each error."""
    debugged.get("setExceptionBreakpoints", filters=["raised"])
    cell = debugged.kernel.send("import sys\n1 / 0")
    thread, _ = debugged.stopped()
    debugged.heard.clear()
    assert debugged.finish(cell, thread)["ename"] == "ZeroDivisionError"
    path = "stack_data" + os.sep
    machinery = "get_ipython().kernel._debugger._debuggee.machinery"
    found = debugged.get("evaluate", expression=f"any({path!r} in one for one in {machinery})")
    assert found["result"] == "True"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="pydevd takes handled ones for such")
def test_an_uncaught_exception_is_one_that_ends_the_cell(debugged: Frontend) -> None:
    debugged.get("setExceptionBreakpoints", filters=["uncaught"])
    assert debugged.run("try:\n    1 / 0\nexcept ZeroDivisionError:\n    pass")["status"] == "ok"
    cell = debugged.kernel.send("1 / 0")
    thread, _ = debugged.stopped()
    debugged.get("setExceptionBreakpoints", filters=[])
    assert debugged.finish(cell, thread)["ename"] == "ZeroDivisionError"


def test_the_library_is_left_out_unless_it_is_asked_for(process: Frontend) -> None:
    code = "import fractions\nf = fractions.Fraction(1, 2)\ng = 1"
    for options, name in (({}, "<module>"), ({"justMyCode": False}, "Fraction.__new__")):
        process.start(**options)
        process.breakpoints(code, 2)
        cell = process.kernel.send(code)
        thread, _ = process.stopped()
        assert process.step("stepIn", thread)[0][0] in (name, name.rpartition(".")[2])
        process.get("disconnect")
        assert process.finish(cell)["status"] == "ok"


MALFORMED: list[Any] = [
    {},
    {"type": "request"},
    {"type": "event", "command": "debugInfo", "seq": 1},
    {"type": "request", "command": 5, "seq": "x"},
    {"type": "request", "command": "debugInfo", "seq": "x"},
    {"type": "request", "command": "debugInfo", "seq": 1, "arguments": []},
    {"command": "attach"},
    {"type": "request", "command": "noSuchCommand", "seq": 1},
    {"type": "request", "command": "terminate", "seq": 1},
    {"type": "request", "command": "dumpCell", "seq": 1, "arguments": {"code": 5}},
    {"type": "request", "command": "source", "seq": 1, "arguments": {"source": "x"}},
    {"type": "request", "command": "variables", "seq": 1, "arguments": {"variablesReference": []}},
    {"type": "request", "command": "richInspectVariables", "seq": 1},
    {"type": "request", "command": "copyToGlobals", "seq": 1},
    {"type": "request", "command": "stackTrace", "seq": 1, "arguments": {"threadId": "x"}},
    {"type": "request", "command": "setBreakpoints", "seq": 1, "arguments": {"breakpoints": 5}},
    {"type": "request", "command": "evaluate", "seq": 1, "arguments": {"expression": "1 +"}},
    *(
        {
            "type": "request",
            "command": "setBreakpoints",
            "seq": 1,
            "arguments": {"source": {"path": path}, "breakpoints": [found]},
        }
        for path, found in (
            ("a.py", {"line": "x"}),
            ("a.py", {"line": None}),
            ("a.py", {}),
            ("a.py", 5),
            ("a.py", {"line": 2, "condition": 5}),
            ("a\0b.py", {"line": 2}),
        )
    ),
    *(
        {"type": "request", "command": command, "seq": 1, "arguments": arguments}
        for command, arguments in (
            ("setFunctionBreakpoints", {"breakpoints": "x"}),
            ("setExceptionBreakpoints", {"filters": [], "exceptionOptions": [{}]}),
            ("setPydevdSourceMap", {"source": {"path": "a"}, "pydevdSourceMaps": [{"line": "x"}]}),
            ("attach", {"pathMappings": 5}),
            ("attach", {"debugOptions": 5}),
        )
    ),
]


@pytest.mark.parametrize("attached", [False, True])
def test_what_is_no_request_is_refused(process: Frontend, attached: bool) -> None:
    if attached:
        process.start()
        process.breakpoints(FUNCTION, 2)
    for content in MALFORMED:
        response = process.reply(process.send(content))
        assert response["success"] is False, content
        assert response["message"], content
    if attached:  # the same session, with its breakpoints
        cell = process.kernel.send(FUNCTION)
        thread, _ = process.stopped()
        assert process.finish(cell, thread)["status"] == "ok"
        process.get("disconnect")
    else:
        assert "initialize" in process.ask("attach")["message"]
        assert "initialize" in process.ask("setBreakpoints")["message"]
    assert process.run("1")["status"] == "ok"


def test_numbers_may_repeat_and_large_bodies_are_answered(debugged: Frontend) -> None:
    same = {"seq": 7, "type": "request", "command": "debugInfo"}
    ids = [debugged.send(same) for _ in range(3)]
    assert [debugged.reply(one)["request_seq"] for one in ids] == [7, 7, 7]
    large = "#" * 10_000_000
    assert debugged.get("dumpCell", code=large)["sourcePath"]
    assert debugged.get("evaluate", expression=f"len({json.dumps(large)})")["result"] == "10000000"


def test_a_value_that_does_not_tell_its_text_holds_up_nobody(process: Frontend) -> None:
    process.run(
        "import threading\ngate = threading.Event()\n"
        "class Slow:\n    def __repr__(self):\n        gate.wait()\n        return 'slow'\n"
        "slow = Slow()"
    )
    asked = process.send({"seq": 1, "type": "request", "command": "inspectVariables"})
    assert process.get("debugInfo")["isStarted"] is False
    assert process.text("print(gate.set())") == "None\n"
    assert "slow" in str(process.reply(asked)["body"])
    process.run("del slow")


@pytest.mark.thorough  # it takes the seconds that it is about
def test_code_stands_while_its_slow_values_are_looked_at(debugged: Frontend) -> None:
    code = (
        "import time\nclass Slow:\n    def __repr__(self):\n        time.sleep(3.5)\n"
        "        return 'slow'\nslow = Slow()\nlast = 1"
    )
    debugged.breakpoints(code, 7)
    cell = debugged.kernel.send(code)
    thread, _ = debugged.stopped()
    assert debugged.names(debugged.frame(thread))["slow"] == "slow"
    assert "slow" in str(debugged.get("inspectVariables"))
    assert debugged.get("debugInfo")["stoppedThreads"] == [thread]
    assert debugged.finish(cell, thread)["status"] == "ok"
    debugged.run("del slow")


@pytest.mark.thorough  # it takes the seconds that it is about
def test_an_expression_without_end_is_interrupted(process: Frontend) -> None:
    endless = process.ask("evaluate", expression="all(True for _ in iter(int, 1))")
    assert "5 seconds" in endless["message"]
    deadline = time.monotonic() + TIMEOUT
    while not (again := process.ask("evaluate", expression="1 + 1"))["success"]:
        assert time.monotonic() < deadline, again
    assert again["body"]["result"] == "2"


def test_a_child_of_a_fork_does_not_stop(debugged: Frontend) -> None:
    code = (
        "import os\ndef f():\n    here = 1\n"
        "pid = os.fork()\nif not pid:\n    f()\n    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    debugged.breakpoints(code, 3)
    assert debugged.text(code).endswith("7\n")  # 3.12 warns of forks beside threads


def test_a_shutdown_ends_a_kernel_that_stands(process: Frontend) -> None:
    """The last one: it ends the process."""
    process.start()
    path = Path(process.breakpoints(FUNCTION, 2))
    assert path.exists()
    process.kernel.send(FUNCTION)
    process.stopped()
    client = process.kernel.client
    client.control_channel.send(client.session.msg("shutdown_request", {"restart": True}))
    assert client.get_control_msg(timeout=60)["content"] == {"status": "ok", "restart": True}
    process.next("shutdown_reply")
    assert process.kernel.process.wait(60) == 0
    assert not path.parent.exists()
