"""What a frontend does to debug a kernel, over the wire."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..processes import PYTHON, TIMEOUT, KernelProcess, kernel_process

__all__ = ["Frontend", "frontend"]

CLIENT = {"clientID": "tests", "adapterID": "", "pathFormat": "path"}


class Frontend:
    """A kernel and its debugger. What comes on iopub is kept until it is asked for."""

    def __init__(self, kernel: KernelProcess) -> None:
        self.kernel = kernel
        self._numbers = itertools.count(1)
        self.heard: list[dict[str, Any]] = []

    def send(self, content: Any) -> str:
        """Send a debug_request with any content; its id."""
        client = self.kernel.client
        message = client.session.msg("debug_request", content)
        client.control_channel.send(message)
        return str(message["header"]["msg_id"])

    def reply(self, msg_id: str) -> dict[str, Any]:
        """The reply to what was sent."""
        while True:
            message = self.kernel.client.get_control_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") == msg_id:
                content: dict[str, Any] = message["content"]
                return content

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The response to a request."""
        seq = next(self._numbers)
        content = {"seq": seq, "type": "request", "command": command, "arguments": arguments}
        response = self.reply(self.send(content))
        assert response["type"] == "response", response
        assert (response["request_seq"], response["command"]) == (seq, command)
        return response

    def get(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The body of a response that says success."""
        response = self.ask(command, **arguments)
        assert response["success"], response
        body: dict[str, Any] = response["body"]
        return body

    def start(self, **options: Any) -> None:
        self.get("initialize", **CLIENT)
        self.get("attach", **options)

    def control(self, msg_type: str, **content: Any) -> dict[str, Any]:
        """The content of the reply to a request on control."""
        message = self.kernel.client.session.msg(msg_type, content)
        self.kernel.client.control_channel.send(message)
        return self.reply(str(message["header"]["msg_id"]))

    def send_to(self, subshell_id: str, code: str) -> str:
        """Send a cell to a subshell; its id."""
        client = self.kernel.client
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        message = client.session.msg("execute_request", content)
        message["header"]["subshell_id"] = subshell_id
        client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def breakpoints(self, code: str, *lines: int, **more: Any) -> str:
        """Set the breakpoints of a cell; its path."""
        path = self.get("dumpCell", code=code)["sourcePath"]
        found = [{"line": line, **more} for line in lines]
        self.get("setBreakpoints", source={"path": path}, breakpoints=found, sourceModified=False)
        return str(path)

    def next(self, msg_type: str, name: str = "", parent: str = "") -> dict[str, Any]:
        """The next message of a type on iopub: an event of that name, a status, one of a parent."""
        while True:
            message: dict[str, Any] = self.kernel.client.get_iopub_msg(timeout=TIMEOUT)
            content = message["content"]
            found = content.get("event", content.get("execution_state", ""))
            about = message["parent_header"].get("msg_id")
            self.heard.append(message)
            if message["msg_type"] == msg_type and name in ("", found) and parent in ("", about):
                return message

    def stopped(self) -> tuple[int, list[tuple[str, int]]]:
        """The thread that stops next, and its stack: names and lines."""
        thread = self.next("debug_event", "stopped")["content"]["body"]["threadId"]
        return thread, self.stack(thread)

    def stack(self, thread: int) -> list[tuple[str, int]]:
        frames = self.get("stackTrace", threadId=thread)["stackFrames"]
        return [(one["name"], one["line"]) for one in frames]

    def frame(self, thread: int) -> int:
        """The innermost frame of a thread."""
        number: int = self.get("stackTrace", threadId=thread)["stackFrames"][0]["id"]
        return number

    def names(self, frame: int) -> dict[str, str]:
        """The local names of a frame, and their values as text."""
        scope = self.get("scopes", frameId=frame)["scopes"][0]
        found = self.get("variables", variablesReference=scope["variablesReference"])["variables"]
        return {one["name"]: one["value"] for one in found}

    def step(self, command: str, thread: int) -> list[tuple[str, int]]:
        """Step, and where that leads."""
        self.get(command, threadId=thread)
        return self.stopped()[1]

    def finish(self, msg_id: str, thread: int | None = None) -> dict[str, Any]:
        """The content of a cell's reply, once it has ended; ``thread`` is to continue."""
        if thread is not None:
            self.get("continue", threadId=thread)
        while True:
            reply = self.kernel.client.get_shell_msg(timeout=TIMEOUT)
            if reply["parent_header"].get("msg_id") == msg_id:
                break
        if not any(_is_idle_of(one, msg_id) for one in self.heard):
            self.next("status", "idle", msg_id)
        content: dict[str, Any] = reply["content"]
        return content

    def run(self, code: str) -> dict[str, Any]:
        return self.finish(self.kernel.send(code))

    def text(self, code: str) -> str:
        """What a cell prints."""
        self.heard.clear()
        assert self.run(code)["status"] == "ok"
        texts = [one["content"]["text"] for one in self.heard if one["msg_type"] == "stream"]
        return "".join(texts)


def _is_idle_of(message: dict[str, Any], msg_id: str) -> bool:
    is_idle: bool = message["content"].get("execution_state") == "idle"
    return is_idle and bool(message["parent_header"].get("msg_id") == msg_id)


@contextmanager
def frontend(*flags: str, **env: str) -> Iterator[Frontend]:
    """A kernel process of ours."""
    with kernel_process(PYTHON, *flags, **env) as kernel:
        yield Frontend(kernel)
