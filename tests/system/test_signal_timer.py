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

from trikernel.core.deadlines import AGAIN, LATE, Deadline, OwnSignal
from trikernel.system import SignalTimer, can_signal, unused_signal

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


def test_a_deadline_is_told_once_it_has_passed_and_not_after_it_was_withdrawn() -> None:
    past: list[list[Deadline]] = []

    def note(signum: int, frame: FrameType | None) -> None:
        past.append(signals.past())

    signals = OwnSignal(note)
    request, token = cast(Any, object()), cast(Any, _Token())
    early, late = Deadline(request, 0.01), Deadline(request, 100)
    try:
        begun = time.monotonic()
        signals.arm(early)
        signals.arm(late)
        wait_for(lambda: len(past) > 1)
        assert time.monotonic() - begun >= 0.01 + LATE + AGAIN
        assert past == [[early]] * len(past)
        signals.withdraw(early, token)
        assert signals.past() == []
        assert early.withdrawn.is_set()
    finally:
        signals.close()


class _Token:
    """As Trio's, of a loop that calls at once."""

    def run_sync_soon(self, function: Any) -> None:
        function()


def test_a_signal_that_a_cell_has_taken_is_left_to_it_and_at_the_end_all_are_given_back() -> None:
    def ignore(signum: int, frame: FrameType | None) -> None:
        pass

    def used() -> list[int]:
        every = signal.valid_signals()
        return [int(number) for number in every if signal.getsignal(number) == ignore]

    def of_the_cell(signum: int, frame: FrameType | None) -> None:
        pass

    signals = OwnSignal(ignore)
    assert used() == []
    signals.arm(Deadline(cast(Any, object()), 100))
    (number,) = used()
    signal.signal(number, of_the_cell)
    try:
        signals.arm(Deadline(cast(Any, object()), 100))
        assert len(used()) == 1
        assert number not in used()
        signals.close()
        assert used() == []
        assert signal.getsignal(number) == of_the_cell
    finally:
        signals.close()
        signal.signal(number, signal.SIG_DFL)
