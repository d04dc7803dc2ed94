"""Start a kernel, ask it things, and stop what takes too long."""

import trio

from trikernel.client import open_kernel
from trikernel.errors import ExecutionTimeout


async def main():
    async with open_kernel() as client:  # or open_kernel("python3"), any kernelspec
        execution = await client.execute("print('hello'); 6 * 7")
        print(execution.stdout.strip(), execution.result["text/plain"], execution.status)

        execution = await client.execute("1/0")
        print(execution.error)

        async with client.executing("for n in range(3): print(n)") as execution:
            async for output in execution:
                print("got", output["text"].split())

        try:
            await client.execute("import time; time.sleep(60)", timeout=0.5)
        except ExecutionTimeout as error:
            print(error)

        print((await client.complete("impo")).content["matches"])


if __name__ == "__main__":
    trio.run(main)
