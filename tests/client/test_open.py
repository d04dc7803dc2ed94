"""Kernels in processes: started, found ready, watched, and ended whatever happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
import trio
import zmq

from trikernel.client import Client, Execution, connect, open_client, open_kernel
from trikernel.client.open import wait_until_ready
from trikernel.errors import (
    ConnectionFileError,
    ExecutionTimeout,
    KernelDied,
    KernelNotReady,
    NoSuchKernel,
)
from trikernel.transport import ConnectionInfo, ZmqClientTransport

from ..processes import ROOT, KernelProcess, kernel_process, wait_until

pytestmark = pytest.mark.slow  # processes, whatever the Python

TIMEOUT = 60
HERE = "tcp://127.0.0.1"
DIES = "import sys; print('the reason', file=sys.stderr); sys.exit(3)"
NEVER_ANSWERS = "import time; time.sleep(1000)"
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
from trikernel.python import PythonKernel
class Stubborn(PythonKernel):
    async def do_shutdown(self, restart):
        import trio
        with trio.CancelScope(shield=True):
            await trio.sleep(1000)
import trikernel
trikernel.main(Stubborn)
"""


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kernelspecs that jupyter_client looks into."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return tmp_path / "kernels"


def add_spec(specs: Path, name: str, code: str, **fields: object) -> None:
    folder = specs / name
    folder.mkdir(parents=True)
    argv = [sys.executable, "-c", code, "-f", "{connection_file}"]
    env = {"PYTHONPATH": str(ROOT)}
    spec = {"argv": argv, "display_name": name, "language": "python", "env": env, **fields}
    (folder / "kernel.json").write_text(json.dumps(spec))


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    yield
    left = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
    assert left == []


async def test_the_default_kernel_needs_no_kernelspec() -> None:
    async with open_kernel() as client:
        assert client.info["implementation"] == "trikernel"
        execution = await client.execute("import sys; print(sys.executable)")
        assert execution.stdout.strip() == sys.executable


async def test_any_kernelspec_can_be_started() -> None:
    async with open_kernel("python3") as client:
        assert client.info["implementation"] == "ipython"
        execution = await client.execute("print('hi'); 6 * 7")
        assert (execution.stdout, execution.result) == ("hi\n", {"text/plain": "42"})
        assert (await client.execute("1/0")).error is not None
        with pytest.raises(ExecutionTimeout):
            await client.execute("import time; time.sleep(1000)", timeout=0.5)
        assert (await client.execute("input()", on_input=lambda *_: "typed")).result == {
            "text/plain": "'typed'"
        }


async def test_it_works_in_the_folder_and_the_environment_that_are_given(tmp_path: Path) -> None:
    async with open_kernel(cwd=tmp_path, env={"COLOUR": "blue"}) as client:
        code = "import os; print(os.getcwd(), os.environ['COLOUR'])"
        assert (await client.execute(code)).stdout == f"{tmp_path} blue\n"


async def test_an_unknown_kernelspec_is_told_with_those_that_are_there() -> None:
    with pytest.raises(NoSuchKernel, match=r"no kernelspec 'nonsense'; installed are: .*python3"):
        async with open_kernel("nonsense"):
            pass


async def test_a_kernel_that_dies_at_its_start_shows_its_last_words(specs: Path) -> None:
    add_spec(specs, "dies", DIES)
    with pytest.raises(KernelNotReady) as caught:
        async with open_kernel("dies"):
            pass
    assert str(caught.value).startswith("kernel 'dies' died with exit code 3")
    assert "the reason" in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


async def test_a_kernel_whose_ports_are_taken_is_started_once_more(specs: Path) -> None:
    """They are chosen before it binds them, and somebody else may come in between."""
    add_spec(
        specs,
        "unlucky",
        "import os, sys\n"
        "path = os.environ['TRIED']\n"
        "tries = os.path.getsize(path) if os.path.exists(path) else 0\n"
        "open(path, 'a').write('x')\n"
        "if not tries: sys.exit('cannot bind tcp://127.0.0.1:1: Address already in use')\n"
        "from trikernel.cli import main\n"
        "sys.exit(main(['start', *sys.argv[1:]]))",
    )
    tried = specs / "tried"
    async with open_kernel("unlucky", env={"TRIED": str(tried)}) as client:
        assert (await client.execute("1 + 1")).result == {"text/plain": "2"}
    assert tried.read_text("utf-8") == "xx"


async def test_a_kernel_whose_program_is_missing_says_so(specs: Path) -> None:
    add_spec(specs, "missing", "", argv=["/no/such/program", "{connection_file}"])
    with pytest.raises(KernelNotReady, match=r"'missing' cannot be started: .*/no/such/program"):
        async with open_kernel("missing"):
            pass


async def test_a_kernel_that_never_answers_is_given_up(specs: Path) -> None:
    add_spec(specs, "silent", NEVER_ANSWERS)
    with pytest.raises(KernelNotReady, match="has not answered within"):
        async with open_kernel("silent", timeout=0.5):
            pass


async def test_a_kernel_that_speaks_garbage_is_given_up_and_the_garbage_counted(
    specs: Path,
) -> None:
    code = (
        "import json, sys, zmq\n"
        "info = json.load(open(sys.argv[-1])); context = zmq.Context()\n"
        "shell = context.socket(zmq.ROUTER); shell.bind(f\"tcp://127.0.0.1:{info['shell_port']}\")\n"
        "while True:\n"
        "    who = shell.recv_multipart()[0]\n"
        "    shell.send_multipart([who, b'garbage'])\n"
    )
    add_spec(specs, "garbage", code)
    with pytest.raises(KernelNotReady, match=r"messages of it could not be read: {'delimiter'"):
        async with open_kernel("garbage", timeout=6):
            pass


async def test_a_kernel_that_dies_in_a_cell_fails_every_waiter() -> None:
    errors = []

    async def wait_for(execution: Execution) -> None:
        try:
            await execution.wait()
        except KernelDied as error:
            errors.append(str(error))

    async with open_kernel() as client:
        async with trio.open_nursery() as nursery:
            for code in ("import os, time; time.sleep(.3); os._exit(7)", "1", "2"):
                nursery.start_soon(wait_for, client.start(code))
        assert errors == ["kernel 'trikernel' died with exit code 7"] * 3
        with pytest.raises(KernelDied):
            await client.kernel_info()


async def test_a_kernel_that_is_killed_is_noticed_at_once() -> None:
    async with open_kernel() as client:
        pid = int((await client.execute("import os; print(os.getpid())")).stdout)
        await client.execute(
            "from comm import get_comm_manager as m\nm().register_target('t', print)"
        )
        comm = client.comm_open("t")
        execution = client.start("import time; time.sleep(1000)")
        await execution.wait_started()
        os.kill(pid, signal.Signals["SIGKILL"])
        with trio.fail_after(TIMEOUT), pytest.raises(KernelDied, match="died by signal 9"):
            await execution.wait()
        with trio.fail_after(TIMEOUT), pytest.raises(KernelDied, match="died by signal 9"):
            await comm.receive()


async def test_a_kernel_ends_with_the_processes_that_it_started() -> None:
    async with open_kernel() as client:
        code = "import subprocess as s; p = s.Popen(['sleep', '1000']); print(p.pid)"
        pid = int((await client.execute(code)).stdout)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"


async def test_the_block_may_end_in_any_way() -> None:
    with pytest.raises(LookupError):
        async with open_kernel() as client:
            raise LookupError
    with trio.move_on_after(0.1) as scope:
        async with open_kernel():
            await trio.sleep_forever()
    assert scope.cancelled_caught
    async with open_kernel() as client:
        with trio.move_on_after(0.3):
            async with client.executing("import time; time.sleep(1000)"):
                await trio.sleep_forever()


async def test_a_stubborn_kernel_is_killed_in_the_end(specs: Path) -> None:
    add_spec(specs, "stubborn", STUBBORN)
    async with open_kernel("stubborn", shutdown_timeout=0.5) as client:
        await client.execute("1")
        start = time.monotonic()
    assert time.monotonic() - start < TIMEOUT


async def test_a_kernelspec_may_want_to_be_interrupted_by_message(specs: Path) -> None:
    argv = [sys.executable, "-m", "trikernel", "start", "-f", "{connection_file}"]
    add_spec(specs, "by-message", "", argv=argv, interrupt_mode="message")
    async with open_kernel("by-message") as client:
        with pytest.raises(ExecutionTimeout, match=r"was interrupted$"):
            await client.execute("import time; time.sleep(1000)", timeout=0.3)


@pytest.fixture
def running() -> Iterator[KernelProcess]:
    """A kernel that somebody else has started."""
    with kernel_process() as kernel:
        yield kernel


async def test_a_running_kernel_can_be_joined_and_goes_on(running: KernelProcess) -> None:
    async with connect(running.path) as client:
        await client.execute("x = 5")
        async with connect(running.path) as other:
            assert (await other.execute("x")).result == {"text/plain": "5"}
    async with connect(running.path) as client:
        assert (await client.execute("x")).result == {"text/plain": "5"}


async def test_without_its_heartbeat_a_kernel_counts_as_dead(running: KernelProcess) -> None:
    async with connect(running.path, heartbeat=0.5) as client:
        await client.execute("import time; time.sleep(1.5)")  # busy is not dead
        running.process.send_signal(signal.Signals["SIGSTOP"])
        execution = client.start("1")
        with trio.fail_after(TIMEOUT), pytest.raises(KernelDied, match="no heartbeat for"):
            await execution.wait()
        running.process.send_signal(signal.Signals["SIGCONT"])


async def test_nobody_at_the_other_end_is_told_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
        info = attrs.evolve(ConnectionInfo(), **dict.fromkeys(names, port))
        with pytest.raises(KernelNotReady, match="has not answered within"):
            async with connect(info, timeout=0.3):
                pass


def _takes_nothing(socket: zmq.Socket[bytes]) -> bool:
    try:
        socket.send(b"", zmq.NOBLOCK)
    except zmq.Again:
        return True
    return False


async def test_a_client_whose_ports_were_others_before_connects_anew() -> None:
    from trikernel import Kernel, ZmqTransport, serve

    class Echo(Kernel):
        async def do_execute(self, code: str, silent: bool, **options: object) -> None:
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})

    with zmq.Context() as context:
        kinds = {"iopub": zmq.ROUTER, "shell": zmq.XPUB, "control": zmq.XPUB}
        others = {name: context.socket(kind) for name, kind in kinds.items()}
        ports: dict[str, Any] = {
            f"{name}_port": one.bind_to_random_port(HERE) for name, one in others.items()
        }
        with ZmqClientTransport(ConnectionInfo(**ports)) as early:
            for name in ("shell", "control"):  # libzmq does not tell that it gives one up
                wait_until(partial(_takes_nothing, getattr(early, name)._socket), "its loss")
            context.destroy(linger=0)
            with ZmqTransport(early.info) as transport:
                async with trio.open_nursery() as nursery:
                    server = await nursery.start(serve, Echo(), transport)
                    async with open_client(early) as client:
                        await wait_until_ready(client, TIMEOUT)
                        assert (await client.execute("heard")).stdout == "heard"
                    server.stop()


async def test_a_connection_file_that_is_wrong_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFileError, match="there is no such file"):
        async with connect(tmp_path / "none.json"):
            pass


async def test_an_encrypted_kernel_is_spoken_to() -> None:
    if not zmq.has("curve"):
        pytest.skip("libzmq was built without curve")
    from trikernel import Kernel, ZmqTransport, serve

    class Echo(Kernel):
        async def do_execute(self, code: str, silent: bool, **options: object) -> None:
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})

    public, secret = zmq.curve_keypair()
    curve = {"curve_publickey": public.decode(), "curve_secretkey": secret.decode()}
    with ZmqTransport(ConnectionInfo(extra=curve)) as transport:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve, Echo(), transport)
            async with connect(transport.info) as client:
                assert (await client.execute("secret")).stdout == "secret"
            with ZmqClientTransport(attrs.evolve(transport.info, key="x", extra={})) as plain:
                plain.shell.send_nowait([b"x"])
            server.stop()


def test_no_thread_is_left() -> None:
    async def main() -> None:
        async with open_kernel() as client:
            await client.execute("1")

    before = threading.active_count()
    trio.run(main)
    wait_until(lambda: threading.active_count() <= before, "trio's idle worker threads to end")


async def test_a_flood_of_output_keeps_no_other_task_waiting() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.01)
            turns += 1

    async with open_kernel() as client, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        with trio.fail_after(TIMEOUT), pytest.raises(ExecutionTimeout):
            await client.execute("while True: print('x', flush=True)", timeout=1)
        assert turns > 10
        nursery.cancel_scope.cancel()


async def test_a_queued_cell_that_is_given_up_costs_no_other_cell_anything() -> None:
    async with open_kernel() as client:
        for _ in range(5):
            first = client.start("import time; time.sleep(0.2)")
            with trio.move_on_after(0.05):
                await client.execute("pass")
            third = client.start("time.sleep(0.2); print('whole')")
            assert (await first.wait()).status == "ok"
            assert (await third.wait()).stdout == "whole\n"


async def test_a_kernel_that_goes_idle_without_a_reply_is_not_waited_for() -> None:
    """ipykernel, interrupted before the code has begun."""
    async with open_kernel("python3") as client:
        start = time.monotonic()
        for milliseconds in range(6):
            with trio.move_on_after(milliseconds / 2000):
                await client.execute("pass")
        assert (await client.execute("1")).done
        assert time.monotonic() - start < 20


async def test_reading_a_kernels_log_does_not_disturb_it() -> None:
    async with open_kernel() as client:
        for number in range(3):
            await client.execute(f"import sys; print('line {number}', file=sys.__stderr__)")
            client.log_tail()
        code = "import os; from trikernel.system import real_stderr as e\n"
        for number in range(3):
            await client.execute(f"{code}e.write('line {number}\\n'); e.flush()")
            assert f"line {number}" in client.log_tail()
        assert client.log_tail().count("line") == 3


async def test_busy_on_shell_a_kernel_can_be_joined(running: KernelProcess) -> None:
    async with connect(running.path) as client:
        execution = client.start("import time; time.sleep(1000)")
        await execution.wait_started()
        async with connect(running.path, timeout=TIMEOUT) as other:
            await other.interrupt()
        await execution.wait()


async def test_a_kernel_without_a_local_process_is_asked_whether_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a remote provisioner's is: there is nothing here that the system could watch."""
    monkeypatch.setattr(
        "trikernel.client.kernel_process.KernelProcess._local_process", lambda self: None
    )
    async with open_kernel() as client:
        pid = int((await client.execute("import os; print(os.getpid())")).stdout)
        os.kill(pid, signal.Signals["SIGKILL"])
        with trio.fail_after(TIMEOUT), pytest.raises(KernelDied, match="'trikernel' ended"):
            await client.start("1").wait()
    async with open_kernel() as client:
        assert (await client.execute("1")).status == "ok"


async def test_a_provisioner_that_fails_at_the_end_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(self: object, now: bool = False) -> None:
        raise RuntimeError("cannot reach the cluster")

    with pytest.raises(LookupError):  # noqa: PT012  # the body's error, not the provisioner's
        async with open_kernel(shutdown_timeout=0.1) as client:
            await client.execute("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
            monkeypatch.setattr("jupyter_client.manager.AsyncKernelManager.shutdown_kernel", fail)
            raise LookupError


async def test_other_peoples_threads_do_not_delay_an_interrupt() -> None:
    release = threading.Event()
    async with open_kernel() as client, trio.open_nursery() as nursery:
        for _ in range(int(trio.to_thread.current_default_thread_limiter().total_tokens)):
            nursery.start_soon(trio.to_thread.run_sync, lambda: release.wait())
        await trio.testing.wait_all_tasks_blocked()
        try:
            with trio.fail_after(TIMEOUT), pytest.raises(ExecutionTimeout, match=r"interrupted$"):
                await client.execute("while True: pass", timeout=0.3)
        finally:
            release.set()


async def test_a_cell_that_survived_an_interrupt_is_interrupted_again_by_its_deadline() -> None:
    code = """
import time
try:
    print("begun", flush=True)
    time.sleep(1000)
except KeyboardInterrupt:
    print("survived", flush=True)
time.sleep(1000)
"""
    async with open_kernel() as client:
        with pytest.raises(ExecutionTimeout, match=r"was interrupted$") as caught:
            await _interrupt_once(client, code)
        assert isinstance(caught.value.execution, Execution)
        assert caught.value.execution.stdout == "begun\nsurvived\n"


async def _interrupt_once(client: Client, code: str) -> None:
    async with client.executing(code, timeout=3) as execution:
        async for output in execution:
            if output["text"] == "begun\n":
                await client.interrupt()
