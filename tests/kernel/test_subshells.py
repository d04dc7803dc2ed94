"""Subshells (JEP 91) of a kernel whose class says that it may have some."""

from __future__ import annotations

import json
import threading
from functools import partial
from typing import Any

import pytest
import trio

from trikernel.core import TextKey
from trikernel.errors import NoSubshell
from trikernel.system import Latch, run_in
from trikernel.testing import CheckedClient, open_clients
from trikernel.wire import Codec

from ..cells import TIMEOUT, served
from ..conftest import Serving
from .kernels import Recorder


class Threaded(Recorder):
    """May have subshells. ``fail later``: once `may_fail`, which any thread may set."""

    has_subshells = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.may_fail = Latch()

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "forever":
            await trio.sleep_forever()
        if code == "fail later":
            await self.may_fail.wait()
            raise ValueError(code)
        return await super().do_execute(code, silent, **options)


async def control(client: CheckedClient, verb: str, **content: Any) -> Any:
    reply = await client.request(f"{verb}_subshell_request", content, channel="control")
    return reply.content


async def test_one_is_created_listed_and_deleted(serving: Serving) -> None:
    async with serving(Threaded()) as client:
        assert "kernel subshells" in (await client.kernel_info()).content["supported_features"]
        first = (await control(client, "create"))["subshell_id"]
        second = (await control(client, "create"))["subshell_id"]
        assert (await control(client, "list"))["subshell_id"] == [first, second]
        assert await control(client, "delete", subshell_id=first) == {"status": "ok"}
        assert (await control(client, "list"))["subshell_id"] == [second]
        await client.expect("say main", stdout="main")


async def test_cells_are_in_order_within_one_and_beside_each_other(serving: Serving) -> None:
    async with serving(Threaded()) as client, client.open_subshell() as shell:
        waiting = client.start("forever")
        first, second = shell.start("sleep 0.05"), shell.start("say second")
        await second.wait()
        assert first.done
        assert not waiting.done
        await client.stop(waiting)
        assert second.reply is not None
        assert second.reply.content["execution_count"] == 2


async def test_a_failure_aborts_what_is_queued_there_only(serving: Serving) -> None:
    kernel = Threaded()
    async with serving(kernel) as client, client.open_subshell() as shell:
        sent = [shell.start("fail later"), shell.start("say not"), client.start("say main")]
        await sent[2].wait()  # which was sent last: all of them have been read
        kernel.may_fail.set()
        for one in sent:
            await one.wait()
        assert [one.status for one in sent] == ["error", "aborted", "ok"]


async def test_an_interrupt_hits_one_or_all(serving: Serving) -> None:
    async with (
        serving(Threaded()) as client,
        client.open_subshell() as one,
        client.open_subshell() as other,
    ):
        cells = [client.start("forever"), one.start("forever"), other.start("forever")]
        for cell in cells:
            await cell.wait_started()
        await one.interrupt()
        await cells[1].wait()
        assert [cell.status for cell in cells] == ["", "error", ""]
        await client.interrupt()
        for cell in cells:
            await cell.wait()
        assert {cell.status for cell in cells} == {"error"}


async def test_deleting_a_busy_one_answers_all_that_it_has(serving: Serving) -> None:
    async with serving(Threaded()) as client:
        async with client.open_subshell() as shell:
            running, queued = shell.start("forever"), shell.start("say queued")
            await running.wait_started()
        for one in (running, queued):
            await one.wait()
            assert one.status == "aborted"
            assert one.idle
        late = shell.start("say late")
        await late.wait()
        assert late.error is not None
        assert late.error.ename == "UnknownSubshellError"  # ipykernel's name and text
        assert late.error.evalue == f"Unknown subshell_id {shell.subshell_id!r}"


@pytest.mark.parametrize("subshell_id", ["unknown", "", 7, [1], {"a": 1}, True])
async def test_an_id_that_is_none_gets_an_error_reply(serving: Serving, subshell_id: Any) -> None:
    async with serving(Threaded()) as client, client.open_subshell():
        codec = Codec(b"test")
        header = {**json.loads(codec.header("execute_request")), "subshell_id": subshell_id}
        frames = codec.encode("execute_request", {"code": ""}, header=json.dumps(header).encode())
        sent = client.connection.post(frames, "execute_request", {}, "shell")
        await sent.wait()
        assert (sent.status, sent.idle) == ("error", True)
        reply = await control(client, "delete", subshell_id=subshell_id)
        assert reply["status"] == "error"
        assert reply["ename"] in ("UnknownSubshellError", "ContentError")


async def test_abort_by_id_reaches_a_subshell(serving: Serving) -> None:
    async with serving(Threaded()) as client, client.open_subshell() as shell:
        running, queued, kept = (shell.start(code) for code in ("forever", "say 1", "say 2"))
        await running.wait_started()
        ids = [queued.msg_id, running.msg_id]
        await client.request("abort_request", {"msg_ids": ids}, channel="control")
        for one in (running, queued, kept):
            await one.wait()
        assert [one.status for one in (running, queued, kept)] == ["aborted", "aborted", "ok"]


async def test_one_that_comes_while_its_abort_is_under_way_is_aborted() -> None:
    """It names a subshell, and is read after the services have looked there and before the user
    loop looks: that subshell may have begun with it by then.
    """
    kernel = Threaded()
    async with (
        served(kernel, over="tcp") as client,
        client.open_subshell() as shell,
        trio.open_nursery() as nursery,
    ):
        await shell.execute("say ready")  # what comes before waits for the service loop
        subshells, user_token = kernel.server.subshells, kernel.server.user_token
        codec, answered = Codec(client.connection.transport.key), threading.Event()
        header = codec.header("execute_request", subshell_id=shell.subshell_id)
        frames = codec.encode("execute_request", {"code": "say x"}, header=header)
        look, statuses = subshells.abort, list[str]()

        async def send() -> None:
            sent = client.connection.post(frames, "execute_request", {}, "shell")
            statuses.append((await sent.wait()).status)
            answered.set()

        def look_and_let_it_come(msg_ids: set[str] | None) -> set[str]:
            found = look(msg_ids)
            run_in(user_token, partial(nursery.start_soon, send))
            assert answered.wait(TIMEOUT)
            return found

        subshells.abort = look_and_let_it_come  # type: ignore[method-assign]
        msg_ids = [codec.decode_header(frames[2]).msg_id]
        await client.request("abort_request", {"msg_ids": msg_ids}, channel="control")
    assert statuses == ["aborted"]
    assert (kernel.ran, kernel.aborted) == (["say ready"], {})


async def test_an_abort_of_all_that_waits_hits_what_is_read_meanwhile() -> None:
    kernel = Threaded()
    async with served(kernel, over="tcp") as client, client.open_subshell() as shell:
        running, sent = shell.start("forever", stop_on_error=False), list[Any]()
        await running.wait_started()
        subshells, user_token = kernel.server.subshells, kernel.server.user_token
        (found,) = subshells._found.values()
        look, deliver, delivered = subshells.abort, found.deliver, threading.Event()

        def deliver_and_tell(request: Any, lane: Any) -> None:
            deliver(request, lane)
            delivered.set()

        def look_and_let_it_come(msg_ids: set[str] | None) -> set[str]:
            subshells.abort = look  # type: ignore[method-assign]
            looked = look(msg_ids)
            run_in(user_token, lambda: sent.append(shell.start("say x")))
            assert delivered.wait(TIMEOUT)
            return looked

        found.deliver = deliver_and_tell  # type: ignore[method-assign]
        subshells.abort = look_and_let_it_come  # type: ignore[method-assign]
        await client.request("abort_request", channel="control")
        await client.stop(running)
        assert (await sent[0].wait()).status == "aborted"


async def test_a_deadline_holds_in_a_subshell(serving: Serving) -> None:
    async with serving(Threaded()) as client, client.open_subshell() as shell:
        cell = await shell.execute("forever", metadata={"trikernel.timeout": 0.05})
        assert cell.error is not None
        assert cell.error.ename == "DeadlineExceeded"


async def test_a_class_has_to_say_that_it_may_have_some() -> None:
    async with open_clients(Recorder()) as (client,):
        assert not (await client.kernel_info()).content["supported_features"]
        with pytest.raises(NoSubshell, match="has_subshells = True"):
            async with client.open_subshell():
                pass
        for verb in ("delete", "list"):
            assert (await control(client, verb, subshell_id="x"))["status"] == "error"


async def test_a_client_that_is_cancelled_leaves_none(autojump_clock: Any) -> None:
    async with open_clients(Threaded()) as (client,):
        for at in range(8):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_at, scope, at)
                    async with client.open_subshell() as shell:
                        await shell.execute("forever")
            assert (await control(client, "list"))["subshell_id"] == []


async def cancel_at(scope: trio.CancelScope, checkpoint: int) -> None:
    for _ in range(checkpoint):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_a_kernel_ends_with_busy_subshells(serving: Serving) -> None:
    async with serving(Threaded()) as client:
        created = [(await control(client, "create"))["subshell_id"] for _ in range(3)]
        cells = [
            client.connection.send("execute_request", {"code": "forever"}, subshell_id=one)
            for one in created
        ]
        for cell in cells:
            await cell.wait_started()
        await client.shutdown()
        for cell in cells:
            await cell.wait()
            assert cell.status == "aborted"


async def test_a_stop_that_a_loop_has_not_heard_of_ends_with_it(autojump_clock: Any) -> None:
    kernel = Threaded()
    async with open_clients(kernel) as (client,):
        async with client.open_subshell() as shell:
            await shell.execute("say here")
            stopper = kernel.server.subshells.loops[0].stopper
            stopper._on_pending(True)  # as if its loop crashed before it delivers a stop
        iopub = kernel.server.connection.iopub
        iopub.write(TextKey(None, "stdout"), "text")
        assert iopub.open_text is not None  # else each text would be written the slow way
