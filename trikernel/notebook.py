"""What a cell imports: a nursery that outlives cells, awaitable input, and asyncio beside Trio.

::

    from trikernel.notebook import nursery

    nursery.start_soon(watch, "folder")  # goes on after the cell

Works in any Python kernel of trikernel. Outside of one, each call says so.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from .core import BackgroundNursery, current_request
from .errors import TrikernelError

if TYPE_CHECKING:
    nursery: BackgroundNursery

__all__ = ["aio", "enter", "input", "nursery"]

T = TypeVar("T")


async def enter(manager: AbstractAsyncContextManager[T]) -> T:
    """Enter an async context manager that stays open across cells, until the kernel ends.

    Returns what it yields. What it raises on entering is raised here; what it raises later is
    shown under this cell.
    """
    return await _kernel().nursery.enter(manager)  # type: ignore[no-any-return]


async def aio(what: Any, *args: Any) -> Any:
    """Await in asyncio, from a cell that runs in Trio: ``await aio(session.get(url))``.

    ``what`` is an awaitable, or a function that wants a running loop: that is called with ``args``,
    and what it returns is awaited if it can be. It runs in the asyncio loop that lives on across
    cells, in this thread, and what it starts there goes on. Cancelled, it is cancelled and waited
    for. Raises what it raises. It is a checkpoint of Trio's.
    """
    return await _kernel().shell.loops.asyncio.run_after_checkpoint(what, *args)


async def input(prompt: object = "", *, password: bool = False) -> str:
    """Ask the person at the frontend, while other tasks go on.

    Raises `StdinNotImplementedError` when the frontend does not allow it, `EOFError` at the end of
    file. Cancelled, the question is withdrawn.
    """
    answer: str = await _kernel().async_input(str(prompt), password=password)
    return answer


def _kernel() -> Any:
    request = current_request.get()
    if request is None or not hasattr(request.kernel, "nursery"):
        raise TrikernelError("trikernel.notebook works in a cell of a trikernel Python kernel only")
    return request.kernel


def __getattr__(name: str) -> Any:
    if name == "nursery":
        return _kernel().nursery
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
