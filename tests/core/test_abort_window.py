"""Which queued requests a failure aborts, by comparing clocks alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from trikernel import Request, StopReason
from trikernel.core.lanes import AbortWindow
from trikernel.wire import REQUESTS, Header, Message, Priority


def utc_now() -> datetime:
    return datetime.now(UTC)


pytestmark = pytest.mark.seed(13)


def request(msg_id: str = "1") -> Request:
    header = Header(msg_id, "execute_request", "", "", "", "", b"{}")
    channel: Any = None
    row = REQUESTS["execute_request"]
    return Request(Message(header, {}, {}, {}), channel, row, Priority.SHELL)


def test_closing_aborts_members_only() -> None:
    window, running, queued = AbortWindow(), request(), request()
    window.admit(running, 0.0, utc_now)
    window.admit(queued, 0.0, utc_now)
    window.leave(running)
    window.close(1.0, 0.1)
    assert running.stop_reason is None
    assert queued.stop_reason is StopReason.ABORT
    assert len(window) == 0


@pytest.mark.parametrize(
    ("now", "aborted"), [(1.0, True), (1.099, True), (1.1, False), (1.101, False)]
)
def test_what_is_admitted_in_the_window_joins(now: float, aborted: bool) -> None:
    window, late = AbortWindow(), request()
    window.close(1.0, 0.1)
    window.admit(late, now, utc_now)
    assert (late.stop_reason is StopReason.ABORT) is aborted
    assert len(window) == (not aborted)


def test_a_shorter_window_does_not_end_a_longer_one() -> None:
    window, late = AbortWindow(), request()
    window.close(1.0, 10.0)
    window.close(2.0, 0.0)
    window.admit(late, 5.0, utc_now)
    assert late.stop_reason is StopReason.ABORT


def test_ids_are_found_and_aborted_alone() -> None:
    window, one, two = AbortWindow(), request("1"), request("2")
    for member in (one, two):
        window.admit(member, 0.0, utc_now)
    found = window.find({"2", "3"})
    assert found == {two}
    window.abort(found)
    assert (one.stop_reason, two.stop_reason) == (None, StopReason.ABORT)
    assert len(window) == 1
