"""asyncio in cells that run in Trio: ends the loops that a stopped cell leaves behind, and prints a
hint under a cell that needs asyncio.

What is wanted
    When a cell that executes `asyncio.run` is stopped, everything that the tasks of that loop still
    do or report belongs to that cell.

What does not work
    To leave it to asyncio, which ends a loop by cancelling its tasks and running them until they
    have ended, however long that takes. A second interrupt breaks that off: the loop is closed, its
    tasks stay suspended, and the traceback of the error refers to them. When the traceback is
    released, usually during a later cell, the garbage collector closes the tasks' coroutines. Then
    their cleanup code runs in that later cell, and blocks it if it catches every exception;
    ``Exception ignored in``, ``Task was destroyed but it is pending!`` and ``Task exception was
    never retrieved`` appear under the wrong cell.

What is done
    The closed loops are found in the traceback of the exception that has stopped the cell. The
    coroutines of their tasks are closed at once, as code of this cell, so that a further stop
    reaches it. What such a loop reports later, it reports in the context of the cell.

What remains
    A loop that is not closed is left alone: its owner may run it again. A loop is not found if the
    cell's own code has caught the interrupt.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from types import FrameType
from typing import Any

from ..core import call_unprotected, current_request
from ..errors import CellStopped

__all__ = ["end_asyncio_loops", "is_asyncio_cancel", "tell_of_asyncio"]

_WHAT_TO_DO = (
    "\x1b[2mthis needs asyncio, and cells run in Trio: put %%asyncio at the top of the cell, say "
    "%autoawait asyncio for all cells, or `await trikernel.notebook.aio(...)`\x1b[0m\n"
)
_MOST = 100  # errors of an exception group that are examined at most
_SIGNS = {
    "RuntimeError": ("no running event loop", "There is no current event loop"),
    "TypeError": ("trio.run received unrecognized yield message <",),
}


def is_asyncio_cancel(raised: BaseException) -> bool:
    """Whether this is `asyncio.CancelledError`, of a task that the user's code has cancelled."""
    return type(raised).__module__ == "asyncio.exceptions"


def tell_of_asyncio(kernel: Any, error: BaseException) -> None:
    """If a cell failed with this error because it needs asyncio, print a hint under that cell."""
    request = current_request.get()
    if request is None:
        return
    for one in islice(_leaves(error), _MOST):
        signs = _SIGNS.get(type(one).__name__, ())
        if signs and kernel.shell.errors.content(one)["evalue"].startswith(signs):
            kernel.server.connection.iopub.tell(request, _WHAT_TO_DO)
            return


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or those in an exception group and in the groups nested in it."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def end_asyncio_loops(raised: BaseException) -> None:
    """End the tasks of closed asyncio loops that are in the traceback of ``raised``, an interrupt.

    Does nothing for any other exception. Raises nothing.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(raised, (KeyboardInterrupt, CellStopped)):
        return
    loops: list[Any] = []
    with suppress(Exception):  # the frames hold the user's objects, which may raise when examined
        loops = _closed_loops(asyncio, raised)
    for loop in loops:
        _say_here(loop)
        for task in asyncio.all_tasks(loop):
            close = getattr(task.get_coro(), "close", None)  # a task's awaitable may have none
            if close is not None:
                with suppress(BaseException):  # what its cleanup raises, or a further stop
                    call_unprotected(close)


def _closed_loops(asyncio: Any, raised: BaseException) -> list[Any]:
    """The closed loops in the traceback, in its order: outermost frame first."""
    loops: list[Any] = []
    for frame in _frames(raised):
        if str(frame.f_globals.get("__name__")).partition(".")[0] != "asyncio":
            continue
        for value in tuple(frame.f_locals.values()):
            if isinstance(value, asyncio.Future):
                value = value.get_loop()
            if isinstance(value, asyncio.AbstractEventLoop) and value not in loops:
                loops.append(value)
    return [one for one in loops if one.is_closed()]


def _frames(raised: BaseException) -> Iterator[FrameType]:
    """The frames of an exception and of the exceptions in its ``__context__`` chain."""
    one: BaseException | None = raised
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        tb = one.__traceback__
        while tb is not None:
            yield tb.tb_frame
            tb = tb.tb_next
        one = one.__context__


def _say_here(loop: Any) -> None:
    """Have what a loop reports later appear under the calling cell."""
    context = contextvars.copy_context()
    handler = loop.get_exception_handler()

    def report(loop: Any, what: dict[str, Any]) -> None:
        if handler is None:
            context.copy().run(loop.default_exception_handler, what)
        else:
            context.copy().run(handler, loop, what)

    loop.set_exception_handler(report)
