"""What an error aborts: what was on its way, and nothing that was sent in the knowledge of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
import trio.testing

from trikernel.testing import CheckedClient

from ..cells import served
from ..harness import Peer, open_peer
from ..kernel.kernels import Recorder
from ..processes import kernel_process
from .processes import open_process

Dated = Callable[[datetime], Any]
HOUR, MOMENT = timedelta(hours=1), timedelta(milliseconds=1)
INDIA = timezone(timedelta(hours=5, minutes=30))
WINDOW = 0.1  # seconds
MISSING = object()


def naive(date: datetime) -> str:
    """The same digits without a zone: of which one, nobody can know."""
    return date.replace(tzinfo=None).isoformat()


# The date of a request, from that of the failing reply; how it is answered in the window.
CASES: dict[str, tuple[Dated, str]] = {
    "later": (lambda date: (date + MOMENT).isoformat(), "ok"),
    "earlier": (lambda date: (date - MOMENT).isoformat(), "aborted"),
    "later, with Z for the zone": (
        lambda date: (date + MOMENT).isoformat().replace("+00:00", "Z"),
        "ok",
    ),
    "later, told in another zone": (
        lambda date: (date + MOMENT).astimezone(INDIA).isoformat(),
        "ok",
    ),
    "earlier, told in another zone": (
        lambda date: (date - MOMENT).astimezone(INDIA).isoformat(),
        "aborted",
    ),
    "a clock an hour ahead": (lambda date: (date + HOUR).isoformat(), "aborted"),
    "a clock an hour behind": (lambda date: (date - HOUR).isoformat(), "aborted"),
    "another zone's digits, called UTC": (
        lambda date: date.astimezone(INDIA).replace(tzinfo=UTC).isoformat(),
        "aborted",
    ),
    "no zone": (lambda date: naive(date + MOMENT), "aborted"),
    "no zone, local digits ahead": (lambda date: naive(date + HOUR), "aborted"),
    "no zone, local digits behind": (lambda date: naive(date - HOUR), "aborted"),
    "missing": (lambda date: MISSING, "aborted"),
    "empty": (lambda date: "", "aborted"),
    "unreadable": (lambda date: "the day after tomorrow", "aborted"),
    "a year that no calendar has": (lambda date: "999999-01-01T00:00:00Z", "aborted"),
    "the last moment of all": (lambda date: "9999-12-31T23:59:59-12:00", "aborted"),
    "the first moment of all": (lambda date: "0001-01-01T00:00:00+14:00", "aborted"),
}


def send(peer: Peer, code: str, date: Any) -> str:
    """Send a cell whose header has that date."""
    header = orjson.loads(peer.codec.header("execute_request"))
    del header["date"]
    if date is not MISSING:
        header["date"] = date
    peer.send_frames(
        peer.codec.encode("execute_request", {"code": code}, header=orjson.dumps(header))
    )
    return str(header["msg_id"])


async def status_of(peer: Peer, msg_id: str) -> str:
    """How a message of the peer's was answered."""
    reply = await peer.receive()
    assert reply.parent_id == msg_id
    await peer.until_idle(msg_id)
    return str(reply.content["status"])


async def fail(client: CheckedClient) -> datetime:
    """Run a cell that fails; the date of its reply, which lies behind us."""
    failed = await client.expect("fail", error=ValueError)
    assert failed.reply is not None
    date = datetime.fromisoformat(str(failed.reply.header.date))
    assert date.tzinfo is not None
    while datetime.now(UTC) <= date + 2 * MOMENT:  # virtual time stands still, this clock does not
        await trio.lowlevel.checkpoint()
    return date


@pytest.mark.parametrize("case", CASES)
async def test_a_request_within_the_window_is_judged_by_its_date(
    autojump_clock: trio.testing.MockClock, case: str
) -> None:
    dated, status = CASES[case]
    kernel = Recorder(stop_on_error_timeout=WINDOW)
    async with served(kernel) as client, open_peer(kernel) as peer:
        date = await fail(client)
        assert await status_of(peer, send(peer, "say x", dated(date))) == status
        assert kernel.ran == (["fail", "say x"] if status == "ok" else ["fail"])


@pytest.mark.parametrize("case", CASES)
async def test_a_request_after_the_window_runs_whatever_its_date(
    autojump_clock: trio.testing.MockClock, case: str
) -> None:
    dated, _ = CASES[case]
    kernel = Recorder(stop_on_error_timeout=WINDOW)
    async with served(kernel) as client, open_peer(kernel) as peer:
        date = await fail(client)
        await trio.sleep(WINDOW + 0.001)
        assert await status_of(peer, send(peer, "say x", dated(date))) == "ok"


@pytest.mark.parametrize("case", CASES)
async def test_what_is_queued_when_the_failure_happens_is_aborted_whatever_its_date(
    autojump_clock: trio.testing.MockClock, case: str
) -> None:
    dated, _ = CASES[case]
    kernel = Recorder(stop_on_error_timeout=WINDOW)
    async with served(kernel), open_peer(kernel) as peer:
        failing = peer.send("execute_request", {"code": "fail"})
        queued = send(peer, "say x", dated(datetime.now(UTC)))
        assert await status_of(peer, failing) == "error"
        assert await status_of(peer, queued) == "aborted"
    assert kernel.ran == ["fail"]


async def test_a_run_that_was_let_through_leaves_the_window_as_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What was sent before the failure is aborted, though a later one overtook it."""
    kernel = Recorder(stop_on_error_timeout=WINDOW)
    async with served(kernel) as client, open_peer(kernel) as peer:
        date = await fail(client)
        later, earlier = (date + MOMENT).isoformat(), (date - MOMENT).isoformat()
        assert await status_of(peer, send(peer, "say x", later)) == "ok"
        assert await status_of(peer, send(peer, "say x", earlier)) == "aborted"


async def test_a_second_failure_is_the_one_that_counts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    kernel = Recorder(stop_on_error_timeout=WINDOW)
    async with served(kernel) as client, open_peer(kernel) as peer:
        first = await fail(client)
        msg_id = send(peer, "fail", (first + MOMENT).isoformat())
        assert await status_of(peer, msg_id) == "error"
        msg_id = send(peer, "say x", (first + MOMENT).isoformat())  # it cannot know of the second
        assert await status_of(peer, msg_id) == "aborted"


async def test_who_reads_the_error_and_goes_on_at_once_is_never_aborted() -> None:
    async with open_process() as client:
        for number in range(20):
            failed = await client.execute("1 / 0", stop_on_error=True)
            assert failed.status == "error"
            following = await client.execute(f"{number}", stop_on_error=True)
            assert following.status == "ok", number
            assert following.result == {"text/plain": f"{number}"}


def test_a_program_of_jupyter_client_goes_on_after_an_error() -> None:
    with kernel_process() as kernel:
        for _ in range(3):
            assert kernel.execute("1 / 0", stop_on_error=True)[0]["status"] == "error"
            for _ in range(3):
                assert kernel.execute("1", stop_on_error=True)[0]["status"] == "ok"


async def test_a_queue_that_was_sent_at_once_is_still_aborted_whole(tmp_path: Path) -> None:
    async with open_process() as client:
        for number in range(5):
            sign = tmp_path / str(number)
            failing = (
                "import pathlib, time\n"
                f"while not pathlib.Path({str(sign)!r}).exists(): time.sleep(0.01)\n"
                "1 / 0"
            )
            codes = ("1", failing, *"23456789")
            sent = [client.start(code, stop_on_error=True) for code in codes]
            sign.touch()  # all of them are on their way
            for execution in sent:
                await execution.wait()
            assert [one.status for one in sent] == ["ok", "error"] + ["aborted"] * 8
