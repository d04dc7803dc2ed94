"""Calls between threads and Trio loops: `run_sync_soon` and what is built on it, nowhere else."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import outcome
import trio

__all__ = [
    "Latch",
    "Mailbox",
    "RemoteNursery",
    "RepeatedEvent",
    "call_in",
    "cancel_for",
    "run_in",
    "runs_here",
]

T = TypeVar("T")


def run_in(token: trio.lowlevel.TrioToken, function: Callable[[], object]) -> bool:
    """Have a loop call ``function`` soon. False, and nothing happens, if the loop has ended.

    Nothing happens in a lost loop, either: its wake-up socket is closed, which is an `OSError`.
    """
    with contextlib.suppress(trio.RunFinishedError, OSError):
        token.run_sync_soon(function)
        return True
    return False


def cancel_for(scope: trio.CancelScope, reason: str) -> None:
    """Cancel a scope, with a reason from Trio 0.31 on, which `trio.Cancelled` then tells."""
    try:
        scope.cancel(reason or None)
    except TypeError:
        scope.cancel()


def runs_here(token: trio.lowlevel.TrioToken) -> bool:
    """Whether the caller is a task of that loop, or is called by one."""
    return trio.lowlevel.in_trio_task() and trio.lowlevel.current_trio_token() is token


async def call_in(token: trio.lowlevel.TrioToken, function: Callable[[], T]) -> T:
    """Have a loop (another one, or this) call ``function``; its result, or what it raised.

    Raises `trio.RunFinishedError` if that loop has ended before, or was lost; if it ends before it
    has called, the wait has no end. Cancelled, the wait ends, and the function may be called all
    the same.
    """
    done, own = trio.Event(), trio.lowlevel.current_trio_token()
    results: list[outcome.Outcome[T]] = []

    def call() -> None:
        results.append(outcome.capture(function))
        run_in(own, done.set)

    try:
        token.run_sync_soon(call)
    except OSError:  # what a lost loop is woken by is closed
        raise trio.RunFinishedError from None
    await done.wait()
    return results[0].unwrap()


class Latch:
    """An event that any thread may set, once, and any number of tasks wait for, in any loop."""

    def __init__(self) -> None:
        self.is_set = False
        self._waiting: list[tuple[trio.lowlevel.TrioToken, trio.Event]] = []

    def set(self) -> None:
        """End all waits, the present and the later ones; from any thread."""
        self.is_set = True
        for token, event in tuple(self._waiting):
            run_in(token, event.set)

    async def wait(self) -> None:
        """Wait until it is set. Always a checkpoint."""
        waiting = trio.lowlevel.current_trio_token(), trio.Event()
        self._waiting.append(waiting)
        try:
            if self.is_set:
                await trio.lowlevel.checkpoint()
            else:
                await waiting[1].wait()
        finally:
            self._waiting.remove(waiting)


class RepeatedEvent:
    """An event that any thread may set, and one task waits for again and again."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: tuple[trio.lowlevel.TrioToken, trio.Event] | None = None

    def set(self) -> None:
        """End the wait of the task that waits, or else the next wait; from any thread, and from a
        finalizer.
        """
        self._is_set = True
        waiting = self._waiting
        if waiting is not None:
            token, event = waiting
            run_in(token, event.set)

    async def wait(self) -> None:
        """Wait until it is set, and clear it. Always a checkpoint; cancelled, it stays as it is."""
        if self._waiting is not None:
            raise trio.BusyResourceError("another task already waits for this event")
        event = trio.Event()
        self._waiting = trio.lowlevel.current_trio_token(), event
        try:
            if self._is_set:
                await trio.lowlevel.checkpoint()
            else:
                await event.wait()
            self._is_set = False
        finally:
            self._waiting = None


class RemoteNursery:
    """A nursery, of another loop perhaps, in which any thread may start tasks while it is open."""

    def __init__(self) -> None:
        self._opened: tuple[trio.lowlevel.TrioToken, trio.Nursery] | None = None

    @property
    def token(self) -> trio.lowlevel.TrioToken | None:
        """The token of the nursery's loop, while it is open."""
        return self._opened[0] if self._opened is not None else None

    def open(self, nursery: trio.Nursery) -> None:
        """Tasks start in ``nursery`` from now on; in its loop."""
        self._opened = trio.lowlevel.current_trio_token(), nursery

    def close(self) -> None:
        """Start no more tasks: the nursery is about to end. In its loop, or in a forked child."""
        self._opened = None

    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Start a task; from any thread. Nothing happens while it is not open."""
        if self._opened is not None:
            token, nursery = self._opened
            run_in(token, partial(self._start, nursery, async_fn, *args))

    def _start(
        self, nursery: trio.Nursery, async_fn: Callable[..., Awaitable[object]], *args: Any
    ) -> None:
        if self._opened is not None:
            nursery.start_soon(async_fn, *args)


class Mailbox:
    """Calls that any thread posts, and that one loop makes in the order in which they came: soon,
    as by `run_sync_soon`, or when `drain` is called before that.
    """

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self.waiting: deque[Callable[[], object]] = deque()

    def post(self, function: Callable[[], object]) -> None:
        """Have ``function`` called in the loop; from any thread."""
        self.waiting.append(function)
        run_in(self._token, self.drain)

    def drain(self) -> None:
        """Make the calls that were posted so far; in the loop."""
        while self.waiting:
            self.waiting.popleft()()
