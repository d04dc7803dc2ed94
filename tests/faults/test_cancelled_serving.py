"""Serving that is cancelled at a random time ends at once when nothing blocks."""

from __future__ import annotations

import random
from functools import partial

import pytest
import trio
import trio.testing

import trikernel
from trikernel.python import PythonKernel
from trikernel.transport import ClientTransport, receive
from trikernel.wire import Codec

from ..cells import Medium
from ..harness import connect, open_transport
from ..kernel.kernels import Recorder

GRACE = 12.0  # seconds; whoever takes it, although nothing blocks, is found out
BOUND = 5.0  # seconds; on sockets an end takes some hundredths

MIXED = ("say x", "sleep 0", "sleep 0.001", "fail", "wait")


@pytest.fixture
def tries(request: pytest.FixtureRequest) -> int:
    """How many random times are tried."""
    return 80 if request.config.getoption("--thorough") else 20


async def seconds_to_end(
    kernel: trikernel.Kernel, medium: Medium, codes: list[str], chance: random.Random
) -> float:
    """Serve, have the client queue these, cancel at a random time; how long the end took."""
    transport = open_transport(medium)
    client = connect(transport, b"me")
    serving = trio.CancelScope()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, client)
            _send(client, codes, chance)
            ended = trio.Event()
            nursery.start_soon(_serve, kernel, transport, medium, serving, ended)
            await _random_time(client, medium, chance)
            cancelled_at = trio.current_time()
            serving.cancel()
            await ended.wait()
            took = trio.current_time() - cancelled_at
            nursery.cancel_scope.cancel()
    finally:
        client.close()
        transport.close()
    return took


async def _serve(
    kernel: trikernel.Kernel,
    transport: trikernel.transport.Transport,
    medium: Medium,
    scope: trio.CancelScope,
    ended: trio.Event,
) -> None:
    services = "inline" if medium == "memory" else "thread"
    with scope:
        await trikernel.serve(kernel, transport, services=services)  # type: ignore[arg-type]
    ended.set()


def _send(client: ClientTransport, codes: list[str], chance: random.Random) -> None:
    codec = Codec(client.key)
    for code in codes:
        content = {"code": code, "stop_on_error": False}
        client.shell.send_nowait(codec.encode("execute_request", content))
        if chance.random() < 0.2:
            comm = {"comm_id": "c", "target_name": "t", "data": {}}
            client.shell.send_nowait(codec.encode("comm_open", comm))
        if chance.random() < 0.2:
            client.control.send_nowait(codec.encode("kernel_info_request", {}))


async def _read(client: ClientTransport) -> None:
    """Take what comes on iopub, so that nobody waits for this client."""
    while True:
        await receive(client.iopub)


async def _random_time(client: ClientTransport, medium: Medium, chance: random.Random) -> None:
    """Some turns of the loop in memory, where no time passes; else while cells run."""
    if medium == "memory":
        for _ in range(chance.randrange(400)):
            await trio.lowlevel.checkpoint()
        await trio.sleep(chance.choice([0, 0, 0.0005, 0.01]))
    else:
        for _ in range(chance.randrange(50)):
            await receive(client.shell)
        await trio.sleep(chance.random() * 0.005)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("cells", ["that return at once", "of every kind"])
def test_serving_in_memory_ends_without_its_grace(
    cells: str, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    slow = {}
    for seed in range(tries):
        chance = random.Random(seed)
        codes = ["say x"] * 200 if cells == "that return at once" else chance.choices(MIXED, k=40)
        kernel = Recorder(shutdown_grace=GRACE)
        monkeypatch.setattr(kernel.log, "disabled", True)
        run = partial(seconds_to_end, kernel, "memory", codes, chance)
        took = trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
        if took > 1:
            slow[seed] = took
    assert slow == {}


def test_serving_over_sockets_ends_without_its_grace(tries: int) -> None:
    slow = {}
    for seed in range(tries):
        kernel = Recorder(shutdown_grace=GRACE)
        chance = random.Random(seed)
        took = trio.run(partial(seconds_to_end, kernel, "tcp", ["say x"] * 200, chance))
        if took > BOUND:
            slow[seed] = took
            break  # each takes the whole grace
    assert slow == {}


def test_a_python_kernel_ends_without_its_grace(tries: int) -> None:
    slow = {}
    for seed in range(tries // 2):
        kernel = PythonKernel(shutdown_grace=GRACE)
        run = partial(seconds_to_end, kernel, "memory", ["a = 1"] * 100, random.Random(seed))
        took = trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
        if took > 1:
            slow[seed] = took
    assert slow == {}
