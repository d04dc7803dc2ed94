"""A launcher: it starts a kernel by the handshake, with a connection that is encrypted."""

import sys
import tempfile
from pathlib import Path

import trio

from trikernel import ConnectionInfo
from trikernel.client import connect
from trikernel.transport import Registrar

COMMAND = [sys.executable, "-m", "trikernel", "start", "-f"]  # a kernelspec's argv


async def main():
    with (
        tempfile.TemporaryDirectory() as folder,
        Registrar(ConnectionInfo().encrypted()) as registrar,
    ):
        file = Path(folder) / "registration.json"
        registrar.write(file)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.run_process, [*COMMAND, str(file)])
            with trio.fail_after(60):
                info = await registrar.wait_registered()
            async with connect(info) as client:
                print((await client.execute("6 * 7")).result["text/plain"])
                client.send("shutdown_request", {"restart": False}, channel="control")


if __name__ == "__main__":
    trio.run(main)
