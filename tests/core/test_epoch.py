"""Which queued requests a failure aborts, by comparing clocks alone."""

from __future__ import annotations

from typing import Any

import pytest

from trikernel import Request, StopReason
from trikernel.core.epoch import Epoch
from trikernel.wire import REQUESTS, Header, Message, Priority

pytestmark = pytest.mark.seed(13)


def request(msg_id: str = "1") -> Request:
    header = Header(msg_id, "execute_request", "", "", "", "", b"{}")
    channel: Any = None
    row = REQUESTS["execute_request"]
    return Request(Message(header, {}, {}, {}), channel, row, Priority.SHELL)


def test_closing_aborts_members_only() -> None:
    epoch, running, queued = Epoch(), request(), request()
    epoch.admit(running, 0.0)
    epoch.admit(queued, 0.0)
    epoch.leave(running)
    epoch.close(1.0, 0.1)
    assert running.stop_reason is None
    assert queued.stop_reason is StopReason.ABORT
    assert len(epoch) == 0


@pytest.mark.parametrize(
    ("now", "aborted"), [(1.0, True), (1.099, True), (1.1, False), (1.101, False)]
)
def test_what_is_admitted_in_the_window_joins(now: float, aborted: bool) -> None:
    epoch, late = Epoch(), request()
    epoch.close(1.0, 0.1)
    epoch.admit(late, now)
    assert (late.stop_reason is StopReason.ABORT) is aborted
    assert len(epoch) == (not aborted)


def test_a_shorter_window_does_not_end_a_longer_one() -> None:
    epoch, late = Epoch(), request()
    epoch.close(1.0, 10.0)
    epoch.close(2.0, 0.0)
    epoch.admit(late, 5.0)
    assert late.stop_reason is StopReason.ABORT


def test_ids_are_found_and_aborted_alone() -> None:
    epoch, one, two = Epoch(), request("1"), request("2")
    for member in (one, two):
        epoch.admit(member, 0.0)
    found = epoch.find({"2", "3"})
    assert found == {two}
    epoch.abort(found)
    assert (one.stop_reason, two.stop_reason) == (None, StopReason.ABORT)
    assert len(epoch) == 1
