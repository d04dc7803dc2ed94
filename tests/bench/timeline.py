"""What it costs to record a timeline: a cell of 10,000 task switches, recorded over not recorded.

By the processor time of the process, the thread that looks on included, so that other programs of
the machine matter less. The picture is drawn after the cell, and counted by itself.
"""

from __future__ import annotations

import statistics
import time

import trio

from trikernel.python import PythonKernel
from trikernel.testing import open_memory_client

__all__ = ["measure_timeline"]

ROUNDS = 30
SETUP = """\
import trio
async def send_all(channel, count):
    async with channel:
        for number in range(count):
            await channel.send(number)
async def switch(count):
    for _ in range(count):
        await trio.lowlevel.checkpoint()
"""
CELLS = (
    "await switch(10_000)",
    "async with trio.open_nursery() as nursery:\n"
    "    for _ in range(100):\n"
    "        nursery.start_soon(switch, 100)",
    "send, receive = trio.open_memory_channel(0)\n"
    "async with trio.open_nursery() as nursery:\n"
    "    nursery.start_soon(send_all, send, 5_000)\n"
    "    async for _ in receive:\n"
    "        pass",
)


def measure_timeline() -> dict[str, float]:
    """The worst of three cells: one task, a hundred, and two that talk over a channel."""
    return trio.run(_measure)


async def _measure() -> dict[str, float]:
    kernel = PythonKernel()
    ratios, drawn = [], []
    async with open_memory_client(kernel) as client:
        await client.execute(SETUP)
        for cell in CELLS:
            found = []
            for _ in range(ROUNDS):  # in turns: what else the machine does hits both
                begun = time.process_time()
                await client.expect(cell)
                off = time.process_time() - begun
                with kernel.record() as recorder:
                    begun = time.process_time()
                    await client.expect(cell)
                    found.append((time.process_time() - begun) / off)
                begun = time.process_time()
                recorder.timeline().svg()
                drawn.append(time.process_time() - begun)
            ratios.append(statistics.median(found))
    return {"timeline_on": max(ratios), "timeline_drawn": statistics.median(drawn) * 1e3}
