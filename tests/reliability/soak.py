"""Twenty clients for half an hour: mixed requests, interrupts, cancels, clients that come and go.

``python -m tests.reliability.soak --minutes 30``. Every request must get one reply, a busy and an
idle; the kernel's memory and descriptors must be at the end what they were after a fifth of the
time. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import psutil
import trio

from trikernel.transport import (
    Channel,
    ConnectionInfo,
    ZmqClientTransport,
    read_connection_file,
    receive,
)
from trikernel.wire import Codec

from ..processes import kernel_process

TIMEOUT = 120  # seconds until what was asked must be answered
GROWTH = 32 << 20  # bytes of resident memory: caches of bounded size, and the allocator

CELLS = [
    "print('x' * 100)",
    "for i in range(300): print(i)",
    "await trio.sleep(0.02)",
    "await trio.sleep(1)",
    "import time; time.sleep(0.02)",
    "time.sleep(1)",
    "while True: pass",
    "display('shown'); 1 + 1",
    "1 / 0",
    "async with trio.open_nursery() as n:\n    for _ in range(5): n.start_soon(trio.sleep, 0.01)",
    "from trikernel.notebook import nursery; nursery.start_soon(trio.sleep, 0.05)",
    "raise BaseExceptionGroup('', [KeyError(1), ValueError(2)])",
    "await trio.to_thread.run_sync(print, 'from a thread')",
    "x = b'x' * 1_000_000",
    "def broken(:",
]


@attrs.define
class Asked:
    """A request and what came of it."""

    msg_type: str
    replies: int = 0
    statuses: list[str] = attrs.field(factory=list)
    done: trio.Event = attrs.field(factory=trio.Event)

    @property
    def is_whole(self) -> bool:
        wanted = self.msg_type.endswith("_request")
        return self.replies == wanted and self.statuses == ["busy", "idle"]


class SoakClient:
    """One connection, its ledger, and the tasks that read for it."""

    def __init__(self, info: ConnectionInfo) -> None:
        self.transport = ZmqClientTransport(info)
        self.codec = Codec(info.key.encode())
        self.asked: dict[str, Asked] = {}
        self.welcome = trio.Event()

    async def read(self, channel: Channel) -> None:
        mine = self.codec.session.encode()
        while True:
            frames = await receive(channel)
            parent = frames[frames.index(b"<IDS|MSG>") + 3]
            if mine in parent:
                self._note(frames)
            elif parent == b"{}":
                self.welcome.set()

    def _note(self, frames: list[bytes]) -> None:
        message = self.codec.decode(frames)
        asked = self.asked[message.parent_id or ""]
        if message.msg_type.endswith("_reply"):
            asked.replies += 1
        elif message.msg_type == "status":
            asked.statuses.append(message.content["execution_state"])
        if "idle" in asked.statuses and asked.replies == asked.msg_type.endswith("_request"):
            asked.done.set()

    def send(self, msg_type: str, content: dict[str, Any], channel: str = "shell") -> Asked:
        frames = self.codec.encode(msg_type, content)
        asked = Asked(msg_type)
        self.asked[self.codec.decode_header(frames[2]).msg_id] = asked
        getattr(self.transport, channel).send_nowait(frames)
        return asked


class Soak:
    """All of the clients, and the sum of what they saw."""

    def __init__(self, info: ConnectionInfo, pid: int, seed: int) -> None:
        self.info = info
        self.process = psutil.Process(pid)
        self.random = random.Random(seed)
        self.sums: Counter[str] = Counter()
        self.broken: list[str] = []
        self.before: tuple[int, int] | None = None
        self.over = trio.Event()

    async def run(self, clients: int, seconds: float) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(self._live)
            nursery.start_soon(self._interrupt_now_and_then)
            await trio.sleep(seconds / 5)
            self.before = self._footprint()
            await trio.sleep(seconds * 4 / 5)
            self.over.set()

    def _footprint(self) -> tuple[int, int]:
        return self.process.memory_info().rss, self.process.num_fds()

    async def _live(self) -> None:
        """Connections one after another, each for some requests."""
        while not self.over.is_set():
            client = SoakClient(self.info)
            self.sums["connections"] += 1
            async with trio.open_nursery() as nursery:
                for name in ("shell", "control", "iopub"):
                    nursery.start_soon(client.read, getattr(client.transport, name))
                with trio.fail_after(TIMEOUT):
                    await client.welcome.wait()
                for _ in range(self.random.randrange(5, 100)):
                    if not self.over.is_set():
                        await self._ask(client)
                if self.over.is_set() or self.random.random() < 0.8:
                    await self._settle(client)
                else:  # it leaves without its answers
                    self.sums["left early"] += 1
                nursery.cancel_scope.cancel()
            client.transport.close()

    async def _ask(self, client: SoakClient) -> None:
        pick = self.random.random()
        code = self.random.choice(CELLS)
        cell = {"code": code, "store_history": False, "stop_on_error": pick < 0.1}
        ask: Callable[[], Asked] = partial(client.send, "execute_request", cell)
        if pick > 0.95:
            ask = partial(client.send, "complete_request", {"code": "pri", "cursor_pos": 3})
        elif pick > 0.9:
            ask = partial(client.send, "kernel_info_request", {}, "control")
        elif pick > 0.85:
            ask = partial(client.send, "comm_msg", {"comm_id": "none", "data": {}})
        asked = ask()
        self.sums[asked.msg_type] += 1
        if self.random.random() < 0.3:
            return  # the next one right behind it
        with trio.move_on_after(self.random.choice([0.01, 0.3, 3])) as scope:
            await asked.done.wait()
        self.sums["waits given up"] += scope.cancelled_caught

    async def _settle(self, client: SoakClient) -> None:
        """Everything is answered, once."""
        with trio.move_on_after(TIMEOUT):
            for asked in client.asked.values():
                await asked.done.wait()
        await trio.sleep(0.2)  # what would come twice, comes now
        for asked in client.asked.values():
            self.sums["settled"] += 1
            if not asked.is_whole:
                self.broken.append(f"{asked.msg_type}: {asked.replies} replies, {asked.statuses}")

    async def _interrupt_now_and_then(self) -> None:
        """Until the clients have what they asked for, since cells without an end are among it."""
        client = SoakClient(self.info)
        async with trio.open_nursery() as nursery:
            for name in ("control", "iopub", "shell"):
                nursery.start_soon(client.read, getattr(client.transport, name))
            with trio.fail_after(TIMEOUT):
                await client.welcome.wait()
            last = client.send("execute_request", {"code": "import trio, time"})
            is_behind_all = False  # cells without an end may be queued behind any other one
            while not (is_behind_all and last.done.is_set()):
                if last.done.is_set():
                    is_behind_all = self.over.is_set()
                    last = client.send("execute_request", {"code": "1", "store_history": False})
                await trio.sleep(self.random.expovariate(1 / 0.15))
                if self.random.random() < 0.5:
                    self.process.send_signal(signal.SIGINT)
                else:
                    client.send("interrupt_request", {}, "control")
                self.sums["interrupts"] += 1
            await self._settle(client)
            nursery.cancel_scope.cancel()
        client.transport.close()

    def report(self) -> bool:
        """Print it; whether all was well."""
        assert self.before is not None
        (rss, fds), (end_rss, end_fds) = self.before, self._footprint()
        for name, count in sorted(self.sums.items()):
            print(f"{count:>9,} {name}")
        print(f"resident memory {rss / 2**20:.1f} MiB, at the end {end_rss / 2**20:.1f} MiB")
        print(f"descriptors {fds}, at the end {end_fds}")
        print(f"{len(self.broken)} requests lost or doubled")
        print(*self.broken[:20], sep="\n")
        return not self.broken and end_rss - rss < GROWTH and end_fds <= fds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 32)
    print(f"{options.clients} clients, {options.minutes:g} minutes, seed {seed}", flush=True)
    with kernel_process() as kernel:
        kernel.execute("1")  # it answers before it has imported all that it is to have
        kernel.client.stop_channels()
        soak = Soak(read_connection_file(kernel.path), kernel.process.pid, seed)
        trio.run(soak.run, options.clients, options.minutes * 60)
        return 0 if soak.report() and kernel.process.poll() is None else 1


if __name__ == "__main__":
    sys.exit(main())
