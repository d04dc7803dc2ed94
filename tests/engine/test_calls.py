"""Function calls of an engine, in memory under the virtual clock."""

from __future__ import annotations

import os
from typing import Any

import pytest
import trio
import trio.testing
from ipyparallel.serialize import deserialize_object

from trikernel.engine import within
from trikernel.engine.packing import flat, pack

from .caller import ENGINE, Caller, open_engine

pytestmark = pytest.mark.usefixtures("autojump_clock")


def add(one: int, other: int) -> int:
    return one + other


async def sleep(seconds: float) -> float:
    import trio

    await trio.sleep(seconds)
    return trio.current_time()


def fail() -> None:
    raise ZeroDivisionError("by nothing")


async def test_a_call_is_answered_with_what_schedulers_and_clients_read() -> None:
    async with open_engine() as caller:
        given = {"is_broadcast": True, "is_coalescing": True, "original_msg_id": "before", "x": 1}
        msg_id = caller.call(add, 1, 2, metadata=given, identities=(b"scheduler", b"his client"))
        reply = await caller.reply_to(msg_id)
        assert deserialize_object(list(reply.buffers))[0] == 3
        assert reply.msg_type == "apply_reply"
        assert list(reply.identities) == [b"scheduler", b"his client"]
        metadata = dict(reply.metadata)
        assert metadata.pop("started")
        assert metadata == {
            "engine": ENGINE,
            "status": "ok",
            "dependencies_met": True,
            "is_broadcast": True,
            "is_coalescing": True,
            "original_msg_id": "before",
            "label": None,
        }


async def test_what_is_broadcast_says_which_engine_it_is_from() -> None:
    async with open_engine() as caller:
        about = await caller.until_idle(caller.call(print, "said"))
        assert [one.msg_type for one in about] == ["status", "stream", "status"]
        assert all(one.metadata["engine"] == ENGINE for one in about)
        assert about[0].identities == [b"engine.3.status"]


async def test_async_calls_await_beside_each_other() -> None:
    async with open_engine() as caller:
        began = trio.current_time()
        calls = [caller.call(sleep, 1) for _ in range(20)]
        assert [await caller.result_of(one) for one in calls] == [began + 1] * 20


def named(name: str, *args: Any) -> Any:
    """What a function of the engine's own namespace returns."""
    from IPython import get_ipython

    return get_ipython().user_ns[name](*args)


ORDERED = """
noted = []
async def awaits(number):
    import trio
    noted.append(number)
    await trio.sleep(10)
    noted.append(-number)
def plain(number):
    noted.append(number)
"""


async def test_plain_calls_keep_their_order_while_others_await() -> None:
    async with open_engine() as caller:
        caller.send("execute_request", {"code": ORDERED})
        calls = [caller.call(named, "awaits" if n % 2 else "plain", n) for n in range(1, 9)]
        for one in calls:
            await caller.result_of(one)
        noted = caller.kernel.user_ns["noted"]
        assert noted[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert sorted(noted[8:]) == [-7, -5, -3, -1]


async def test_a_cell_and_calls_share_one_lane_and_one_namespace() -> None:
    async with open_engine() as caller:
        code = "import trio\nawait trio.sleep(5)\ndef a(): return 7"
        cell = caller.send("execute_request", {"code": code})
        assert await caller.result(named, "a") == 7
        reply = caller.replies[cell]
        assert reply.metadata["engine"] == ENGINE
        assert reply.metadata["status"] == "ok"


async def test_an_abort_stops_the_call_that_it_names_and_no_other() -> None:
    async with open_engine() as caller:
        calls = [caller.call(sleep, 20) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await caller.ask("abort_request", {"msg_ids": [calls[1]]})
        reply = await caller.reply_to(calls[1])
        assert reply.content == {"status": "aborted"}
        assert reply.metadata["status"] == "aborted"
        assert reply.metadata["engine"] == ENGINE
        assert trio.current_time() == began
        assert await caller.result_of(calls[0]) == await caller.result_of(calls[2])


async def test_a_broadcast_call_is_aborted_by_the_id_that_its_client_knows() -> None:
    async with open_engine() as caller:
        buffers = [bytes(one) for one in caller_buffers(sleep, 20)]
        header = caller.codec.header("apply_request", f"his-id_{ENGINE}")
        caller.send("apply_request", buffers=buffers, header=header)
        await trio.testing.wait_all_tasks_blocked()
        await caller.ask("abort_request", {"msg_ids": ["his-id"]})
        reply = await caller.reply_to(f"his-id_{ENGINE}")
        assert reply.content["status"] == "aborted"


def caller_buffers(f: Any, *args: Any) -> list[Any]:
    from ipyparallel.serialize import pack_apply_message

    return list(pack_apply_message(f, args, {}))


async def test_an_abort_of_everything_ends_what_waits() -> None:
    async with open_engine() as caller:
        cell = caller.send("execute_request", {"code": "import trio\nawait trio.sleep(5)"})
        calls = [caller.call(add, 1, 1) for _ in range(100)]
        await trio.testing.wait_all_tasks_blocked()
        await caller.ask("abort_request", {})
        statuses = {(await caller.reply_to(one)).content["status"] for one in calls}
        assert statuses == {"aborted"}
        assert (await caller.reply_to(cell)).content["status"] == "ok"
        assert await caller.result(add, 2, 2) == 4


@pytest.mark.parametrize("how", ["wrapped", "metadata"])
async def test_a_call_is_stopped_at_its_deadline(how: str) -> None:
    async with open_engine() as caller:
        began = trio.current_time()
        if how == "wrapped":
            msg_id = caller.call(within(2, sleep), 20)
        else:
            msg_id = caller.call(sleep, 100, metadata={"trikernel.timeout": 2})
        reply = await caller.reply_to(msg_id)
        assert reply.content["ename"] == "DeadlineExceeded"
        assert reply.metadata["status"] == "error"
        assert trio.current_time() == began + 2


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
async def test_a_deadline_is_a_positive_number(seconds: float) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        within(seconds, sleep)


async def test_an_error_tells_where_and_shows_the_callers_code_only() -> None:
    async with open_engine() as caller:
        msg_id = caller.call(fail)
        reply = await caller.reply_to(msg_id)
        content = reply.content
        assert (content["status"], content["ename"]) == ("error", "ZeroDivisionError")
        info = {"engine_uuid": ENGINE, "engine_id": 3}
        assert content["engine_info"] == {**info, "method": "apply"}
        assert reply.metadata["engine_info"] == info
        text = "\n".join(content["traceback"])
        assert "fail" in text
        assert "trikernel/engine" not in text
        about = await caller.until_idle(msg_id)
        assert [one.msg_type for one in about] == ["status", "error", "status"]


async def test_an_unmet_dependency_is_told_to_the_scheduler() -> None:
    def depends() -> None:
        from ipyparallel.error import UnmetDependency

        raise UnmetDependency("not here")

    async with open_engine() as caller:
        reply = await caller.reply_to(caller.call(depends))
        assert reply.metadata["dependencies_met"] is False


BAD: dict[str, list[bytes]] = {
    "nothing": [],
    "no pickle": [b"\x80garbage", b"more"],
    "one buffer": [b"N."],
    "a pickle of a module that is nowhere": [b"cno.such.module\nthing\n.", b"N."],
}


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_unpacked_is_an_error_of_the_call(name: str) -> None:
    async with open_engine() as caller:
        msg_id = caller.send("apply_request", buffers=BAD[name])
        reply = await caller.reply_to(msg_id)
        assert reply.content["status"] == "error"
        assert reply.content["engine_info"]["engine_id"] == 3
        assert await caller.result(add, 1, 1) == 2


def exits() -> None:
    raise SystemExit(3)


def cannot_be_sent() -> Any:
    return (number for number in range(3))


def needs_too_much() -> bytearray:
    return bytearray(1 << 60)


def leaves_a_scope_open() -> None:
    import trio

    trio.CancelScope().__enter__()


async def leaves_a_nursery_open() -> None:
    import trio

    nursery = await trio.open_nursery().__aenter__()
    nursery.start_soon(trio.sleep_forever)


def interrupts_itself() -> None:
    raise KeyboardInterrupt


def calls_itself() -> None:
    def again() -> None:
        again()

    again()


AMISS = {
    exits: "SystemExit",
    cannot_be_sent: "TypeError",
    needs_too_much: "MemoryError",
    leaves_a_scope_open: "LeftOpenError",
    leaves_a_nursery_open: "LeftOpenError",
    interrupts_itself: "KeyboardInterrupt",
    calls_itself: "RecursionError",
}


@pytest.mark.parametrize("function", AMISS, ids=lambda one: one.__name__)
async def test_what_a_call_does_amiss_is_its_own_error(function: Any) -> None:
    async with open_engine() as caller:
        reply = await caller.reply_to(caller.call(function))
        assert (reply.content["status"], reply.content["ename"]) == ("error", AMISS[function])
        assert await caller.result(add, 1, 1) == 2


async def test_a_background_task_prints_and_fails_under_the_call_that_started_it() -> None:
    async def linger() -> None:
        await trio.sleep(5)
        print("later")
        raise RuntimeError("in the background")

    async with open_engine() as caller:
        caller.kernel.user_ns["begin"] = lambda: caller.kernel.nursery.start_soon(linger)
        msg_id = caller.call(named, "begin")
        await caller.until_idle(msg_id)
        await caller.result(add, 1, 1)
        found: list[Any] = []
        while len(found) < 2:
            message = await caller.receive("iopub")
            if message.parent_id == msg_id:
                found.append(message)
        assert [one.msg_type for one in found] == ["stream", "error"]
        assert found[0].content["text"] == "later\n"
        assert found[1].content["ename"] == "RuntimeError"


async def test_an_interrupt_stops_all_that_awaits_if_nothing_computes() -> None:
    async with open_engine() as caller:
        calls = [caller.call(sleep, 20) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        caller.server.interrupt()
        found = [(await caller.reply_to(one)).content["ename"] for one in calls]
        assert found == ["KeyboardInterrupt"] * 3


async def test_an_interrupt_stops_the_one_that_has_the_lane_if_there_is_one() -> None:
    async with open_engine() as caller:
        beside = caller.call(sleep, 20)
        cell = caller.send("execute_request", {"code": "import trio\nawait trio.sleep(10)"})
        await trio.testing.wait_all_tasks_blocked()
        caller.server.interrupt()
        assert (await caller.reply_to(cell)).content["ename"] == "KeyboardInterrupt"
        assert await caller.result_of(beside) > 0


async def test_calls_leave_no_task_behind() -> None:
    async with open_engine() as caller:
        await caller.result(add, 1, 1)
        before = len(caller.server.cells.child_tasks)
        for one in [caller.call(sleep, number % 7) for number in range(200)]:
            await caller.result_of(one)
        await trio.testing.wait_all_tasks_blocked()
        assert len(caller.server.cells.child_tasks) == before
        assert not caller.server.stopper.running


async def test_ten_thousand_calls_are_aborted() -> None:
    async with open_engine() as caller:
        caller.send("execute_request", {"code": "import trio\nawait trio.sleep(5)"})
        calls = [caller.call(add, 1, 1) for _ in range(10_000)]
        await trio.testing.wait_all_tasks_blocked()
        await caller.ask("abort_request", {"msg_ids": calls})
        for one in calls:
            assert (await caller.reply_to(one)).content["status"] == "aborted"


async def test_ids_that_wait_at_the_controller_are_all_aborted_when_they_come() -> None:
    async with open_engine() as caller:
        told = [f"waits-{number}" for number in range(12_000)]
        await caller.ask("abort_request", {"msg_ids": told})
        for name in (told[0], told[6_000], told[-1], f"{told[1]}_{ENGINE}"):
            buffers = caller_buffers(add, 1, 1)
            header = caller.codec.header("apply_request", name)
            caller.send("apply_request", buffers=buffers, header=header)
            assert (await caller.reply_to(name)).content["status"] == "aborted"
        assert await caller.result(add, 1, 1) == 2


async def test_calls_that_the_controller_has_given_up_are_dropped() -> None:
    async with open_engine() as caller:
        awaits = caller.call(sleep, 20)
        cell = caller.send("execute_request", {"code": "import trio\nawait trio.sleep(10)"})
        waits = caller.call(add, 1, 1)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await caller.application.drop_calls()
        for one in (awaits, cell, waits):
            assert (await caller.reply_to(one)).content["status"] == "aborted"
        assert trio.current_time() == began
        assert await caller.result(add, 1, 1) == 2


async def test_a_shutdown_answers_what_awaits() -> None:
    async with open_engine() as caller:
        call = caller.call(sleep, 20)
        await trio.testing.wait_all_tasks_blocked()
        await caller.ask("shutdown_request", {"restart": False})
        assert (await caller.reply_to(call)).content["status"] == "aborted"


async def test_the_namespace_is_cleared() -> None:
    async with open_engine() as caller:
        caller.kernel.user_ns["a"] = 1
        assert (await caller.ask("clear_request", {})).content["status"] == "ok"
        assert "a" not in caller.kernel.user_ns


async def test_values_are_published_under_the_call() -> None:
    async with open_engine() as caller:
        publish = "get_ipython().data_pub.publish_data({'i': 4, 'data': b'x' * 5000})"
        msg_id = caller.send("execute_request", {"code": publish, "silent": True})
        about = await caller.until_idle(msg_id)
        (message,) = [one for one in about if one.msg_type == "data_message"]
        assert message.content == {"keys": ["i", "data"]}
        assert deserialize_object(list(message.buffers))[0] == {"i": 4, "data": b"x" * 5000}


async def test_a_silent_cell_of_an_engine_prints_all_the_same() -> None:
    async with open_engine() as caller:
        msg_id = caller.send("execute_request", {"code": "print('heard')", "silent": True})
        about = await caller.until_idle(msg_id)
        assert [one.msg_type for one in about] == ["status", "stream", "status"]


async def test_an_engine_says_why_it_is_no_worker_of_dask() -> None:
    from ipyparallel.util import become_dask_worker

    async with open_engine() as caller:
        reply = await caller.reply_to(caller.call(become_dask_worker, "tcp://nowhere"))
        assert "worker of dask" in reply.content["evalue"]


@pytest.mark.parametrize("sig", ["SIGNOTHING", 1.5, None, True])
async def test_a_signal_that_is_none_is_refused(sig: Any) -> None:
    async with open_engine() as caller:
        reply = await caller.ask("signal_request", {"sig": sig})
        assert reply.content["status"] == "error"


async def test_code_on_an_engine_knows_its_number() -> None:
    async with open_engine() as caller:
        assert await caller.result(numbers) == [3, 3, 3]


def numbers() -> list[int]:
    from ipyparallel.engine.app import IPEngine
    from IPython import get_ipython

    kernel = get_ipython().kernel
    return [kernel.int_id, kernel.engine_id, IPEngine.instance().id]


async def test_a_large_result_is_sent_as_it_lies_in_memory() -> None:
    data = bytearray(os.urandom(1 << 20))
    sent = [flat(one) for one in pack(memoryview(data))]
    data[0] ^= 255
    assert any(isinstance(one, memoryview) and one[0] == data[0] for one in sent)


async def test_a_call_that_is_cancelled_within_does_not_hold_the_lane() -> None:
    async def shielded() -> None:
        import trio

        with trio.CancelScope(shield=True):
            await trio.sleep(3)

    async with open_engine() as caller:
        await _stop_and_go_on(caller, caller.call(shielded))


async def _stop_and_go_on(caller: Caller, msg_id: str) -> None:
    await trio.testing.wait_all_tasks_blocked()
    caller.send("abort_request", {"msg_ids": [msg_id]}, channel="control")
    assert await caller.result(add, 1, 1) == 2
    assert (await caller.reply_to(msg_id)).content["status"] == "aborted"
