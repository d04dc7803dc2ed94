"""Serve a kernel in memory and ask it something, all in one Trio loop."""

from functools import partial

import trio
from echo_kernel import EchoKernel

import trikernel
from trikernel.client import open_client


async def main():
    transport = trikernel.MemoryTransport()
    async with trio.open_nursery() as nursery:
        serve = partial(trikernel.serve, EchoKernel(), transport, services="inline")
        await nursery.start(serve)
        async with open_client(transport.connect()) as client:
            execution = await client.execute("hello")
            print(execution.stdout, "->", execution.status)
            await client.shutdown()


if __name__ == "__main__":
    trio.run(main)
