"""C code that holds the interpreter lock keeps no kernel alive that was told to shut down."""

from __future__ import annotations

import sys

import pytest
import trio

from trikernel.client import Client
from trikernel.errors import KernelDied

from .processes import open_process, until_text

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="C code by way of POSIX")

# Each holds the lock for longer than any test waits.
HOLDS = {
    "a regular expression": "re.match('(a+)+$', 'a' * 60 + 'b')",
    "a call into C": "while True: ctypes.PyDLL(None).sleep(1000)",
}


@pytest.mark.parametrize("holds", HOLDS)
async def test_a_clean_up_that_holds_the_lock_is_ended_after_the_grace(holds: str) -> None:
    async with open_process("trikernel.python:PythonKernel", "--shutdown-grace", "1") as client:
        execution = client.start(
            "import ctypes, re, time\n"
            "try:\n"
            "    print('begun', flush=True)\n"
            "    time.sleep(100)\n"
            "finally:\n"  # the shutdown has been heard, for that is what ended the sleep
            f"    {HOLDS[holds]}"
        )
        await until_text(execution, "begun")
        client.send("shutdown_request", {"restart": False}, channel="control")
        with trio.fail_after(20), pytest.raises(KernelDied):
            await _ask_on(client)


async def _ask_on(client: Client) -> None:
    while True:
        await client.kernel_info()


async def test_a_regular_expression_that_runs_is_ended_by_a_signal() -> None:
    """The way out that the docs name: a signal reaches it, where a message cannot be read."""
    async with open_process() as client:
        code = f"import re\nprint('begun', flush=True)\n{HOLDS['a regular expression']}"
        execution = client.start(code)
        await until_text(execution, "begun")
        await client.interrupt()
        await execution.wait()
        assert execution.error is not None
        assert execution.error.ename == "KeyboardInterrupt"
