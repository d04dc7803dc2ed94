"""Cells that put out more than anybody can take, and what a client measures meanwhile.

The client reads iopub as fast as it can, in a thread, and checks that every numbered piece is
there; the main thread asks on control and interrupts. Two safety nets bound each flood: the cell
itself stops after some seconds, and a kernel that grows beyond `RUNAWAY` is killed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import attrs
import orjson
import psutil
import zmq

from trikernel.transport import ConnectionInfo, read_connection_file, write_connection_file
from trikernel.wire import Codec

from ..processes import PYTHON, ROOT, wait_until
from .processes import environment

__all__ = ["SOURCES", "WAYS", "Flood", "FloodedKernel", "Source", "Way", "open_flooded"]

RUNAWAY = 1_500_000_000  # bytes of growth at which a kernel is killed
ANSWER = 60.0  # seconds for what is not measured
STEP = 20  # milliseconds between two looks at the memory while something is waited for

Way = Literal["print", "display", "fd"]
Source = Literal["cell", "threads", "nursery", "background"]
WAYS: tuple[Way, ...] = ("print", "display", "fd")
SOURCES: tuple[Source, ...] = ("cell", "threads", "nursery")

_WRITE = {
    "print": "print(piece, end='')",
    "display": "display({'text/plain': piece}, raw=True)",
    "fd": "os.write(1, piece.encode())",
}
_LOOPS = {
    "cell": "flood()",
    "threads": (
        "threads = [threading.Thread(target=flood) for _ in range(4)]\n"
        "for one in threads: one.start()\n"
        "try:\n"
        "    for one in threads: one.join()\n"
        "finally:\n"
        "    on = False"
    ),
    "nursery": (
        "async with trio.open_nursery() as inner:\n"
        "    for _ in range(4): inner.start_soon(flood_awaiting)"
    ),
    "background": "for _ in range(4): nursery.start_soon(flood_awaiting)",
}
_CELL = """\
import itertools, os, threading, time, trio
from IPython.display import display
from trikernel.notebook import nursery
numbers, finished = itertools.count(), itertools.count()
on, end = True, time.monotonic() + {seconds}
filling = 'x' * ({size} - 11)
def put():
    piece = f'{{next(numbers):010d}}{{filling}}\\n' if {size} > 11 else 'x' * {size}
    {write}
    next(finished)  # in one step, whatever other threads do
def flood():
    while on and time.monotonic() < end: put()
async def flood_awaiting():
    while on and time.monotonic() < end:
        put()
        await trio.lowlevel.checkpoint()
{loop}
"""


@attrs.frozen
class Flood:
    """What is put out: pieces of ``size`` characters, for at most ``seconds``."""

    way: Way
    source: Source
    size: int
    seconds: float = 20

    @property
    def code(self) -> str:
        return _CELL.format(
            seconds=self.seconds,
            size=self.size,
            write=_WRITE[self.way],
            loop=_LOOPS[self.source],
        )

    @property
    def is_ordered(self) -> bool:
        """Whether pieces come in the order of their numbers: four threads race for them."""
        return self.source != "threads" and self.size > 11


class Reader(threading.Thread):
    """Reads iopub as fast as it can, and counts. Every public method is for another thread.

    ``misplaced`` tells of pieces that are not where their number says, the first few of them.
    """

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        super().__init__(name="reader", daemon=True)
        self._socket = socket
        self._told = threading.Event()
        self.news: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self.ordered = False
        self.flooding = ""
        self._reset()

    def _reset(self) -> None:
        self.characters = 0
        self.pieces = 0
        self.messages = 0
        self.first_at = 0.0
        self.misplaced: list[str] = []
        self.stderr = ""
        self._next = 0
        self._tail = ""

    def expect(self, msg_id: str, *, ordered: bool) -> None:
        """Count what comes about that request."""
        self._reset()
        self.ordered, self.flooding = ordered, msg_id

    def stop(self) -> None:
        self._told.set()
        self.join()

    def run(self) -> None:
        while not self._told.is_set():
            if self._socket.poll(50):
                self._take(self._socket.recv_multipart())

    def _take(self, frames: list[bytes]) -> None:
        start = frames.index(b"<IDS|MSG>")
        header, parent, _, content = (orjson.loads(one) for one in frames[start + 2 : start + 6])
        msg_type, msg_id = header["msg_type"], parent.get("msg_id", "")
        if msg_type == "stream" and content["name"] == "stdout":
            self._text(msg_id, content["text"])
        elif msg_type == "display_data":
            self._text(msg_id, content["data"]["text/plain"])
        elif msg_type == "stream":
            self.stderr += content["text"]
        elif msg_type == "status":
            self.news.put((content["execution_state"], msg_id))

    def _text(self, msg_id: str, text: str) -> None:
        if msg_id != self.flooding:
            return
        if not self.messages:
            self.first_at = time.monotonic()
        self.messages += 1
        self.characters += len(text)
        self.pieces += text.count("\n")
        if self.ordered:
            self._check(text)

    def _check(self, text: str) -> None:
        """The first piece of each message has the number that follows; so none is missing."""
        text = self._tail + text
        whole = text.rfind("\n") + 1
        if whole and (not text[:10].isdigit() or int(text[:10]) != self._next):
            if len(self.misplaced) < 5:
                self.misplaced.append(f"{text[:10]!r} instead of {self._next}")
            self._next = int(text[:10]) if text[:10].isdigit() else self._next
        self._next += text.count("\n")
        self._tail = text[whole:]

    def wait_for(self, state: str, msg_id: str) -> None:
        """Wait until that request has that state."""
        while self.news.get(timeout=ANSWER) != (state, msg_id):
            continue


class FloodedKernel:
    """A Python kernel in a process, and one client of it."""

    def __init__(self, process: subprocess.Popen[bytes], info: ConnectionInfo) -> None:
        self.process = process
        self.info = info
        self._memory = psutil.Process(process.pid)
        self._context: zmq.Context[Any] = zmq.Context()
        self._codec = Codec(info.key.encode())
        self.shell = self.connect(zmq.DEALER, info.shell_port)
        self.control = self.connect(zmq.DEALER, info.control_port)
        self.reader = Reader(self.connect(zmq.SUB, info.iopub_port))
        self.reader.start()
        self._before, self._peak = 1 << 40, 0
        self._settle()

    @property
    def resident(self) -> int:
        """Bytes of memory that the process holds, 0 once it has ended."""
        try:
            now = int(self._memory.memory_info().rss)
        except psutil.NoSuchProcess:
            return 0
        self._peak = max(self._peak, now)
        return now

    @property
    def grown(self) -> int:
        """Bytes by which it has grown at most since the flood began."""
        return max(self._peak, self.resident) - self._before

    def connect(self, kind: int, port: int) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(self.info.endpoint(port))
        return socket

    def _settle(self) -> None:
        """Until the subscription holds."""
        deadline = time.monotonic() + ANSWER
        while True:
            msg_id = self._send(self.shell, "kernel_info_request")
            self._receive(self.shell, ANSWER)
            try:
                while self.reader.news.get(timeout=0.2) != ("idle", msg_id):
                    continue
                return
            except queue.Empty:
                assert time.monotonic() < deadline, "the subscription does not hold"

    def _send(self, socket: zmq.Socket[Any], msg_type: str, **content: Any) -> str:
        frames = self._codec.encode(msg_type, content)
        socket.send_multipart(frames)
        return self._codec.decode_header(frames[2]).msg_id

    def _receive(self, socket: zmq.Socket[Any], seconds: float) -> dict[str, Any]:
        """One reply's content. `TimeoutError` if it does not come; a runaway is killed."""
        deadline = time.monotonic() + seconds
        while not socket.poll(STEP):
            if self.process.poll() is not None:
                raise TimeoutError("the kernel has ended")
            if self.resident > self._before + RUNAWAY:
                self.process.kill()
                raise TimeoutError(f"the kernel has grown by more than {RUNAWAY >> 20} MiB")
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {seconds} s")
        content: dict[str, Any] = orjson.loads(socket.recv_multipart()[-1])
        return content

    def start(self, flood: Flood) -> str:
        """Begin with it; the request's id, once something of it has come."""
        self.evaluate("__import__('IPython.display')")  # what it takes anyhow is no growth
        self.shell.send_multipart(self._encode("1 / 0"))  # and the first error takes its time
        self._receive(self.shell, ANSWER)
        self._peak, self._before = 0, self.resident
        return self.start_cell(flood.code, ordered=flood.is_ordered)

    def start_cell(self, code: str, *, ordered: bool = False) -> str:
        """Begin with a cell that puts something out; its id, once some of that has come."""
        frames = self._encode(code)
        msg_id = self._codec.decode_header(frames[2]).msg_id
        self.reader.expect(msg_id, ordered=ordered)
        self.shell.send_multipart(frames)
        wait_until(lambda: self.reader.messages, "the first output")
        return msg_id

    def _encode(self, code: str, **expressions: str) -> list[bytes]:
        content = {"code": code, "allow_stdin": False, "stop_on_error": False}
        return self._codec.encode("execute_request", {**content, "user_expressions": expressions})

    def await_reply(self, seconds: float = ANSWER) -> dict[str, Any]:
        """The next reply on shell."""
        return self._receive(self.shell, seconds)

    def shut_down(self) -> None:
        """Ask for it, without waiting."""
        self._send(self.control, "shutdown_request", restart=False)

    def ask_control(self, seconds: float = ANSWER) -> float:
        """The seconds of one round trip."""
        begun = time.monotonic()
        self._send(self.control, "kernel_info_request")
        assert self._receive(self.control, seconds)["status"] == "ok"
        return time.monotonic() - begun

    def interrupt(self, by: str, seconds: float = ANSWER) -> tuple[float, dict[str, Any]]:
        """The seconds from an interrupt to the flood's reply, and that reply."""
        begun = time.monotonic()
        if by == "signal":
            self.process.send_signal(signal.SIGINT)
        else:
            self._send(self.control, "interrupt_request")
        reply = self._receive(self.shell, seconds)
        took = time.monotonic() - begun
        if by == "message":
            self._receive(self.control, ANSWER)
        return took, reply

    def evaluate(self, expression: str, seconds: float = ANSWER) -> str:
        """The ``repr`` of its value, by a cell that puts nothing out."""
        self.shell.send_multipart(self._encode("", value=expression))
        reply = self._receive(self.shell, seconds)
        value = reply["user_expressions"]["value"]
        assert value["status"] == "ok", value
        return str(value["data"]["text/plain"])

    def finish(self, flood: Flood, msg_id: str) -> tuple[int, int]:
        """Once idle has come: how many pieces were lost, and how many came that never were.

        A piece may have been put out whose writer was stopped before it counted it.
        """
        self.reader.wait_for("idle", msg_id)
        finished, begun = int(self.evaluate("next(finished)")), int(self.evaluate("next(numbers)"))
        begun = begun if flood.size > 11 else finished + 4
        came = self.reader.characters / flood.size
        return max(0, round(finished - came)), max(0, round(came - begun))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.stop()
        self._context.destroy(linger=0)


@contextmanager
def open_flooded(**env: str) -> Iterator[FloodedKernel]:
    """Start a kernel, and kill it in the end whatever it does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.json")
        write_connection_file(path, ConnectionInfo())
        process = subprocess.Popen(
            [sys.executable, "-m", "trikernel", "start", "--kernel", PYTHON, "-f", str(path)],
            cwd=ROOT,
            env={**os.environ, **environment(folder), **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        kernel = None
        try:
            wait_until(lambda: json.loads(path.read_text())["shell_port"], "the kernel's ports")
            kernel = FloodedKernel(process, read_connection_file(path))
            yield kernel
        finally:
            if kernel is not None:
                kernel.close()
            process.kill()
            process.wait()
