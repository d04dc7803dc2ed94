"""Replaces the code of `trio.run` and `sniffio.current_async_library` while Python kernels are
served.

In a cell, and in what a cell has started, `trio.run` runs a new loop inside of the kernel's loop
(`system.nested_run`), and so does `anyio.run` with either backend. For all other code the function
is Trio's own, which refuses to run inside of a run.

The code of the two functions is replaced, not the names that refer to them, because libraries have
imported them under names of their own. The new code runs in the namespace of the original function,
so it must import everything that it uses.

sniffio determines by a thread-local name which library runs in a thread: in every cell that is
Trio. It is wrong if the cell has started an asyncio loop, which is then the innermost loop: AnyIO
and HTTPX would use the wrong library. And `anyio.run` asks sniffio in order to refuse to start a
loop inside of another one: it is told that none runs, so that it may start one in a cell.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType, FunctionType
from typing import Any
from weakref import WeakSet

import sniffio
import trio
from trio.lowlevel import RunVar, enable_ki_protection

from ..core import current_request
from ..system import can_nest_runs, run_nested

__all__ = ["runs"]

HINT = "\x1b[2mthe kernel's loop stands still in trio.run; a cell can simply `await {}`\x1b[0m\n"
CHILD = object()  # stands for the kernel in a process that a cell has forked


@enable_ki_protection
def _run(async_fn: Any, *args: Any, **options: Any) -> Any:
    __tracebackhide__ = True
    from trikernel.python.nested_runs import runs

    return runs.run(async_fn, args, options)


def _current_async_library() -> str:
    from trikernel.python.nested_runs import runs

    return runs.library()


_outer_asyncio_loop: RunVar[Any] = RunVar("trikernel: the asyncio loop around this Trio loop")


class _Runs:
    """What the two functions do while they are replaced. There is one instance, `runs`, which the
    code that was put into them imports by that name.
    """

    def __init__(self) -> None:
        self._kernel: Callable[[], Any] = lambda: None
        self._run: Callable[..., Any] = trio.run
        self._library: Callable[[], str] = sniffio.current_async_library
        self._told: WeakSet[Any] = WeakSet()

    def replace_in_child(
        self, replace_code: Callable[[FunctionType, FunctionType], FunctionType]
    ) -> None:
        """Replace them in a process that a cell has forked: all code in it counts as the cell's."""
        self.replace(replace_code, lambda: CHILD)

    def replace(
        self,
        replace_code: Callable[[FunctionType, FunctionType], FunctionType],
        kernel: Callable[[], Any],
    ) -> None:
        """Replace the code of both functions. ``replace_code(function, replacement)`` returns the
        original function; ``kernel()`` returns the kernel that the calling code runs for, or None.
        """
        self._kernel = kernel
        self._run = replace_code(trio.run, _run)  # type: ignore[arg-type]
        self._library = replace_code(
            sniffio.current_async_library,  # type: ignore[arg-type]
            _current_async_library,  # type: ignore[arg-type]
        )

    @enable_ki_protection
    def run(self, async_fn: Any, args: Sequence[object], options: dict[str, Any]) -> Any:
        """What a call of `trio.run` executes."""
        __tracebackhide__ = True
        kernel = self._kernel() if trio.lowlevel.in_trio_run() else None
        if kernel is None or not can_nest_runs():
            return self._run(async_fn, *args, **options)
        if kernel is not CHILD and kernel not in self._told:
            self._tell(kernel, async_fn, args, sys._getframe(2))
        return run_nested(self._run, async_fn, args, options, note_outer_asyncio_loop)

    def _tell(self, kernel: Any, async_fn: Any, args: Sequence[object], caller: FrameType) -> None:
        """Print a hint, once for each kernel, if the caller of `trio.run` is a cell itself: it
        could simply await the function.
        """
        request, code = current_request.get(), caller.f_code
        if request is None or kernel.shell.compile.format_code_name(code.co_filename) is None:
            return
        self._told.add(kernel)
        name = getattr(async_fn, "__name__", "main")
        call = f"{name}({'...' if args else ''})"
        kernel.server.connection.iopub.tell(request, HINT.format(call))

    def library(self) -> str:
        """What a call of `sniffio.current_async_library` executes."""
        name = self._library()
        if name != "trio" or not trio.lowlevel.in_trio_run() or self._kernel() is None:
            return name
        if _running_asyncio_loop() is not _outer_asyncio_loop.get(None):
            return "asyncio"
        if _starts_a_loop(sys._getframe(3)):
            raise sniffio.AsyncLibraryNotFoundError("a cell may start a loop here")
        return name


runs = _Runs()


def note_outer_asyncio_loop() -> None:
    """Called when a Trio loop begins: notes the asyncio loop that runs around it, if one does."""
    _outer_asyncio_loop.set(_running_asyncio_loop())


def _running_asyncio_loop() -> Any:
    # While another thread is importing asyncio it may lack the function; then no loop runs here.
    get_running_loop = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    try:
        return get_running_loop() if get_running_loop is not None else None
    except RuntimeError:
        return None


def _starts_a_loop(asking: FrameType) -> bool:
    """Whether this frame executes `anyio.run`, which asks sniffio by a function of AnyIO's."""
    run = getattr(sys.modules.get("anyio"), "run", None)
    return run is not None and asking.f_code is run.__code__
