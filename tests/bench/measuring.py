"""A kernel's process and a client that costs next to nothing: signed beforehand, bytes compared."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psutil
import zmq

from trikernel.transport import ConnectionInfo, ZmqTransport, write_connection_file
from trikernel.wire import Codec

__all__ = ["Kernel", "started"]

PATIENCE = 120_000  # milliseconds


class Kernel:
    """A running kernel, and the sockets of one client."""

    def __init__(self, info: ConnectionInfo, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.info = info
        self.context: zmq.Context[Any] = zmq.Context()
        self.codec = Codec(info.key.encode())
        self.shell = self._connect(zmq.DEALER, info.endpoint(info.shell_port))
        self.control = self._connect(zmq.DEALER, info.endpoint(info.control_port))
        self.iopub = self._connect(zmq.SUB, info.endpoint(info.iopub_port))

    def _connect(self, kind: int, endpoint: str) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self.context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVHWM, 0)
        socket.set(zmq.RECONNECT_IVL, 2)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(endpoint)
        return socket

    def encode(self, msg_type: str, **content: Any) -> list[bytes]:
        return self.codec.encode(msg_type, content)

    def encode_cell(self, code: str = "a=1+1", *, store_history: bool = True) -> list[bytes]:
        return self.encode(
            "execute_request",
            code=code,
            silent=False,
            store_history=store_history,
            user_expressions={},
            allow_stdin=False,
            stop_on_error=True,
        )

    def ask(self, socket: zmq.Socket[Any], frames: list[bytes]) -> None:
        """Send, and wait for the reply."""
        socket.send_multipart(frames)
        self._receive(socket)

    def run(self, frames: list[bytes]) -> None:
        """Send a cell, and wait for its reply and its idle."""
        self.shell.send_multipart(frames)
        self._receive(self.shell)
        self.until_idle(frames)

    def until_idle(self, frames: list[bytes]) -> None:
        """Wait for the idle of the request with these frames."""
        msg_id = frames[2].split(b'"', 4)[3]
        while True:
            parts = self._receive(self.iopub)
            if b'"idle"' in parts[-1] and msg_id in parts[-3]:
                return

    def drain(self) -> None:
        """Forget what is on iopub."""
        while self.iopub.poll(200):
            self.iopub.recv_multipart()

    def resident(self) -> float:
        """Resident memory in MB."""
        return float(psutil.Process(self.process.pid).memory_info().rss / 1e6)

    @staticmethod
    def _receive(socket: zmq.Socket[Any]) -> list[bytes]:
        if not socket.poll(PATIENCE):
            raise TimeoutError("the kernel does not answer")
        return socket.recv_multipart()

    def close(self) -> None:
        self.context.destroy(linger=0)
        self.process.kill()
        self.process.wait()


def free_ports() -> ConnectionInfo:
    """Ports that were free a moment ago, as jupyter_client chooses them."""
    with ZmqTransport(ConnectionInfo()) as transport:
        return attrs.evolve(transport.info)


@contextmanager
def started(python: Path, arguments: list[str]) -> Iterator[tuple[Kernel, float]]:
    """A kernel, and the seconds from its start to its first ``kernel_info_reply``."""
    with tempfile.TemporaryDirectory() as folder:
        info = free_ports()
        path = Path(folder) / "kernel.json"
        write_connection_file(path, info)
        environ = {**os.environ, "IPYTHONDIR": folder, "JUPYTER_PLATFORM_DIRS": "1"}
        begun = time.perf_counter()
        process = subprocess.Popen(
            [python, *arguments, path], env=environ, stderr=subprocess.DEVNULL, cwd=folder
        )
        kernel = Kernel(info, process)
        try:
            kernel.ask(kernel.shell, kernel.encode("kernel_info_request"))
            yield kernel, time.perf_counter() - begun
        finally:
            kernel.close()


if __name__ == "__main__":
    sys.exit("run: python -m tests.bench")
