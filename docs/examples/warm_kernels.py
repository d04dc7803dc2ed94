"""Start several kernels at once from a process that has imported what they need."""

import trio

from trikernel.client import open_fork_server, open_kernel


async def main():
    async with open_fork_server(preload=["json"]) as server:
        for line in server.left_out:
            print(line)

        async def ask(number):
            async with open_kernel(warm=server) as client:
                execution = await client.execute(f"import json; json.dumps({number})")
                print(execution.result["text/plain"])

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(ask, number)


if __name__ == "__main__":
    trio.run(main)
