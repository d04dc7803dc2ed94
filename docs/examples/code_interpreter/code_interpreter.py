"""A service that runs code which its users, or models, have written: a kernel for each user."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from trikernel.client import Client, Execution, open_kernel
from trikernel.errors import CellStillRuns, ExecutionTimeout, KernelDied, KernelNotReady
from trikernel.wire import Message, json

LIMIT_MEMORY = "import resource; resource.setrlimit(resource.RLIMIT_AS, ({0}, {0})); del resource"
BACKSTOP = 3  # seconds after the kernel's own deadline, at which the client steps in


@dataclass(frozen=True)
class Limits:
    seconds: float = 10  # that a cell may take
    output: int = 1 << 20  # bytes that it may put out: text, pictures, whatever it sends
    memory: int = 2 << 30  # bytes of address space of the kernel; 0 for no limit


@dataclass(frozen=True)
class Answer:
    status: str  # ok, error, stopped (all names are kept), restarted (names are lost), no kernel
    text: str  # what it printed, and its result
    error: str = ""


class Budget:
    """Counts what a cell puts out. What is over the limit is dropped, and ends `scope`."""

    def __init__(self, limit: int) -> None:
        self.scope = trio.CancelScope()
        self.msg_id = ""
        self._left = limit

    def take(self, message: Message) -> bool:
        """Count one message of the kernel; whether the client is to drop it."""
        if message.msg_type in ("status", "execute_input"):  # a cell begins, or has ended
            return False
        is_over = self._left < 0
        if message.parent_id == self.msg_id:
            self._left -= len(json.dumps(message.content)) + sum(map(len, message.buffers))
        if self._left < 0:
            self.scope.cancel()
        return is_over or message.msg_type.startswith("comm_")  # there are no widgets here


class Session:
    """The kernel of one user. Whatever a cell does, the next one runs."""

    def __init__(self, nursery: trio.Nursery, limits: Limits) -> None:
        self._nursery = nursery
        self._limits = limits
        self._turn = trio.Lock()
        self._client: Client | None = None
        self._is_over = trio.Event()

    async def run(self, code: str) -> Answer:
        """Run a cell when those before it have ended. Cancelled, the cell is stopped."""
        async with self._turn:
            try:
                if self._client is None:
                    await self._nursery.start(self._serve)
                assert self._client is not None
                return await self._run(self._client, code)
            except KernelNotReady as error:  # the next call tries again
                return Answer("no kernel", "", str(error))
            finally:
                if self._client is not None and self._client.is_dead:
                    self._client = None
                    self._is_over.set()

    async def _serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Have a kernel. What limits its memory runs as it starts, and as it is restarted."""
        limit = ["-c", LIMIT_MEMORY.format(self._limits.memory)] if self._limits.memory else []
        kernel = open_kernel(extra_arguments=limit, restart_stuck=True, shutdown_timeout=1)
        async with kernel as self._client:
            self._is_over = is_over = trio.Event()
            task_status.started()
            await is_over.wait()

    async def _run(self, client: Client, code: str) -> Answer:
        limits = self._limits
        budget = Budget(limits.output)
        client.diverting[:] = [budget.take]
        execution: Execution | None = None
        status, error = "ok", ""
        try:
            with budget.scope:
                async with client.executing(
                    code,
                    timeout=limits.seconds + BACKSTOP,
                    metadata={"trikernel.timeout": limits.seconds},
                ) as execution:
                    budget.msg_id = execution.msg_id
                    await execution.wait()
        except CellStillRuns as failure:  # C code that cannot be stopped
            status, error = "restarted", str(failure)
        except ExecutionTimeout as failure:
            status, error = "stopped", str(failure)
        except KernelDied as failure:  # by os._exit, by lack of memory, by a crash of C code
            status, error = "restarted", str(failure)
        else:
            if budget.scope.cancel_called:
                status = "restarted" if execution.restarted else "stopped"
                error = f"more than {limits.output} bytes of output"
            elif execution.error is not None:
                is_late = execution.error.ename == "DeadlineExceeded"
                status, error = "stopped" if is_late else "error", str(execution.error)
        outputs = execution.outputs if execution is not None else []
        text = "".join(map(text_of, outputs))
        return Answer(status, text[: limits.output], error[: limits.output])


def text_of(output: dict) -> str:
    """An output as text; what has none, as pictures do, by its kinds."""
    if output["output_type"] == "stream":
        return output["text"]
    if output["output_type"] == "error":
        return ""  # it is in the answer
    text = output["data"].get("text/plain", f"<{', '.join(output['data'])}>")
    return "".join(text) + "\n"  # it may be a list of lines


class Service:
    """The sessions of all users; the first cell of each starts a kernel."""

    def __init__(self, nursery: trio.Nursery, limits: Limits) -> None:
        self._nursery = nursery
        self._limits = limits
        self._sessions: dict[str, Session] = {}

    async def run(self, user: str, code: str) -> Answer:
        if user not in self._sessions:
            self._sessions[user] = Session(self._nursery, self._limits)
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
