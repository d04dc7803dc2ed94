"""A launched kernel as a process, and what comes to its communication port: only an order to end,
or a signal that means that, ends it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from trikernel.client import connect
from trikernel.errors import KernelDied
from trikernel.remote.communication import MOST
from trikernel.transport import ConnectionInfo, Registrar

from ..processes import wait_until
from .gateway import RemoteKernel, launched, start
from .test_response import PUBLIC

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("launched")


@pytest.fixture(scope="module")
def kernel(folder: Path) -> Iterator[RemoteKernel]:
    """One for all tests that it survives."""
    with launched(folder, "--log-level", "CRITICAL") as found:
        yield found


async def value(kernel: RemoteKernel, code: str) -> str:
    """What a cell prints."""
    with trio.fail_after(60):
        async with connect(kernel.info) as client:
            execution = await client.execute(code)
            return "".join(one.get("text", "") for one in execution.outputs)


async def interrupted(kernel: RemoteKernel, code: str, *orders: bytes) -> str:
    """How a cell ends that runs as orders come."""
    with trio.fail_after(60):
        async with connect(kernel.info) as client:
            async with client.executing(f"print('runs', flush=True)\n{code}") as execution:
                async for _ in execution:
                    for order in orders:
                        kernel.order(order)
            assert execution.error is not None
            return str(execution.error.ename)


async def test_a_kernel_tells_what_the_contract_asks_for(kernel: RemoteKernel) -> None:
    told = kernel.told
    assert told["kernel_id"] == "one"
    assert told["pid"] == kernel.process.pid
    assert told["pgid"] == os.getpgid(kernel.process.pid)
    assert (told["transport"], told["signature_scheme"]) == ("tcp", "hmac-sha256")
    ports = [value for name, value in told.items() if name.endswith("_port")]
    assert len(set(ports)) == 6
    assert await value(kernel, "print(6 * 7)") == "42\n"


async def test_a_cell_that_computes_is_interrupted(kernel: RemoteKernel) -> None:
    for code in ("while True: pass", "import time; time.sleep(1000)"):
        assert await interrupted(kernel, code, b'{"signum": 2}') == "KeyboardInterrupt"


async def test_a_signal_that_the_users_code_handles_reaches_it(kernel: RemoteKernel) -> None:
    code = "import signal, threading; came = threading.Event()\n"
    code += "signal.signal(signal.SIGUSR1, lambda *_: came.set())"
    await value(kernel, code)
    kernel.order(b'{"signum": %d}' % signal.SIGUSR1)
    assert await value(kernel, "print(came.wait(60))") == "True\n"
    await value(kernel, "signal.signal(signal.SIGUSR1, signal.SIG_DFL)")


ODD = [
    *(b'{"signum": %d}' % one for one in (-1, 64, 65, 1000, 10**30, signal.SIGUSR2)),
    *(b'{"signum": %d}' % one for one in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGSEGV)),
    *(b'{"signum": %d}' % one for one in (signal.SIGALRM, signal.SIGPIPE, signal.SIGCHLD)),
    *(b'{"signum": %d}' % one for one in (signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)),
    b'{"signum": 2}',  # while nothing runs
    b'{"shutdown": 0}',
    b'{"signum": "9"}',
    b"",
    b"{",
    b"\x00" * 1000,
    b"x" * 100_000,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
]


async def test_no_order_but_that_to_end_ends_it(kernel: RemoteKernel) -> None:
    for data in ODD:
        with suppress(ConnectionError):  # it need not read all of that
            kernel.order(data)
    assert await value(kernel, "print('still here')") == "still here\n"


async def test_noise_ends_nothing(kernel: RemoteKernel) -> None:
    chance = random.Random(1)
    for _ in range(200):
        with suppress(ConnectionError), kernel.connect() as connection:
            connection.sendall(chance.randbytes(chance.randrange(1500)))
            if chance.random() < 0.5:  # reset in place of an end
                option = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
    assert kernel.listens()
    assert await value(kernel, "print('still here')") == "still here\n"


async def test_connections_that_stay_open_keep_no_order_waiting(kernel: RemoteKernel) -> None:
    """Half open, and such as send a byte now and then: an order is heard at once."""
    held = [kernel.connect() for _ in range(5 * MOST)]
    try:
        for one in held:
            with suppress(ConnectionError):
                one.send(b"{")
        assert await interrupted(kernel, "while True: pass", b'{"signum": 2}') == (
            "KeyboardInterrupt"
        )
    finally:
        for one in held:
            one.close()


@pytest.mark.thorough
async def test_a_forked_child_does_not_keep_the_port(folder: Path) -> None:
    """A gateway would take its kernel for alive."""
    with launched(folder) as kernel:
        code = "import os, time\npid = os.fork()\nif not pid: time.sleep(1000)\nprint(pid)"
        child = int(await value(kernel, code))
        try:
            kernel.process.kill()
            kernel.process.wait()
            assert not kernel.listens()
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


async def test_two_orders_to_end_at_once_beside_the_request(folder: Path) -> None:
    with launched(folder) as kernel:
        threads = [
            threading.Thread(target=kernel.order, args=(data,))
            for data in (b'{"shutdown": 1}', b'{"shutdown": 1}', b'{"signum": 15}')
        ]
        async with connect(kernel.info) as client:
            client.send("shutdown_request", {"restart": False}, channel="control")
            for one in threads:
                one.start()
            for one in threads:
                await trio.to_thread.run_sync(one.join)
        assert await trio.to_thread.run_sync(kernel.wait_ended) == 0
        assert not kernel.listens()
        assert kernel.process.stderr is not None
        assert "Traceback" not in kernel.process.stderr.read()


@pytest.mark.thorough
@pytest.mark.parametrize("order", [b'{"shutdown": 1}', b'{"signum": 15}'])
async def test_an_order_to_end_is_enough_while_a_cell_computes(folder: Path, order: bytes) -> None:
    with launched(folder) as kernel, trio.fail_after(60):
        with pytest.raises(KernelDied):
            await interrupted(kernel, "while True: pass", order)
        assert await trio.to_thread.run_sync(kernel.wait_ended) == 0


@pytest.mark.thorough
def test_the_last_resort_leaves_no_file(folder: Path) -> None:
    before = set(folder.glob("kernel-*.json"))
    with launched(folder) as kernel:
        assert len(set(folder.glob("kernel-*.json")) - before) == 1
        kernel.order(b'{"signum": 9}')
        assert kernel.wait_ended() == -signal.SIGKILL
        assert not kernel.listens()
    assert set(folder.glob("kernel-*.json")) == before


@pytest.mark.thorough
async def test_a_kernel_in_a_range_of_ports_has_all_of_them_in_it(folder: Path) -> None:
    """Its number is six; a second kernel finds none that is free, and says so."""
    lowest = free_range(6)
    flags = ("--port-range", f"{lowest}..{lowest + 5}", "--transport-encryption", "required")
    with launched(folder, *flags) as kernel:
        ports = sorted(value for name, value in kernel.told.items() if name.endswith("_port"))
        assert ports == list(range(lowest, lowest + 6))
        assert {"curve_publickey", "curve_secretkey"} <= kernel.told.keys()
        assert await value(kernel, "print(1)") == "1\n"
        second = start(folder, "127.0.0.1:9", "--ip", "127.0.0.1", *flags)
        error = second.communicate(timeout=60)[1]
        assert second.returncode == 2
        assert f"no port from {lowest} to {lowest + 5} is free: give a wider range" in error


def free_range(width: int) -> int:
    """Where so many ports in a row are free just now."""
    for lowest in range(21000, 30000, width):
        with suppress(OSError):
            for port in range(lowest, lowest + width):
                with socket.create_server(("127.0.0.1", port)):
                    pass
            return lowest
    raise AssertionError("no ports are free")


@pytest.mark.thorough
def test_a_gateway_that_is_gone_ends_it_with_one_line(folder: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        process = start(folder, address, "--registration-timeout", "0.5")
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert error.splitlines()[-1] == (
        f"trikernel: error: --response-address: cannot tell {address} where the kernel listens: "
        "Connection refused (tried for 0.5 seconds; is the gateway there, and no firewall in "
        "between?)"
    )
    assert "Traceback" not in error


@pytest.mark.thorough
def test_one_that_is_told_to_end_while_it_starts_does(folder: Path) -> None:
    before = set(folder.glob("kernel-*.json"))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        process = start(folder, f"127.0.0.1:{nobody.getsockname()[1]}")
        wait_until(lambda: set(folder.glob("kernel-*.json")) - before, "its connection file")
        process.terminate()
        error = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGTERM
    assert "Traceback" not in error
    assert set(folder.glob("kernel-*.json")) == before


@pytest.mark.thorough
async def test_both_ends_of_ours_need_no_gateway(folder: Path, tmp_path: Path) -> None:
    """A registration by standard input, CURVE, and the end by message; no file with a key."""
    with Registrar(ConnectionInfo().encrypted()) as registrar, trio.fail_after(60):
        text = json.dumps(registrar.registration.as_dict()).encode()
        command = [sys.executable, "-m", "trikernel", "launch", "--kernel"]
        command += ["tests.remote.kernels:Running", "--registration-file", "-"]
        env: dict[str, Any] = {**os.environ, "JUPYTER_RUNTIME_DIR": str(folder)}
        run = partial(trio.run_process, command, stdin=text, env=env)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            info = await registrar.wait_registered()
            async with connect(info) as client:
                execution = await client.execute("print(1)")
                assert execution.outputs[0]["text"] == "1\n"
                client.send("shutdown_request", {"restart": False}, channel="control")


@pytest.mark.thorough
def test_the_key_is_the_contracts(folder: Path) -> None:
    process = start(folder, "127.0.0.1:9", public_key=PUBLIC[:-20])
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert error.startswith("trikernel: error: --public-key is no ")


@pytest.mark.thorough
async def test_the_port_is_heard_after_trio_has_crashed(folder: Path) -> None:
    """The service loop is another one then."""
    crash = "trio.lowlevel.spawn_system_task(fall_over)\nawait trio.sleep(100)"
    code = f"import trio\nasync def fall_over():\n    raise RuntimeError('boom')\n{crash}"
    with launched(folder, kernel="trikernel.python:PythonKernel") as kernel:
        with trio.fail_after(60):
            async with connect(kernel.info) as client:
                assert (await client.execute(code)).error is not None
        again = await interrupted(kernel, "while True: pass", b'{"signum": 2}')
        assert again == "KeyboardInterrupt"
        kernel.order(b'{"shutdown": 1}')
        assert await trio.to_thread.run_sync(kernel.wait_ended) == 0
