"""Kernels whose synchronous verbs the tests run in a process of their own."""

from __future__ import annotations

import signal
import time
import warnings
from typing import Any

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
