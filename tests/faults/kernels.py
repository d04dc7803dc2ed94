"""Kernels as authors write them, which do what the faults need."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import trio

from trikernel import Kernel

__all__ = ["Author", "Marking"]


class Author(Kernel):
    """Runs a method named by the code: ``thread``, ``shield``, ``nursery``, ``scope``, ``say``."""

    implementation = "author"

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        verb, _, rest = code.partition(" ")
        await getattr(self, f"cell_{verb}")(rest)
        return {"status": "ok"}

    def say(self, text: str) -> None:
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": text})

    async def cell_say(self, rest: str) -> None:
        self.say(rest)

    async def cell_thread(self, rest: str) -> None:
        await trio.to_thread.run_sync(self._hold, float(rest))

    def _hold(self, seconds: float) -> None:
        self.say("begun")
        time.sleep(seconds)

    async def cell_shield(self, rest: str) -> None:
        with trio.CancelScope(shield=True):
            self.say("begun")
            await trio.sleep(float(rest))

    async def cell_nursery(self, rest: str) -> None:
        manager = trio.open_nursery()
        nursery = await manager.__aenter__()
        nursery.start_soon(trio.sleep_forever)

    async def cell_scope(self, rest: str) -> None:
        trio.CancelScope().__enter__()

    async def cell_keep(self, rest: str) -> None:
        self.kept = rest

    async def cell_kept(self, rest: str) -> None:
        self.say(self.kept)

    async def cell_crash(self, rest: str) -> None:
        trio.lowlevel.spawn_system_task(self._fall_over)
        await trio.sleep(100)

    async def _fall_over(self) -> None:
        raise RuntimeError("boom from the system task")

    async def cell_ticks(self, rest: str) -> None:
        self.ticked = trio.Event()
        self.nursery.start_soon(self._tick)

    async def _tick(self) -> None:
        while True:
            await trio.sleep(0.01)
            self.ticked.set()

    async def cell_ticking(self, rest: str) -> None:
        self.ticked = trio.Event()
        await self.ticked.wait()
        self.say("ticking")


class Marking(Author):
    """Leaves a line in the file named by ``MARKS`` when its end begins, and for each clean-up.

    ``linger N`` holds its end up by N seconds, and says that it does.
    """

    implementation = "marking"

    def mark(self, text: str) -> None:
        with Path(os.environ["MARKS"]).open("a") as file:
            file.write(f"{text}\n")

    def do_shutdown(self, restart: bool) -> Any:
        self.mark(f"do_shutdown restart={restart}")
        return {"status": "ok", "restart": restart}

    async def cell_background(self, rest: str) -> None:
        started = trio.Event()
        self.nursery.start_soon(self._wait, started)
        await started.wait()

    async def _wait(self, started: trio.Event) -> None:
        try:
            started.set()
            await trio.sleep_forever()
        finally:
            self.mark("background finally")

    async def cell_wait(self, rest: str) -> None:
        try:
            self.say("begun")
            await trio.sleep_forever()
        finally:
            self.mark("cell finally")

    async def cell_linger(self, rest: str) -> None:
        try:
            self.say("begun")
            time.sleep(100)  # noqa: ASYNC251  # the point: only a signal ends it
        finally:
            self.mark("lingers")
            end = time.monotonic() + float(rest)
            while time.monotonic() < end:
                try:
                    time.sleep(end - time.monotonic())  # noqa: ASYNC251
                except KeyboardInterrupt:
                    continue


if __name__ == "__main__":
    import trikernel

    trikernel.main(Marking, sys.argv[1:])
