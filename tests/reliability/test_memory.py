"""What a long life leaves behind: nothing for each connection, nothing for each cell."""

from __future__ import annotations

import sys
from typing import Any

import psutil
import pytest
import stack_data.core
import zmq

from trikernel.python import tracebacks
from trikernel.testing import CheckedClient
from trikernel.transport import read_connection_file

from ..processes import kernel_process


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="memory is counted otherwise there")
@pytest.mark.parametrize("channel", ["shell", "control", "stdin", "hb"])
def test_connections_that_come_and_go(channel: str) -> None:
    """On stdin nobody receives until a cell asks: 11 KB each was once left there."""
    with kernel_process() as kernel, zmq.Context() as context:
        info = read_connection_file(kernel.path)
        process = psutil.Process(kernel.process.pid)

        def come_and_go(times: int) -> None:
            for _ in range(times):
                with context.socket(zmq.DEALER) as one:
                    one.set(zmq.LINGER, 0)
                    with one.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) as monitor:
                        one.connect(info.endpoint(getattr(info, f"{channel}_port")))
                        assert monitor.poll(30_000)
                        one.disable_monitor()

        come_and_go(200)
        before = process.memory_info().rss
        come_and_go(600)
        assert process.memory_info().rss - before < 3 << 20


@pytest.mark.python
async def test_cells_that_failed(
    kernel_client: CheckedClient, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    monkeypatch.setattr(tracebacks, "KEPT", 20)
    for number in range(60):
        await kernel_client.expect(f"1 / {0 * number}", error=ZeroDivisionError)
    assert len(vars(stack_data.core.Source)["__executing_cache"]) < 40


@pytest.mark.python
async def test_results_of_cells_that_are_not_kept(
    kernel_client: CheckedClient, python_kernel: Any, autojump_clock: Any
) -> None:
    for _ in range(20):
        await kernel_client.expect("1 + 1", store_history=False)
    outputs = python_kernel.shell.history_manager.outputs
    assert sum(map(len, outputs.values())) == 0
    await kernel_client.expect("1 + 1", result=2)
    assert sum(map(len, outputs.values())) == 1
