"""asyncio in Trio's cells: the loops that a stopped one leaves behind, and a line of advice.

What is wanted
    A cell's `asyncio.run` is stopped, and whatever its tasks still do, or say, is that cell's.

What does not work
    asyncio ends a loop by cancelling its tasks and running them to their end, which takes what they
    take. A second interrupt breaks that off: the loop is closed, its tasks stand where they were,
    and the error's traceback holds them. Whenever that is let go, in a later cell mostly, the
    garbage collector closes their coroutines: what these do as they clean up runs in that cell, and
    holds it up where they swallow everything; ``Exception ignored in``, ``Task was destroyed but it
    is pending!`` and ``Task exception was never retrieved`` stand under it.

What is done
    The loops are found by the traceback of what has stopped the cell. The coroutines of such a loop
    are closed at once, as the cell's own code, which a further stop reaches; what it has to say
    later it says in the context of the cell, and so under it.

What remains
    A loop that is not closed is its owner's, and may run again. One whose interrupt the cell's own
    code has caught is not found.
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
_MOST = 100  # errors of a group that are looked at
_SIGNS = {
    "RuntimeError": ("no running event loop", "There is no current event loop"),
    "TypeError": ("trio.run received unrecognized yield message <",),
}


def is_asyncio_cancel(raised: BaseException) -> bool:
    """Whether it is asyncio's: that of a task which the user's code has cancelled."""
    return type(raised).__module__ == "asyncio.exceptions"


def tell_of_asyncio(kernel: Any, error: BaseException) -> None:
    """Say under the calling cell, whose error that is, what code needs that awaits asyncio."""
    request = current_request.get()
    if request is None:
        return
    for one in islice(_leaves(error), _MOST):
        signs = _SIGNS.get(type(one).__name__, ())
        if signs and kernel.shell.errors.content(one)["evalue"].startswith(signs):
            kernel.server.connection.iopub.tell(request, _WHAT_TO_DO)
            return


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or those in a group, in groups of it, and so on."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def end_asyncio_loops(raised: BaseException) -> None:
    """End what is left of the closed loops that ``raised``, an interrupt, has come through.

    Does nothing for any other exception. Raises nothing.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(raised, (KeyboardInterrupt, CellStopped)):
        return
    loops: list[Any] = []
    with suppress(Exception):  # what its frames hold is the user's, and may raise when looked at
        loops = _closed_loops(asyncio, raised)
    for loop in loops:
        _say_here(loop)
        for task in asyncio.all_tasks(loop):
            close = getattr(task.get_coro(), "close", None)  # any awaitable may be a task's
            if close is not None:
                with suppress(BaseException):  # what it raises as it ends, or a further stop
                    call_unprotected(close)


def _closed_loops(asyncio: Any, raised: BaseException) -> list[Any]:
    """In the order in which they were run."""
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
    """The frames of an exception, and of those that were handled as it was raised."""
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
    """Have what a loop reports later belong to the calling cell."""
    context = contextvars.copy_context()
    handler = loop.get_exception_handler()

    def report(loop: Any, what: dict[str, Any]) -> None:
        if handler is None:
            context.copy().run(loop.default_exception_handler, what)
        else:
            context.copy().run(handler, loop, what)

    loop.set_exception_handler(report)
