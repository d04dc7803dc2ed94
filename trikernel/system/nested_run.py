"""A `trio.run` inside of a Trio run, in the same thread.

What is wanted
    Code of a cell calls `trio.run` itself: examples of Trio's documentation end so, pytest-trio
    does it for each test, and so do libraries with synchronous fronts. It gets a loop of its own,
    in the thread and the context of the cell. The loop around it stands still until that ends, and
    nothing of it has changed then.

What does not work
    To run it in another thread: signals, context variables and what is kept for each thread would
    be others. To await it in the loop around it (greenlets): clocks, instruments and the end of
    async generators are those of a run. To replace the name `trio.run`: whoever has said ``from
    trio import run`` keeps the function. To replace `setup_runner`, which all of them reach: nobody
    of ours would stand around the run to put back what it has set aside.

What is done
    The code of the function `trio.run` is replaced (`python.nested_runs`), which catches every name
    that it has. `run_nested` sets aside what Trio and others keep for each thread, calls the
    function as it was, and puts everything back, whatever has happened:

    ==========================  ===================================================================
    Trio's run context          the loop and the task of this thread: empty meanwhile, so that
                                Trio's own check passes, and its own code does all the rest
    the wake-up descriptor      stays with who handles SIGINT; Trio would warn that there is one
    SIGINT                      a handler of ours stays. One of Trio's, of the loop around it, is
                                for that loop: the inner one gets its own
    hooks of async generators,  Trio puts them back; here it is done once more, for a run that Trio
    sniffio's name              could not end properly
    ==========================  ===================================================================

    All of it is protected from `KeyboardInterrupt`; the inner tasks are not. While the inner loop
    waits, a stop is delivered to its main task as Trio does it (`interrupt_nested_run`).

    The two loops share objects: inner tasks may use a channel, an event or a nursery of the outer
    one. Whom they wake or start is a task of the outer loop then, and goes on when that turns again
    (`_inner_runner`). Without that Trio's assertion fails, and the task is lost.

What remains
    To wait for something that only the outer loop can do has no end but an interrupt or a deadline.
    Deadlines of the outer loop's scopes do not pass meanwhile. Without the private names that stand
    in `PRIVATE_NAMES`, `trio.run` in a cell is the error that it is in Trio.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from operator import attrgetter
from typing import Any

import sniffio
import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from . import private_names
from .loops import run_in

__all__ = ["PRIVATE_NAMES", "can_nest_runs", "interrupt_nested_run", "is_nested_in", "run_nested"]

PRIVATE_NAMES = tuple(
    row.name
    for row in private_names.PRIVATE_NAMES
    if __name__ in row.where and "trio.run in a cell is refused" in row.without
)
"""The private names of Trio without which there are no nested runs."""

CLOSINGS = 10  # times that a coroutine is told to end: one that awaits as it cleans up goes on


def is_nested_in(token: trio.lowlevel.TrioToken) -> bool:
    """Whether this thread's loop is another one, which runs inside of that of ``token``."""
    return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is not token


def interrupt_nested_run(error: BaseException) -> None:
    """Have ``error`` raised in the main task of this thread's loop, where it next waits.

    For a signal handler. `KeyboardInterrupt` is delivered by Trio's own way: a run that has no main
    task any more raises it at its end.
    """
    runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
    if isinstance(error, KeyboardInterrupt):
        runner.deliver_ki()
        return

    def throw(_: object = None) -> None:
        raise error

    def deliver() -> None:
        main: Any = runner.main_task
        if main is not None and main._abort_func is not None:  # it waits
            main._attempt_abort(throw)

    run_in(trio.lowlevel.current_trio_token(), deliver)


@enable_ki_protection
def run_nested(
    run: Callable[..., Any],
    async_fn: Callable[..., Any],
    args: Sequence[object],
    options: dict[str, Any],
    on_enter: Callable[[], object] = lambda: None,
) -> Any:
    """Call ``run``, which is `trio.run` as it was, inside of the run that this thread is in.

    ``options`` are those of `trio.run`. ``on_enter`` is called in the inner loop before its first
    task. Returns and raises what it does.
    """
    __tracebackhide__ = True
    nesting = _Nesting(on_enter)
    options["instruments"] = (nesting, *options.get("instruments", ()))
    with nesting:
        try:
            return run(async_fn, *args, **options)
        except trio.TrioInternalError:
            _close_tasks(nesting.inner)
            raise


def _close_tasks(runner: Any) -> None:
    """End what a loop that has crashed leaves, as long as no loop is there: later, when they are
    collected, its cancel scopes would be left in the name of a task of the outer loop.
    """
    tasks = tuple(runner.tasks) if runner is not None else ()
    for nursery in (one for task in tasks for one in task.child_nurseries):
        getattr(nursery, "_children", set()).clear()  # it waits for nobody any more
    for task in tasks:
        for _ in range(CLOSINGS):
            with suppress(BaseException):
                _close(task.coro)
                break


@disable_ki_protection
def _close(coroutine: Any) -> None:
    coroutine.close()  # the user's code cleans up


@cache
def _inner_runner() -> type:
    """The class of a loop inside of another one: a task of another loop is that loop's."""
    runner: Any = trio._core._run.Runner
    reschedule, spawn_impl = runner.reschedule, runner.spawn_impl

    class InnerRunner(runner):  # type: ignore[misc]  # as wide as Trio's, which may become one
        __slots__ = ()

        @enable_ki_protection
        def reschedule(self, task: Any, *args: Any) -> None:
            reschedule(task._runner, task, *args)

        @enable_ki_protection  # Trio's own is not: an interrupt may leave a child that never runs
        def spawn_impl(self, async_fn: Any, args: Any, nursery: Any, *more: Any, **how: Any) -> Any:
            owner = self if nursery is None else nursery.parent_task._runner
            return spawn_impl(owner, async_fn, args, nursery, *more, **how)

    return InnerRunner


@cache
def can_nest_runs() -> bool:
    """Whether this Trio has all the private names that it takes."""
    try:
        for name in PRIVATE_NAMES:
            attrgetter(name.removeprefix("trio."))(trio)
    except AttributeError:
        return False
    return True


class _Nesting(trio.abc.Instrument):
    """What is set aside for one inner loop. Trio calls it between its set-up and its first task."""

    __slots__ = ("_context", "_handler", "_hooks", "_library", "_on_enter", "_outer", "_wakeup_fd",
                 "inner")  # fmt: skip

    def __init__(self, on_enter: Callable[[], object]) -> None:
        self._on_enter = on_enter
        self.inner: Any = None

    def __enter__(self) -> None:
        self._context = trio._core._run.GLOBAL_RUN_CONTEXT.__dict__
        self._outer = self._context.copy()
        self._library = sniffio.thread_local.name
        self._hooks = sys.get_asyncgen_hooks()
        self._handler = self._wakeup_fd = None
        if threading.main_thread().ident == threading.get_ident():
            handler = self._outer["runner"].ki_manager.handler
            if handler is not None and signal.getsignal(signal.SIGINT) is handler:
                self._handler = handler
                signal.signal(signal.SIGINT, signal.default_int_handler)
            self._wakeup_fd = signal.set_wakeup_fd(-1)
        self._context.clear()

    def __exit__(self, *exc: object) -> None:
        self.inner = None
        self._context.clear()
        self._context.update(self._outer)
        sniffio.thread_local.name = self._library
        sys.set_asyncgen_hooks(*self._hooks)
        if self._wakeup_fd is not None:
            with suppress(ValueError, OSError):  # who had it may be closed by now
                signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        is_ended = self._handler and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_ended:
            signal.signal(signal.SIGINT, self._handler)

    def __dir__(self) -> list[str]:
        """What Trio looks through for the calls that it has to make: each name takes a while."""
        return ["before_run"]

    def before_run(self) -> None:
        """The loop is about to begin: it has just taken the wake-up descriptor."""
        self.inner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        self.inner.__class__ = _inner_runner()
        if self._handler is None and self._wakeup_fd not in (None, -1):
            signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        self._on_enter()
