"""Kernels that are started with a registration file: by the client, and by who does it wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from trikernel.client import connect, open_kernel
from trikernel.client.kernel_process import KernelProcess
from trikernel.errors import KernelNotReady, UsageError
from trikernel.transport import (
    ConnectionInfo,
    Registrar,
    read_connection_file,
    write_connection_file,
)

from ..processes import ROOT, wait_until

pytestmark = pytest.mark.slow  # processes, whatever the Python

TIMEOUT = 60
ECHO = ["--kernel", "echo_kernel:EchoKernel", "--path", str(ROOT / "docs" / "examples")]


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jupyter's runtime folder, an empty one."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    yield
    left = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
    assert left == []


@contextmanager
def started(file: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """An echo kernel that is started with a file; killed with the block."""
    words = [sys.executable, "-m", "trikernel", "start", *ECHO, "-f", str(file), *flags]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def add_spec(folder: Path, name: str, argv: list[str], version: str = "5.6.0") -> None:
    """A kernelspec in one of jupyter_client's folders."""
    (folder / "kernels" / name).mkdir(parents=True)
    env = {"PYTHONPATH": str(ROOT)}
    spec = {"argv": argv, "display_name": name, "language": "echo", "env": env}
    spec["kernel_protocol_version"] = version
    (folder / "kernels" / name / "kernel.json").write_text(json.dumps(spec))


async def test_several_start_at_once_and_none_fails(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred, each with a cell, took a minute and a half on two processors: none failed."""
    argv = [sys.executable, "-m", "trikernel", "start", *ECHO, "-f", "{connection_file}"]
    add_spec(tmp_path, "echo", argv)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    ready = trio.Event()
    files: list[set[int]] = []

    async def one(number: int) -> None:
        async with open_kernel("echo", handshake=True, timeout=TIMEOUT) as client:
            assert (await client.execute(f"number {number}")).stdout == f"number {number}"
            files.append(set())
            if len(files) == 6:
                assert len(os.listdir(runtime)) == 6  # a connection file each, and nothing else
                found = [read_connection_file(runtime / one) for one in os.listdir(runtime)]
                assert len({port for one in found for port in one.ports.values()}) == 30
                ready.set()
            await ready.wait()

    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(one, number)
    assert os.listdir(runtime) == []


async def test_a_restarted_kernel_registers_again(runtime: Path) -> None:
    """And its connection file is what others connect with."""
    process = KernelProcess()
    try:
        with trio.fail_after(TIMEOUT):
            for start in (partial(process.start, handshake=TIMEOUT), process.restart):
                await start()
                (name,) = [one for one in os.listdir(runtime) if name_belongs(process, one)]
                assert read_connection_file(runtime / name).ports == process.info.ports
                async with connect(name) as client:
                    assert (await client.execute("6 * 7")).result == {"text/plain": "42"}
    finally:
        await process.kill()


def name_belongs(process: KernelProcess, name: str) -> bool:
    """A kernel that is killed leaves its file to the next one that starts."""
    info = read_connection_file(Path(os.environ["JUPYTER_RUNTIME_DIR"], name))
    return info.ports == process.info.ports


FAULTS = {
    "ends": ("print('the reason'); raise SystemExit(3)", "died with exit code 3.*the reason"),
    "waits": ("import time; time.sleep(1000)", r"has not registered within 0\.2 seconds"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_that_does_not_register_is_told_and_ended(
    fault: str, tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, words = FAULTS[fault]
    add_spec(tmp_path, "bad", [sys.executable, "-c", code, "{connection_file}"])
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(KernelNotReady, match=f"(?s){words}"):
        async with open_kernel("bad", handshake=True, timeout=0.2 if fault == "waits" else TIMEOUT):
            pass
    assert os.listdir(runtime) == []


async def test_a_kernelspec_that_does_not_offer_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_spec(tmp_path, "old", ["false"], "5.5.0")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"kernel_protocol_version is 5\.5\.0, and has to be 5\.6"):
        async with open_kernel("old", handshake=True):
            pass


def left_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.exists() else []


async def test_a_file_that_leads_nowhere_ends_the_kernel_with_one_line(
    tmp_path: Path, runtime: Path
) -> None:
    with Registrar(ConnectionInfo()) as gone, Registrar(ConnectionInfo()) as registrar:
        good = registrar.registration
        dead = gone.registration.registration_port
        gone.close()
        cases: dict[str, tuple[dict[str, Any], str]] = {
            "wrong key": ({"key": "another key"}, "has not acknowledged within 0.3 seconds"),
            "dead address": (
                {"registration_port": dead},
                f"nobody listens at tcp://{good.registration_ip}:{dead}",
            ),
            "not complete": ({"kernel_id": ""}, "field 'kernel_id' must be"),
        }
        with ExitStack() as stack:
            kernels = {}
            for name, (change, _) in cases.items():
                file = tmp_path / name
                file.touch(mode=0o600)
                file.write_text(json.dumps({**good.as_dict(), **change}))
                kernels[name] = stack.enter_context(started(file, "--registration-timeout", "0.3"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(registrar.wait_registered)
                said = {
                    name: (await trio.to_thread.run_sync(kernel.communicate))[1]
                    for name, kernel in kernels.items()
                }
                nursery.cancel_scope.cancel()
        assert registrar.refused == {"signature": 1}
    for name, (_, words) in cases.items():
        (line,) = said[name].splitlines()
        assert line.startswith(f"trikernel: error: registration file {tmp_path / name}: ")
        assert words in line
        assert kernels[name].returncode == 2
    assert left_in(runtime) == []


async def test_sigterm_while_it_waits_for_the_acknowledgement_leaves_nothing_behind(
    tmp_path: Path, runtime: Path
) -> None:
    file, place = tmp_path / "registration.json", ConnectionInfo(key="another key")
    with Registrar(ConnectionInfo()) as registrar:
        write_connection_file(file, place)
        fields = {**registrar.registration.as_dict(), "key": "another key"}
        file.write_text(json.dumps(fields))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registrar.wait_registered)
            with started(file) as process:
                await trio.to_thread.run_sync(wait_until, lambda: registrar.refused, "it registers")
                process.send_signal(signal.SIGTERM)
                await trio.to_thread.run_sync(process.wait)
            nursery.cancel_scope.cancel()
    assert process.returncode == -signal.SIGTERM
    assert os.listdir(runtime) == []
