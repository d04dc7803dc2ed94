"""Any clients, sending anything in any order, to a kernel in memory: each request is answered once.

Hypothesis invents the doings and shrinks those that break something. The kernel lives in a loop of
its own, on virtual time, in a thread that each step calls into.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import hypothesis
import trio
import trio.testing
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, rule

import trikernel
from trikernel.wire import REQUESTS

from ..harness import Peer
from .scenarios import TICK, Rig, Scenario

CODES = (
    "say hello",
    "fail",
    f"sleep {TICK}",
    "chatter",
    "children",
    "group",
    "background",
    "crash",
    "iterate",
    "pump 2",
    "odd",
    "keyboard",
    "ask name",
)
NAMES = (b"one", b"two", b"three")
CHANNELS = st.sampled_from(["shell", "shell", "shell", "control"])
CONTENTS = st.dictionaries(
    st.sampled_from(
        ["code", "silent", "cursor_pos", "comm_id", "data", "msg_ids", "stop", "value"]
    ),
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from([{}, ["x"]])
    ),
    max_size=3,
)
TYPES = st.sampled_from(
    [one for one in REQUESTS if one != "shutdown_request"] + ["odd_request", "odd"]
)


class Clients(RuleBasedStateMachine):
    """Several clients of one kernel."""

    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.ready = threading.Event()
        self.over: Callable[[], None] | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.ready.wait(60)

    # The kernel's side

    def _run(self) -> None:
        trio.run(self._serve, clock=trio.testing.MockClock(autojump_threshold=0))

    async def _serve(self) -> None:
        settings = {"max_message_bytes": 1 << 20, "max_queue_bytes": 1 << 22}
        scenario = Scenario(_nothing, settings=settings)
        async with (
            scenario.connected(undisturbed=False) as self.rig,
            trio.open_nursery() as nursery,
        ):
            serving = partial(
                trikernel.serve, self.rig.kernel, self.rig.recording, services="inline"
            )
            self.rig.server = await nursery.start(serving)
            self.token = trio.lowlevel.current_trio_token()
            stopped = trio.Event()
            self.over = stopped.set
            self.ready.set()
            await stopped.wait()
            self.rig.server.stop()

    def do(self, step: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return trio.from_thread.run(step, *args, trio_token=self.token)

    def peer(self, name: bytes) -> Peer:
        """The client of that name, connected if it is not."""
        for one in self.rig.peers:
            if one.transport.identity == name and not one.transport.shell._closed:  # type: ignore[attr-defined]
                return one
        return self.rig.connect(name)

    def send(self, name: bytes, frames: list[bytes], channel: str) -> list[bytes]:
        async def step() -> None:
            self.peer(name).send_frames(frames, channel=channel)
            await trio.lowlevel.checkpoint()

        self.do(step)
        return frames

    def encoded(self, msg_type: str, content: dict[str, Any], **options: Any) -> list[bytes]:
        return self.rig.peer.codec.encode(msg_type, content, **options)

    # What clients do

    @rule(target=sent, name=st.sampled_from(NAMES), code=st.sampled_from(CODES), stop=st.booleans())
    def execute(self, name: bytes, code: str, stop: bool) -> list[bytes]:
        content = {"code": code, "stop_on_error": stop, "allow_stdin": True}
        return self.send(name, self.encoded("execute_request", content), "shell")

    @rule(
        target=sent,
        name=st.sampled_from(NAMES),
        msg_type=TYPES,
        content=CONTENTS,
        channel=CHANNELS,
        buffers=st.lists(st.binary(max_size=3), max_size=2),
    )
    def request(
        self,
        name: bytes,
        msg_type: str,
        content: dict[str, Any],
        channel: str,
        buffers: list[bytes],
    ) -> list[bytes]:
        return self.send(name, self.encoded(msg_type, content, buffers=buffers), channel)

    @rule(frames=sent, name=st.sampled_from(NAMES), channel=CHANNELS)
    def replay(self, frames: list[bytes], name: bytes, channel: str) -> None:
        self.send(name, frames, channel)

    @rule(frames=sent, name=st.sampled_from(NAMES), channel=CHANNELS, data=st.data())
    def spoil(self, frames: list[bytes], name: bytes, channel: str, data: st.DataObject) -> None:
        """Truncated, reordered, unsigned or overwritten."""
        bad = list(frames)
        at = data.draw(st.integers(0, len(bad) - 1))
        how = data.draw(st.sampled_from(["cut", "swap", "unsign", "overwrite", "shorten"]))
        if how == "cut":
            bad = bad[:at]
        elif how == "swap":
            bad = [*bad[at:], *bad[:at]]
        elif how == "unsign":
            bad[1] = b""
        elif how == "overwrite":
            bad[at] = data.draw(st.binary(max_size=4))
        else:
            bad[at] = bad[at][: len(bad[at]) // 2]
        if bad:
            self.send(name, bad, channel)

    @rule(name=st.sampled_from(NAMES), size=st.sampled_from([500_000, 2_000_000]))
    def giant(self, name: bytes, size: int) -> None:
        self.send(name, self.encoded("is_complete_request", {"code": "x" * size}), "shell")

    @rule(name=st.sampled_from(NAMES), channel=st.sampled_from(["shell", "control", "stdin"]))
    def garbage(self, name: bytes, channel: str) -> None:
        self.send(name, [b"no message"], channel)

    @rule(name=st.sampled_from(NAMES))
    def answer(self, name: bytes) -> None:
        self.send(name, self.encoded("input_reply", {"value": "Ada"}), "stdin")

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: bytes) -> None:
        async def step() -> None:
            self.peer(name).transport.close()

        self.do(step)

    @rule(seconds=st.sampled_from([0.0, TICK, 20 * TICK]))
    def wait(self, seconds: float) -> None:
        self.do(trio.sleep, seconds)

    def teardown(self) -> None:
        """Everything that was good is answered, and the kernel is well."""
        try:
            self.do(self._settle)
        finally:
            assert self.over is not None
            self.token.run_sync_soon(self.over)
            self.thread.join(60)
            assert not self.thread.is_alive()
        self.rig.recording.assert_kept()

    async def _settle(self) -> None:
        """Interrupt until a cell gets through: others may ask for input that nobody will give."""
        peer = self.rig.connect(b"late")
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._interrupt, peer)
                status = ""
                while status != "ok":
                    await trio.sleep(10 * TICK)  # until nothing is aborted any more
                    msg_id = peer.send("execute_request", {"code": "say well"})
                    while (reply := await peer.receive()).parent_id != msg_id:
                        continue
                    status = reply.content["status"]
                nursery.cancel_scope.cancel()

    async def _interrupt(self, peer: Peer) -> None:
        while True:
            await trio.sleep(30 * TICK)
            peer.send("interrupt_request", {}, channel="control")


async def _nothing(rig: Rig) -> None:
    """Hypothesis invents what is done."""


TestClients = Clients.TestCase
TestClients.settings = hypothesis.settings(
    stateful_step_count=30, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
