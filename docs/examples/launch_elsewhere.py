"""Start a kernel on another machine and run a cell there.

python launch_elsewhere.py HOST OWN_ADDRESS; without arguments, on this machine.
"""

import json
import sys
from functools import partial

import attrs
import trio

from trikernel import ConnectionInfo
from trikernel.client import connect
from trikernel.transport import Registrar

LAUNCH = ["-m", "trikernel", "launch", "--registration-file", "-"]


async def main(host=None, own_address="127.0.0.1"):
    command = ["ssh", host, "python", *LAUNCH] if host else [sys.executable, *LAUNCH]
    with Registrar(ConnectionInfo(ip=own_address).encrypted()) as registrar:
        text = json.dumps(registrar.registration.as_dict()).encode()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.run_process, command, stdin=text))
            with trio.fail_after(60):
                info = await registrar.wait_registered()
            async with connect(attrs.evolve(info, ip=host or own_address)) as client:
                execution = await client.execute("import platform; platform.node()")
                print("a cell has run on", execution.result["text/plain"])
                client.send("shutdown_request", {"restart": False}, channel="control")


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
