"""``trikernel run``: a kernel in this process's main thread, its client in another one.

The client has a loop of its own, so that outputs are shown while a cell computes. Both speak
through memory: no socket, no server.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import outcome
import trio

from ..client import open_client
from ..client.notebook import CellFailed, read_notebook, run_cells, write_notebook
from ..core import serve
from ..errors import KernelDied, UsageError
from ..kernel import Kernel
from ..transport import MemoryClient, MemoryTransport
from .screen import Screen

__all__ = ["run_file"]


def run_file(path: str, output: str | None, kernel_class: type[Kernel]) -> int:
    """Run a notebook; 0 when every cell went well, 1 when one failed.

    Raises `UsageError` for files that cannot be read or written.
    """
    notebook = read_notebook(path)

    def save() -> None:
        if output is not None:
            write_notebook(notebook, output)

    save()
    screen = Screen(sum(cell.cell_type == "code" for cell in notebook.cells))
    with screen:
        result = _run(notebook, screen, save, kernel_class)
        try:
            failed = result.unwrap()
        except BaseExceptionGroup as group:
            if group.subgroup((OSError, SystemExit)) is None:
                raise
            raise UsageError("the outputs cannot be written to standard output") from None
        if failed is not None:
            screen.failed(failed)
            return 1
        screen.finished()
    return 0


def _run(
    notebook: Any, screen: Screen, save: Any, kernel_class: type[Kernel]
) -> outcome.Outcome[CellFailed | None]:
    """Serve in this thread while another one asks; how the asking went."""
    transport = MemoryTransport()
    client = transport.connect()
    results: list[outcome.Outcome[CellFailed | None]] = []

    def ask() -> None:
        results.append(outcome.capture(trio.run, _ask, client, notebook, screen, save))

    thread = threading.Thread(target=ask, name="trikernel client", daemon=True)
    thread.start()
    trio.run(partial(serve, kernel_class(), transport))
    client.close()
    thread.join()
    return results[0] if results else outcome.Error(KernelDied("the kernel ended"))


async def _ask(client: MemoryClient, notebook: Any, screen: Screen, save: Any) -> CellFailed | None:
    async with open_client(client) as asking:
        try:
            return await run_cells(asking, notebook, screen, save)
        finally:  # no wait for the reply: if the screen has failed, nobody receives any more
            asking.send("shutdown_request", {"restart": False}, channel="control")
