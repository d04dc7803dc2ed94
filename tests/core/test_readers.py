"""Which loop reads the shell channels: it is woken for what comes, whoever has read before."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import Any, cast

import trio
import trio.testing

from trikernel.core.dispatch import ShellReaders
from trikernel.system import Latch, run_in
from trikernel.transport import Channel

TIMEOUT = 60


class Parking:
    """A channel to which nothing comes. As a socket, it knows the last receiver that has parked.

    ``slow`` is called before a receiver parks, in its thread.
    """

    name = "shell"

    def __init__(self) -> None:
        self.parked: trio.lowlevel.TrioToken | None = None
        self.times = Counter[trio.lowlevel.TrioToken]()
        self.has_parked = trio.Event()  # again, in the loop of the test
        self.slow: dict[trio.lowlevel.TrioToken, Any] = {}

    async def wait_readable(self) -> None:
        token = trio.lowlevel.current_trio_token()
        self.slow.get(token, int)()
        self.parked = token
        self.times[token] += 1
        if token not in self.slow:
            self.has_parked.set()
            self.has_parked = trio.Event()
        try:
            await trio.sleep_forever()
        finally:
            if self.parked is token:
                self.parked = None


class Elsewhere:
    """Another loop, in a thread, whose receivers park only once ``may_park`` is set."""

    def __init__(self) -> None:
        self.is_about_to_park, self.may_park = threading.Event(), threading.Event()
        self.token: trio.lowlevel.TrioToken | None = None
        self.begun, self._ending = threading.Event(), Latch()

    def park(self) -> None:
        self.is_about_to_park.set()
        assert self.may_park.wait(TIMEOUT)

    def run(self, readers: ShellReaders) -> None:
        async def main() -> None:
            self.token = trio.lowlevel.current_trio_token()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(readers.run)
                await trio.testing.wait_all_tasks_blocked()
                self.begun.set()
                await self._ending.wait()
                nursery.cancel_scope.cancel()

        trio.run(main)

    def end(self) -> None:
        self.may_park.set()
        self._ending.set()


async def settled(token: trio.lowlevel.TrioToken) -> None:
    """Until what was posted to this loop has been called, and has had its effect."""
    called = trio.Event()
    run_in(token, called.set)
    await called.wait()
    await trio.testing.wait_all_tasks_blocked()


async def test_one_that_parks_late_does_not_take_the_wake_up_of_who_reads() -> None:
    """The turn has gone back by then: this loop has parked before, and would hear of nothing."""
    channel, elsewhere = Parking(), Elsewhere()
    home = trio.lowlevel.current_trio_token()
    readers = ShellReaders([cast("Channel", channel)], lambda one, budget: None, home)
    in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, elsewhere.run, readers)
            try:
                assert await in_thread(elsewhere.begun.wait, TIMEOUT)
                nursery.start_soon(readers.run)
                while not channel.times[home]:
                    await channel.has_parked.wait()
                assert elsewhere.token is not None
                channel.slow[elsewhere.token] = elsewhere.park
                readers.move(elsewhere.token)
                assert await in_thread(elsewhere.is_about_to_park.wait, TIMEOUT)
                await settled(home)
                readers.move()
                await settled(home)
                assert channel.parked is home
                elsewhere.may_park.set()
                while not (channel.times[elsewhere.token] and channel.parked is home):
                    await channel.has_parked.wait()
            finally:
                elsewhere.end()
            nursery.cancel_scope.cancel()
