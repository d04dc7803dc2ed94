"""Cancellation at every checkpoint: runs a scenario repeatedly, each time cancelled a step later.

A scenario that passes is correct wherever a cancellation may arrive. SQLite is tested in the same
way, with memory allocations that fail; here it is Trio's checkpoints.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import trio

__all__ = ["InjectedScope", "at_every_checkpoint"]

LIMIT = 100_000  # runs of one scenario; one that needs more probably never ends


async def at_every_checkpoint(
    scenario: Callable[..., Awaitable[object]],
    check: Callable[[], Awaitable[object]] | None = None,
    *,
    limit: int = LIMIT,
) -> int:
    """Run a scenario once for each of its checkpoints, and cancel it there.

    ::

        async def scenario():
            async with open_memory_client(MyKernel()) as client:
                await client.execute("something")

        assert await at_every_checkpoint(scenario) > 10

    A checkpoint is a moment at which a task yields to the loop. In run *n* the whole scenario is
    cancelled at the *n*-th checkpoint; the last run is not cancelled. A scenario that takes an
    argument gets an `InjectedScope` and has to enter it itself: then only the code in that scope is
    cancelled, and the code after it can assert what must hold. The checkpoints of all tasks are
    counted while the scope is entered, also those of a kernel that serves the code in it. ``check``
    is awaited after every run. Tasks are scheduled in the same order in every run.

    Returns the number of runs that were cancelled. What a scenario or ``check`` raises is raised,
    with a note that says at which checkpoint it was cancelled and where the task was. Raises
    `RuntimeError` after ``limit`` runs, and if the scenario does not enter its scope. Works best
    under `trio.testing.MockClock`, where waiting takes no time.
    """
    parameters = inspect.signature(scenario).parameters.values()
    takes_scope = any(one.default is one.empty for one in parameters)
    for number in range(limit):
        injector = _Injector(number)
        try:
            await _run_once(scenario, takes_scope, injector)
            if check is not None:
                await check()
        except BaseException as error:
            if injector.where:
                error.add_note(f"cancelled at checkpoint {number + 1}: {injector.where}")
            raise
        if not injector.where:
            if not injector.scope.entered:
                raise RuntimeError("the scenario has not entered the scope that it was given")
            return number
    raise RuntimeError(f"after {limit} runs the scenario still had a checkpoint more")


async def _run_once(
    scenario: Callable[..., Awaitable[object]], takes_scope: bool, injector: _Injector
) -> None:
    trio.lowlevel.add_instrument(injector)
    try:
        with _same_order():
            if takes_scope:
                await scenario(injector.scope)
            else:
                with injector.scope:
                    await scenario()
    finally:
        trio.lowlevel.remove_instrument(injector)


@contextmanager
def _same_order() -> Iterator[None]:
    """Have Trio shuffle runnable tasks in the same way in every run.

    Trio's random generator is not public, but there is no other way; hypothesis uses it, too. If it
    is missing, the order of tasks differs between runs, and a checkpoint may be missed.
    """
    shuffler = getattr(trio._core._run, "_r", None)
    if not isinstance(shuffler, random.Random):
        yield
        return
    state = shuffler.getstate()
    shuffler.seed(0)
    try:
        yield
    finally:
        shuffler.setstate(state)


class InjectedScope:
    """A cancel scope that is cancelled at a chosen checkpoint after it has been entered.

    ``instead`` may be set to a function that is called there instead of the cancellation, for
    example to interrupt a kernel, or to have a client send a message. It is called between two
    steps of tasks, and must neither block nor raise.
    """

    def __init__(self) -> None:
        self.instead: Callable[[], object] | None = None
        self.entered = False
        self.active = False
        self._scope = trio.CancelScope()

    @property
    def cancelled_caught(self) -> bool:
        """Whether the scope was cancelled and the block has ended early because of it."""
        return self._scope.cancelled_caught

    def __enter__(self) -> InjectedScope:
        self._scope.__enter__()
        self.entered = self.active = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        self.active = False
        return bool(self._scope.__exit__(kind, error, tb))

    def inject(self) -> None:
        """Cancel the scope, or call ``instead``."""
        (self.instead or self._scope.cancel)()


class _Injector(trio.abc.Instrument):
    """Counts checkpoints while its scope is entered, and cancels the scope at one of them."""

    def __init__(self, number: int) -> None:
        self.scope = InjectedScope()
        self.where = ""
        self._left = number

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio when a task yields to the loop, or ends, which is no checkpoint."""
        if self.where or not self.scope.active or task.coro.cr_frame is None:
            return
        if self._left:
            self._left -= 1
        else:
            self.where = f"task {task.name}, {_where(task)}"
            self.scope.inject()


def _where(task: trio.lowlevel.Task) -> str:
    """Where a task waits: the innermost line that is neither in Trio nor in trikernel, and the
    innermost one in trikernel, if it is further in.
    """
    place = inner = "at its start"
    for frame, line in task.iter_await_frames():
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package != "trio":
            inner = f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
            if package != "trikernel":
                place = inner
    return place if place == inner else f"{place} ({inner})"
