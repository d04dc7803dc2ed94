"""A client's requests, matched with what comes back; in memory, under a virtual clock."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

import trikernel
from trikernel.client import Client, Execution
from trikernel.client.stopping import INTERRUPT_GRACE, STOP_GRACE
from trikernel.errors import CellFailed, CellStillRuns, ExecutionTimeout, KernelDied
from trikernel.testing import CheckedClient, at_every_checkpoint, open_memory_client
from trikernel.wire import Message

from ..kernel.kernels import Recorder


class Slow(trikernel.Kernel):
    """Says what it is told, and waits as many seconds as that says."""

    is_deaf = False

    def interrupt_request(self, request: Any) -> Any:
        return {"status": "ok"} if self.is_deaf else super().interrupt_request(request)

    async def do_execute(self, code: str, silent: bool, **options: Any) -> dict[str, Any]:
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": f"<{code}>"})
        if code in ("deaf", "held up"):
            self.is_deaf = code == "deaf"
            with trio.CancelScope(shield=True):
                await trio.sleep(1000)
        await trio.sleep(float(code))
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": "end"})
        return {"status": "ok"}


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> trikernel.Kernel:
    if "python" in request.keywords:
        found: trikernel.Kernel = request.getfixturevalue("python_kernel")
        return found
    return Slow()


python = pytest.mark.python


@python
async def test_an_execution_has_everything_that_came(kernel_client: CheckedClient) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); 6 * 7"
    execution = await kernel_client.execute(code)
    assert execution.reply is not None
    assert execution.reply.content["status"] == execution.status == "ok"
    assert (execution.stdout, execution.stderr) == ("out\n", "err\n")
    assert execution.result == {"text/plain": "42"}
    assert execution.error is None
    assert execution.execution_count == 1
    kinds = [one["output_type"] for one in execution.outputs]
    assert kinds == ["stream", "stream", "execute_result"]
    assert execution.raise_for_error() is execution


@python
async def test_an_error_in_the_code_is_a_value(kernel_client: CheckedClient) -> None:
    execution = await kernel_client.execute("1/0")
    assert execution.status == "error"
    assert execution.error is not None
    assert str(execution.error) == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in execution.error.traceback[-1]
    with pytest.raises(CellFailed, match="ZeroDivisionError: division by zero") as caught:
        execution.raise_for_error()
    assert caught.value.execution is execution


@python
async def test_an_error_aborts_nothing_that_is_sent_after_it(kernel_client: CheckedClient) -> None:
    start = partial(Client.start, kernel_client)  # the kit's own does as frontends do
    first, second = start("1/0"), start("print('goes on')")
    assert (await first.wait()).status == "error"
    assert (await second.wait()).stdout == "goes on\n"
    third, fourth = start("1/0", stop_on_error=True), start("1")
    assert (await third.wait()).status == "error"
    assert (await fourth.wait()).status == "aborted"


async def test_outputs_come_while_the_cell_runs(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    times = []
    async with kernel_client.executing("10") as execution:
        start = trio.current_time()
        async for output in execution:
            times.append((output["text"], trio.current_time() - start))
    assert [text for text, _ in times] == ["<10>", "end"]
    assert times[0][1] < 1 <= 10 <= times[1][1]
    assert execution.done


async def test_several_iterations_see_every_output(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    execution = await kernel_client.execute("1")
    for _ in range(2):
        assert [output["text"] async for output in execution] == ["<1>", "end"]


async def test_a_cell_that_takes_too_long_is_interrupted(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    with pytest.raises(
        ExecutionTimeout, match="longer than 5 seconds and was interrupted"
    ) as error:
        await kernel_client.execute("100", timeout=5)
    assert trio.current_time() - start < 6
    execution: Any = error.value.execution
    assert execution.stdout == "<100>"
    assert execution.error.ename == "KeyboardInterrupt"
    await kernel_client.expect("1", stdout="<1>end")


async def test_a_cell_that_does_not_listen_is_given_up(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    with pytest.raises(CellStillRuns, match=r"and does not end: it still runs; .* restart helps\n"):
        await kernel_client.execute("deaf", timeout=5)
    assert trio.current_time() - start == pytest.approx(5 + INTERRUPT_GRACE)


async def test_a_cell_that_cannot_listen_is_left_behind_by_a_second_interrupt(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    with pytest.raises(ExecutionTimeout, match="and was interrupted"):
        await kernel_client.execute("held up", timeout=5)
    assert trio.current_time() - start == pytest.approx(5 + STOP_GRACE, abs=0.1)
    await kernel_client.expect("1", stdout="<1>end")


async def test_cancelling_a_wait_interrupts_the_cell(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    start = trio.current_time()
    with trio.move_on_after(3) as scope:
        await kernel_client.execute("100")
    assert scope.cancelled_caught
    await kernel_client.expect("1", stdout="<1>end")
    assert trio.current_time() - start < 6


async def test_an_exception_in_the_block_interrupts_the_cell(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    with pytest.raises(LookupError):  # noqa: PT012  # the block's way out is what is tested
        async with kernel_client.executing("100") as execution:
            await execution.wait_started()
            raise LookupError
    assert execution.error is not None
    assert execution.error.ename == "KeyboardInterrupt"


async def test_a_queued_cell_is_interrupted_as_its_turn_comes_and_not_the_one_before(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    first = kernel_client.start("10")
    await first.wait_started()
    start = trio.current_time()
    with trio.move_on_after(2):
        await kernel_client.execute("100")
    assert trio.current_time() - start == pytest.approx(2)
    assert (await first.wait()).stdout == "<10>end"
    await kernel_client.expect("1", stdout="<1>end")
    assert trio.current_time() - start < 13


async def test_a_cancelled_wait_loses_nothing(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    execution = kernel_client.start("10")
    for _ in range(20):
        with trio.move_on_after(0.3):
            await execution.wait()
    assert (await execution.wait()).stdout == "<10>end"


@python
async def test_many_tasks_use_one_client(kernel_client: CheckedClient) -> None:
    found: dict[int, str] = {}

    async def ask(number: int) -> None:
        found[number] = (await kernel_client.execute(f"print({number})")).stdout

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)
    assert found == {number: f"{number}\n" for number in range(50)}


@python
async def test_the_other_verbs_return_their_replies(kernel_client: CheckedClient) -> None:
    client = kernel_client
    await client.execute("number = 42")
    assert "number" in (await client.complete("numb")).content["matches"]
    assert (await client.complete("numb + x", 4)).content["cursor_end"] == 4
    assert (await client.inspect("number")).content["found"] is True
    assert (await client.history()).content["history"][-1][2] == "number = 42"
    assert (await client.history("search", pattern="num*")).content["status"] == "ok"
    assert (await client.is_complete("for x in y:")).content["status"] == "incomplete"
    assert (await client.kernel_info()).content["implementation"] == "trikernel"
    assert (await client.comm_info()).content["comms"] == {}
    await client.interrupt()


@python
async def test_a_question_is_answered_by_a_handler(kernel_client: CheckedClient) -> None:
    asked = []

    async def answer(prompt: str, password: bool) -> str:
        asked.append((prompt, password))
        await trio.lowlevel.checkpoint()
        return "blue"

    code = "from trikernel.notebook import input\nprint(await input('colour? '))"
    assert (await kernel_client.execute(code, on_input=answer)).stdout == "blue\n"
    assert asked == [("colour? ", False)]
    kernel_client.on_input = lambda prompt, password: "red"
    assert (await kernel_client.execute(code)).stdout == "red\n"
    refused = await kernel_client.execute(code, on_input=_no_more)
    assert refused.error is not None
    assert refused.error.ename == "EOFError"


def _no_more(prompt: str, password: bool) -> str:
    raise EOFError


@python
async def test_what_a_handler_raises_is_raised_where_the_cell_is_waited_for(
    kernel_client: CheckedClient,
) -> None:
    def broken(prompt: str, password: bool) -> str:
        raise LookupError("no answer")

    with pytest.raises(LookupError, match="no answer"):
        await kernel_client.execute(
            "from trikernel.notebook import input\nawait input()", on_input=broken
        )
    await kernel_client.expect("1", result="1")


@python
async def test_without_a_handler_a_cell_may_not_ask(kernel_client: CheckedClient) -> None:
    code = "from trikernel.notebook import input\nawait input()"
    await kernel_client.expect(code, error="StdinNotImplementedError")


COMMS = """
from comm import create_comm, get_comm_manager
def opened(comm, message):
    @comm.on_msg
    def echo(message):
        comm.send({"echo": message["content"]["data"]}, buffers=message["buffers"])
get_comm_manager().register_target("echo", opened)
"""


@python
async def test_comms_carry_messages_both_ways(kernel_client: CheckedClient) -> None:
    await kernel_client.execute(COMMS)
    comm = kernel_client.comm_open("echo")
    comm.send({"a": 1}, buffers=[b"xyz"])
    message = await comm.receive()
    assert message.content["data"] == {"echo": {"a": 1}}
    assert [bytes(one) for one in message.buffers] == [b"xyz"]
    assert (await kernel_client.comm_info("echo")).content["comms"].keys() == {comm.comm_id}
    await comm.close().wait()
    assert [one async for one in comm] == []
    assert (await kernel_client.comm_info()).content["comms"] == {}


@python
async def test_the_kernel_opens_comms_too(kernel_client: CheckedClient) -> None:
    await kernel_client.execute(
        "from comm import create_comm\nc = create_comm('mine', data={'x': 1}); c.send({'y': 2})"
    )
    (comm,) = kernel_client.comms.values()
    assert comm.opening is not None
    assert comm.opening.content["data"] == {"x": 1}
    assert (await comm.receive()).content["data"] == {"y": 2}
    await kernel_client.execute("c.close()")
    assert comm.closed
    assert kernel_client.comms == {}


@python
async def test_what_is_diverted_gathers_nowhere(kernel_client: CheckedClient) -> None:
    heard: list[str] = []

    def divert(message: Message) -> bool:
        heard.append(message.msg_type)
        return message.msg_type != "status"

    await kernel_client.execute("from comm import create_comm\nc = create_comm('mine')")
    (comm,) = kernel_client.comms.values()
    kernel_client.diverting.append(divert)
    execution = await kernel_client.execute("c.send(1); create_comm('more'); print('text')")
    kernel_client.diverting.remove(divert)
    assert {"comm_msg", "comm_open", "stream"} <= set(heard)
    assert {one.msg_type for one in execution.messages} == {"status"}
    assert [*kernel_client.comms.values()] == [comm]
    await kernel_client.execute("c.send(2)")
    assert (await comm.receive()).content["data"] == 2


@python
async def test_a_comm_to_nobody_is_closed(kernel_client: CheckedClient) -> None:
    comm = kernel_client.comm_open("nobody")
    with pytest.raises(trio.EndOfChannel):
        await comm.receive()


@python
async def test_outputs_that_come_after_idle_are_kept(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    code = """
import trio
from trikernel.notebook import nursery
async def later():
    await trio.sleep(5)
    print("late")
nursery.start_soon(later)
print("now")
"""
    execution = await kernel_client.execute(code)
    assert execution.stdout == "now\n"
    await trio.sleep(6)
    assert [one.msg_type for one in execution.late] == ["stream"]
    assert execution.stdout == "now\nlate\n"


@python
async def test_a_display_is_updated_by_another_cell(kernel_client: CheckedClient) -> None:
    first = await kernel_client.execute("h = display('old', display_id=True)")
    changes: list[str] = []
    first.on_change = lambda: changes.append("changed")
    await kernel_client.execute("h.update('new')")
    assert first.outputs[0]["data"]["text/plain"] == "'new'"
    assert changes == ["changed"]


@python
async def test_everything_on_iopub_can_be_heard(kernel_client: CheckedClient) -> None:
    with kernel_client.subscribe() as messages:
        await kernel_client.execute("1")
        kinds = [messages.receive_nowait().msg_type for _ in range(4)]
    assert kinds == ["status", "execute_input", "execute_result", "status"]


async def test_who_the_kernel_is_can_be_asked_beside_a_cell(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    cell = await kernel_client.start("1000").wait_started()
    assert (await kernel_client.kernel_info()).content["implementation"] == "trikernel"
    assert not cell.done
    assert trio.current_time() < 1


class OnShell(Slow):
    """Knows nothing of control, as old kernels do: it is silent there, or says so."""

    def __init__(self, is_silent: bool) -> None:
        super().__init__()
        self.is_silent = is_silent
        self.asked: list[str] = []

    async def kernel_info_request(self, request: Any) -> Any:
        self.asked.append(request.channel.name)
        if request.channel.name == "shell":
            return self.kernel_info
        if self.is_silent:
            await trio.sleep_forever()
        raise NotImplementedError  # as a kernel that does not know it there


@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_kernel_that_tells_it_on_shell_only_is_asked_there(
    autojump_clock: MockClock, is_silent: bool
) -> None:
    kernel = OnShell(is_silent)
    async with open_memory_client(kernel) as client:
        for _ in range(2):
            assert (await client.kernel_info()).content["implementation"] == "trikernel"
        client.pop_background_errors()
    assert kernel.asked == ["control", "shell", "shell"]


class BusyOnControl(Slow):
    """Answers on control after two seconds, the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def kernel_info_request(self, request: Any) -> Any:
        self.asked.append(request.channel.name)
        if len(self.asked) == 1:
            await trio.sleep(2)
        return self.kernel_info


async def test_a_kernel_that_is_only_busy_is_asked_on_control_again(
    autojump_clock: MockClock,
) -> None:
    kernel = BusyOnControl()
    async with open_memory_client(kernel) as client:
        cell = client.start("100")  # what is asked on shell waits for it
        await cell.wait_started()
        with trio.fail_after(10):
            for _ in range(2):
                assert (await client.kernel_info()).content["implementation"] == "trikernel"
        await client.stop(cell)
    assert kernel.asked[:2] == ["control", "control"]


async def test_a_kernel_that_shuts_down_fails_who_asks_later(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    queued = kernel_client.start("100")
    reply = await kernel_client.shutdown()
    assert reply.content == {"status": "ok", "restart": False}
    assert (await queued.wait()).status in ("aborted", "error")
    await trio.sleep(1)
    assert kernel_client.is_dead
    with pytest.raises(KernelDied, match="Slow has shut down"):
        await kernel_client.execute("1")


async def test_what_cannot_be_read_is_counted_and_dropped(autojump_clock: MockClock) -> None:
    async with open_memory_client(Recorder()) as client:
        channel: Any = client.connection.transport.shell
        for frames in ([], [b"x"], [b"<IDS|MSG>", b"bad", b"{}", b"{}", b"{}", b"{}"]):
            channel.inbox.put(frames)
        assert (await client.execute("still")).status == "ok"
        assert client.rejected == {"delimiter": 2, "signature": 1}


async def test_the_client_ends_cleanly_wherever_it_is_cancelled(autojump_clock: MockClock) -> None:
    """The kernel goes on, and answers the next client."""

    async def scenario(scope: Any) -> None:
        async with open_memory_client(Slow()) as client:
            with scope:
                async with client.executing("1") as execution, trio.open_nursery() as nursery:
                    nursery.start_soon(client.execute, "3")
                    nursery.start_soon(client.kernel_info)
                    async for _ in execution:
                        pass
                with suppress(ExecutionTimeout):
                    await client.execute("1", timeout=0.5)
            after = await client.execute("2")
            assert after.stdout == "<2>end"

    assert await at_every_checkpoint(scenario) > 10


async def test_a_body_that_raises_is_not_wrapped(autojump_clock: MockClock) -> None:
    with pytest.raises(LookupError):
        async with open_memory_client(Recorder()):
            raise LookupError
    with pytest.raises(ExceptionGroup) as caught:
        async with open_memory_client(Recorder()), trio.open_nursery():
            raise LookupError
    assert len(caught.value.exceptions) == 1
    assert isinstance(caught.value.exceptions[0], LookupError)


def test_a_client_says_what_it_speaks_to() -> None:
    client = Client(trikernel.MemoryTransport().connect(), "a kernel")
    assert client.name == "a kernel"
    assert not client.is_dead


async def test_a_closed_transport_is_a_dead_kernel(autojump_clock: MockClock) -> None:
    async with open_memory_client(Recorder()) as client:
        client.connection.transport.close()
        with pytest.raises(KernelDied, match="this client is closed"):
            await client.execute("1")


async def test_waiting_is_bounded_by_nothing_but_the_caller(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    assert (await kernel_client.execute("1000", timeout=math.inf)).stdout == "<1000>end"
    await wait_all_tasks_blocked()


async def test_who_waits_outside_of_the_block_is_told_too(autojump_clock: MockClock) -> None:
    errors = []

    async def wait(execution: Execution) -> None:
        try:
            await execution.wait()
        except KernelDied as error:
            errors.append(str(error))

    async with trio.open_nursery() as outside:
        async with open_memory_client(Slow()) as client:
            outside.start_soon(wait, client.start("1000"))
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert errors == ["Slow is no longer connected to this client"]


@python
async def test_a_question_that_cannot_be_answered_stops_its_cell(
    kernel_client: CheckedClient,
) -> None:
    code = "from trikernel.notebook import input\nawait input()"
    for bad in (_broken, lambda prompt, password: 5):
        execution = kernel_client.start(code, on_input=bad)  # type: ignore[arg-type]
        with pytest.raises((LookupError, TypeError)):
            await execution.wait()
        await execution.wait_ended()
        await kernel_client.expect("1", result=1)


def _broken(prompt: str, password: bool) -> str:
    raise LookupError


@python
async def test_an_answer_that_comes_late_is_not_given_to_another_cell(
    kernel_client: CheckedClient, autojump_clock: MockClock
) -> None:
    async def late(prompt: str, password: bool) -> str:
        await trio.sleep(10)
        return "late"

    async def right(prompt: str, password: bool) -> str:
        await trio.sleep(20)
        return "right"

    code = "from trikernel.notebook import input\nprint(await input())"
    with pytest.raises(ExecutionTimeout):
        await kernel_client.execute(code, on_input=late, timeout=1)
    await kernel_client.expect(code, on_input=right, stdout="right")


async def test_a_kernel_that_sends_nonsense_does_not_break_the_client(
    autojump_clock: MockClock,
) -> None:
    class Nonsense(trikernel.Kernel):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
            for kind in ("clear_output", "stream", "display_data", "execute_result", "error"):
                for value in (5, "x", [1], None):
                    names = ("data", "metadata", "text", "name", "traceback", "transient", "wait")
                    content = dict.fromkeys(names, value)
                    self.publish(kind, content)
                    self.publish("update_display_data", content)

        def publish(self, kind: str, content: dict[str, Any]) -> None:
            """As a kernel of another make does: `send_response` refuses some of it."""
            parent = self.sender.parent_header()
            self.sender.connection.iopub.publish(kind, content, parent=parent)

    async with open_memory_client(Nonsense()) as client:
        assert (await client.execute("1")).outputs
        assert (await client.execute("2")).status == "ok"


async def test_an_error_raised_while_cancelled_comes_out_as_itself(
    autojump_clock: MockClock,
) -> None:
    async def clean_up_badly() -> None:
        async with open_memory_client(Recorder()):
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError

    with trio.move_on_after(1):
        with pytest.raises(LookupError):
            await clean_up_badly()


async def test_a_cancelled_block_still_sees_its_cell_end(autojump_clock: MockClock) -> None:
    """What serves the client outlives the cancel: the interrupted cell tells its last words."""
    with trio.move_on_after(1):
        async with open_memory_client(Slow()) as client, client.executing("100") as execution:
            await trio.sleep_forever()
    assert execution.done
    assert execution.error is not None
