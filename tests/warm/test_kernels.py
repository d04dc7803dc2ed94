"""Kernels that a fork server starts, in programs with Trio and in Jupyter's own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from trikernel.cli import main
from trikernel.client import open_fork_server, open_kernel
from trikernel.errors import KernelDied
from trikernel.warm.packets import NotWarm, packet_pair
from trikernel.warm.provisioner import WarmProvisioner
from trikernel.warm.server import ForkServer
from trikernel.warm.starting import Command, shared_path

from ..processes import wait_until
from .entry_points import write_entry_points
from .forks import children, forked, has_ended

assert sys.platform == "linux"  # else the folder is not collected


@pytest.fixture(scope="module")
def kernels() -> Iterator[ForkServer]:
    server = ForkServer()
    server.start()
    assert server.unavailable is None
    yield server
    server.close()


async def test_a_kernel_is_forked_and_is_a_kernel_as_any(
    kernels: ForkServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    variables = {"MY_VARIABLE": "mine"}
    async with open_kernel(warm=kernels, cwd=tmp_path, env=variables) as client:
        cell = await client.execute(
            "import os, sys\n"
            "print(os.getppid(), os.getcwd(), os.environ['MY_VARIABLE'], sys.argv[1:3])\n"
            "print(os.environ['JPY_PARENT_PID'])\n"
            "os.write(2, b'a line for the log');"
        )
        assert cell.stdout.splitlines() == [
            f"{kernels.template_pid} {tmp_path} mine ['start', '-f']",
            str(os.getpid()),
        ]
        assert (await client.execute("1 / 0")).error is not None
    wait_until(lambda: not children(kernels.template_pid), "its end")
    assert not caplog.records


STATE = """
import decimal, faulthandler, gc, json, locale, logging, multiprocessing, os, random, resource
import signal, sys, threading, warnings
limits = {one: resource.getrlimit(getattr(resource, one))
          for one in sorted(dir(resource)) if one.startswith("RLIMIT_")}
names = [one for one in os.environ if one not in ("JPY_PARENT_PID", "TRIKERNEL_REGISTRATION")]
print(json.dumps({
    "argv": [len(sys.argv), *sys.argv[1:3]], "orig": sys.orig_argv[:-1], "path": sys.path,
    "flags": repr(sys.flags), "main": sorted(vars(sys.modules["__main__"]).keys())[:4],
    "environment": {one: os.environ[one] for one in names}, "umask": os.umask(0o22),
    "limits": limits, "locale": [locale.setlocale(one) for one in range(6)],
    "faulthandler": faulthandler.is_enabled(), "gc": [gc.isenabled(), gc.get_threshold()],
    "switch": sys.getswitchinterval(), "recursion": sys.getrecursionlimit(),
    "excepthook": repr(sys.excepthook)[:20], "decimal": repr(decimal.getcontext()),
    "start": multiprocessing.get_start_method(allow_none=True), "root": logging.root.level,
    "handlers": len(logging.root.handlers), "tracing": [repr(sys.gettrace()), threading.gettrace()],
    # SIGWINCH tells of the parent's end, which a fork of a template is not told
    "signals": {int(one): str(signal.getsignal(one))[:30] for one in signal.valid_signals()
                if one != signal.SIGWINCH},
    "ppid of main": os.getsid(0) == os.getpid(), "thread": threading.current_thread().name,
    "native": threading.main_thread().native_id == os.getpid(), "bytecode": sys.dont_write_bytecode,
    "encodings": [sys.stdin.encoding, sys.__stdout__.encoding, sys.__stderr__.errors],
}, default=str))
"""
OWN = """
import json, random, time, uuid, resource
history = get_ipython().history_manager
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([history.session_number, str(uuid.uuid4()), random.random(),
                  used.ru_utime + used.ru_stime < 60, history.save_thread.is_alive()]))
"""


async def test_its_state_is_that_of_a_kernel_that_was_started_cold(kernels: ForkServer) -> None:
    async with open_kernel(warm=kernels) as warm, open_kernel() as cold:
        states = [json.loads((await one.execute(STATE)).stdout) for one in (warm, cold)]
        assert states[0] == states[1]
        own = [json.loads((await one.execute(OWN)).stdout) for one in (warm, cold)]
        assert not {map(str, own[0][:3])} & {map(str, own[1][:3])}
        assert own[0][3:] == own[1][3:] == [True, True]


MODULES = "import sys; from trikernel.warm.preloading import import_base; import_base(); "


async def test_a_first_cell_and_a_first_error_import_nothing(kernels: ForkServer) -> None:
    code = "print(*sys.modules)"
    found = await trio.run_process(
        [sys.executable, "-P", "-c", MODULES + code], capture_stdout=True, check=True
    )
    async with open_kernel(warm=kernels) as client:
        assert (await client.execute("1 / 0")).error is not None
        cell = await client.execute(f"import sys\n{code}")
    new = set(cell.stdout.split()) - set(found.stdout.decode().split())
    assert {one.partition(".")[0] for one in new} <= {"ipykernel", "trikernel"}
    ours = {one for one in new if one.startswith("trikernel.")}
    of_template = ("template", "running", "last_words")
    assert ours <= {f"trikernel.warm.{one}" for one in of_template}


async def test_how_a_kernel_died_is_told(kernels: ForkServer) -> None:
    async with open_kernel(warm=kernels) as client:
        with pytest.raises(KernelDied, match=r"died by signal 9 \(Killed\)"):
            await client.execute("import os; os.kill(os.getpid(), 9)")
    async with open_kernel(warm=kernels) as client:
        with pytest.raises(KernelDied, match="died with exit code 3"):
            await client.execute("import os; os._exit(3)")


async def test_a_cell_is_interrupted_by_a_signal(kernels: ForkServer) -> None:
    async with open_kernel(warm=kernels) as client:
        with trio.move_on_after(0.5):
            await client.execute("import time\nwhile True: time.sleep(100)")
        assert (await client.execute("'alive'")).result == {"text/plain": "'alive'"}


async def test_where_it_cannot_be_forked_it_starts_and_one_line_says_why(
    kernels: ForkServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_kernel(warm=kernels, env={"PYTHONHASHSEED": "7"}) as client:
        cell = await client.execute("import os; print(os.getppid())")
        assert cell.stdout.split() == [str(os.getpid())]
    assert [one.getMessage() for one in caplog.records] == [
        "a kernel starts in the ordinary way: "
        "the environment variable PYTHONHASHSEED is another one than its template's"
    ]


async def test_the_block_ends_its_template() -> None:
    async with open_fork_server() as server:
        assert server.left_out == []
        assert not has_ended(server.template_pid)
    wait_until(lambda: has_ended(server.template_pid), "its end")
    with pytest.raises(NotWarm, match="is closed"):
        forked(server, "")


def test_a_program_without_processes_that_fork_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    server = ForkServer()
    server.start()
    assert server.unavailable == "warm starts are not offered on darwin"


def test_one_that_is_closed_as_it_begins_does_not_wait_for_a_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = ForkServer()
    closing = threading.Thread(target=server.close)

    def make_pair() -> Any:
        closing.start()
        wait_until(lambda: server._is_closed, "the close")
        return packet_pair()

    monkeypatch.setattr("trikernel.warm.server.packet_pair", make_pair)
    server.start()
    closing.join()
    assert server.unavailable == "its fork server is closed"
    assert server.template_pid is None


def test_a_list_of_modules_is_no_text() -> None:
    with pytest.raises(TypeError, match=r"as in \['pandas'\]"):
        ForkServer("pandas")


# Jupyter


@pytest.fixture
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Managers of kernels of a kernelspec that names the provisioner; its template ends."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    monkeypatch.syspath_prepend(str(write_entry_points(tmp_path)))
    KernelProvisionerFactory.clear_instance()  # it has read those of before
    assert main(["install", "--prefix", str(tmp_path), "--name", "warm", "--warm"]) == 0
    yield lambda: AsyncKernelManager(kernel_name="warm")
    for pid in templates(runtime):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not templates(runtime), "the template's end")


def templates(runtime: Path) -> list[int]:
    """The processes of templates whose place is in that folder."""
    processes = psutil.process_iter(["cmdline"])
    commands = [(one.pid, one.info["cmdline"] or []) for one in processes]
    return [pid for pid, command in commands if any(str(runtime) in one for one in command)]


def sockets(runtime: Path) -> list[Path]:
    return [one for one in runtime.rglob("*") if one.is_socket()]


async def _parent(manager: Any) -> int:
    """Who has forked the kernel, once that answers."""
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
    finally:
        client.stop_channels()
    parent: int = psutil.Process(manager.provisioner.pid).ppid()
    return parent


def test_what_is_preloaded_stands_in_the_kernelspec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["install", "--prefix", str(tmp_path), "--name", "warm"]
    assert main([*where, "--warm", "--preload", "pandas, matplotlib.pyplot"]) == 0
    (file,) = tmp_path.rglob("kernel.json")
    assert json.loads(file.read_text())["metadata"]["kernel_provisioner"] == {
        "provisioner_name": "trikernel-warm",
        "config": {"preload": ["pandas", "matplotlib.pyplot"]},
    }
    monkeypatch.setattr("trikernel.warm.warm_is_possible", lambda: "not here")
    assert main([*where, "--warm"]) == 0
    assert "trikernel: warning: not here" in capsys.readouterr().err
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **what: ())
    assert main([*where, "--warm"]) == 0
    assert "Jupyter finds no provisioner trikernel-warm here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--preload", "pandas"], "--preload goes with --warm"),
        (["--warm", "--preload", "a-b"], "--preload: 'a-b' is no module's name"),
        (["--warm", "--wrap", "bash"], "--warm, --preload and --remote do not go with --wrap"),
    ],
)
def test_flags_that_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    assert main(["install", "--prefix", str(tmp_path), *flags]) == 2
    assert capsys.readouterr().err == f"trikernel: error: {words}\n"


@pytest.mark.parametrize("amiss", ["open to others", "a link", "of another user"])
def test_a_place_that_others_may_enter_is_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amiss: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "trikernel-warm"
    if amiss == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777 if amiss == "open to others" else 0o700)
    if amiss == "of another user":
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(NotWarm, match=r"there is no place for its template: .*user"):
        shared_path(Command(sys.executable, ("-P",), ()), [], {})


def test_jupyter_starts_and_restarts_kernels_by_a_shared_template(
    jupyter: Callable[[], Any], tmp_path: Path
) -> None:
    async def scenario() -> None:
        manager = jupyter()
        await manager.start_kernel()
        assert await _parent(manager) == os.getpid()  # the first is what starts the template
        wait_until(lambda: sockets(tmp_path), "the template to listen")
        await manager.restart_kernel(now=True)
        template = await _parent(manager)
        assert template in templates(tmp_path / "run")
        provisioner = manager.provisioner
        assert isinstance(provisioner, WarmProvisioner)
        first = provisioner.pid
        await manager.restart_kernel()
        assert provisioner.pid != first
        assert await _parent(manager) == template
        assert provisioner.has_process
        assert await provisioner.poll() is None
        await provisioner.send_signal(signal.SIGINT)
        assert await manager.is_alive()
        await provisioner.kill()
        assert await provisioner.wait() == -signal.SIGKILL
        assert not provisioner.has_process
        await manager.cleanup_resources()

    asyncio.run(scenario())
    (place,) = sockets(tmp_path)
    assert place.parent.stat().st_mode & 0o777 == 0o700
