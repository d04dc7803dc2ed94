"""A `trio.run` inside of a Trio run, in the same thread.

What is wanted
    Code of a cell calls `trio.run` itself: examples of Trio's documentation end so, pytest-trio
    does it for each test, and so do libraries with a synchronous interface. The inner run gets a
    loop of its own, in the thread and the context of the cell. The outer loop stands still until
    the inner one ends, and then finds all of its own state as it was.

What does not work
    To run it in another thread: it would have other signals, context variables and thread-local
    data. To await it in the outer loop (by greenlets): clock, instruments and the end of async
    generators belong to a run. To replace the name `trio.run`: a module with ``from trio import
    run`` keeps the function. To replace `setup_runner`, which every run calls: no function of ours
    would surround the run, to put back afterwards what was set aside.

What is done
    The code object of the function `trio.run` is replaced (`python.nested_runs`), which works by
    whatever name the function is called. `run_nested` sets aside what Trio and others keep for each
    thread, calls the original function, and puts everything back, whatever has happened:

    ==========================  ===================================================================
    Trio's run context          the loop and the task of this thread. It is empty during the inner
                                run, so that Trio's own check passes; Trio's code does the rest
    the wake-up descriptor      removed while the inner loop starts, as Trio would warn of it. Then
                                it is put back if a handler of ours has SIGINT; else the inner
                                loop's is used
    SIGINT                      a handler of ours stays. A handler that Trio has set for the outer
                                loop is removed, and the inner loop sets its own
    hooks of async generators,  Trio puts them back; here it is done once more, for a run that Trio
    sniffio's name              could not end properly
    ==========================  ===================================================================

    All of this is protected from `KeyboardInterrupt`; the inner tasks are not. While the inner loop
    waits, a stop is raised in its main task, as Trio does it (`interrupt_nested_run`).

    The two loops share objects: inner tasks may use a channel, an event or a nursery of the outer
    loop. If they wake or start a task of the outer loop in that way, it runs when the outer loop
    goes on (`_inner_runner`). Without that an assertion of Trio's fails, and the task is lost.

What remains
    An inner task that waits for something that only the outer loop can do waits until it is
    interrupted, or a deadline passes that is not the outer loop's: deadlines of scopes of the outer
    loop have no effect during the inner run. Without the names in `PRIVATE_NAMES`, `trio.run` in a
    cell raises Trio's own error.
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

__all__ = [
    "PRIVATE_NAMES",
    "can_nest_runs",
    "interrupt_nested_run",
    "is_nested_in",
    "nested_token",
    "run_nested",
]

PRIVATE_NAMES = tuple(
    row.name
    for row in private_names.PRIVATE_NAMES
    if __name__ in row.where and "trio.run in a cell is refused" in row.without
)
"""The private names of Trio without which there are no nested runs."""

_tokens: dict[int, list[trio.lowlevel.TrioToken]] = {}  # of the nested runs in each thread
CLOSINGS = 10  # attempts to close a coroutine; each one fails at the next await in its clean-up


def is_nested_in(token: trio.lowlevel.TrioToken) -> bool:
    """Whether this thread is in a run of another loop than that of ``token``: a nested one."""
    return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is not token


def nested_token(thread: int) -> trio.lowlevel.TrioToken | None:
    """The token of the innermost nested run in that thread; None if there is none."""
    tokens = tuple(_tokens.get(thread, ()))  # that thread may be leaving one just now
    return tokens[-1] if tokens else None


def interrupt_nested_run(error: BaseException) -> None:
    """Have ``error`` raised in the main task of this thread's loop, where it next waits.

    For a signal handler, or in that loop. `KeyboardInterrupt` is delivered as Trio does it: if the
    run has no main task any more, it is raised at the end of the run.
    """
    runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
    if isinstance(error, KeyboardInterrupt):
        runner.deliver_ki()
        return

    def throw(_: object = None) -> None:
        raise error

    def deliver() -> None:
        main: Any = runner.main_task
        if main is not None and main._abort_func is not None:  # the main task waits
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
    """Call ``run``, which is the original `trio.run`, inside of the run that this thread is in.

    ``options`` are the keyword arguments of `trio.run`. ``on_enter`` is called in the inner loop
    before its first task. Returns and raises what ``run`` does.
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
    """Close the tasks that a crashed inner loop has left, while no loop is current in this thread.
    When they were garbage collected later, their cancel scopes would be closed as if by a task of
    the outer loop.
    """
    tasks = tuple(runner.tasks) if runner is not None else ()
    for nursery in (one for task in tasks for one in task.child_nurseries):
        getattr(nursery, "_children", set()).clear()  # else Trio complains that it had tasks
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
    """The class of an inner loop: it hands tasks that belong to another loop over to that loop."""
    runner: Any = trio._core._run.Runner
    reschedule, spawn_impl = runner.reschedule, runner.spawn_impl

    class InnerRunner(runner):  # type: ignore[misc]  # of the same layout, for `__class__ =`
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
    """Whether this Trio has all the private names that nested runs need."""
    try:
        for name in PRIVATE_NAMES:
            attrgetter(name.removeprefix("trio."))(trio)
    except AttributeError:
        return False
    return True


def _forget_token(thread: int) -> None:
    _tokens[thread].pop()
    if not _tokens[thread]:
        del _tokens[thread]


class _Nesting(trio.abc.Instrument):
    """What is set aside during one inner run, and is put back at its end. It is an instrument of
    that run, because Trio calls those between the set-up of a loop and its first task.
    """

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
        if self.inner is not None:
            self.inner = None
            _forget_token(threading.get_ident())
        self._context.clear()
        self._context.update(self._outer)
        sniffio.thread_local.name = self._library
        sys.set_asyncgen_hooks(*self._hooks)
        if self._wakeup_fd is not None:
            with suppress(ValueError, OSError):  # that descriptor may be closed by now
                signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        is_ended = self._handler and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if is_ended:
            signal.signal(signal.SIGINT, self._handler)

    def __dir__(self) -> list[str]:
        """Trio looks through these names for the methods to call; fewer names take less time."""
        return ["before_run"]

    def before_run(self) -> None:
        """The inner loop is about to run its first task, and has taken the wake-up descriptor."""
        _tokens.setdefault(threading.get_ident(), []).append(trio.lowlevel.current_trio_token())
        self.inner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        self.inner.__class__ = _inner_runner()
        if self._handler is None and self._wakeup_fd not in (None, -1):
            signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        self._on_enter()
