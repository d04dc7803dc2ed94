"""A gateway of a few lines: starts a kernel by the contract, and is told where it listens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trikernel.transport import ConnectionInfo

from ..processes import ROOT, wait_until
from .test_response import PUBLIC, opened

RUNNING = "tests.remote.kernels:Running"


class RemoteKernel:
    """A kernel's process, what it has told, and its communication port."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self.process = process
        self.told = told

    @property
    def info(self) -> ConnectionInfo:
        """What a client needs."""
        names = ("key", "shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
        extra = {name: self.told[name] for name in self.told if name.startswith("curve")}
        return ConnectionInfo(**{name: self.told[name] for name in names}, extra=extra)

    def connect(self) -> socket.socket:
        """To the communication port. Raises `ConnectionRefusedError` where nobody listens."""
        return socket.create_connection(("127.0.0.1", self.told["comm_port"]), timeout=30)

    def order(self, data: bytes) -> None:
        """As a gateway does it: connect, send, close."""
        with self.connect() as connection:
            connection.sendall(data)

    def listens(self) -> bool:
        try:
            self.order(b'{"signum": 0}')
        except ConnectionRefusedError:
            return False
        return True

    def wait_ended(self) -> int:
        wait_until(lambda: self.process.poll() is not None, "the kernel's end")
        assert self.process.returncode is not None
        return self.process.returncode


@contextmanager
def launched(folder: Path, *flags: str, kernel: str = RUNNING) -> Iterator[RemoteKernel]:
    """A kernel that has told a gateway where it listens; its end is waited for, come what may."""
    with socket.create_server(("127.0.0.1", 0)) as gateway:
        gateway.settimeout(60)
        address = f"127.0.0.1:{gateway.getsockname()[1]}"
        process = start(folder, address, *flags, "--ip", "127.0.0.1", kernel=kernel)
        try:
            yield RemoteKernel(process, opened(read_response(gateway)))
        finally:
            process.kill()
            process.communicate()


def start(
    folder: Path, address: str, *flags: str, kernel: str = RUNNING, public_key: str = PUBLIC
) -> subprocess.Popen[str]:
    """``trikernel launch``, by the contract's flags."""
    contract = ["--kernel-id", "one", "--response-address", address, "--public-key", public_key]
    return subprocess.Popen(
        [sys.executable, "-m", "trikernel", "launch", "--kernel", kernel, *contract, *flags],
        cwd=ROOT,
        env={
            **os.environ,
            "JUPYTER_RUNTIME_DIR": str(folder),
            "IPYTHONDIR": str(folder),
            "JPY_PARENT_PID": "999999999",  # a process that has ended
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def read_response(gateway: socket.socket) -> bytes:
    """One response, to its end."""
    connection, _ = gateway.accept()
    with connection:
        return b"".join(iter(lambda: connection.recv(1024), b""))
