"""One stop, of which a request's code hears once: by its scope, or by an exception."""

from __future__ import annotations

import signal
import threading

import pytest
import trio

from trikernel.core.main_thread import MainThreadSignals
from trikernel.core.request import Request, RequestScope, StopReason
from trikernel.core.stop import Stopper
from trikernel.system import SignalArrivals, run_in
from trikernel.transport import MemoryTransport
from trikernel.wire import REQUESTS, Header, Message, Priority


def running(msg_type: str = "execute_request") -> tuple[Stopper, Request]:
    """A request whose code runs in a thread, here this one, and what stops it."""
    header = Header("id", msg_type, "session", "user", "", "5.4", b"")
    channel = MemoryTransport().shell[0]
    request = Request(Message(header, {}, {}, {}), channel, REQUESTS.get(msg_type), Priority.SHELL)
    stopper = Stopper(trio.lowlevel.current_trio_token(), thread=threading.get_ident())
    stopper.running.append(request)
    return stopper, request


async def turn() -> None:
    """Until what was posted to this loop so far has been called."""
    turned = trio.Event()
    run_in(trio.lowlevel.current_trio_token(), turned.set)
    with trio.CancelScope(shield=True):
        await turned.wait()


async def test_code_in_another_thread_hears_of_no_stop_that_has_cancelled_its_scope() -> None:
    """A host's thread has the code, and this loop its scope: the request would end as cancelled by
    nobody, and not as interrupted.
    """
    stopper, request = running()
    with RequestScope(request) as scope:
        stopper.interrupt()
        await turn()
        assert scope.cancel_called
    assert not stopper.consume(request)
    assert request.stop_reason is StopReason.INTERRUPT


async def test_code_that_hears_of_a_stop_first_has_used_it_up() -> None:
    stopper, request = running()
    with RequestScope(request) as scope:
        stopper.interrupt()
        assert stopper.consume(request)
        await turn()
    assert not scope.cancel_called
    assert request.stop_reason is None


@pytest.mark.parametrize("reason", [StopReason.INTERRUPT, StopReason.TIMEOUT])
async def test_a_stop_that_python_drops_is_raised_again_and_is_no_second_step(
    reason: StopReason,
) -> None:
    stopper, request = running()
    stopper.stop(request, reason)
    assert stopper.consume(request)
    last_stop = request.last_stop
    assert stopper.raise_again()
    assert [(one.request, one.reason) for one in stopper.pending] == [(request, reason)]
    assert (request.stops, request.last_stop) == (1, last_stop)
    with RequestScope(request) as scope:
        await turn()
        assert scope.cancel_called


async def test_what_nobody_has_raised_is_not_raised_again() -> None:
    stopper, request = running()
    assert not stopper.raise_again()  # a finalizer of the cell's own has raised it
    stopper.stop(request, StopReason.INTERRUPT)
    assert stopper.consume(request)
    stopper.running.remove(request)
    assert not stopper.raise_again()  # its code has ended
    assert not stopper.pending


async def test_an_interrupt_is_not_for_who_only_asks_what_kernel_this_is() -> None:
    """Clients ask that first of all, and want its protocol version in the reply."""
    for msg_type, stopped in (("kernel_info_request", False), ("complete_request", True)):
        stopper, request = running(msg_type)
        stopper.interrupt()
        await turn()
        assert (request.stop_reason is StopReason.INTERRUPT) == stopped


async def test_what_a_handler_of_before_has_heard_is_not_late_for_the_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel's handler is set again just as a SIGINT of long ago is looked at."""
    signals = MainThreadSignals(lambda frame, by_us: None)

    async def unheard(arrivals: SignalArrivals, seconds: float) -> float:
        await trio.lowlevel.checkpoint()
        signals.reinstall()
        return 1000.0

    monkeypatch.setattr(SignalArrivals, "unheard", unheard)
    before = signal.getsignal(signal.SIGINT)
    signals.install(trio.lowlevel.current_trio_token())
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        assert await signals.unheard() < 500
    finally:
        signals.restore()
    assert signal.getsignal(signal.SIGINT) == before
