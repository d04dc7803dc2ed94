"""The countdown kernel's own tests: none of them waits, whatever they count."""

import pytest
import trio
from countdown_kernel import CountdownKernel

from trikernel.errors import ExecutionTimeout
from trikernel.testing import (
    Samples,
    assert_conforms,
    at_every_checkpoint,
    open_clients,
    open_memory_client,
)


@pytest.fixture
def kernel():
    return CountdownKernel()


async def test_it_counts(kernel_client, autojump_clock):
    await kernel_client.expect("3", stdout="3\n2\n1\nlift-off\n")


async def test_it_takes_an_hour_for_an_hour(kernel_client, autojump_clock):
    await kernel_client.expect("3600")
    assert trio.current_time() == pytest.approx(3600)


async def test_what_is_no_number_is_an_error(kernel_client, autojump_clock):
    await kernel_client.expect("soon", error="ValueError")
    await kernel_client.expect("1", stdout="1\nlift-off")


async def test_an_interrupt_aborts_it(kernel_client, autojump_clock):
    with pytest.raises(ExecutionTimeout) as caught:
        await kernel_client.execute("100", timeout=1.5)
    assert caught.value.execution.stdout == "100\n99\naborted\n"


async def test_it_says_meanwhile_how_much_is_left(kernel_client, autojump_clock):
    counting = kernel_client.start("10")
    await trio.sleep(1.5)
    reply = await kernel_client.request("left_request", channel="control")
    assert reply.content == {"status": "ok", "left": 9}
    await counting.wait()


async def test_it_speaks_the_protocol(autojump_clock):
    await assert_conforms(CountdownKernel(), Samples(code="1", failing="soon", printing="1"))


async def test_it_ends_well_wherever_it_is_cancelled(autojump_clock):
    async def scenario(scope):
        async with open_memory_client(CountdownKernel()) as client:
            with scope:
                await client.execute("2")
            await client.expect("1", stdout="1\nlift-off")

    assert await at_every_checkpoint(scenario) > 0


async def test_one_client_stops_what_another_one_started_over_sockets():
    async with open_clients(CountdownKernel(), 2, over="tcp") as (one, other):
        counting = one.start("1000")
        async for _ in counting:
            break  # the first number is out
        await other.interrupt()
        await counting.wait()
        assert counting.stdout == "1000\naborted\n"
