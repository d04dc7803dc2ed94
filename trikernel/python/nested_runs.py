"""What stands in `trio.run`, and in sniffio's answer, while Python kernels are served.

In a cell, and in what a cell has started, `trio.run` runs in a loop inside of the kernel's
(`system.nested_run`), and so does `anyio.run` with either backend. All other code gets Trio's own
function, which refuses to run inside of a run.

The code of the two functions is replaced, not their names: libraries keep them under names of their
own. It runs in Trio's and in sniffio's namespace, so it has nothing but what it imports.

sniffio says by a thread's local name which library runs there: Trio, in every cell. That is wrong
if the cell has started an asyncio loop since, which is the innermost one then; AnyIO and HTTPX
would use the other one. And who asks in order to start a loop, as `anyio.run` does, may start it.
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
CHILD = object()  # in the place of a kernel, in a process that a cell has forked


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
    """There is one, `runs`: the code that stands in the two functions finds it by that name."""

    def __init__(self) -> None:
        self._kernel: Callable[[], Any] = lambda: None
        self._run: Callable[..., Any] = trio.run
        self._library: Callable[[], str] = sniffio.current_async_library
        self._told: WeakSet[Any] = WeakSet()

    def replace_in_child(
        self, replace_code: Callable[[FunctionType, FunctionType], FunctionType]
    ) -> None:
        """In a process that a cell has forked: all of it is the cell's code."""
        self.replace(replace_code, lambda: CHILD)

    def replace(
        self,
        replace_code: Callable[[FunctionType, FunctionType], FunctionType],
        kernel: Callable[[], Any],
    ) -> None:
        """Put it there. ``replace_code`` returns a function that is what the first one was,
        ``kernel`` the kernel that the calling code runs for, or None.
        """
        self._kernel = kernel
        self._run = replace_code(trio.run, _run)  # type: ignore[arg-type]
        self._library = replace_code(
            sniffio.current_async_library,  # type: ignore[arg-type]
            _current_async_library,  # type: ignore[arg-type]
        )

    @enable_ki_protection
    def run(self, async_fn: Any, args: Sequence[object], options: dict[str, Any]) -> Any:
        """`trio.run`."""
        __tracebackhide__ = True
        kernel = self._kernel() if trio.lowlevel.in_trio_run() else None
        if kernel is None or not can_nest_runs():
            return self._run(async_fn, *args, **options)
        if kernel is not CHILD and kernel not in self._told:
            self._tell(kernel, async_fn, args, sys._getframe(2))
        return run_nested(self._run, async_fn, args, options, note_outer_asyncio_loop)

    def _tell(self, kernel: Any, async_fn: Any, args: Sequence[object], caller: FrameType) -> None:
        """Once a session, under a cell that says `trio.run` itself: what it need not do."""
        request, code = current_request.get(), caller.f_code
        if request is None or kernel.shell.compile.format_code_name(code.co_filename) is None:
            return
        self._told.add(kernel)
        name = getattr(async_fn, "__name__", "main")
        call = f"{name}({'...' if args else ''})"
        kernel.server.connection.iopub.tell(request, HINT.format(call))

    def library(self) -> str:
        """`sniffio.current_async_library`."""
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
    """In a Trio loop that begins: an asyncio loop that runs now is not inside of it."""
    _outer_asyncio_loop.set(_running_asyncio_loop())


def _running_asyncio_loop() -> Any:
    # another thread may be importing it: then it has no such function yet, and nothing runs here
    get_running_loop = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    try:
        return get_running_loop() if get_running_loop is not None else None
    except RuntimeError:
        return None


def _starts_a_loop(asking: FrameType) -> bool:
    """Whether that frame is `anyio.run`, which asks sniffio by a function of AnyIO's own."""
    run = getattr(sys.modules.get("anyio"), "run", None)
    return run is not None and asking.f_code is run.__code__
