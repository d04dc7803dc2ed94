"""Small kernels in the shapes that wrapper kernels have."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import trio
from traitlets import Unicode, observe

from trikernel.compat import IPythonKernel, Kernel


class Echo(Kernel):
    """As the one of Jupyter's documentation on simple wrapper kernels."""

    implementation = "Echo"
    implementation_version = "1.0"
    language = "no-op"
    language_version = "0.1"
    language_info = {"name": "echo", "mimetype": "text/plain", "file_extension": ".txt"}
    banner = "Echo kernel"

    def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Any = None,
        allow_stdin: bool = False,
    ) -> dict[str, Any]:
        if not silent:
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
        return {
            "status": "ok",
            "execution_count": self.execution_count,
            "payload": [],
            "user_expressions": {},
        }


class Configured(Echo):
    """With a trait, an observer, and words before its code."""

    word = Unicode("hello").tag(config=True)
    heard: list[str] = []

    @observe("word")
    def _on_word(self, change: Any) -> None:
        self.heard = [*self.heard, change.new]

    def do_execute(self, code: str, silent: bool, *args: Any, **options: Any) -> dict[str, Any]:
        return super().do_execute(f"{self.word}, {code}", silent)


class Awaiting(Kernel):
    """Awaits what a cell says, on asyncio and on Trio."""

    implementation = "awaiting"
    ended = ""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        try:
            verb = getattr(self, f"do_{code.partition(' ')[0]}")
            return await verb(*code.split()[1:])
        finally:
            self.ended = code

    def say(self, text: str) -> None:
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": text})

    async def do_sleep(self, seconds: str) -> None:
        await asyncio.sleep(float(seconds))
        self.say("slept")

    async def do_both(self) -> None:
        async with asyncio.timeout(5):
            await asyncio.sleep(1)
        await trio.sleep(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1))
            group.create_task(asyncio.sleep(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
        self.say("both")

    async def do_later(self) -> None:
        async def speak() -> None:
            await asyncio.sleep(10)
            self.say("later")

        self.task = asyncio.create_task(speak())
        self.io_loop.call_later(20, self.say, "latest")

    async def do_late(self) -> None:
        async with asyncio.timeout(1):
            await trio.sleep(3)
        await asyncio.sleep(3)

    async def do_spin(self) -> None:
        while True:  # noqa: ASYNC110  # computes, and lets others in
            await asyncio.sleep(0)

    async def do_thread(self) -> None:
        await asyncio.to_thread(self.say, "from a thread")

    async def do_fail(self) -> None:
        await asyncio.sleep(1)
        raise ValueError("no such thing")

    async def do_reply(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"status": "error", "ename": "Wrong", "evalue": "x", "traceback": []}


class Overriding(IPythonKernel):
    """A Python kernel of an author's own."""

    implementation = "overriding"
    banner = "ours"

    async def do_execute(self, code: str, silent: bool, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(1)
        reply = await super().do_execute(code.replace("?!", ""), silent, *args, **options)
        await asyncio.sleep(1)
        return {**reply, "user_expressions": {"asked": {"status": "ok"}}}

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        return {**super().do_complete(code, cursor_pos), "metadata": {"ours": True}}


class Blocking(Echo):
    """Blocks as those do that wait for a program: for its process, an answer, a thread."""

    implementation = "blocking"
    word = Unicode("").tag(config=True)

    def do_execute(self, code: str, silent: bool, *args: Any, **options: Any) -> dict[str, Any]:
        if code == "block":
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                return {"status": "abort", "execution_count": self.execution_count}
        if code == "ask":
            code = self.raw_input("name? ")
        if code == "thread":
            super().do_execute("", True)
            thread = threading.Thread(target=super().do_execute, args=("from a thread", silent))
            thread.start()
            thread.join()
            return {}  # a sketchy reply
        if code == "await":
            return asyncio.sleep(60)  # type: ignore[return-value]
        if code == "facts":
            app: Any = self.parent
            is_ours = app.kernel is self and app.session is self.session and app.ports["shell"] > 0
            code = repr([self.word, self.cell_timeout, app.extra_args, is_ours])
        return super().do_execute(code, silent)
