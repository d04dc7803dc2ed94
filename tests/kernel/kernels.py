"""Small kernels that the tests serve."""

from __future__ import annotations

from typing import Any

import trio

from trikernel import Kernel


class Recorder(Kernel):
    """Runs tiny commands: ``say X``, ``fail``, ``sleep N``, ``wait``; remembers what it ran."""

    implementation = "recorder"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.ran: list[str] = []
        self.released = trio.Event()

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        self.ran.append(code)
        verb, _, rest = code.partition(" ")
        if verb == "say":
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": rest})
        elif verb == "fail":
            raise ValueError(rest or "failed")
        elif verb == "sleep":
            await trio.sleep(float(rest))
        elif verb == "wait":
            await self.released.wait()
        return {"status": "ok"}


class Synchronous(Kernel):
    """The verbs as plain functions."""

    implementation = "synchronous"

    def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "fail":
            return {"status": "error", "ename": "E", "evalue": "v", "traceback": ["t"]}
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
        return {"status": "ok", "payload": [{"source": "x"}], "user_expressions": {"a": 1}}

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        return {
            "status": "ok",
            "matches": [code.upper()],
            "cursor_start": 0,
            "cursor_end": cursor_pos,
            "metadata": {},
        }

    def do_inspect(self, code: str, cursor_pos: int, detail_level: int = 0) -> Any:
        return {"status": "ok", "found": True, "data": {"text/plain": code}, "metadata": {}}

    def do_history(self, **asked: Any) -> Any:
        return {"status": "ok", "history": [[1, 1, sorted(asked)]]}

    def do_is_complete(self, code: str) -> Any:
        return {"status": "complete"}

    def do_shutdown(self, restart: bool) -> Any:
        return {"status": "ok", "restart": restart, "by": "synchronous"}

    def do_apply(self, content: Any, bufs: Any, msg_id: str, reply_metadata: Any) -> Any:
        return {"status": "ok", "n": len(bufs)}, [bytes(reversed(buffer)) for buffer in bufs]

    def do_clear(self) -> Any:
        return {"status": "ok", "cleared": True}


class Asynchronous(Synchronous):
    """The same verbs as coroutines."""

    implementation = "asynchronous"

    async def do_execute(self, *args: Any, **options: Any) -> Any:
        await trio.sleep(0.001)
        return super().do_execute(*args, **options)

    async def do_complete(self, code: str, cursor_pos: int) -> Any:
        await trio.sleep(0.001)
        return super().do_complete(code, cursor_pos)

    async def do_inspect(self, code: str, cursor_pos: int, detail_level: int = 0) -> Any:
        await trio.sleep(0.001)
        return super().do_inspect(code, cursor_pos, detail_level)

    async def do_history(self, **asked: Any) -> Any:
        await trio.sleep(0.001)
        return super().do_history(**asked)

    async def do_is_complete(self, code: str) -> Any:
        await trio.sleep(0.001)
        return super().do_is_complete(code)

    async def do_shutdown(self, restart: bool) -> Any:
        await trio.sleep(0.001)
        return super().do_shutdown(restart)

    async def do_apply(self, content: Any, bufs: Any, msg_id: str, reply_metadata: Any) -> Any:
        await trio.sleep(0.001)
        return super().do_apply(content, bufs, msg_id, reply_metadata)

    async def do_clear(self) -> Any:
        await trio.sleep(0.001)
        return super().do_clear()
