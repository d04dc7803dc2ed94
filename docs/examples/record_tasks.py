"""A kernel in a program, and a timeline of both: prints it, and writes an SVG."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from trikernel import MemoryTransport, serve
from trikernel.client import open_client
from trikernel.python import PythonKernel


async def tick() -> None:
    """A task of the program's own."""
    for _ in range(1_000):
        await trio.sleep(0.1)


async def main(path: Path | None) -> None:
    """Run two cells and record what goes on meanwhile."""
    kernel, transport = PythonKernel(), MemoryTransport()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, kernel, transport)
        async with open_client(transport.connect()) as client:
            with kernel.record(title="two cells") as recorder:
                nursery.start_soon(tick)
                await client.execute("import trio; await trio.sleep(0.3)")
                await client.execute("import time; time.sleep(0.2)")
        timeline = recorder.timeline()
        print(timeline)
        if path is not None:
            await trio.Path(path).write_text(timeline.svg(), "utf-8")
        server.stop()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]) if len(sys.argv) > 1 else None)
