"""Timers that signal the main thread, and the signal by which a kernel's deadlines use them."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn, cast

import pytest
import trio

from trikernel.core.deadlines import AGAIN, LATE, Deadline, Deadlines
from trikernel.core.main_thread import MainThreadSignals
from trikernel.core.request import Request
from trikernel.system import RemoteNursery, SignalTimer, can_signal, unused_signal
from trikernel.transport import MemoryTransport
from trikernel.wire import REQUESTS, Header, Message, Priority

pytestmark = pytest.mark.skipif(not can_signal(), reason="no timers that signal")

Handled = list[tuple[int, bool]]
BOUND = 20.0


class Heard(Exception):
    """Raised by a handler."""


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # a blocking call, which the signal may end


@pytest.fixture
def handled() -> Iterator[tuple[int, Handled]]:
    """A signal, and what its handler was called with: the signal, and whether in the main thread"""
    number = unused_signal()
    assert number is not None
    calls: Handled = []

    def note(signum: int, frame: FrameType | None) -> None:
        calls.append((signum, threading.current_thread() is threading.main_thread()))

    signal.signal(number, note)
    try:
        yield number, calls
    finally:
        signal.signal(number, signal.SIG_DFL)


def test_it_signals_the_main_thread_again_and_again_until_stopped(
    handled: tuple[int, Handled],
) -> None:
    number, calls = handled
    timer = SignalTimer(number, 0.01, 0.01)
    wait_for(lambda: len(calls) > 2)
    timer.stop()
    timer.stop()
    heard = len(calls)
    with pytest.raises(Heard):  # one more, of another timer, is the only one
        _hear_once(number)
    assert calls[:heard] == [(number, True)] * heard
    assert len(calls) == heard


def _hear_once(number: int) -> None:
    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise Heard

    before = signal.signal(number, stop)
    timer = SignalTimer(number, 0.02, 100)
    try:
        wait_for(lambda: False)
    finally:
        timer.stop()
        signal.signal(number, before)


def test_c_code_that_keeps_the_interpreter_lock_hears_it(handled: tuple[int, Handled]) -> None:
    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise Heard

    signal.signal(handled[0], stop)
    timer = SignalTimer(handled[0], 0.02, 1)
    try:
        with pytest.raises(Heard):
            re.match("(a+)+$", "a" * 60 + "b")
    finally:
        timer.stop()


def test_a_forked_child_has_no_timer(handled: tuple[int, Handled]) -> None:
    if sys.platform == "win32":
        pytest.skip("no forks")
    number, calls = handled
    timer = SignalTimer(number, 0.05, 0.01)
    child = os.fork()
    if not child:  # its exit code is how many signals it has heard
        calls.clear()
        time.sleep(0.15)
        timer.stop()  # of its parent's: nothing happens
        os._exit(len(calls))
    status = os.waitpid(child, 0)[1]
    heard = len(calls)
    wait_for(lambda: len(calls) > heard)
    timer.stop()
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_signal_that_somebody_handles_is_left_alone(handled: tuple[int, Handled]) -> None:
    assert unused_signal() not in (None, handled[0])


async def test_a_deadline_is_told_once_it_has_passed_and_not_after_it_was_withdrawn() -> None:
    past: list[list[Request]] = []

    def on_signal(frame: FrameType | None, by_us: bool) -> None:
        past.append([one.request for one in deadlines.take_due([early, late], lambda request: 0)])

    async def watch(deadline: Deadline) -> None:
        assert not await deadline.wait_until_due()  # told already, or withdrawn

    signals, services = MainThreadSignals(on_signal), RemoteNursery()
    deadlines = Deadlines(services, signals.start_timer)
    deadlines.has_timers = True
    early, late = _request(), _request()
    signals.install(trio.lowlevel.current_trio_token())
    try:
        async with trio.open_nursery() as nursery:
            services.open(nursery)
            begun = time.monotonic()
            nursery.start_soon(watch, deadlines.set(early, 0.01))
            nursery.start_soon(watch, deadlines.set(late, 100))
            wait_for(lambda: len(past) > 1)  # the loop does not turn: it is the timer that tells
            assert time.monotonic() - begun >= 0.01 + LATE + AGAIN
            assert past == [[early]] * len(past)
            early.replace_deadline(lambda: None)
            assert deadlines.take_due([early, late], lambda request: 0) == []
            late.replace_deadline(lambda: None)
    finally:
        deadlines.close()
        signals.restore()


def _request() -> Request:
    header = Header("id", "execute_request", "session", "user", "", "5.4", b"")
    message, channel = Message(header, {}, {}, {}), MemoryTransport().shell[0]
    return Request(message, channel, REQUESTS["execute_request"], Priority.SHELL)


class _Token:
    """As Trio's, of a loop that calls at once."""

    def run_sync_soon(self, function: Any) -> None:
        function()


def test_a_signal_that_a_cell_has_taken_is_left_to_it_and_at_the_end_all_are_given_back() -> None:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def used() -> list[int]:
        others = set(before) - {signal.SIGINT}
        return [int(one) for one in others if signal.getsignal(one) not in (before[one], of_a_cell)]

    def of_a_cell(signum: int, frame: FrameType | None) -> None:
        pass

    signals = MainThreadSignals(lambda frame, by_us: None)
    signals.install(cast(Any, _Token()))
    (number,) = used()
    signal.signal(number, of_a_cell)
    try:
        assert used() == []
        timer = signals.start_timer(100, 1)
        assert timer is not None
        timer.stop()
        assert len(used()) == 1
        assert number not in used()
        signals.restore()
        assert used() == []
        assert signal.getsignal(number) == of_a_cell
    finally:
        signals.restore()
        signal.signal(number, signal.SIG_DFL)
    assert {one: signal.getsignal(one) for one in before} == before
