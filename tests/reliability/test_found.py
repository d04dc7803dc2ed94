"""What the scenarios and the reviews have found, each in its smallest form."""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from trikernel import Kernel, serve
from trikernel.client import Execution
from trikernel.testing import CheckedClient, open_memory_client
from trikernel.transport import MemoryTransport

from ..cells import Cells, ask, reply_of, served, until_input
from ..kernel.kernels import Recorder
from ..processes import kernel_process
from .scenarios import TICK, Workhorse


async def kept_cancelled() -> trio.Cancelled:
    """A `Cancelled` that user code has got hold of, of a scope that is over."""
    kept: list[trio.Cancelled] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            kept.append(error)
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return kept[0]


class Stray(Recorder):
    async def do_complete(self, code: str, cursor_pos: int) -> Any:
        raise await kept_cancelled()

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "stray":
            raise await kept_cancelled()
        return await super().do_execute(code, silent, **options)


async def test_a_cancelled_of_elsewhere_is_an_error_like_any(autojump_clock: Any) -> None:
    async with served(Stray()) as client:
        assert (await client.complete("a")).content["ename"] == "Cancelled"
        await client.expect("stray", error="Cancelled", stop_on_error=False)
        await client.expect("say on", stdout="on")


async def test_a_pump_that_is_cancelled_as_a_request_comes_leaves_it_to_the_lane(
    autojump_clock: Any,
) -> None:
    kernel = Workhorse()
    async with served(kernel) as client:
        scope = trio.CancelScope()

        async def pump() -> None:
            with scope:
                while True:
                    await kernel.process_one()

        kernel.nursery.start_soon(pump)
        await trio.sleep(TICK)
        await client.expect("say 1", stdout="1")  # the lane parks behind the pump
        execution = client.start("say 2")
        kernel.server.dispatcher.sweep()
        assert not scope.cancelled_caught
        scope.cancel()
        await execution.wait()
        assert execution.stdout == "2"
    assert scope.cancelled_caught


async def test_a_background_nursery_opens_again_after_slow_clean_up(autojump_clock: Any) -> None:
    kernel = Workhorse()
    async with served(kernel):
        started = trio.Event()

        async def linger() -> None:
            try:
                started.set()
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)

        async def report(*, task_status: trio.TaskStatus[str]) -> None:
            task_status.started("again")

        kernel.nursery.start_soon(linger)
        await started.wait()
        kernel.nursery.cancel_scope.cancel()
        assert await kernel.nursery.start(report) == "again"


async def test_an_aborted_cell_stops_no_comm_handler(autojump_clock: Any) -> None:
    async with served(Workhorse()) as client:

        def send(sleep: float) -> Execution:
            return client.send("comm_msg", {"comm_id": "c", "data": {"sleep": sleep}})

        failing = client.start("fail")
        handled = [send(10 * TICK), send(0)]
        aborted = client.start("say aborted")
        for one in (failing, aborted, *handled):
            await one.wait()
        assert aborted.status == "aborted"
        assert trio.current_time() >= 10 * TICK  # the handler slept to its end


async def test_a_shutdown_within_a_cell_is_not_stopped_by_itself(autojump_clock: Any) -> None:
    class Slow(Workhorse):
        ended = False

        async def do_shutdown(self, restart: bool) -> Any:
            await trio.sleep(TICK)
            self.ended = True
            return {"status": "ok", "restart": restart}

    kernel = Slow()
    async with served(kernel) as client:
        outer = client.start("iterate")
        stop = await client.send("shutdown_request", {"restart": False}).wait()
        assert kernel.ended
        assert stop.status == "ok"
        await outer.wait()


async def test_an_abandoned_cell_handles_nothing_beside_the_lane(autojump_clock: Any) -> None:
    class Pumping(Workhorse):
        active = most = 0

        async def cell_shielded(self, rest: str) -> None:
            with trio.CancelScope(shield=True):
                await self.process_one()

        async def cell_work(self, rest: str) -> None:
            self.active += 1
            self.most = max(self.most, self.active)
            await trio.sleep(TICK)
            self.active -= 1

    kernel = Pumping()
    async with served(kernel) as client:
        outer = client.start("shielded", stop_on_error=False)
        await trio.sleep(TICK)
        for _ in range(2):
            kernel.server.stopper.interrupt()
            await trio.sleep(TICK)
            await trio.sleep(0.06)  # a second interrupt counts as such only after a while
        kernel.server.stopper.interrupt()
        await outer.wait()
        assert await Cells(client, *["work"] * 3).statuses() == ["ok"] * 3
        assert kernel.most == 1


class SlowStart(Recorder):
    async def started(self) -> None:
        await trio.sleep(100)


async def test_a_shutdown_as_the_kernel_starts_is_heeded(autojump_clock: Any) -> None:
    transport = MemoryTransport()
    kernel = SlowStart()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(serve, kernel, transport, services="inline"))
        await trio.sleep(1)
        kernel.server.stop()
    assert trio.current_time() < 50


async def test_a_handler_that_sends_its_reply_itself_sends_the_only_one(
    autojump_clock: Any,
) -> None:
    class Classic(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.shell_handlers["connect_request"] = self.answer

        def answer(self, stream: Any, ident: Any, parent: Any) -> None:
            content = {"status": "ok", "by": "itself"}
            self.session.send(stream, "connect_reply", content, parent=parent, ident=ident)

    async with served(Classic()) as client:
        connected = await ask(client, "connect_request")
        assert reply_of(connected)["by"] == "itself"
        await client.kernel_info()  # a second reply would have come by then
        assert connected.replies == 1


async def test_what_is_sent_after_the_reply_of_an_abort_is_not_aborted() -> None:
    async with served(Workhorse(), "tcp") as client:
        for _ in range(20):
            reply = await client.request("abort_request", channel="control")
            assert reply.content["status"] == "ok"
            await client.expect("say on", stdout="on")


async def test_an_error_in_clean_up_does_not_leave_a_cancelled_serve() -> None:
    class Untidy(Recorder):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            try:
                await super().do_execute(code, silent, **options)
            finally:
                raise KeyError("while cleaning up")

    with trio.CancelScope() as scope:
        async with open_memory_client(Untidy()) as client:
            client.start("sleep 100")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="interrupts are other ones there")
def test_an_interrupt_is_never_raised_in_a_hosts_own_task() -> None:
    """Not even while the loop does not turn because of that very task."""

    class Still(Kernel):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            await trio.sleep_forever()

    async def host() -> str:
        kernel = Still()
        async with served(kernel, services="thread") as client:
            execution = await until_input(client.start("", stop_on_error=False))
            kernel.server.stopper.interrupt()
            threading.Event().wait(0.3)  # the host's own work, during which signals come
            return str(reply_of(await execution.wait())["ename"])

    assert trio.run(host) == "KeyboardInterrupt"


async def test_a_request_that_finds_no_room_is_told_so_and_stops_nothing(
    autojump_clock: Any,
) -> None:
    async with served(Workhorse(max_queue_bytes=20_000)) as client:
        cells = Cells(client, *[f"sleep {TICK}"] * 50)
        await cells.wait()
        refused = [reply_of(one) for one in cells.sent if one.status == "error"]
        assert 0 < len(refused) < 50
        assert {one["ename"] for one in refused} == {"QueueFull"}
        await client.expect("say on", stdout="on")


async def test_what_control_has_for_the_shell_lane_is_answered_at_the_end() -> None:
    """With a service thread it is posted, and may come when the lane has ended."""
    for _ in range(30):
        kernel = Workhorse()
        async with served(kernel, services="thread") as client:
            clearing = [client.send("clear_request", {}, channel="control") for _ in range(3)]
            kernel.server.stop()
            statuses = [(await one.wait()).status for one in clearing]
            assert set(statuses) <= {"ok", "aborted"}


@pytest.mark.slow
@pytest.mark.promise(14)
@pytest.mark.skipif(sys.platform == "win32", reason="interrupts by signal")
@pytest.mark.parametrize("code", ["while True: pass", "await trio.sleep(1000)"])
def test_an_interrupt_in_the_moment_in_which_a_cell_starts_is_not_lost(code: str) -> None:
    """One of IPython's own hooks was hit once in a hundred times, and swallowed it."""
    with kernel_process() as kernel:
        kernel.execute("import trio")
        for _ in range(200):
            msg_id = kernel.send(code, store_history=False)
            kernel.until("execute_input")
            kernel.interrupt()
            assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"


@pytest.mark.python
async def test_an_interrupt_that_hits_a_hook_before_a_cell_stops_the_cell(
    kernel_client: CheckedClient, python_kernel: Any, autojump_clock: Any
) -> None:
    def hook() -> None:
        raise KeyboardInterrupt

    await kernel_client.expect("ran = False")
    events = python_kernel.shell.events
    events.register("pre_run_cell", lambda info: hook())
    await kernel_client.expect("ran = True", error=KeyboardInterrupt)
    events.callbacks["pre_run_cell"].clear()
    await kernel_client.expect("ran", result=False)
    events.register("post_execute", hook)
    await kernel_client.expect("1 + 1", result=2, status="ok")
    events.unregister("post_execute", hook)
