"""Look into a kernel while a cell of its main shell runs."""

import trio

from trikernel.client import open_kernel

LONG = """
import time
progress = 0
for _ in range(100):
    time.sleep(0.02)  # does not let anybody else run
    progress += 1
"""


async def main() -> None:
    async with open_kernel() as client:
        running = await client.start(LONG).wait_started()
        async with client.open_subshell() as shell:
            seen = await shell.execute("progress < 100")
            print("not yet at the end:", seen.result["text/plain"])
        await running.wait()


if __name__ == "__main__":
    trio.run(main)
