"""A kernel's process and a client that costs next to nothing: signed beforehand, bytes compared."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import psutil
import zmq

from trikernel.transport import ConnectionInfo, ZmqTransport, write_connection_file
from trikernel.warm import WarmProcess
from trikernel.wire import Codec

from .environments import Contender, contender_of, environment
from .templates import forked

__all__ = ["Frames", "Kernel", "median_of", "started"]

TIMEOUT = 30_000  # milliseconds
Frames = list[bytes]


class Kernel:
    """A running kernel, and the sockets of one client. ``first_reply`` is in seconds."""

    def __init__(
        self,
        contender: Contender,
        info: ConnectionInfo,
        process: subprocess.Popen[bytes] | WarmProcess,
    ) -> None:
        self.contender = contender
        self.process = process
        self.info = info
        self.first_reply = 0.0
        self.begun = 0.0
        self.context: zmq.Context[Any] = zmq.Context()
        self.codec = Codec(info.key.encode())
        self.shell = self.connect()
        self.control = self.connect(zmq.DEALER, info.control_port)
        self.heartbeat = self.connect(zmq.REQ, info.hb_port)
        self.iopub = self.connect(zmq.SUB, info.iopub_port)

    def connect(self, kind: int = zmq.DEALER, port: int | None = None) -> zmq.Socket[Any]:
        """One more socket, on shell by default."""
        socket: zmq.Socket[Any] = self.context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, 0)
        socket.set(zmq.RCVHWM, 0)
        socket.set(zmq.RECONNECT_IVL, 2)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(self.info.endpoint(self.info.shell_port if port is None else port))
        return socket

    def encode(self, msg_type: str, **content: Any) -> Frames:
        return self.codec.encode(msg_type, content)

    def encode_cell(self, code: str = "a=1+1", *, store_history: bool = True) -> Frames:
        return self.encode(
            "execute_request",
            code=code,
            silent=False,
            store_history=store_history,
            user_expressions={},
            allow_stdin=False,
            stop_on_error=True,
        )

    def ask(self, socket: zmq.Socket[Any], frames: Frames) -> None:
        """Send, and wait for the reply."""
        socket.send_multipart(frames)
        receive(socket)

    def run(self, frames: Frames) -> None:
        """Send a cell, and wait for its reply and its idle."""
        self.shell.send_multipart(frames)
        receive(self.shell)
        self.until_idle(frames)

    def until_idle(self, frames: Frames) -> None:
        """Wait for the idle of the request with these frames."""
        for _ in self.outputs(frames):
            pass

    def outputs(self, frames: Frames) -> Iterator[Frames]:
        """What comes on iopub, until the idle of the request with these frames."""
        msg_id = frames[2].split(b'"', 4)[3]
        while True:
            parts = receive(self.iopub)
            if b'"idle"' in parts[-1] and msg_id in parts[-3]:
                return
            yield parts

    def drain(self) -> None:
        """Forget what is on iopub."""
        while self.iopub.poll(200):
            self.iopub.recv_multipart()

    def settle(self) -> None:
        """Wait until the subscription holds; what is said before that goes nowhere."""
        while True:
            self.ask(self.shell, self.encode("kernel_info_request"))
            if self.iopub.poll(200):
                break
        self.drain()

    def memory(self) -> tuple[float, float]:
        """Resident memory in MB: all of it, and what is not shared with files' pages."""
        info = psutil.Process(self.process.pid).memory_full_info()
        return info.rss / 1e6, info.uss / 1e6

    def close(self) -> None:
        self.context.destroy(linger=0)
        self.process.kill()
        self.process.wait()


def receive(socket: zmq.Socket[Any]) -> Frames:
    if not socket.poll(TIMEOUT):
        raise TimeoutError("the kernel does not answer")
    return socket.recv_multipart()


def median_of(action: Callable[[Frames], object], inputs: Iterable[Frames], skip: int) -> float:
    """The median of ``action``'s seconds over ``inputs``, the first ``skip`` not counted."""
    times = []
    for one in inputs:
        begun = time.perf_counter()
        action(one)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[skip:])


def free_ports() -> ConnectionInfo:
    """Ports that were free a moment ago, as jupyter_client chooses them."""
    with ZmqTransport(ConnectionInfo()) as transport:
        return attrs.evolve(transport.info)


@contextmanager
def started(name: str, *arguments: str) -> Iterator[Kernel]:
    """A kernel that has answered its first ``kernel_info_request``."""
    contender, python = contender_of(name), environment(name)
    with tempfile.TemporaryDirectory() as folder:
        info = free_ports()
        path = Path(folder) / "kernel.json"
        write_connection_file(path, info)
        environ = {**os.environ, "IPYTHONDIR": folder, "JUPYTER_PLATFORM_DIRS": "1"}
        environ |= contender.environ
        # A checkout may be told to keep no bytecode, which an installed kernel has.
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [str(python), *contender.arguments, str(path), *arguments]
        start: Callable[[], Any] = partial(
            subprocess.Popen,
            command,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        if contender.preload is not None:
            start = partial(forked(contender.preload, python, environ), command, environ, folder)
        begun = time.perf_counter()
        process = start()
        kernel = Kernel(contender, info, process)
        try:
            kernel.ask(kernel.shell, kernel.encode("kernel_info_request"))
            kernel.begun, kernel.first_reply = begun, time.perf_counter() - begun
            yield kernel
        finally:
            kernel.close()
