"""IPython's magics around code that awaits."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from trikernel.python import PythonKernel

from ..harness import Heard, Peer, open_peer


async def execute(peer: Peer, code: str) -> Heard:
    """Run a cell whose error does not abort the next one."""
    return await peer.execute(code, stop_on_error=False)


@pytest.fixture
async def peer(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Peer]:
    async with open_peer(PythonKernel()) as peer:
        await execute(peer, "import trio")
        yield peer


def result(heard: Heard) -> str:
    assert heard.reply["status"] == "ok", "\n".join(heard.reply["traceback"])
    return "".join(one["data"]["text/plain"] for one in heard.contents("execute_result"))


TIMES = re.compile(r"CPU times: .*total: .*\nWall time: .*s\n")


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("%%time\nawait trio.sleep(0)\n6 * 7", "42"),
        ("%%time\nawait trio.sleep(0)\n6 * 7;", ""),
        ("%time await trio.sleep(0)", ""),
        ("async def six():\n    return 6\n%time await six()", "6"),
        ("async def six():\n    return 6\nx = %time await six()\nx", "6"),
        ("%%time\nn = 5\nn", "5"),
        ("%time 3", "3"),
    ],
)
async def test_time_gives_the_times_and_the_value(peer: Peer, code: str, value: str) -> None:
    heard = await execute(peer, code)
    assert result(heard) == value
    assert TIMES.fullmatch(heard.text()), heard.text()


async def test_names_of_a_timed_cell_are_the_notebooks(peer: Peer) -> None:
    await execute(peer, "%%time\nawait trio.sleep(0)\nkept = 1")
    assert result(await execute(peer, "kept")) == "1"


async def test_an_error_in_a_timed_cell_points_to_its_line(peer: Peer) -> None:
    heard = await execute(peer, "%%time\nawait trio.sleep(0)\n1 / 0")
    assert heard.reply["ename"] == "ZeroDivisionError"
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(heard.reply["traceback"]))
    assert "----> 2 1 / 0" in text
    assert "trikernel" not in text
    assert TIMES.fullmatch(heard.text())
    quiet = await execute(peer, "%time --no-raise-error await trio.nothing()")
    assert quiet.reply["status"] == "ok"


@pytest.mark.parametrize(
    "code",
    [
        "%timeit -n 2 -r 3 await trio.sleep(1)",
        "%%timeit -n 2 -r 3 seconds = 1\nawait trio.sleep(seconds)",
        "%timeit -n 2 -r 3 sum(range(9))",
    ],
)
async def test_timeit_repeats(peer: Peer, code: str) -> None:
    heard = await execute(peer, code)
    assert heard.reply["status"] == "ok"
    assert "(mean ± std. dev. of 3 runs, 2 loops each)" in heard.text()


async def test_timeit_runs_as_often_as_it_says_and_gives_its_result(peer: Peer) -> None:
    await execute(
        peer,
        "count = 0\nasync def one():\n    global count\n    count += 1\n"
        "r = %timeit -q -o -n 5 -r 2 await one()",
    )
    assert result(await execute(peer, "count, r.loops, r.repeat")) == "(10, 5, 2)"


async def test_timeit_finds_a_number_of_loops(peer: Peer) -> None:
    await execute(peer, "r = %timeit -q -o -r 1 await trio.lowlevel.checkpoint()")
    assert int(result(await execute(peer, "r.loops"))) >= 100


@pytest.mark.promise(5)
async def test_capture_takes_the_output_of_its_own_cell_only(peer: Peer) -> None:
    await execute(
        peer,
        "from trikernel.notebook import nursery\n"
        "async def tick():\n"
        "    for n in range(8):\n"
        "        print('tick', n)\n"
        "        await trio.sleep(1)\n"
        "nursery.start_soon(tick)\n"
        "await trio.sleep(0.5)",
    )
    heard = await execute(
        peer,
        "%%capture out\nimport sys\nprint('mine')\nprint('bad', file=sys.stderr)\n"
        "await trio.sleep(3)\ndisplay('shown')\n'last'",
    )
    assert heard.text() == ""
    assert heard.contents("display_data") == heard.contents("execute_result") == []
    values = await execute(peer, "out.stdout, out.stderr, [one.data for one in out.outputs]")
    assert result(values) == (
        """('mine\\n', 'bad\\n', [{'text/plain': "'shown'"}, {'text/plain': "'last'"}])"""
    )
    ticks = [one for one in peer.iopub if "tick" in one.content.get("text", "")]
    assert len({one.parent_id for one in ticks}) == 1
    assert "".join(one.content["text"] for one in ticks).startswith("tick 0\ntick 1\ntick 2\n")


async def test_a_task_that_outlives_the_capture_prints_under_its_cell(peer: Peer) -> None:
    heard = await execute(
        peer,
        "%%capture out\n"
        "from trikernel.notebook import nursery\n"
        "async def later():\n"
        "    print('taken')\n"
        "    await trio.sleep(5)\n"
        "    print('shown')\n"
        "nursery.start_soon(later)\n"
        "await trio.sleep(1)",
    )
    await execute(peer, "await trio.sleep(10)")
    assert result(await execute(peer, "out.stdout")) == r"'taken\n'"
    assert heard.message is not None
    about = [one for one in peer.iopub if one.parent_id == heard.message.parent_id]
    assert [one.content["text"] for one in about if one.msg_type == "stream"] == ["shown\n"]


async def test_magics_within_magics(peer: Peer) -> None:
    heard = await execute(peer, "%%time\nx = 2\n%timeit -n 1 -r 1 await trio.sleep(1)\nx")
    assert result(heard) == "2"
    assert "1 loop each" in heard.text()
    assert "Wall time" in heard.text()


async def test_a_function_that_is_not_async_keeps_ipythons(peer: Peer) -> None:
    heard = await execute(peer, "def f():\n    %time pass\n    return 1\nf()")
    assert result(heard) == "1"


async def test_run_takes_a_script_that_awaits(peer: Peer, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, trio\n"
        "print(__name__, __file__ == sys.argv[0], sys.argv[1:])\n"
        "await trio.sleep(5)\n"
        "class Made: pass\n"
        "print(sys.modules['__main__'].Made is Made)\n",
        "utf-8",
    )
    heard = await execute(peer, f"import sys\nargv = list(sys.argv)\n%run {script} a 'b c'")
    assert heard.text() == "__main__ True ['a', 'b c']\nTrue\n"
    assert result(await execute(peer, "Made.__name__, sys.argv == argv")) == "('Made', True)"
    named = await execute(peer, f"%run -n {script}")
    assert named.text().startswith("script True []")


async def test_run_says_which_option_does_not_work(peer: Peer, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import trio\nawait trio.sleep(1)\nimport sys\nsys.exit(3)\n", "utf-8")
    heard = await execute(peer, f"%run -p {script}")
    assert heard.reply["ename"] == "UsageError"
    assert "%run -p cannot run script.py" in heard.reply["evalue"]
    assert (await execute(peer, f"%run {script}")).reply["ename"] == "SystemExit"
    assert (await execute(peer, f"%run -e {script}")).reply["status"] == "ok"


async def test_run_takes_a_notebook_that_awaits(peer: Peer, tmp_path: Path) -> None:
    cells = ["await trio.sleep(1)\na = 1", "%time await trio.sleep(1)\nb = a + 1", "b + nothing"]
    notebook = tmp_path / "book.ipynb"
    content = [
        {"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells
    ]
    notebook.write_text(json.dumps({"cells": content}), "utf-8")
    heard = await execute(peer, f"%run {notebook}")
    assert heard.reply["ename"] == "NameError"
    assert result(await execute(peer, "a, b")) == "(1, 2)"


async def test_other_files_are_run_by_ipython(peer: Peer, tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    script.write_text("plain = __name__\n", "utf-8")
    assert result(await execute(peer, f"%run {script}\nplain")) == "'__main__'"
    assert (await execute(peer, "%run no-such-file.py")).reply["status"] == "error"
    script.write_text("1 +\n", "utf-8")
    heard = await execute(peer, f"%run {script}")
    assert "SyntaxError" in "".join(["".join(one["traceback"]) for one in heard.contents("error")])


async def test_an_interrupt_ends_a_timed_cell(peer: Peer) -> None:
    msg_id = peer.send("execute_request", {"code": "%%time\nawait trio.sleep_forever()"})
    while (await peer.hear()).msg_type != "execute_input":
        pass
    await peer.ask("interrupt_request", channel="control")
    reply = await peer.receive()
    assert reply.parent_id == msg_id
    assert reply.content["ename"] == "KeyboardInterrupt"


async def test_autoawait_says_what_it_means_here(peer: Peer) -> None:
    assert "Cells run in the kernel's Trio loop" in (await execute(peer, "%autoawait")).text()
    asked = await execute(peer, "%autoawait asyncio")
    assert "use asyncio.run(...)" in asked.reply["evalue"]
    await execute(peer, "%autoawait off")
    assert (await execute(peer, "await trio.sleep(0)")).reply["ename"] == "SyntaxError"
    await execute(peer, "%autoawait on")
    assert (await execute(peer, "await trio.sleep(0)")).reply["status"] == "ok"


async def test_code_that_awaits_in_run_cell_is_refused_with_the_way_out(peer: Peer) -> None:
    heard = await execute(peer, "get_ipython().run_cell('await trio.sleep(0)').success")
    assert "`await get_ipython().run_cell_async(...)`" in heard.text("stderr")


async def test_a_nested_cell_runs_and_may_await(peer: Peer) -> None:
    heard = await execute(
        peer,
        "done = await get_ipython().run_cell_async("
        "'%time await trio.sleep(3)\\nvalue = 5')\n"
        "done.success, value",
    )
    assert result(heard) == "(True, 5)"


async def test_the_kernels_magics_are_documented(peer: Peer) -> None:
    heard = await execute(peer, "%lsmagic")
    listed = result(heard)
    for name in ("%tasks", "%cancel", "%autoawait", "%%timeout"):
        assert name in listed
    late = await execute(peer, "1\n%%timeout 5\n2")
    assert late.reply["status"] == "error"


async def test_a_twin_is_refused_where_nothing_can_be_awaited(peer: Peer, tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text("import trio\nawait trio.sleep(1)\n", "utf-8")
    plain = tmp_path / "plain.py"
    plain.write_text("plain = 'ran'\n", "utf-8")
    for line in ("%time await trio.sleep(0)", f"%run {script}"):
        heard = await execute(peer, f"get_ipython().run_cell({line!r}).success")
        assert "`await get_ipython().run_cell_async(...)`" in heard.text("stderr")
        assert result(heard) == "False"
    await execute(peer, f"get_ipython().run_cell('%run {plain}')")
    assert result(await execute(peer, "await trio.sleep(0)\nplain")) == "'ran'"


async def test_run_expands_the_users_names_only(peer: Peer, tmp_path: Path) -> None:
    script = tmp_path / "arguments.py"
    script.write_text("import sys\nprint(sys.argv[1:])\n", "utf-8")
    await execute(peer, "args = ['a', 'b']\nfunction = line = options = 'mine'")
    for words, argv in [("{args}", "['[a,', 'b]']"), ("$function $line {options}", "3 * ['mine']")]:
        heard = await execute(peer, f"%run {script} {words}")
        assert heard.text().strip() == str(eval(argv))


async def test_a_script_may_call_magics_itself(peer: Peer, tmp_path: Path) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text("print('plain')\n", "utf-8")
    script = tmp_path / "calling.py"
    call = f"get_ipython().run_line_magic('run', {str(plain)!r})"
    for wait in ("", "import trio\nawait trio.sleep(1)\n"):
        script.write_text(f"{wait}{call}\nprint('after')\n", "utf-8")
        heard = await execute(peer, f"%run {script}")
        assert heard.reply["status"] == "ok"
        assert heard.text() == "plain\nafter\n"


async def test_a_script_finds_its_neighbours_and_keeps_its_own_futures(
    peer: Peer, tmp_path: Path
) -> None:
    (tmp_path / "a_neighbour.py").write_text("value = 7\n", "utf-8")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, trio\nfrom a_neighbour import value\nawait trio.sleep(1)\n"
        "def f(x: int): ...\nprint(value, f.__annotations__)\nsys.exit(0)\n",
        "utf-8",
    )
    heard = await execute(peer, f"from __future__ import annotations\n%run {script}")
    assert heard.reply["status"] == "ok", heard.reply
    assert heard.text() == "7 {'x': <class 'int'>}\n"
    assert result(await execute(peer, "import sys\nsys.path[0]")) != repr(str(tmp_path))


async def test_an_abandoned_script_leaves_main_alone(peer: Peer, tmp_path: Path) -> None:
    text = "import trio\nprint('begun')\nwith trio.CancelScope(shield=True): await trio.sleep({})\n"
    paths = []
    for name, seconds in (("one", 2), ("two", 3)):
        paths.append(tmp_path / f"{name}.py")
        paths[-1].write_text(text.format(seconds), "utf-8")
    await execute(peer, "import sys\nmain, argv = sys.modules['__main__'], sys.argv")
    msg_id = peer.send("execute_request", {"code": f"%run {paths[0]}", "stop_on_error": False})
    while "begun" not in (await peer.hear()).content.get("text", ""):
        pass
    for _ in range(2):
        await peer.ask("interrupt_request", channel="control")
        await trio.sleep(0.1)
    assert (await peer.receive()).parent_id == msg_id
    await execute(peer, f"%run {paths[1]}")
    await trio.sleep(5)
    heard = await execute(peer, "sys.modules['__main__'] is main, sys.argv == argv")
    assert result(heard) == "(True, True)"


async def test_names_of_the_measurement_are_not_the_users(peer: Peer) -> None:
    await execute(
        peer,
        "begin, timer, times, number = 1, 2, 3, 4\nseen = []\n"
        "async def note(*values): seen.append(values)\n"
        "%timeit -q -n 1 -r 1 await note(begin, timer, times, number)",
    )
    assert result(await execute(peer, "seen")) == "[(1, 2, 3, 4)]"


async def test_autoawait_off_leaves_run_alone(peer: Peer, tmp_path: Path) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text("print('plain')\n", "utf-8")
    await execute(peer, "%autoawait off")
    assert (await execute(peer, f"%run {plain}")).text() == "plain\n"


async def test_capture_keeps_what_came_before_an_error(peer: Peer) -> None:
    heard = await execute(peer, "%%capture out\nprint('before')\nawait trio.sleep(0)\n1 / 0")
    assert heard.reply["ename"] == "ZeroDivisionError"
    assert result(await execute(peer, "out.stdout")) == r"'before\n'"


async def test_capture_takes_what_its_threads_print(peer: Peer) -> None:
    await execute(
        peer,
        "%%capture out\nimport threading\n"
        "thread = threading.Thread(target=print, args=('in a thread',))\n"
        "thread.start()\nthread.join()\nawait trio.sleep(0)",
    )
    assert result(await execute(peer, "out.stdout")) == r"'in a thread\n'"


@pytest.mark.parametrize("magic", ["less", "more"])
async def test_a_file_is_shown_in_the_pager(peer: Peer, tmp_path: Path, magic: str) -> None:
    path = tmp_path / "file.txt"
    path.write_text("some text\n", "utf-8")
    (payload,) = (await execute(peer, f"%{magic} {path}")).reply["payload"]
    assert payload["source"] == "page"
    assert "some text" in payload["data"]["text/plain"]
    missing = await execute(peer, f"%{magic} {tmp_path / 'missing'}")
    assert "No such file" in missing.reply["evalue"]


async def test_connect_info_says_that_there_is_none_in_memory(peer: Peer) -> None:
    assert "no sockets of its own" in (await execute(peer, "%connect_info")).reply["evalue"]


async def test_a_deadline_of_0_lifts_the_kernels(autojump_clock: trio.testing.MockClock) -> None:
    async with open_peer(PythonKernel(cell_timeout=2.0)) as peer:
        code = "import trio\nawait trio.sleep(5)\n'whole'"
        assert (await execute(peer, code)).reply["ename"] == "DeadlineExceeded"
        assert result(await execute(peer, f"%%timeout 0\n{code}")) == "'whole'"
        assert result(await execute(peer, f"%%timeout 9\n{code}")) == "'whole'"
