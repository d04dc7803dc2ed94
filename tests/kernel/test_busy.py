"""``busy`` is out before any of the author's code is called, wherever that may be."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

import trikernel
from trikernel.testing import message_types, open_clients

from ..cells import ask, served
from ..harness import Peer, open_peer


class Looks(trikernel.Kernel):
    """Notes what the client has heard at the moment in which it is called."""

    peer: Peer  # not the client, whose own task reads what it hears
    seen: list[str]

    def look(self) -> None:
        iopub = self.peer.transport.iopub
        while True:
            try:
                message = self.peer.codec.decode(iopub.receive_nowait())
            except trio.WouldBlock:
                break
            if message.msg_type == "status":
                self.seen.append(message.content["execution_state"])


class Verb(Looks):
    async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
        self.look()


class Hook(Looks):
    def pre_handler_hook(self) -> None:
        self.look()


class OwnHook(Looks):
    def __init__(self) -> None:
        super().__init__()
        self.pre_handler_hook = self.look  # type: ignore[method-assign]


class ShouldHandle(Looks):
    def should_handle(self, stream: Any, msg: Any, idents: Any) -> bool:
        self.look()
        return True


class Metadata(Looks):
    def init_metadata(self, parent: dict[str, Any]) -> dict[str, Any]:
        self.look()
        return {}


class Begin(Looks):
    def _begin_execution(self, content: Any) -> int:
        self.look()
        return super()._begin_execution(content)


class Filter(Verb):
    def send_response(self, stream: Any, msg_or_type: Any, *args: Any, **options: Any) -> None:
        if msg_or_type != "execute_input":
            super().send_response(stream, msg_or_type, *args, **options)


def wrapped(handler: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handler)
    async def wrapper(self: Looks, request: Any) -> Any:
        self.look()
        return await handler(self, request)

    return wrapper


class Wrapped(Looks):
    execute_request = wrapped(trikernel.Kernel.execute_request)


class Info(Looks):
    @property
    def kernel_info(self) -> dict[str, Any]:
        self.look()
        return super().kernel_info


class OwnInfo(Looks):
    async def kernel_info_request(self, request: Any) -> dict[str, Any]:
        self.look()
        return self.kernel_info


class Banner(Looks):
    @property
    def banner(self) -> str:  # type: ignore[override]
        self.look()
        return "late"


class Complete(Looks):
    async def do_complete(self, code: str, cursor_pos: int) -> None:
        self.look()


class Own(Looks):
    async def own_request(self, request: Any) -> dict[str, Any]:
        self.look()
        return {"status": "ok"}

    def __init__(self) -> None:
        super().__init__()
        self.shell_handlers["own_request"] = self.own_request
        self.control_handlers["own_request"] = self.own_request


CODE = {"code": "1", "cursor_pos": 1}


@pytest.mark.parametrize(
    ("kernel_class", "msg_type", "content", "channel"),
    [
        (Verb, "execute_request", CODE, "shell"),
        (Verb, "execute_request", {**CODE, "silent": True}, "shell"),
        (Hook, "execute_request", CODE, "shell"),
        (Hook, "kernel_info_request", {}, "shell"),
        (OwnHook, "execute_request", CODE, "shell"),
        (ShouldHandle, "execute_request", CODE, "shell"),
        (Metadata, "execute_request", CODE, "shell"),
        (Begin, "execute_request", CODE, "shell"),
        (Filter, "execute_request", CODE, "shell"),
        (Wrapped, "execute_request", CODE, "shell"),
        (Info, "kernel_info_request", {}, "shell"),
        (Info, "kernel_info_request", {}, "control"),
        (OwnInfo, "kernel_info_request", {}, "shell"),
        (OwnInfo, "kernel_info_request", {}, "control"),
        (Banner, "kernel_info_request", {}, "shell"),
        (Complete, "complete_request", CODE, "shell"),
        (Own, "own_request", {}, "shell"),
        (Own, "own_request", {}, "control"),
    ],
)
async def test_busy_is_out_before_the_authors_code_is_called(
    kernel_class: type[Looks], msg_type: str, content: dict[str, Any], channel: str
) -> None:
    kernel = kernel_class()
    kernel.seen = []
    async with served(kernel) as client, open_peer(kernel) as peer:
        kernel.peer = peer
        types = message_types(await ask(client, msg_type, content, channel=channel))
    assert kernel.seen[-1:] == ["busy"]
    assert (types[0], types[-1]) == ("status:busy", "status:idle")


async def test_requests_in_a_row_let_other_tasks_run() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with served(trikernel.Kernel()) as client, trio.open_nursery() as nursery:
        sent = [client.send("kernel_info_request", {}) for _ in range(160)]
        nursery.start_soon(turn)
        await sent[-1].wait()
        nursery.cancel_scope.cancel()
    assert turns > 10


async def test_busy_has_left_before_a_cell_begins_also_if_another_thread_sends() -> None:
    """The cell may keep the interpreter lock from that thread, and its client wait for ``busy``."""
    left: list[int] = []

    class Looking(trikernel.Kernel):
        async def do_execute(self, code: str, silent: bool, **options: Any) -> None:
            left.append(len(kernel.server.connection.iopub.entries))

    def send_slowly() -> None:
        with kernel.server.connection.iopub._lock:
            sending.set()
            time.sleep(0.3)  # a batch that takes its time

    kernel, sending = Looking(), threading.Event()
    async with open_clients(kernel) as (client,):
        thread = threading.Thread(target=send_slowly)
        thread.start()
        assert sending.wait(30)
        await client.execute("begin")
        thread.join(30)
    assert left == [0]
