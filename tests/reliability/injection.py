"""One run of a scenario with one fault in it, and what has to hold after any of them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Literal

import trio

import trikernel
from trikernel.core import Server
from trikernel.testing import InjectedScope

from .scenarios import TICK, Rig, Scenario

__all__ = ["FAULTS", "Fault", "Services", "play"]

Services = Literal["inline", "thread"]
Fault = Literal["cancel", "interrupt", "shutdown", "stop", "abort", "disconnect"]
FAULTS: tuple[Fault, ...] = (
    "cancel",
    "interrupt",
    "shutdown",
    "stop",
    "abort",
    "disconnect",
)
TIMEOUT = 120  # seconds, of virtual time where there are no threads


async def play(
    scenario: Scenario,
    fault: Fault,
    services: Services,
    scope: InjectedScope | None,
) -> None:
    """Run it; ``scope`` says when the fault comes. With None nothing happens."""
    undisturbed = scope is None
    scope = scope or InjectedScope()
    with trio.fail_after(TIMEOUT), _nothing_left():
        async with scenario.connected(undisturbed=undisturbed) as rig:
            try:
                run = _cancelled_as_a_whole if fault == "cancel" else _run_with_fault
                await run(rig, scenario, fault, services, scope)
                _assert_kept(rig)
            except BaseException as error:
                error.add_note(rig.recording.as_text())
                raise


async def _cancelled_as_a_whole(
    rig: Rig, scenario: Scenario, fault: Fault, services: Services, scope: InjectedScope
) -> None:
    """The kernel and its client are cancelled together."""
    with scope:
        async with trio.open_nursery() as nursery:
            rig.server = await nursery.start(_serving(rig, services))
            await scenario.script(rig)
            rig.server.stop()


async def _run_with_fault(
    rig: Rig, scenario: Scenario, fault: Fault, services: Services, scope: InjectedScope
) -> None:
    """Something happens to the kernel, or the client leaves; then it is asked how it feels."""
    clients = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        rig.server = await nursery.start(_ended_with(clients, _serving(rig, services)))
        inject: dict[Fault, Callable[[], object]] = {
            "interrupt": rig.server.stopper.interrupt,
            "shutdown": partial(_shut_down, rig),
            "stop": rig.server.stop,
            "abort": partial(_abort, rig),
        }
        scope.instead = inject.get(fault)
        with clients:
            with scope:
                await scenario.script(rig)
            if fault not in ("shutdown", "stop") and rig.server._shutdown is None:
                await _ask_how_it_feels(rig, clients_left=scope.cancelled_caught)
        rig.server.stop()


def _serving(rig: Rig, services: Services) -> Callable[..., Awaitable[None]]:
    return partial(trikernel.serve, rig.kernel, rig.recording, services=services)


def _ended_with(
    scope: trio.CancelScope, serving: Callable[..., Awaitable[None]]
) -> Callable[..., Awaitable[None]]:
    async def serve(*, task_status: trio.TaskStatus[Server]) -> None:
        try:
            await serving(task_status=task_status)
        finally:
            scope.cancel()

    return serve


def _abort(rig: Rig) -> None:
    rig.connect(b"aborter").send("abort_request", {}, channel="control")


def _shut_down(rig: Rig) -> None:
    stopper = rig.connect(b"stopper")
    stopper.send("shutdown_request", {"restart": False}, channel="control")


async def _ask_how_it_feels(rig: Rig, *, clients_left: bool) -> None:
    """A new client's cell runs to its end: nothing of what was is left to hit it."""
    if clients_left:
        for peer in rig.peers:
            peer.transport.close()
    late = rig.connect(b"late")
    if clients_left:  # a cell may wait for an answer that nobody will give
        late.send("interrupt_request", {}, channel="control")
        late.send("execute_request", {"code": "say behind what they left"})
        await late.receive("shell")
    await trio.sleep(6 * TICK)  # until nothing is aborted any more
    late.send("execute_request", {"code": "say well"})
    reply = await late.receive("shell")
    assert reply.content["status"] == "ok", reply.content


def _assert_kept(rig: Rig) -> None:
    rig.recording.assert_kept()
    if rig.server is not None:  # else it was cancelled before it was served
        assert not rig.server.stopper.running
        assert not rig.server.stopper.pending
        assert not len(rig.server.lane.shell)


@contextlib.contextmanager
def _nothing_left() -> Iterator[None]:
    """No task, thread or descriptor outlives the block; Trio keeps its own idle worker threads."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    threads, descriptors = _threads(), _descriptors()
    yield
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert _threads() <= threads  # one of an earlier test may end meanwhile
    assert _descriptors() <= descriptors


def _threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if not one.name.startswith("Trio thread")}


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
