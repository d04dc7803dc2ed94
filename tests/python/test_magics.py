"""IPython's magics around code that awaits."""

from __future__ import annotations

import builtins
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.client import Execution
from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient, open_memory_client


@pytest.fixture
async def client(
    kernel_client: CheckedClient, autojump_clock: trio.testing.MockClock
) -> CheckedClient:
    await kernel_client.expect("import trio")
    return kernel_client


def reply(execution: Execution) -> dict[str, Any]:
    assert execution.reply is not None
    return dict(execution.reply.content)


def result(execution: Execution) -> str:
    execution.raise_for_error()
    return str((execution.result or {}).get("text/plain", ""))


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
async def test_time_gives_the_times_and_the_value(
    client: CheckedClient, code: str, value: str
) -> None:
    execution = await client.execute(code)
    assert result(execution) == value
    assert TIMES.fullmatch(execution.stdout), execution.stdout


async def test_names_of_a_timed_cell_are_the_notebooks(client: CheckedClient) -> None:
    await client.execute("%%time\nawait trio.sleep(0)\nkept = 1")
    assert result(await client.execute("kept")) == "1"


async def test_an_error_in_a_timed_cell_points_to_its_line(client: CheckedClient) -> None:
    execution = await client.execute("%%time\nawait trio.sleep(0)\n1 / 0")
    assert reply(execution)["ename"] == "ZeroDivisionError"
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(reply(execution)["traceback"]))
    assert "----> 2 1 / 0" in text
    assert "trikernel" not in text
    assert TIMES.fullmatch(execution.stdout)
    quiet = await client.execute("%time --no-raise-error await trio.nothing()")
    assert reply(quiet)["status"] == "ok"


@pytest.mark.parametrize(
    "code",
    [
        "%timeit -n 2 -r 3 await trio.sleep(1)",
        "%%timeit -n 2 -r 3 seconds = 1\nawait trio.sleep(seconds)",
        "%timeit -n 2 -r 3 sum(range(9))",
    ],
)
async def test_timeit_repeats(client: CheckedClient, code: str) -> None:
    execution = await client.execute(code)
    assert reply(execution)["status"] == "ok"
    assert "(mean ± std. dev. of 3 runs, 2 loops each)" in execution.stdout


async def test_timeit_runs_as_often_as_it_says_and_gives_its_result(client: CheckedClient) -> None:
    await client.execute(
        "count = 0\nasync def one():\n    global count\n    count += 1\n"
        "r = %timeit -q -o -n 5 -r 2 await one()",
    )
    assert result(await client.execute("count, r.loops, r.repeat")) == "(10, 5, 2)"


async def test_timeit_finds_a_number_of_loops(client: CheckedClient) -> None:
    await client.execute("r = %timeit -q -o -r 1 await trio.lowlevel.checkpoint()")
    assert int(result(await client.execute("r.loops"))) >= 100


@pytest.mark.promise(5)
async def test_capture_takes_the_output_of_its_own_cell_only(client: CheckedClient) -> None:
    starting = await client.execute(
        "from trikernel.notebook import nursery\n"
        "async def tick():\n"
        "    for n in range(8):\n"
        "        print('tick', n)\n"
        "        await trio.sleep(1)\n"
        "nursery.start_soon(tick)\n"
        "await trio.sleep(0.5)",
    )
    execution = await client.execute(
        "%%capture out\nimport sys\nprint('mine')\nprint('bad', file=sys.stderr)\n"
        "await trio.sleep(3)\ndisplay('shown')\n'last'",
    )
    assert execution.outputs == []
    values = await client.execute("out.stdout, out.stderr, [one.data for one in out.outputs]")
    assert result(values) == (
        """('mine\\n', 'bad\\n', [{'text/plain': "'shown'"}, {'text/plain': "'last'"}])"""
    )
    assert starting.stdout.startswith("tick 0\ntick 1\ntick 2\n")
    assert "tick" not in execution.stdout + values.stdout


async def test_a_task_that_outlives_the_capture_prints_under_its_cell(
    client: CheckedClient,
) -> None:
    execution = await client.execute(
        "%%capture out\n"
        "from trikernel.notebook import nursery\n"
        "async def later():\n"
        "    print('taken')\n"
        "    await trio.sleep(5)\n"
        "    print('shown')\n"
        "nursery.start_soon(later)\n"
        "await trio.sleep(1)",
    )
    await client.execute("await trio.sleep(10)")
    assert result(await client.execute("out.stdout")) == r"'taken\n'"
    assert execution.stdout == "shown\n"


async def test_magics_within_magics(client: CheckedClient) -> None:
    execution = await client.execute("%%time\nx = 2\n%timeit -n 1 -r 1 await trio.sleep(1)\nx")
    assert result(execution) == "2"
    assert "1 loop each" in execution.stdout
    assert "Wall time" in execution.stdout


async def test_a_function_that_is_not_async_keeps_ipythons(client: CheckedClient) -> None:
    execution = await client.execute("def f():\n    %time pass\n    return 1\nf()")
    assert result(execution) == "1"


async def test_run_takes_a_script_that_awaits(client: CheckedClient, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, trio\n"
        "print(__name__, __file__ == sys.argv[0], sys.argv[1:])\n"
        "await trio.sleep(5)\n"
        "class Made: pass\n"
        "print(sys.modules['__main__'].Made is Made)\n",
        "utf-8",
    )
    execution = await client.execute(f"import sys\nargv = list(sys.argv)\n%run {script} a 'b c'")
    assert execution.stdout == "__main__ True ['a', 'b c']\nTrue\n"
    assert result(await client.execute("Made.__name__, sys.argv == argv")) == "('Made', True)"
    named = await client.execute(f"%run -n {script}")
    assert named.stdout.startswith("script True []")


async def test_run_says_which_option_does_not_work(client: CheckedClient, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import trio\nawait trio.sleep(1)\nimport sys\nsys.exit(3)\n", "utf-8")
    execution = await client.execute(f"%run -p {script}")
    assert reply(execution)["ename"] == "UsageError"
    assert "%run -p cannot run script.py" in reply(execution)["evalue"]
    assert reply(await client.execute(f"%run {script}"))["ename"] == "SystemExit"
    assert reply(await client.execute(f"%run -e {script}"))["status"] == "ok"


async def test_run_takes_a_notebook_that_awaits(client: CheckedClient, tmp_path: Path) -> None:
    cells = ["await trio.sleep(1)\na = 1", "%time await trio.sleep(1)\nb = a + 1", "b + nothing"]
    notebook = tmp_path / "book.ipynb"
    content = [
        {"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells
    ]
    notebook.write_text(json.dumps({"cells": content}), "utf-8")
    execution = await client.execute(f"%run {notebook}")
    assert reply(execution)["ename"] == "NameError"
    assert result(await client.execute("a, b")) == "(1, 2)"


async def test_other_files_are_run_by_ipython(client: CheckedClient, tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    script.write_text("plain = __name__\n", "utf-8")
    assert result(await client.execute(f"%run {script}\nplain")) == "'__main__'"
    assert reply(await client.execute("%run no-such-file.py"))["status"] == "error"
    script.write_text("1 +\n", "utf-8")
    execution = await client.execute(f"%run {script}")
    shown = [one for one in execution.outputs if one["output_type"] == "error"]
    assert "SyntaxError" in "".join("".join(one["traceback"]) for one in shown)


async def test_an_interrupt_ends_a_timed_cell(client: CheckedClient) -> None:
    execution = client.start("%%time\nawait trio.sleep_forever()")
    await execution.wait_started()
    await client.interrupt()
    assert reply(await execution.wait())["ename"] == "KeyboardInterrupt"


async def test_autoawait_says_what_it_means_here(client: CheckedClient) -> None:
    assert "Cells run in the kernel's Trio loop" in (await client.execute("%autoawait")).stdout
    asked = await client.execute("%autoawait curio")
    assert "say trio, asyncio, on or off" in reply(asked)["evalue"]
    await client.execute("%autoawait off")
    assert reply(await client.execute("await trio.sleep(0)"))["ename"] == "SyntaxError"
    await client.execute("%autoawait on")
    assert reply(await client.execute("await trio.sleep(0)"))["status"] == "ok"


async def test_code_that_awaits_in_run_cell_is_refused_with_the_way_out(
    client: CheckedClient,
) -> None:
    execution = await client.execute("get_ipython().run_cell('await trio.sleep(0)').success")
    assert "`await get_ipython().run_cell_async(...)`" in execution.stderr


async def test_a_nested_cell_runs_and_may_await(client: CheckedClient) -> None:
    execution = await client.execute(
        "done = await get_ipython().run_cell_async("
        "'%time await trio.sleep(3)\\nvalue = 5')\n"
        "done.success, value",
    )
    assert result(execution) == "(True, 5)"


async def test_the_kernels_magics_are_documented(client: CheckedClient) -> None:
    execution = await client.execute("%lsmagic")
    listed = result(execution)
    for name in ("%tasks", "%cancel", "%autoawait", "%%timeout"):
        assert name in listed
    late = await client.execute("1\n%%timeout 5\n2")
    assert reply(late)["status"] == "error"


async def test_a_twin_is_refused_where_nothing_can_be_awaited(
    client: CheckedClient, tmp_path: Path
) -> None:
    script = tmp_path / "waiting.py"
    script.write_text("import trio\nawait trio.sleep(1)\n", "utf-8")
    plain = tmp_path / "plain.py"
    plain.write_text("plain = 'ran'\n", "utf-8")
    for line in ("%time await trio.sleep(0)", f"%run {script}"):
        execution = await client.execute(f"get_ipython().run_cell({line!r}).success")
        assert "`await get_ipython().run_cell_async(...)`" in execution.stderr
        assert result(execution) == "False"
    await client.execute(f"get_ipython().run_cell('%run {plain}')")
    assert result(await client.execute("await trio.sleep(0)\nplain")) == "'ran'"


async def test_run_expands_the_users_names_only(client: CheckedClient, tmp_path: Path) -> None:
    script = tmp_path / "arguments.py"
    script.write_text("import sys\nprint(sys.argv[1:])\n", "utf-8")
    await client.execute("args = ['a', 'b']\nfunction = line = options = 'mine'")
    for words, argv in [("{args}", "['[a,', 'b]']"), ("$function $line {options}", "3 * ['mine']")]:
        execution = await client.execute(f"%run {script} {words}")
        assert execution.stdout.strip() == str(eval(argv))


async def test_a_script_may_call_magics_itself(client: CheckedClient, tmp_path: Path) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text("print('plain')\n", "utf-8")
    script = tmp_path / "calling.py"
    call = f"get_ipython().run_line_magic('run', {str(plain)!r})"
    for wait in ("", "import trio\nawait trio.sleep(1)\n"):
        script.write_text(f"{wait}{call}\nprint('after')\n", "utf-8")
        execution = await client.execute(f"%run {script}")
        assert reply(execution)["status"] == "ok"
        assert execution.stdout == "plain\nafter\n"


async def test_a_script_finds_its_neighbours_and_keeps_its_own_futures(
    client: CheckedClient, tmp_path: Path
) -> None:
    (tmp_path / "a_neighbour.py").write_text("value = 7\n", "utf-8")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, trio\nfrom a_neighbour import value\nawait trio.sleep(1)\n"
        "def f(x: int): ...\nprint(value, f.__annotations__)\nsys.exit(0)\n",
        "utf-8",
    )
    execution = await client.execute(f"from __future__ import annotations\n%run {script}")
    assert reply(execution)["status"] == "ok", execution.error
    assert execution.stdout == "7 {'x': <class 'int'>}\n"
    assert result(await client.execute("import sys\nsys.path[0]")) != repr(str(tmp_path))


class Gates:
    """Where scripts tell that they wait, within a shield, until the test lets each end."""

    def __init__(self, *names: str) -> None:
        self.reached = {name: trio.Event() for name in names}
        self.opened = {name: trio.Event() for name in names}

    async def wait(self, name: str) -> None:
        self.reached[name].set()
        with trio.CancelScope(shield=True):
            await self.opened[name].wait()


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Gates:
    gates = Gates("one", "two")
    monkeypatch.setattr(builtins, "gates", gates, raising=False)
    return gates


async def test_an_abandoned_script_leaves_main_alone(
    client: CheckedClient, tmp_path: Path, gates: Gates
) -> None:
    """It ends while another script runs, which has taken its place."""
    for name in gates.opened:
        (tmp_path / f"{name}.py").write_text(f"await gates.wait({name!r})\n{name} = 1\n", "utf-8")
    await client.execute("import sys\nmain, argv = sys.modules['__main__'], sys.argv")
    try:
        abandoned = client.start(f"%run {tmp_path / 'one.py'}")
        await gates.reached["one"].wait()
        await client.interrupt()
        await trio.sleep(0.1)  # virtual; a second one counts from 50 ms after the first
        await client.interrupt()
        assert (await abandoned.wait_reply()).content["status"] == "error"
        following = client.start(f"%run {tmp_path / 'two.py'}")
        await gates.reached["two"].wait()
        gates.opened["one"].set()
        await trio.testing.wait_all_tasks_blocked()  # it has ended
        assert sys.modules["__main__"].__file__ == str(tmp_path / "two.py")
    finally:
        for gate in gates.opened.values():
            gate.set()
    assert (await following.wait_reply()).content["status"] == "ok"
    execution = await client.execute("one, two, sys.modules['__main__'] is main, sys.argv == argv")
    assert result(execution) == "(1, 1, True, True)"


async def test_names_of_the_measurement_are_not_the_users(client: CheckedClient) -> None:
    await client.execute(
        "begin, timer, times, number = 1, 2, 3, 4\nseen = []\n"
        "async def note(*values): seen.append(values)\n"
        "%timeit -q -n 1 -r 1 await note(begin, timer, times, number)",
    )
    assert result(await client.execute("seen")) == "[(1, 2, 3, 4)]"


async def test_autoawait_off_leaves_run_alone(client: CheckedClient, tmp_path: Path) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text("print('plain')\n", "utf-8")
    await client.execute("%autoawait off")
    assert (await client.execute(f"%run {plain}")).stdout == "plain\n"


async def test_capture_keeps_what_came_before_an_error(client: CheckedClient) -> None:
    execution = await client.execute("%%capture out\nprint('before')\nawait trio.sleep(0)\n1 / 0")
    assert reply(execution)["ename"] == "ZeroDivisionError"
    assert result(await client.execute("out.stdout")) == r"'before\n'"


async def test_capture_takes_what_its_threads_print(client: CheckedClient) -> None:
    await client.execute(
        "%%capture out\nimport threading\n"
        "thread = threading.Thread(target=print, args=('in a thread',))\n"
        "thread.start()\nthread.join()\nawait trio.sleep(0)",
    )
    assert result(await client.execute("out.stdout")) == r"'in a thread\n'"


@pytest.mark.parametrize("magic", ["less", "more"])
async def test_a_file_is_shown_in_the_pager(
    client: CheckedClient, tmp_path: Path, magic: str
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("some text\n", "utf-8")
    (payload,) = reply(await client.execute(f"%{magic} {path}"))["payload"]
    assert payload["source"] == "page"
    assert "some text" in payload["data"]["text/plain"]
    missing = await client.execute(f"%{magic} {tmp_path / 'missing'}")
    assert "No such file" in reply(missing)["evalue"]


async def test_connect_info_says_that_there_is_none_in_memory(client: CheckedClient) -> None:
    assert "no sockets of its own" in reply(await client.execute("%connect_info"))["evalue"]


async def test_a_deadline_of_0_lifts_the_kernels(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_client(PythonKernel(cell_timeout=2.0)) as client:
        code = "import trio\nawait trio.sleep(5)\n'whole'"
        assert reply(await client.execute(code))["ename"] == "DeadlineExceeded"
        assert result(await client.execute(f"%%timeout 0\n{code}")) == "'whole'"
        assert result(await client.execute(f"%%timeout 9\n{code}")) == "'whole'"
