"""``%%timeline`` and ``%timeline on`` in cells, and `Kernel.record` for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trikernel import Kernel
from trikernel.client import Execution
from trikernel.python import PythonKernel
from trikernel.testing import CheckedClient, open_memory_client
from trikernel.timeline import Timeline

SETUP = """\
import trio
from trikernel.notebook import nursery

async def work(seconds):
    await trio.sleep(seconds)
"""


@pytest.fixture
async def client(
    kernel_client: CheckedClient, autojump_clock: trio.testing.MockClock
) -> CheckedClient:
    await kernel_client.expect(SETUP)
    return kernel_client


def pictures(execution: Execution) -> list[dict[str, Any]]:
    shown = [one["data"] for one in execution.outputs if one["output_type"] == "display_data"]
    return [one for one in shown if "image/svg+xml" in one]


async def test_a_cell_is_drawn_as_html_svg_and_text(client: CheckedClient) -> None:
    execution = await client.expect(
        "%%timeline\n"
        "async with trio.open_nursery() as mine:\n"
        "    mine.start_soon(work, 1, name='<b>&one')\n"
        "    mine.start_soon(work, 3)\n"
        "'value'",
        result="'value'",
    )
    (shown,) = pictures(execution)
    assert "In [2], 3 s" in shown["text/plain"]
    assert re.search(r"^ +work +█·+█$", shown["text/plain"], re.M)
    for mime in ("text/html", "image/svg+xml"):
        assert "&lt;b&gt;&amp;one" in shown[mime]
        assert "<b>&one" not in shown[mime]
        assert "<script" not in shown[mime]
    assert shown["image/svg+xml"].startswith("<svg xmlns=")
    assert "prefers-color-scheme: dark" in shown["image/svg+xml"]


async def test_our_own_tasks_are_not_in_it(client: CheckedClient) -> None:
    await client.expect("nursery.start_soon(work, 100)")
    execution = await client.expect("%%timeline -o t\nawait work(1)")
    assert pictures(execution)
    names = await client.expect("sorted((one.origin, one.name) for one in t.tasks)")
    assert names.result is not None
    assert names.result["text/plain"] == "[('In [2]', 'work'), ('In [3]', 'the cell')]"


@pytest.mark.parametrize("end", ["1 / 0", "raise SystemExit", "raise KeyboardInterrupt"])
async def test_a_cell_that_dies_shows_what_it_did_and_the_next_one_runs(
    client: CheckedClient, end: str
) -> None:
    execution = await client.execute(f"%%timeline\nawait work(1)\n{end}", stop_on_error=False)
    assert execution.status == "error"
    (shown,) = pictures(execution)
    assert "raised" in shown["text/plain"]
    await client.expect("1 + 1", result=2)


async def test_an_interrupted_cell_shows_what_it_did(client: CheckedClient) -> None:
    async with trio.open_nursery() as tasks:
        execution = client.start("%%timeline\nawait trio.sleep_forever()", stop_on_error=False)
        tasks.start_soon(execution.wait)
        await trio.sleep(5)
        await client.interrupt()
    (shown,) = pictures(execution)
    assert "5 s" in shown["text/plain"]
    assert "was cancelled by the kernel: interrupt at 5 s" in shown["text/plain"]


async def test_lines_are_those_of_the_cell(client: CheckedClient) -> None:
    execution = await client.expect("%%timeline -o t\n\nx = 1\nawait work(1)")
    assert pictures(execution)
    text = await client.expect("[s.text for o in t.tasks for s in o.spans if s.text][0]")
    assert text.result is not None
    assert "Cell In[1], line 5" in text.result["text/plain"]
    failed = await client.execute("%%timeline\nx = 1\n1 / 0", stop_on_error=False)
    assert failed.error is not None
    assert any("line 3" in line and "1" in line for line in failed.error.traceback)


async def test_on_draws_each_cell_and_off_no_more(client: CheckedClient) -> None:
    assert not pictures(await client.expect("%timeline on"))
    assert len(pictures(await client.expect("await work(2)"))) == 1
    failed = await client.execute("await work(1)\n1 / 0", stop_on_error=False)
    (shown,) = pictures(failed)
    assert "the cell raised ZeroDivisionError: division by zero at 1 s" in shown["text/plain"]
    await client.expect("%timeline", stdout="%timeline is on: say on or off")
    assert not pictures(await client.expect("%timeline off"))
    assert not pictures(await client.expect("await work(2)"))


async def test_a_subshells_cell_is_drawn_beside_the_one_of_the_main_shell(
    client: CheckedClient,
) -> None:
    await client.expect("%timeline on")
    async with client.open_subshell() as shell, trio.open_nursery() as tasks:
        cell = client.start("await work(5)")
        tasks.start_soon(cell.wait)
        await trio.sleep(1)
        inner = await shell.expect("await work(1)")
        (shown,) = pictures(inner)
        assert "work" not in str(inner.stderr)
        await shell.expect("%timeline off")
    (shown,) = pictures(cell)  # it ran when that was said
    assert "5 s" in shown["text/plain"]
    assert not pictures(await client.expect("await work(2)"))


async def test_it_is_told_that_a_task_was_cancelled_by_the_magic(client: CheckedClient) -> None:
    await client.expect("nursery.start_soon(work, 100)")
    (shown,) = pictures(await client.expect("%%timeline\n%cancel work\nawait work(1)"))
    assert "work was cancelled by the cell: %cancel" in shown["text/plain"]


async def test_a_crash_in_the_background_is_marked(client: CheckedClient) -> None:
    execution = await client.expect(
        "async def crash():\n    await trio.sleep(1)\n    raise KeyError('k')\n"
        "nursery.start_soon(crash)"
    )
    shown = pictures(await client.expect("%%timeline\nawait work(2)"))
    assert "crash raised KeyError: 'k' at 1 s" in shown[0]["text/plain"]
    assert execution is not None
    client.pop_background_errors()


async def test_it_can_be_written_to_files(client: CheckedClient, tmp_path: Path) -> None:
    svg, trace = tmp_path / "one.svg", tmp_path / "one.json"
    await client.expect(f"%%timeline --svg {svg} --trace {trace}\nawait work(1)")
    assert svg.read_text("utf-8").startswith("<svg")
    assert json.loads(trace.read_text("utf-8"))["traceEvents"]
    error = (await client.execute(f"%%timeline --svg {tmp_path}\n1")).error
    assert "UsageError: %%timeline:" in str(error)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("%%timeline on\n1", "is a line of its own"),
        ("%timeline maybe", "invalid choice"),
        ("get_ipython().run_cell('%%timeline\\n1')", ""),
    ],
)
async def test_a_wrong_use_is_one_line(client: CheckedClient, cell: str, text: str) -> None:
    execution = await client.execute(cell, stop_on_error=False)
    shown = f"{execution.error}{execution.stdout}{execution.stderr}"
    assert text in shown or "UsageError" in shown
    await client.expect("1 + 1", result=2)


# For programs


class Sleeper(Kernel):
    async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        self.nursery.start_soon(trio.sleep, float(code), name="slept")
        await trio.sleep(1)


async def test_a_kernel_of_any_language_is_recorded_with_the_program_around_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    kernel = Sleeper()
    async with open_memory_client(kernel) as client:
        with kernel.record(title="both") as recorder:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 4, name="the program's")
                await client.execute("2")
    timeline = recorder.timeline()
    assert isinstance(timeline, Timeline)
    names = {one.name for one in timeline.tasks}
    assert {"slept", "the program's"} <= names
    assert not {name for name in names if "lane" in name or "flusher" in name}


async def test_two_records_at_once_do_not_disturb_each_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    kernel = PythonKernel()
    async with open_memory_client(kernel) as client:
        with kernel.record() as one, kernel.record() as other:
            await client.expect("import trio; await trio.sleep(2)")
    first, second = one.timeline(), other.timeline()
    assert [task.name for task in first.tasks] == [task.name for task in second.tasks]
    assert first.seconds == second.seconds == 2
