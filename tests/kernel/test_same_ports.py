"""A kernel that is started anew where another one has just been: the ports are free at once."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from trikernel.client import connect
from trikernel.transport import (
    ConnectionInfo,
    ZmqTransport,
    read_connection_file,
    write_connection_file,
)
from trikernel.wire import DELIMITER

from ..processes import ROOT

pytestmark = pytest.mark.slow  # processes, whatever the Python

ECHO = ["--kernel", "echo_kernel:EchoKernel", "--path", str(ROOT / "docs" / "examples")]
COMMAND = [sys.executable, "-m", "trikernel", "start", *ECHO]
TIMEOUT = 60
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has none


def fixed(over: str, folder: Path) -> ConnectionInfo:
    """Ports that were free a moment ago, and are to be the same at each start."""
    info = ConnectionInfo()
    if over == "ipc":
        info = attrs.evolve(info, transport="ipc", ip=str(folder / "socket"))
    with ZmqTransport(info) as transport:
        return transport.info


async def test_ports_are_free_at_once_however_the_last_kernel_ended(tmp_path: Path) -> None:
    """And the log goes to stderr or ``--logfile``, from the level on that ``--log-level`` says."""
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            for over in ("tcp", "ipc"):
                (tmp_path / over).mkdir()
                nursery.start_soon(start_again_and_again, over, tmp_path / over)


async def start_again_and_again(over: str, folder: Path) -> None:
    file, info = folder / "kernel.json", fixed(over, folder)
    write_connection_file(file, info)
    for level, end, code in (
        ("INFO", KILL, -KILL),
        ("ERROR", signal.SIGTERM, 0),
        ("DEBUG", None, 0),
    ):
        command = [*COMMAND, "-f", str(file), "--log-level", level]
        logfile = folder.parent / f"{over}.log"
        command += ["--logfile", str(logfile)] if level == "DEBUG" else []
        with tempfile.TemporaryFile() as log:
            async with trio.open_nursery() as nursery:
                run = partial(trio.run_process, command, cwd=ROOT, stderr=log, check=False)
                process: trio.Process = await nursery.start(run)
                await say_hello(info, process, end)
            assert process.returncode == code
            log.seek(0)
            written = log.read()
            assert (b"trikernel WARNING] " in written) is (level == "INFO")
            if level == "DEBUG":
                assert b"trikernel WARNING] " in logfile.read_bytes()
    assert os.listdir(folder) == ["kernel.json"]
    assert read_connection_file(file) == info


async def say_hello(info: ConnectionInfo, process: trio.Process, end: int | None) -> None:
    """Behind a message that is forged, and have it end: by a signal, or else by a request."""
    async with connect(info) as client:
        forged = [DELIMITER, b"0" * 64, b"{}", b"{}", b"{}", b"{}"]
        client.connection.transport.shell.send_nowait(forged)
        assert (await client.execute("hello")).stdout == "hello"
        if end is None:
            client.send("shutdown_request", {"restart": True}, channel="control")
        else:
            process.send_signal(end)
