"""A service that runs code which its users, or models, have written: a kernel for each user."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from trikernel.client import Client, open_kernel
from trikernel.errors import CellStillRuns, ExecutionTimeout, KernelDied

LIMIT_MEMORY = "import resource; resource.setrlimit(resource.RLIMIT_AS, ({0}, {0})); del resource"
BACKSTOP = 3  # seconds after the kernel's own deadline, at which the client steps in


@dataclass(frozen=True)
class Limits:
    seconds: float = 10  # that a cell may take
    characters: int = 10_000  # that it may put out
    memory: int = 2 << 30  # bytes of address space of the kernel; 0 for no limit


@dataclass(frozen=True)
class Answer:
    status: str  # ok, error, stopped (all names are kept), restarted (names are lost)
    text: str  # what it printed, and its result
    error: str = ""


class TooMuchOutput(Exception):
    pass


class Session:
    """The kernel of one user. Whatever a cell does, the next one runs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turn = trio.Lock()
        self._client: Client
        self._has_died = trio.Event()
        self._is_ready = trio.Event()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Have a kernel, and another one when it has died; until cancelled."""
        while True:
            async with open_kernel(restart_stuck=True, shutdown_timeout=1) as self._client:
                await self._limit_memory()
                self._has_died = trio.Event()
                self._is_ready.set()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await self._has_died.wait()

    async def run(self, code: str) -> Answer:
        """Run a cell when those before it have ended. Cancelled, the cell is stopped."""
        async with self._turn:
            await self._is_ready.wait()
            texts: list[str] = []
            try:
                return await self._run(code, texts)
            except CellStillRuns as error:  # C code that cannot be stopped
                await self._limit_memory()
                return self._answer("restarted", texts, str(error))
            except ExecutionTimeout as error:
                return self._answer("stopped", texts, str(error))
            except KernelDied as error:  # by os._exit, by lack of memory, by a crash of C code
                self._is_ready = trio.Event()
                self._has_died.set()
                return self._answer("restarted", texts, str(error))

    async def _run(self, code: str, texts: list[str]) -> Answer:
        limits = self._limits
        cell = self._client.executing(
            code,
            timeout=limits.seconds + BACKSTOP,
            metadata={"trikernel.timeout": limits.seconds},
        )
        try:
            async with cell as execution:
                async for output in execution:
                    texts.append(text_of(output))
                    if sum(map(len, texts)) > limits.characters:
                        raise TooMuchOutput  # which leaves the block, and so stops the cell
        except TooMuchOutput:
            status = "restarted" if execution.restarted else "stopped"
            return self._answer(status, texts, f"more than {limits.characters} characters")
        if execution.error is None:
            return self._answer("ok", texts)
        stopped = execution.error.ename == "DeadlineExceeded"
        return self._answer("stopped" if stopped else "error", texts, str(execution.error))

    def _answer(self, status: str, texts: list[str], error: str = "") -> Answer:
        return Answer(status, "".join(texts)[: self._limits.characters], error)

    async def _limit_memory(self) -> None:
        if self._limits.memory:
            code = LIMIT_MEMORY.format(self._limits.memory)
            (await self._client.execute(code, store_history=False)).raise_for_error()


def text_of(output: dict) -> str:
    """An output as text; what has none, as pictures do, by its kinds."""
    if output["output_type"] == "stream":
        return output["text"]
    if output["output_type"] == "error":
        return ""  # it is in the answer
    return output["data"].get("text/plain", f"<{', '.join(output['data'])}>") + "\n"


class Service:
    """The sessions of all users; each is opened by its first cell."""

    def __init__(self, nursery: trio.Nursery, limits: Limits) -> None:
        self._nursery = nursery
        self._limits = limits
        self._sessions: dict[str, Session] = {}
        self._opening = trio.Lock()

    async def run(self, user: str, code: str) -> Answer:
        async with self._opening:
            if user not in self._sessions:
                session = Session(self._limits)
                await self._nursery.start(session.serve)
                self._sessions[user] = session
        return await self._sessions[user].run(code)


@asynccontextmanager
async def open_service(limits: Limits = Limits()) -> AsyncIterator[Service]:
    """A service; its kernels end with the block."""
    async with trio.open_nursery() as nursery:
        yield Service(nursery, limits)
        nursery.cancel_scope.cancel()


async def main() -> None:
    async with open_service(Limits(seconds=1)) as service:
        for code in (
            "total = sum(range(10)); total",
            "import time; time.sleep(100)",
            "while True: print('again and again')",
            "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
            "total + 1",
        ):
            answer = await service.run("somebody", code)
            print(answer.status, "|", answer.text[:20].strip(), "|", answer.error)


if __name__ == "__main__":
    trio.run(main)
