"""A kernel inside a program: `embed_kernel`, which blocks the program, and `trikernel.embed`, which
runs beside it.

A kernel beside a program installs no signal handlers, because signals belong to the program. A
client interrupts it by message. A cell that computes is stopped as `core.thread_stop` describes,
which does not hit the program's own tasks.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from contextvars import Context
from functools import partial
from types import ModuleType, TracebackType
from typing import Any

import trio
from outcome import Error, Outcome, Value, capture

from ..errors import UsageError
from ..kernel import open_connection, run, serve
from .kernel import PythonKernel
from .process import served

__all__ = ["Embedded", "embed_kernel"]


def embed_kernel(
    module: ModuleType | None = None,
    local_ns: dict[str, Any] | None = None,
    *,
    connection_file: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> None:
    """Serve a Python kernel here, with the caller's names, until a client shuts it down.

    Blocks. How a client connects is printed on stderr. Cells see ``local_ns`` and the names of
    ``module``. By default these are the names of the calling function, of which cells get a copy;
    or if module code calls, the module's own namespace, which keeps what cells set.
    ``connection_file`` is as for `trikernel.run`, ``settings`` are `PythonKernel`'s. Raises
    `UsageError` in a cell, `ConnectionFileError` for a file that cannot be used.
    """
    if served.kernel() is not None:
        raise UsageError("embed_kernel: this is a cell already; its names are those of the kernel")
    here = inspect.currentframe()
    caller = here.f_back if here is not None else None
    if module is None:
        name = caller.f_globals.get("__name__") if caller is not None else None
        module = sys.modules.get(name or "__main__")
    if local_ns is None:
        local_ns = dict(caller.f_locals) if caller is not None else {}
    if module is not None and _is_same(local_ns, vars(module)):
        local_ns = vars(module)
    kernel = PythonKernel(**settings)
    kernel.given_names = module, local_ns
    run(kernel, connection_file)


def _is_same(copy: dict[str, Any], names: dict[str, Any]) -> bool:
    """Whether both have the same names for the same objects: then the caller is module code."""
    return copy.keys() == names.keys() and all(copy[name] is names[name] for name in names)


class Embedded:
    """See `trikernel.embed`; ``module`` is the module of the calling code."""

    def __init__(
        self,
        module: ModuleType | None,
        namespace: dict[str, Any] | None,
        connection_file: str | os.PathLike[str] | None,
        settings: dict[str, Any],
    ) -> None:
        self._names = _names(module, namespace)
        self._file = connection_file
        self._settings = settings
        self._open: AbstractAsyncContextManager[PythonKernel]

    async def __aenter__(self) -> PythonKernel:
        kernel = PythonKernel(**self._settings)
        kernel.given_names = self._names
        kernel.thread_of_cells = threading.get_ident()
        serve_it = _beside_trio if trio.lowlevel.in_trio_task() else _beside_asyncio
        self._open = serve_it(kernel, self._file)
        return await self._open.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._open.__aexit__(kind, error, traceback)


def _names(
    module: ModuleType | None, namespace: dict[str, Any] | None
) -> tuple[ModuleType | None, dict[str, Any] | None]:
    """The module and the namespace of cells: those of the caller if it is module code. Otherwise
    one new namespace with the names of the module and of the caller, because functions that cells
    define look names up in one namespace only.
    """
    own = vars(module) if module is not None else {}
    if namespace is not None and namespace is own:
        return module, own
    return None, {**own, **(namespace or {})}


@asynccontextmanager
async def _beside_trio(
    kernel: PythonKernel, file: str | os.PathLike[str] | None
) -> AsyncIterator[PythonKernel]:
    error: BaseException | None = None
    with ExitStack() as stack:
        transport = open_connection(kernel, file, None, stack, [])
        with _instead(lambda: error):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(serve, kernel, transport)
                try:
                    yield kernel
                except GeneratorExit:
                    raise
                except BaseException as raised:  # `_instead` raises it again, outside of any group
                    error = raised
                finally:
                    server.stop()


@contextmanager
def _instead(find: Callable[[], BaseException | None]) -> Iterator[None]:
    """At the end of the block raise the program's own exception, if ``find`` returns one, in place
    of any other.
    """
    try:
        yield
    finally:
        error = find()
        if error is not None:
            raise error


@asynccontextmanager
async def _beside_asyncio(
    kernel: PythonKernel, file: str | os.PathLike[str] | None
) -> AsyncIterator[PythonKernel]:
    import asyncio

    from .host import AsyncioHost

    kernel.host = host = AsyncioHost()
    started, ended = host.loop.create_future(), host.loop.create_future()

    def tell(future: asyncio.Future[Any], outcome: Outcome[Any]) -> None:
        with suppress(RuntimeError):  # the program has ended already
            host.loop.call_soon_threadsafe(_tell, future, outcome)

    def run() -> None:
        has_begun = False

        def begin(server: Any) -> None:
            nonlocal has_begun
            has_begun = True
            tell(started, Value(server))

        end: Outcome[Any] = capture(trio.run, _serve_here, kernel, file, begin)
        if isinstance(end, Error) and has_begun:
            kernel.log.error("the kernel has ended", exc_info=end.error)
        elif isinstance(end, Error):
            tell(started, end)
        tell(ended, Value(None))

    thread = threading.Thread(target=partial(Context().run, run), name="trikernel", daemon=True)
    thread.start()
    try:
        server = await asyncio.shield(started)
    except asyncio.CancelledError:  # cancelled while the kernel starts: stop it once it has
        started.add_done_callback(_stop_started)
        await _wait_for_end(ended, thread)
        raise
    try:
        yield kernel
    finally:
        server.stop()
        await _wait_for_end(ended, thread)


def _tell(future: Any, outcome: Outcome[Any]) -> None:
    if future.done():
        return
    if isinstance(outcome, Value):
        future.set_result(outcome.value)
    elif isinstance(outcome, Error):
        future.set_exception(outcome.error)


def _stop_started(started: Any) -> None:
    if started.exception() is None:
        started.result().stop()


async def _wait_for_end(ended: Any, thread: threading.Thread) -> None:
    """Wait until the kernel's thread has ended. A cancellation meanwhile is raised after that.

    A cancelled scope of AnyIO cancels this task again in each iteration of the loop, which would
    leave the thread hardly any time to run. A shield keeps it from doing so.
    """
    import asyncio

    anyio: Any = sys.modules.get("anyio")  # if it is not imported there is no scope of it
    cancelled: BaseException | None = None
    while not ended.done():
        try:
            with anyio.CancelScope(shield=True) if anyio is not None else nullcontext():
                await asyncio.shield(ended)
        except asyncio.CancelledError as error:
            cancelled = error
    thread.join()  # setting `ended` is the last thing that the thread does
    if cancelled is not None:
        raise cancelled


async def _serve_here(
    kernel: PythonKernel, file: str | os.PathLike[str] | None, started: Callable[[Any], object]
) -> None:
    with ExitStack() as stack:
        transport = open_connection(kernel, file, None, stack, [])
        async with trio.open_nursery() as nursery:
            started(await nursery.start(serve, kernel, transport))
