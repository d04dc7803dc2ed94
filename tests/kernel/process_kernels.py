"""Kernels whose synchronous verbs the tests run in a process of their own."""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import comm
import trio

from trikernel import Kernel


class Asking(Kernel):
    """Evaluates one of the questions below; its answer is the output."""

    implementation = "asking"

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answer = {
                "input": lambda: self.raw_input("name? "),
                "password": lambda: self.getpass("word? "),
                "stream": lambda: self.getpass("word? ", stream="x"),
            }[code]()
        text = "".join([repr(answer), *(str(one.message) for one in caught)])
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": text})


class Printing(Kernel):
    """Speaks by what everybody speaks by."""

    implementation = "printing"

    async def started(self) -> None:
        self.nursery.start_soon(self.tick)
        self.go = trio.Event()

    async def tick(self) -> None:
        await self.go.wait()
        print("from the background")

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "await":
            return self.await_something()
        words: dict[str, Callable[[], Any]] = {
            "print": lambda: print("from print"),
            "stderr": lambda: print("from print", file=sys.stderr),
            "child": lambda: subprocess.run(["echo", "from a child"], check=True),
            "child's stderr": lambda: os.system("echo from a child >&2"),
            "fails": lambda: subprocess.run(["sh", "-c", "echo said; exit 3"], check=True),
            "thread": lambda: self.in_thread(lambda: print("from a thread")),
            "pool": self.in_pool,
            "input": lambda: print("got", input("name? ")),
            "getpass": lambda: print("got", getpass.getpass("word? ")),
            "background": lambda: self.go.set(),
            "comm": lambda: comm.create_comm(target_name="widget"),
            "owns": lambda: print(self.owns_process),
        }
        words[code]()

    async def await_something(self) -> None:
        print("before")
        await trio.run_process(["echo", "from a child of Trio"])
        await trio.sleep(0.01)
        print("after")

    def in_thread(self, function: Callable[[], object]) -> None:
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    def in_pool(self) -> None:
        with ThreadPoolExecutor() as pool:
            pool.submit(print, "from a pool").result()

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        print("completing")
        return {"matches": [code]}


class Blocking(Kernel):
    """A wrapper kernel of the old kind: blocks, and handles the interrupt itself."""

    implementation = "blocking"

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": "begun"})
        try:
            while True:
                time.sleep(0.01 if code == "spin" else 100)  # what the interrupt has to break
        except KeyboardInterrupt:
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": "caught"})
            return {"status": "abort", "execution_count": self.execution_count}


class Looping(Kernel):
    """Its event loop blocks; an interrupt breaks it."""

    implementation = "looping"

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        self.eventloop = self.advance if code == "on" else None

    def advance(self, kernel: Any) -> None:
        kernel.send_response(kernel.iopub_socket, "stream", {"name": "stdout", "text": "turn"})
        kernel.sender.connection.iopub.drain()
        if not self.interrupted:
            self.interrupted = True
            time.sleep(100)  # what the interrupt has to break

    interrupted = False


class Reporting(Kernel):
    """Says what of the process's state is changed while it runs."""

    implementation = "reporting"

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        import sys

        text = f"{signal.getsignal(signal.SIGINT)!r} {sys.getswitchinterval():g}"
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": text})
