"""A kernel in memory that ends gives up what its cells have left, and its shell with it."""

from __future__ import annotations

import gc
import weakref

import pytest

from trikernel.python import PythonKernel, closing
from trikernel.testing import open_memory_client

LEAVES_GARBAGE = """
import gc, weakref
class Node: pass
node = Node()
node.itself = node
found.append(weakref.ref(node))
"""


@pytest.mark.parametrize("age", ["young", "old"])
async def test_garbage_of_cells_is_gone_with_the_kernel(autojump_clock: object, age: str) -> None:
    found: list[weakref.ref[object]] = []
    gc.disable()  # it is our collection that is looked at
    try:
        kernel = PythonKernel()
        async with open_memory_client(kernel) as client:
            kernel.user_ns["found"] = found
            await client.execute(LEAVES_GARBAGE)
            if age == "old":
                await client.execute("gc.collect();")
            await client.execute("del node")
            assert found[0]() is not None
        assert found[0]() is None
    finally:
        gc.enable()


async def test_shells_do_not_heap_up(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "CLOSED_IN_A_ROW", 4)
    shells: list[weakref.ref[object]] = []
    for _ in range(7):
        kernel = PythonKernel()
        async with open_memory_client(kernel) as client:
            await client.execute("1")
            shells.append(weakref.ref(kernel.shell))
        del kernel, client
    assert sum(one() is not None for one in shells) <= 5


async def test_a_name_that_the_user_has_taken_is_no_matter(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_memory_client(PythonKernel()) as client:
        await client.execute("_oh = 5")
        await client.execute("1")
    assert not caplog.records
