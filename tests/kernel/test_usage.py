"""``usage_request``: what the kernel's process uses, as jupyter-resource-usage reads it."""

from __future__ import annotations

import os
import socket
import sys

import pytest
import trio.testing

import trikernel

from ..cells import ask, reply_of, served


async def test_a_client_is_told_what_the_process_uses(
    autojump_clock: trio.testing.MockClock,
) -> None:
    psutil = pytest.importorskip("psutil")
    async with served(trikernel.Kernel()) as client:
        for _ in range(2):
            content = reply_of(await ask(client, "usage_request", channel="control"))
    assert (content["hostname"], content["pid"]) == (socket.gethostname(), os.getpid())
    assert content["cpu_count"] == psutil.cpu_count(logical=True)
    assert content["kernel_cpu"] >= 0
    assert content["kernel_memory"] > 1 << 20  # an interpreter has at least that
    assert content["host_virtual_memory"]["total"] == psutil.virtual_memory().total


async def test_without_psutil_it_is_told_what_is_known(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    async with served(trikernel.Kernel()) as client:
        content = reply_of(await ask(client, "usage_request", channel="control"))
    assert content == {
        "status": "ok",
        "hostname": socket.gethostname(),
        "pid": os.getpid(),
        "cpu_count": os.cpu_count(),
    }


async def test_a_process_that_has_ended_meanwhile_uses_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    psutil = pytest.importorskip("psutil")

    def gone(process: object) -> None:
        raise psutil.NoSuchProcess(1)

    monkeypatch.setattr(psutil.Process, "memory_full_info", gone)
    async with served(trikernel.Kernel()) as client:
        content = reply_of(await ask(client, "usage_request", channel="control"))
    assert content["kernel_memory"] == 0
