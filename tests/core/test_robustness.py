"""Odd exceptions, odd values, cancels at odd moments: each request is answered, nothing falls."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

import trikernel
from trikernel import Kernel, Reply
from trikernel.core import Job, Server, TextKey
from trikernel.kernel import application_of
from trikernel.testing import CheckedClient, message_types

from ..cells import Cells, ask, contents, reply_of, served, until_input
from ..conftest import Serving
from ..harness import open_peer, open_transport
from ..kernel.kernels import Recorder
from ..processes import kernel_process


class Raising(Recorder):
    """Raises what the test says."""

    error: BaseException = ValueError()

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "raise":
            raise self.error
        return await super().do_execute(code, silent, **options)

    def do_shutdown(self, restart: bool) -> Any:
        raise self.error


ODD = [SystemExit(3), asyncio.CancelledError(), BaseException("bare"), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
async def test_a_verb_may_raise_anything(serving: Serving, error: BaseException) -> None:
    kernel = Raising()
    kernel.error = error
    async with serving(kernel) as client:
        heard = await client.execute("raise", stop_on_error=False)
        assert reply_of(heard)["ename"] == type(error).__name__
        assert (await client.execute("say on")).stdout == "on"
        heard = await ask(client, "shutdown_request", {"restart": False}, channel="control")
        assert reply_of(heard) == {"status": "ok", "restart": False}
        with trio.fail_after(30):
            await kernel.server.stopping.wait()


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
async def test_a_scheduled_call_may_raise_anything(serving: Serving, error: BaseException) -> None:
    def fail() -> None:
        raise error

    kernel = Recorder()
    async with serving(kernel) as client:
        kernel.schedule_dispatch(1, fail)
        assert (await client.execute("say on")).stdout == "on"


async def test_a_shutdown_verb_may_return_anything(serving: Serving) -> None:
    class Odd(Recorder):
        def do_shutdown(self, restart: bool) -> Any:
            return True

    async with serving(Odd()) as client:
        heard = await ask(client, "shutdown_request", {"restart": True}, channel="control")
        assert reply_of(heard) == {"status": "ok", "restart": True}


@pytest.mark.parametrize("what", ["metadata", "buffers"])
async def test_a_reply_that_cannot_be_sent_is_an_error_reply(serving: Serving, what: str) -> None:
    class Odd(Recorder):
        def finish_metadata(self, parent: Any, metadata: Any, reply_content: Any) -> Any:
            return [1] if what == "metadata" else metadata

        async def is_complete_request(self, request: Any) -> Any:
            return Reply({"status": "ok"}, buffers=["text"])  # type: ignore[list-item]

    async with serving(Odd()) as client:
        if what == "metadata":
            heard = await client.execute("say x", stop_on_error=False)
        else:
            heard = await ask(client, "is_complete_request", {"code": ""})
        assert reply_of(heard)["ename"] == "TypeError"
        assert message_types(heard)[-1] == "status:idle"
        assert (await ask(client, "kernel_info_request")).status == "ok"


class Pumping(Recorder):
    """``pump N``: handles one request from inside; ``brief``: the same, for a moment only."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code.startswith("pump"):
            await self.released.wait()
            await self.do_one_iteration()
        elif code == "brief":
            await self.released.wait()
            with trio.move_on_after(0.05):
                await self.process_one()
        return await super().do_execute(code, silent, **options)


async def queued(client: CheckedClient, *codes: str) -> Cells:
    """Send cells at once; the first of them runs."""
    cells = Cells(client, *codes)
    await until_input(cells.sent[0])
    return cells


async def test_a_nested_cell_may_pump_too(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as client:
        cells = await queued(client, "pump 1", "pump 2", "say innermost")
        kernel.released.set()
        await cells.wait()
        assert [one.status for one in cells.answered] == ["ok"] * 3
    assert kernel.ran == ["say innermost", "pump 2", "pump 1"]


async def test_a_cancelled_nested_cell_is_answered_and_stops(serving: Serving) -> None:
    kernel = Pumping()
    async with serving(kernel) as client:
        cells = await queued(client, "brief", "sleep 0.2", "say after")
        _, inner, after = cells.sent
        kernel.released.set()
        await cells.wait()
        assert (inner.status, after.status) == ("aborted", "ok")
        await trio.sleep(0.5)
        await client.execute("say on")
        assert message_types(inner)[-1] == "status:idle"
        assert inner.late == []


async def test_a_pump_that_gives_up_waiting_loses_no_request(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        cells = await queued(client, "wait", "say queued")
        with trio.move_on_after(0.05):
            await kernel.process_one()
        kernel.released.set()
        assert await cells.statuses() == ["ok", "ok"]


async def test_what_arrives_as_the_kernel_stops_is_answered(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        arrived: list[Any] = []
        server = kernel.server
        admit = server.lane.admit
        server.lane.admit = lambda *one: (arrived.append(one), admit(*one))  # type: ignore
        cells = Cells(client, *["wait"] * 5)
        while len(arrived) < 5:  # over sockets it takes its time
            server.dispatcher.sweep()
            await trio.lowlevel.checkpoint()
        server.stop()
        await cells.wait()
        assert [one.status for one in cells.sent] == ["aborted"] * 5


async def test_what_arrives_after_the_lane_ended_is_refused_not_fatal() -> None:
    kernel = Recorder()
    async with served(kernel):
        server = kernel.server
        server.stop()
        await trio.sleep(1)
        server.lane.posted.post(partial(server.lane.abort_queued, 1.0))
        server.schedule(1, Job(print))
        await trio.sleep(0.01)
    assert not kernel.sender.is_connected


async def test_a_stopped_cell_shows_no_cancel(serving: Serving) -> None:
    from trikernel.python import PythonKernel

    kernel = PythonKernel()
    async with serving(kernel) as client:
        heard = client.start("import trio; await trio.sleep_forever()")
        await until_input(heard)
        await trio.sleep(0.05)
        kernel.server.stop()
        await heard.wait()
    assert heard.status == "aborted"
    assert {one["ename"] for one in contents(heard, "error")} <= {"AbortedError"}


async def test_serve_that_is_cancelled_as_it_starts_ends() -> None:
    transport = open_transport("tcp")
    try:
        with trio.fail_after(30), trio.CancelScope() as scope:
            scope.cancel()
            await trikernel.serve(Recorder(), transport)
    finally:
        transport.close()


async def test_set_parent_holds_for_its_own_cell_only(serving: Serving) -> None:
    class Setting(Recorder):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            import contextvars

            if code == "set":
                header = {"msg_id": "elsewhere", "msg_type": "x", "session": "s"}
                self.set_parent([], {"header": header})
                self.user_context = contextvars.copy_context()
            return await super().do_execute(code, silent, **options)

    async with serving(Setting()) as client:
        await client.execute("set")
        assert (await client.execute("say mine")).stdout == "mine"


@pytest.mark.promise(14)
async def test_every_task_of_the_kernel_is_protected_from_interrupts(serving: Serving) -> None:
    """A signal must never raise in a frame of ours, whatever task it belongs to."""
    from trio.lowlevel import current_root_task

    async with serving(Kernel()) as client:
        await ask(client, "kernel_info_request")
        names: dict[str, Any] = {}
        todo = [current_root_task()]
        while todo:
            task = todo.pop()
            assert task is not None
            todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
            names[task.name] = task.coro
        ours = {name: coro for name, coro in names.items() if "receiver" in name or "lane" in name}
        assert len(ours) >= 3
        from trio._core._ki import _CODE_KI_PROTECTION_STATUS_WMAP as marks

        for name, coro in ours.items():
            assert marks[coro.cr_code] is True, name


class Holding(Kernel):
    """Runs in a process: blocks while it is started, or catches every interrupt."""

    implementation = "holding"
    hits = 0

    async def started(self) -> None:
        import time

        time.sleep(0.5)  # noqa: ASYNC251  # the point: the loop stands still meanwhile

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        import time

        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": "begun"})
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            try:
                time.sleep(0.01)  # blocks, as a wrapper kernel does
            except KeyboardInterrupt:
                self.hits += 1
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": str(self.hits)})


def test_two_interrupts_are_two_and_no_more() -> None:
    with kernel_process("tests.core.test_robustness:Holding") as kernel:
        msg_id = kernel.send("x")
        kernel.until("stream")
        for _ in range(2):
            kernel.interrupt("message")
        _, outputs = kernel.finish(msg_id)
        (hits,) = [one["content"]["text"] for one in outputs if one["msg_type"] == "stream"]
        assert 1 <= int(hits) <= 2


@pytest.mark.promise(14)
def test_an_interrupt_while_the_kernel_starts_is_ignored() -> None:
    import signal
    import subprocess
    import sys
    import tempfile
    from pathlib import Path

    from trikernel.transport import ConnectionInfo, write_connection_file

    from ..processes import ROOT, KernelProcess, wait_until

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.json"
        write_connection_file(path, ConnectionInfo())
        spec = ["--kernel", "tests.core.test_robustness:Holding", "-f", str(path)]
        command = [sys.executable, "-m", "trikernel", "start", *spec]
        with subprocess.Popen(command, cwd=ROOT, text=True) as process:
            wait_until(lambda: '"shell_port": 0' not in path.read_text(), "the ports")
            for _ in range(3):
                process.send_signal(signal.SIGINT)
            kernel = KernelProcess(process, path)
            assert process.poll() is None
            kernel.client.stop_channels()
            process.kill()


async def test_input_of_a_task_whose_cell_has_ended_is_refused(serving: Serving) -> None:
    class Later(Recorder):
        refused: Any = None

        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            self.nursery.start_soon(self.ask)

        async def ask(self) -> None:
            await trio.sleep(0.05)
            try:
                await self.async_input("?")
            except trikernel.errors.StdinNotImplementedError as error:
                self.refused = error

    kernel = Later()
    async with serving(kernel) as client:
        await ask(client, "execute_request", {"code": "x", "allow_stdin": True})
        await trio.sleep(0.2)
    assert "has ended" in str(kernel.refused)


async def test_an_abandoned_cell_says_nothing_after_its_idle(serving: Serving) -> None:
    class Lingering(Recorder):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
            if code == "linger":
                with trio.CancelScope(shield=True):
                    await self.released.wait()
                raise ValueError("too late")
            return await super().do_execute(code, silent, **options)

    kernel = Lingering()
    async with serving(kernel) as client:
        (heard,) = (await queued(client, "linger")).sent
        await ask(client, "interrupt_request", channel="control")
        await trio.sleep(0.1)
        await ask(client, "interrupt_request", channel="control")
        await heard.wait()
        kernel.released.set()
        await trio.sleep(0.05)
        await client.execute("say on", stop_on_error=False)
    assert reply_of(heard)["ename"] == "KeyboardInterrupt"
    assert message_types(heard)[-1] == "status:idle"
    assert heard.late == []


async def test_a_client_of_the_transport_may_vanish_without_harm(serving: Serving) -> None:
    kernel = Recorder()
    async with serving(kernel) as client:
        async with open_peer(kernel) as other:
            other.send("execute_request", {"code": "sleep 0.05"})
            await trio.sleep(0.02)
        assert (await client.execute("say on")).stdout == "on"


async def test_an_aborted_request_is_busy_before_it_is_answered_whoever_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread has taken its busy out of the queue, and has not sent it yet."""
    kernel, said, go_on = Recorder(), list[str](), threading.Event()
    threads = list[threading.Thread]()
    async with served(kernel) as client:
        iopub, replies = kernel.server.connection.iopub, kernel.server.connection.replies
        application = kernel.server.application
        send, reply = iopub._subscribers.send, replies.send
        aborted_reply, lock = application.aborted_reply, iopub._lock
        sending = threading.Event()

        def slow_send(frames: list[bytes], size: int) -> bool:
            if threading.current_thread() in threads and not sending.is_set():
                sending.set()
                go_on.wait(30)
            said.append(frames[-1].decode())
            return send(frames, size)

        def noted_reply(channel: Any, frames: list[bytes]) -> None:
            said.append(frames[-1].decode())
            go_on.set()
            reply(channel, frames)

        def aborted(request: Any) -> Reply:
            go_on.clear()
            threads.append(threading.Thread(target=iopub.drain))
            threads[0].start()
            assert sending.wait(30)
            return aborted_reply(request)

        class Lock:
            """Who waits for it lets the other thread go on."""

            def acquire(self, blocking: bool = True) -> bool:
                if blocking and threads and threading.current_thread() not in threads:
                    go_on.set()
                return lock.acquire(blocking)

            def __enter__(self) -> bool:
                return self.acquire()

            def __exit__(self, *_: object) -> None:
                lock.release()

            release = lock.release

        monkeypatch.setattr(iopub, "_lock", Lock())
        monkeypatch.setattr(iopub._subscribers, "send", slow_send)
        monkeypatch.setattr(replies, "send", noted_reply)
        monkeypatch.setattr(application, "aborted_reply", aborted)
        cells = Cells(client, "fail", "say no more")
        assert await cells.statuses() == ["error", "aborted"]
        threads[0].join(30)
    states = [one for one in said if '"aborted"' in one or "execution_state" in one]
    expected = ["busy", "idle", "busy", "aborted", "idle"]
    found = [word for one in states for word in ("busy", "idle", "aborted") if f'"{word}"' in one]
    assert found == expected


async def test_a_loop_begins_without_the_pending_stops_of_a_lost_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server(application_of(Recorder()), trikernel.MemoryTransport(), inline=True)
    iopub = server.connection.iopub
    server.stopper._on_pending(True)  # a stop that the loop does not deliver any more
    server.enter_loop()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(iopub.run_flusher)
        await trio.testing.wait_all_tasks_blocked()
        iopub.write(TextKey(None, "stdout"), "text")
        assert iopub.open_text is not None
        nursery.cancel_scope.cancel()
