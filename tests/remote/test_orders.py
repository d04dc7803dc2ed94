"""What a gateway's orders do to a kernel: to one that only writes down what is asked of it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
import trio.testing

from trikernel.core import Server
from trikernel.remote import CommunicationPort, Order, obey
from trikernel.remote.orders import REQUEST_TIMEOUT, serve_orders

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)


class Told:
    """What a server is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.before_exit: list[Callable[[], object]] = []

    def interrupt(self) -> None:
        self.heard.append("interrupt")

    def terminate(self) -> None:
        self.heard.append("terminate")


def ordered(*orders: Order) -> tuple[list[str], bool]:
    """What the server hears, and whether the end was ordered."""
    server, told = Told(), trio.Event()
    for order in orders:
        obey(cast(Server, server), told, order, "10.0.0.1")
    return server.heard, told.is_set()


@pytest.mark.parametrize(
    ("order", "heard"),
    [
        (Order(0), []),
        (Order(signal.SIGINT), ["interrupt"]),
        (Order(signal.SIGTERM), ["terminate"]),
        (Order(signal.SIGHUP), ["terminate"]),
        (Order(signal.SIGQUIT), ["terminate"]),
    ],
)
def test_a_signal_does_what_a_message_would(order: Order, heard: list[str]) -> None:
    assert ordered(order) == (heard, False)


@pytest.mark.parametrize(
    "signum", [signal.SIGUSR2, signal.SIGSTOP, signal.SIGTSTP, signal.SIGSEGV, -1, 65, 10**30]
)
def test_what_would_end_or_stop_the_process_is_refused(
    signum: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert signum < 1 or signum > 64 or signal.getsignal(signum) is signal.SIG_DFL
    with caplog.at_level(logging.WARNING, "trikernel"):
        assert ordered(Order(signum)) == ([], False)
    text = f"refused signal {int(signum)}, ordered by 10.0.0.1: nothing handles it"
    assert [one.getMessage() for one in caplog.records] == [text]


def test_a_signal_that_something_handles_is_sent() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    try:
        ordered(Order(signal.SIGUSR1), Order(signal.SIGCONT))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert came == [signal.SIGUSR1]


def test_the_last_resort_removes_files_first(monkeypatch: pytest.MonkeyPatch) -> None:
    server, done = Told(), list[Any]()
    server.before_exit.append(lambda: done.append("removed"))
    monkeypatch.setattr(os, "kill", lambda pid, number: done.append((pid, number)))
    obey(cast(Server, server), trio.Event(), Order(signal.SIGKILL), "")
    assert done == ["removed", (os.getpid(), signal.SIGKILL)]


class Port(CommunicationPort):
    """Orders what it is given, at those times."""

    def __init__(self, *orders: tuple[float, Order]) -> None:
        self.orders = orders

    async def serve(self, obey: Callable[[Order, str], object]) -> None:
        for seconds, order in self.orders:
            await trio.sleep(seconds)
            obey(order, "10.0.0.1")
        await trio.sleep_forever()


async def test_an_order_to_end_leaves_a_message_its_time_and_is_carried_out_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A shutdown_request comes beside it, and knows whether this is a restart."""
    server, end = Told(), Order(shutdown=True)
    with trio.move_on_after(100):
        port = Port((1, end), (0.1, end), (10, end))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_orders, port, cast(Server, server))
            await trio.sleep(1 + REQUEST_TIMEOUT - 0.01)
            assert server.heard == []
            await trio.sleep(0.02)
            assert server.heard == ["terminate"]
    assert server.heard == ["terminate"]
