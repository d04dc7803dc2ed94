"""Several kernels at once, each on ports that it has chosen itself."""

import trio

from trikernel.client import open_kernel


async def ask(number):
    async with open_kernel(handshake=True) as client:
        execution = await client.execute(f"{number} ** 2")
        print(number, "squared is", execution.result["text/plain"])


async def main():
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(ask, number)


if __name__ == "__main__":
    trio.run(main)
