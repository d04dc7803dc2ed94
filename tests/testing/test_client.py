"""`expect` sees what is wrong, and says it so that a person can mend it."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
import trio

from trikernel import Kernel
from trikernel.errors import ExecutionTimeout
from trikernel.testing import (
    CheckedClient,
    InjectedScope,
    assert_order,
    at_every_checkpoint,
    message_types,
    open_clients,
    open_memory_client,
)
from trikernel.testing.serving import Medium


async def test_what_is_as_expected_passes(kernel_client: CheckedClient) -> None:
    expect = kernel_client.expect
    await expect("print('a')", stdout="a")
    await expect("print('a')", stdout="a\n", stderr="", status="ok")
    await expect("print('abc')", stdout=re.compile("b"))
    await expect("[1, 'x']", result=[1, "x"])
    await expect("'x'", result="'x'")
    await expect("int('x')", error="ValueError")
    await expect("int('x')", error=ValueError, status="error")
    await expect("raise KeyError('k')", error="KeyError: 'k'")
    await expect("int('x')", error=re.compile("invalid literal"))
    await expect("1", messages=["status:busy", "execute_input", "execute_result", "status:idle"])
    execution = await expect("1", silent=True)
    assert message_types(execution) == ["status:busy", "status:idle"]


@pytest.mark.parametrize(
    ("code", "expected", "words"),
    [
        ("1/0", {}, "the cell failed: ZeroDivisionError: division by zero"),
        (
            "1/0",
            {"error": "ValueError"},
            "failed with 'ZeroDivisionError: .*', but should with 'Val",
        ),
        ("1", {"error": ValueError}, "ended well, but should fail with ValueError"),
        ("1", {"error": re.compile("x")}, "should fail with an error that matches 'x'"),
        ("print(1)", {"stdout": ""}, r"stdout should be ''\n *but is '1\\n'"),
        ("print(1)", {"stdout": re.compile("2")}, "stdout has no match of '2'"),
        ("1", {"stderr": "x"}, "stderr should be 'x'"),
        ("1", {"result": 2}, "result should be '2'\n *but is '1'"),
        ("1", {"status": "error"}, "the status is 'ok', but should be 'error'"),
        ("1", {"messages": ["stream"]}, "iopub has .*, but should have"),
    ],
)
async def test_what_is_not_as_expected_is_told_with_the_cell(
    kernel_client: CheckedClient, code: str, expected: dict[str, Any], words: str
) -> None:
    with pytest.raises(AssertionError, match=words) as caught:
        await kernel_client.expect(code, **expected)
    assert f"cell:\n    {code}" in str(caught.value)


class Wrong(Kernel):
    """Breaks the order of messages in the way that the code names."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        request = self.sender.current()
        assert request is not None
        if code == "idle early":
            self._publish_status("idle")
        elif code == "no error output":
            return {"status": "error", "ename": "E", "evalue": "", "traceback": []}
        elif code == "two results":
            content = {"data": {}, "metadata": {}, "execution_count": 1}
            for _ in range(2):
                self.send_response(self.iopub_socket, "execute_result", content)
        elif code == "two inputs":
            content = {"code": "", "execution_count": 1}
            self.send_response(self.iopub_socket, "execute_input", content)
        return {"status": "ok"}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("idle early", "idle must come once, after everything else"),
        ("no error output", "there must be an error output"),
        ("two results", "at most one execute_result"),
        ("two inputs", "one execute_input, not 2"),
    ],
)
async def test_a_wrong_order_is_told(code: str, words: str) -> None:
    async with open_memory_client(Wrong()) as client:
        execution = await client.execute(code)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(AssertionError, match=words):
            assert_order(execution)


async def test_exact_types_can_be_asked_for(kernel_client: CheckedClient) -> None:
    execution = await kernel_client.execute("print(1); print(2)")
    assert_order(execution, "status:busy", "execute_input", "stream", "status:idle")
    with pytest.raises(AssertionError, match=r"expected are stream\niopub: status:busy"):
        assert_order(execution, "stream")


class Tidy(Kernel):
    """Keeps count of what it has opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        self.opened += 1
        try:
            await trio.sleep(1)
        finally:
            if code != "untidy" or trio.current_effective_deadline() > 0:
                self.opened -= 1


async def test_a_scenario_is_cancelled_at_each_of_its_checkpoints(autojump_clock: Any) -> None:
    steps: list[int] = []

    async def scenario() -> None:
        for number in range(5):
            await trio.lowlevel.checkpoint()
            steps.append(number)

    assert await at_every_checkpoint(scenario) == 5
    assert steps == [0, 0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4]


async def test_tasks_that_a_scenario_starts_are_counted_too(autojump_clock: Any) -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(trio.sleep, 1)

    assert await at_every_checkpoint(scenario) >= 4


async def test_only_the_scope_that_is_entered_is_cancelled(autojump_clock: Any) -> None:
    kernel = Tidy()
    caught = []

    async def scenario(scope: Any) -> None:
        async with open_memory_client(kernel) as client:
            with scope:
                await client.execute("tidy")
            caught.append(scope.cancelled_caught)
            assert kernel.opened == 0

    assert await at_every_checkpoint(scenario) == len(caught) - 1 > 0
    assert caught == [True] * (len(caught) - 1) + [False]


async def test_where_a_scenario_fails_is_noted(autojump_clock: Any) -> None:
    async def scenario() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            raise LookupError from None

    with pytest.raises(LookupError) as caught:
        await at_every_checkpoint(scenario)
    (note,) = caught.value.__notes__
    assert re.search(r"cancelled at checkpoint 1: task .*test_client.py:\d+ in scenario", note)


async def test_what_must_hold_afterwards_is_checked(autojump_clock: Any) -> None:
    kernel = Tidy()

    async def scenario() -> None:
        async with open_memory_client(kernel) as client:
            await client.execute("untidy")

    async def check() -> None:
        assert kernel.opened == 0, "something is left open"

    with pytest.raises(AssertionError, match="something is left open"):
        await at_every_checkpoint(scenario, check)


async def test_a_scenario_without_an_end_is_given_up(autojump_clock: Any) -> None:
    async def scenario() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(RuntimeError, match="after 10 runs"):
        await at_every_checkpoint(scenario, limit=10)


async def test_a_scope_that_is_not_entered_is_told(autojump_clock: Any) -> None:
    async def scenario(scope: Any) -> None:
        await trio.sleep(1)

    with pytest.raises(RuntimeError, match="has not entered the scope"):
        await at_every_checkpoint(scenario)


async def test_a_default_is_no_scope(autojump_clock: Any) -> None:
    async def scenario(times: int = 3) -> None:
        for _ in range(times):
            await trio.lowlevel.checkpoint()

    assert await at_every_checkpoint(scenario) == 3


class Breakable(Kernel):
    """Is broken for good when it is cancelled between two awaits of one cell."""

    broken = False

    async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        if code == "work":
            await trio.sleep(1)
            self.broken = True
            await trio.sleep(1)
            self.broken = False
        elif self.broken:
            raise RuntimeError("broken")


async def test_what_a_kernel_awaits_is_a_checkpoint_too(autojump_clock: Any) -> None:
    async def scenario(scope: Any) -> None:
        async with open_memory_client(Breakable()) as client:
            with scope:
                await client.execute("work")
            await client.expect("look")

    with pytest.raises(AssertionError, match="RuntimeError: broken") as caught:
        await at_every_checkpoint(scenario)
    assert "in do_execute" in caught.value.__notes__[0]


async def test_each_await_is_hit_once(autojump_clock: Any) -> None:
    seen = []

    class Counting(Kernel):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
            for number in range(10):
                try:
                    await trio.sleep(1)
                except trio.Cancelled:
                    seen.append(number)
                    raise

    async def scenario() -> None:
        async with open_memory_client(Counting()) as client:
            await client.execute("count")

    await at_every_checkpoint(scenario)
    assert set(seen) == set(range(10))


async def test_a_class_is_no_kernel() -> None:
    with pytest.raises(TypeError, match=r"a kernel is needed, not its class: Tidy\(\)"):
        async with open_memory_client(Tidy):  # type: ignore[arg-type]
            pass


async def test_a_mistyped_option_is_an_error(kernel_client: CheckedClient) -> None:
    with pytest.raises(
        TypeError, match=r"unknown option 'stdot'; the options are: silent, .*timeout"
    ):
        await kernel_client.expect("1", stdot="x")
    with pytest.raises(TypeError, match="unknown option 'tiemout'"):
        await kernel_client.execute("1", tiemout=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="on_input must be a function"):
        kernel_client.start("1", on_input="yes")  # type: ignore[arg-type]


async def test_no_result_is_told_apart_from_an_empty_one(kernel_client: CheckedClient) -> None:
    with pytest.raises(AssertionError, match="the result should be '2', but there is none"):
        await kernel_client.expect("x = 1", result=2)


async def test_something_else_than_a_cancel_is_injected(autojump_clock: Any) -> None:
    injected: list[float] = []

    async def scenario(scope: InjectedScope) -> None:
        scope.instead = lambda: injected.append(trio.current_time())
        with scope:
            for _ in range(3):
                await trio.sleep(1)
        assert not scope.cancelled_caught

    assert await at_every_checkpoint(scenario) == 3
    assert injected == [0, 4, 8]  # before the first, the second and the third second, in turn


async def test_an_error_aborts_what_is_queued_as_in_a_frontend(autojump_clock: Any) -> None:
    async with open_memory_client(Wrong()) as client:
        cells = [client.start("no error output"), client.start("queued")]
        assert [(await one.wait()).status for one in cells] == ["error", "aborted"]
        assert (await client.execute("sent when the error is known")).status == "ok"
        cells = [client.start("no error output", stop_on_error=False), client.start("queued")]
        assert [(await one.wait()).status for one in cells] == ["error", "ok"]


async def test_a_cell_that_a_deadline_ends_is_noted(autojump_clock: Any) -> None:
    async with open_memory_client(Breakable()) as client:
        with pytest.raises(ExecutionTimeout, match=r"longer than 0\.5 seconds") as caught:
            await client.expect("work", timeout=0.5)
        with pytest.raises(trio.TooSlowError) as late, trio.fail_after(0.5):
            await client.expect("work")
    assert caught.value.__notes__[0] == "cell:\n    work"
    assert late.value.__context__ is not None
    assert late.value.__context__.__notes__[0] == "cell:\n    work"


async def test_what_is_not_awaited_is_told_at_the_end(autojump_clock: Any) -> None:
    with pytest.raises(AssertionError, match=r"^test_client\.py:\d+: expect\('1'\) was not awa"):
        async with open_memory_client(Breakable()) as client:
            client.expect("1")  # type: ignore[unused-coroutine]


async def test_what_is_started_elsewhere_is_awaited(autojump_clock: Any) -> None:
    async with open_memory_client(Breakable()) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.expect, "1")
        nursery.start_soon(client.execute, "2")
        nursery.cancel_scope.cancel()


class Crashing(Kernel):
    """A task that it starts crashes."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        self.nursery.start_soon(self._crash)
        await trio.sleep(0.01)  # for the task to have its turn

    async def _crash(self) -> None:
        raise LookupError("in the background")


@pytest.mark.parametrize("over", ["memory", "tcp", "ipc"])
async def test_several_clients_of_one_kernel_wherever_it_is_served(over: Medium) -> None:
    """Each hears of everything; what crashes in the background is popped by any of them."""
    if over == "ipc" and sys.platform == "win32":
        pytest.skip("there are no such sockets")
    async with open_clients(Crashing(), 2, over=over) as (one, other):
        with other.subscribe() as messages:
            execution = await one.expect("x")
            heard = [(await messages.receive()).parent_id for _ in execution.messages]
        assert execution.msg_id in heard
        assert [type(error) for error in other.pop_background_errors()] == [LookupError]
        await other.expect("x")
        assert [type(error) for error in other.pop_background_errors()] == [LookupError]
    with pytest.raises(LookupError, match="in the background"):
        async with open_clients(Crashing(), over=over) as (client,):
            await client.expect("x")


async def test_sockets_and_a_virtual_clock_do_not_go_together(autojump_clock: Any) -> None:
    with pytest.raises(RuntimeError, match="over='tcp' is real sockets: they cannot run on a vir"):
        async with open_clients(Crashing(), over="tcp"):
            pass


async def test_a_medium_that_there_is_not_is_told() -> None:
    with pytest.raises(ValueError, match="over must be 'memory', 'tcp' or 'ipc', not 'udp'"):
        async with open_clients(Crashing(), over="udp"):  # type: ignore[arg-type]
            pass
