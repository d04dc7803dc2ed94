"""gateway_provisioners' own classes start our kernel, as Jupyter does with its kernelspec."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)

pytest.importorskip("gateway_provisioners", exc_type=ImportError)
pytestmark = pytest.mark.slow

TIMEOUT = 60

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two kernelspecs, installed as a person would, and an environment that finds them."""
    folder = tmp_path_factory.mktemp("remote")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "share" / "jupyter"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("KERNEL_USERNAME", "somebody")  # root may not, by default
        patch.setenv("GP_KERNEL_LOG_DIR", str(folder))
        patch.setenv("GP_POLL_INTERVAL", "0.05")
        install: list[Any] = [sys.executable, "-m", "trikernel", "install", "--prefix", folder]
        subprocess.run([*install, "--remote", "localhost"], check=True)
        yield folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Iterator[Run]:
    """One asyncio loop for all: the gateway's response manager lives in it."""
    with asyncio.Runner() as runner:
        yield lambda work: runner.run(_within(work))
        from gateway_provisioners.response_manager import ResponseManager

        runner.run(_within(_stopped(ResponseManager.instance())))


async def _within(work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(TIMEOUT):
        return await work


async def _stopped(manager: Any) -> None:
    manager.stop_response_manager()


@asynccontextmanager
async def kernel(**traits: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A kernel that the provisioner has started, and a client that it has answered."""
    from jupyter_client.manager import AsyncKernelManager

    manager = AsyncKernelManager(kernel_name="trikernel-remote", **traits)
    await manager.start_kernel()
    try:
        async with client_of(manager) as client:
            yield manager, client
    finally:
        if await manager.is_alive():
            await manager.shutdown_kernel(now=True)
        await manager.cleanup_resources()
        manager.context.destroy(linger=0)


@asynccontextmanager
async def client_of(manager: Any) -> AsyncIterator[Any]:
    """A client that the kernel has answered."""
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=TIMEOUT)
        yield client
    finally:
        client.stop_channels()


async def value(client: Any, code: str) -> str:
    reply = await client.execute_interactive(
        "", user_expressions={"it": code}, output_hook=lambda message: None, timeout=TIMEOUT
    )
    return str(reply["content"]["user_expressions"]["it"]["data"]["text/plain"])


def test_a_kernel_is_started_interrupted_restarted_and_shut_down(run: Run) -> None:
    async def scenario() -> None:
        async with kernel() as (manager, client):
            assert manager.provisioner.comm_port > 0
            assert await manager.is_alive()
            assert await value(client, "6 * 7") == "42"
            first = await value(client, "__import__('os').getpid()")
            assert int(first) == manager.provisioner.pid
            for code in ("while True: pass", "await trio.sleep_forever()"):
                for by in (manager.interrupt_kernel, by_port(manager, signal.SIGINT)):
                    assert await interrupted(client, code, by) == "KeyboardInterrupt"
            await manager.restart_kernel()
            async with client_of(manager) as again:  # on other ports, as with any such launcher
                assert await value(again, "__import__('os').getpid()") != first
            await manager.shutdown_kernel()
            assert not await manager.is_alive()
            assert refuses(manager.provisioner)

    run(scenario())


def by_port(manager: Any, signum: int) -> Callable[[], Awaitable[None]]:
    return lambda: manager.provisioner.send_signal(signum)


async def interrupted(client: Any, code: str, interrupt: Callable[[], Awaitable[None]]) -> Any:
    """How a cell ends that is interrupted once it runs."""
    client.execute(f"import trio; print('runs', flush=True)\n{code}", stop_on_error=False)
    while (await client.get_iopub_msg(timeout=TIMEOUT))["msg_type"] != "stream":
        pass
    await interrupt()
    while True:
        reply = await client.get_shell_msg(timeout=TIMEOUT)
        if reply["msg_type"] == "execute_reply" and reply["content"]["status"] == "error":
            return reply["content"]["ename"]


def refuses(provisioner: Any) -> bool:
    """Whether nobody listens at the communication port any more."""
    with socket.socket() as one:
        return one.connect_ex((provisioner.comm_ip, provisioner.comm_port)) != 0


@pytest.mark.thorough
def test_a_kernel_that_is_killed_is_seen_to_be_dead(run: Run) -> None:
    async def scenario() -> None:
        async with kernel(transport_encryption="required") as (manager, client):
            assert manager.curve_publickey
            assert await value(client, "1 + 1") == "2"
            os.kill(manager.provisioner.pid, signal.SIGKILL)
            manager.provisioner.local_proc.wait()
            assert not await manager.is_alive()

    run(scenario())
