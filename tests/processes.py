"""Kernels as real processes, and jupyter_client's own client to speak to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from trikernel.transport import ConnectionInfo, write_connection_file

TIMEOUT = 60
PYTHON = "trikernel.python:PythonKernel"
ROOT = Path(__file__).parent.parent


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something outside of this process, which has no event to offer."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)  # between two looks at another process
    return value


class KernelProcess:
    """A kernel's process and a client of it."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.process = process
        self.path = path
        self.client = BlockingKernelClient(connection_file=str(path))
        self.client.load_connection_file()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT)

    def send(self, code: str, **options: Any) -> str:
        """Send a cell whose error aborts nothing, unless told otherwise; its id."""
        return str(self.client.execute(code, **{"stop_on_error": False, **options}))

    def send_to(self, subshell_id: str, code: str) -> str:
        """The same for a subshell."""
        content = {"code": code, "silent": False, "stop_on_error": False}
        message = self.client.session.msg("execute_request", content)
        message["header"]["subshell_id"] = subshell_id
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def ask_control(self, msg_type: str, **content: Any) -> dict[str, Any]:
        """The content of the reply to a request on the control channel."""
        self.client.control_channel.send(self.client.session.msg(msg_type, content))
        reply: dict[str, Any] = self.client.get_control_msg(timeout=TIMEOUT)["content"]
        return reply

    def until(self, msg_type: str) -> dict[str, Any]:
        """The next message of that type on iopub."""
        while True:
            message: dict[str, Any] = self.client.get_iopub_msg(timeout=TIMEOUT)
            if message["msg_type"] == msg_type:
                return message

    def until_begun(self, msg_id: str) -> None:
        """Wait until that cell has put out ``begun``; text of earlier ones may come first."""
        said = ""
        while "begun" not in said:
            message = self.until("stream")
            if message["parent_header"].get("msg_id") == msg_id:
                said += message["content"]["text"]

    def finish(self, msg_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The reply's content, and what iopub said from now to idle."""
        while True:
            reply = self.client.get_shell_msg(timeout=TIMEOUT)
            if reply["parent_header"].get("msg_id") == msg_id:
                break
        outputs: list[dict[str, Any]] = []
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            if message["content"].get("execution_state") == "idle":
                return reply["content"], outputs
            outputs.append(message)

    def execute(self, code: str, **options: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return self.finish(self.send(code, **options))

    def text(self, code: str) -> str:
        reply, outputs = self.execute(code)
        assert reply["status"] == "ok", reply
        return "".join(one["content"]["text"] for one in outputs if one["msg_type"] == "stream")

    def interrupt(self, by: str = "signal") -> None:
        """Interrupt by SIGINT, or by an ``interrupt_request`` (and wait for its reply)."""
        if by == "signal":
            self.process.send_signal(signal.SIGINT)
            return
        assert self.ask_control("interrupt_request") == {"status": "ok"}


def kernel_process(
    spec: str = PYTHON, *flags: str, **env: str
) -> AbstractContextManager[KernelProcess]:
    """Start a kernel, connect, and end it whatever happens."""
    return module_process("trikernel", "start", "--kernel", spec, *flags, **env)


@contextmanager
def module_process(*words: str, **env: str) -> Iterator[KernelProcess]:
    """Start ``python -m`` with these words and a connection file, and end it whatever happens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.json"
        write_connection_file(path, ConnectionInfo())
        process = subprocess.Popen(
            [sys.executable, "-m", *words, "-f", path],
            cwd=ROOT,
            env={**os.environ, "IPYTHONDIR": folder, **env},
            stderr=subprocess.PIPE,
            text=True,
        )
        kernel = None
        try:
            wait_until(
                lambda: json.loads(path.read_text())["shell_port"] or process.poll() is not None,
                "the kernel's ports",
            )
            if process.poll() is not None:
                raise AssertionError(f"the kernel ended:\n{process.communicate()[1]}")
            kernel = KernelProcess(process, path)
            yield kernel
        finally:
            if kernel is not None:
                kernel.client.stop_channels()
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()  # not read to its end: a forked child may hold the other one
