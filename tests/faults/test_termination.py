"""SIGTERM and SIGHUP are a shutdown like any other; a second one ends at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from trikernel.client import Client, connect
from trikernel.errors import KernelDied
from trikernel.transport import ConnectionInfo, write_connection_file

from ..processes import ROOT, TIMEOUT, wait_until
from .processes import HERE, environment, until_text

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")

GRACE = 2.0  # seconds
SIGNALS = ["SIGTERM", "SIGHUP"]
MAINLY_SIGTERM = ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.thorough)]
SCRIPT = ("-m", HERE)  # which makes its own connection file
PYTHON_KERNEL = ("-m", "trikernel", "start")


@pytest.fixture(autouse=True)
def _signals_come_through() -> Iterator[None]:
    """Whatever started the tests may ignore one, as ``nohup`` does: kernels would inherit that."""
    before = {name: signal.signal(getattr(signal, name), signal.SIG_DFL) for name in SIGNALS}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@attrs.frozen
class Started:
    """A kernel that has made its own connection file, and a client of it."""

    process: subprocess.Popen[str]
    runtime: Path
    marks: Path
    client: Client

    def marked(self) -> list[str]:
        return self.marks.read_text().splitlines() if self.marks.exists() else []

    def files(self) -> list[Path]:
        return sorted(self.runtime.glob("kernel-*.json"))

    async def ended(self, seconds: float = TIMEOUT) -> int:
        """Wait for its end; the exit code. Fails when it takes longer."""
        with trio.fail_after(seconds):
            return await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)


@asynccontextmanager
async def own_file(command: tuple[str, ...] = SCRIPT, *flags: str) -> AsyncIterator[Started]:
    """Start a kernel without a connection file; it is killed in the end."""
    with tempfile.TemporaryDirectory() as folder:
        runtime, marks = Path(folder, "runtime"), Path(folder, "marks")
        process = _start(command, flags, folder)
        try:
            path = await trio.to_thread.run_sync(_own_path, process, runtime)
            async with connect(path, heartbeat=None) as client:
                yield Started(process, runtime, marks, client)
        finally:
            process.kill()
            await trio.to_thread.run_sync(process.communicate)


def _start(command: tuple[str, ...], flags: tuple[str, ...], folder: str) -> subprocess.Popen[str]:
    env = environment(
        folder,
        MARKS=str(Path(folder, "marks")),
        JUPYTER_RUNTIME_DIR=str(Path(folder, "runtime")),
    )
    return subprocess.Popen(
        [sys.executable, *command, *flags],
        cwd=ROOT,
        env={**os.environ, **env},
        stderr=subprocess.PIPE,
        text=True,
    )


def _own_path(process: subprocess.Popen[str], runtime: Path) -> Path:
    """Its file, once the ports are in it; other kernels' files may lie there too."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "--existing kernel-" in line, line + process.communicate()[1]
    path = runtime / line.split("--existing ")[1].strip()
    wait_until(lambda: '"shell_port": 0' not in path.read_text(), "the ports")
    return path


@pytest.mark.parametrize("name", SIGNALS)
async def test_an_idle_kernel_is_shut_down_and_leaves_no_file(name: str) -> None:
    async with own_file() as kernel:
        assert len(kernel.files()) == 1
        kernel.process.send_signal(getattr(signal, name))
        await kernel.ended()
        assert kernel.files() == []
        assert kernel.marked() == ["do_shutdown restart=False"]


AS_IT_STARTS = """
import os, signal, sys
from tests.faults.kernels import Author
from trikernel.core.server import Server, Stopper
import trikernel

owner, name = sys.argv.pop(1).split(".")
owner = {"Server": Server, "Stopper": Stopper}[owner]
function = getattr(owner, name)

def signalled(*args, **options):
    setattr(owner, name, function)  # once
    os.kill(os.getpid(), signal.SIGTERM)
    return function(*args, **options)

setattr(owner, name, signalled)
trikernel.main(Author)
"""
POINTS = [
    "Server.run",
    "Stopper.install",
    *(f"Server.{one}" for one in ("_open_services", "_run_user_tasks", "_start", "_start_lane")),
]


@pytest.mark.parametrize("point", POINTS)
def test_a_kernel_that_starts_is_shut_down(point: str, tmp_path: Path) -> None:
    """The signal comes before what serves it: between any two steps of a start."""
    command = ("-c", AS_IT_STARTS, point)
    with _start(command, (), str(tmp_path)) as process:
        try:
            log = process.communicate(timeout=TIMEOUT)[1]
        finally:
            process.kill()
    assert (process.returncode, list((tmp_path / "runtime").glob("*"))) == (0, []), log


AS_A_LOOP_IS_LOST = """
import os, signal, sys, time
from tests.faults.kernels import Marking
from trikernel.core.services import ServiceThread
import trikernel, trio

class Falling(Marking):
    async def started(self):
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.lowlevel.wait_task_rescheduled(self.fall_over)

    def fall_over(self, raise_cancel):
        os.kill(os.getpid(), signal.SIGTERM)
        while self.server._shutdown is None:
            time.sleep(0.01)
        raise RuntimeError("Trio crashes, and no task of this loop runs again")

if sys.argv.pop(1) == "begin":  # a moment after it was seen that they have not
    end_now = ServiceThread.end_now
    ServiceThread.end_now = lambda self, shuts_down: end_now(self, shuts_down=False)
trikernel.main(Falling)
"""


@pytest.mark.parametrize(("services", "marks"), [("go on", []), ("begin", ["restart=False"])])
def test_one_that_comes_as_a_loop_is_lost_is_carried_out(
    services: str, marks: list[str], tmp_path: Path
) -> None:
    """By the services, which no longer have a loop to call the author in; or, if they were just
    beginning with it, once more in the next loop.
    """
    with _start(("-c", AS_A_LOOP_IS_LOST, services), (), str(tmp_path)) as process:
        try:
            log = process.communicate(timeout=TIMEOUT)[1]
        finally:
            process.kill()
    assert (process.returncode, list((tmp_path / "runtime").glob("*"))) == (0, []), log
    marked = tmp_path / "marks"
    written = marked.read_text().splitlines() if marked.exists() else []
    assert written == [f"do_shutdown {one}" for one in marks]


async def test_one_that_another_thread_takes_is_heard() -> None:
    """Nothing wakes the main thread from its wait then, or if it has just begun to wait."""
    async with own_file(PYTHON_KERNEL) as kernel:
        (
            await kernel.client.execute(
                "import signal, threading, time\n"
                "def take():\n"
                "    time.sleep(2)  # the kernel is idle by then\n"
                "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
                "    time.sleep(1000)  # its end would wake the main thread\n"
                "threading.Thread(target=take, daemon=True).start()"
            )
        ).raise_for_error()
        await kernel.ended()


@pytest.mark.parametrize("name", MAINLY_SIGTERM)
async def test_clients_hear_the_last_word(name: str) -> None:
    async with own_file() as kernel:
        with kernel.client.subscribe() as messages:
            kernel.process.send_signal(getattr(signal, name))
            with trio.fail_after(TIMEOUT):
                async for message in messages:
                    if message.msg_type == "shutdown_reply":
                        break
                else:
                    raise AssertionError("the kernel has ended without its last word")
        await kernel.ended()


@pytest.mark.parametrize("name", MAINLY_SIGTERM)
async def test_tasks_and_the_running_cell_clean_up(name: str) -> None:
    async with own_file(SCRIPT, "--shutdown-grace", str(GRACE)) as kernel:
        await kernel.client.execute("background")
        execution = kernel.client.start("wait")
        queued = kernel.client.start("say never")
        await until_text(execution, "begun")
        kernel.process.send_signal(getattr(signal, name))
        await kernel.ended()
        assert sorted(kernel.marked()) == [
            "background finally",
            "cell finally",
            "do_shutdown restart=False",
        ]
        assert kernel.files() == []
        with trio.fail_after(TIMEOUT):
            await queued.wait()
            assert queued.status == "aborted"
            with pytest.raises(KernelDied):  # the running one: see below
                await execution.wait()


@pytest.mark.parametrize("name", MAINLY_SIGTERM)
@pytest.mark.parametrize(
    "code",
    ["await trio.sleep_forever()", "time.sleep(100)", "while True: pass"],
)
async def test_a_busy_python_kernel_ends_within_the_grace(name: str, code: str) -> None:
    async with own_file(PYTHON_KERNEL, "--shutdown-grace", str(GRACE)) as kernel:
        marks = str(kernel.marks)
        (
            await kernel.client.execute(
                "import atexit, time, trio\n"
                "from pathlib import Path\n"
                "from trikernel.notebook import nursery\n"
                f"def mark(text, path=Path({marks!r})):\n"
                "    with path.open('a') as file: file.write(text + '\\n')\n"
                "async def wait():\n"
                "    try: await trio.sleep_forever()\n"
                "    finally: mark('background finally')\n"
                "nursery.start_soon(wait)\n"
                "await trio.sleep(0)\n"
                "atexit.register(mark, 'atexit')"
            )
        ).raise_for_error()
        execution = kernel.client.start(
            f"try:\n    print('begun', flush=True)\n    {code}\nfinally: mark('cell finally')"
        )
        await until_text(execution, "begun")
        kernel.process.send_signal(getattr(signal, name))
        await kernel.ended(2 * GRACE + 20)
        assert kernel.marked() == ["cell finally", "background finally", "atexit"]
        assert kernel.files() == []


@pytest.mark.parametrize("more", ["", "\nimport time; time.sleep(60)"])
async def test_the_cell_that_runs_gets_no_reply(more: str) -> None:
    """Programs that run notebooks would take it for an end; they learn that the process is gone."""
    grace = "--shutdown-grace", "20"  # a busy machine may take a while to show the first error
    async with own_file(PYTHON_KERNEL, *grace) as kernel:
        code = "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)"
        execution = kernel.client.start(code + more)
        with pytest.raises(KernelDied):
            await execution.wait()
        shown = execution.outputs[-1]
        assert shown["evalue"] == "the kernel was told to end by a signal"
        await kernel.ended()


async def test_a_second_one_ends_at_once() -> None:
    async with own_file(SCRIPT, "--shutdown-grace", "50") as kernel:
        execution = kernel.client.start("linger 60")
        await until_text(execution, "begun")
        kernel.process.send_signal(signal.SIGTERM)
        await trio.to_thread.run_sync(
            wait_until, lambda: "lingers" in kernel.marked(), "the shutdown to have begun"
        )
        assert kernel.process.poll() is None
        kernel.process.send_signal(signal.SIGTERM)
        await kernel.ended(10)


async def test_a_second_one_ends_a_clean_up_that_awaits() -> None:
    async with own_file(PYTHON_KERNEL, "--shutdown-grace", "50") as kernel:
        execution = kernel.client.start(
            "import trio\n"
            "from pathlib import Path\n"
            "try:\n"
            "    print('begun', flush=True)\n"
            "    await trio.sleep_forever()\n"
            "finally:\n"
            f"    Path({str(kernel.marks)!r}).write_text('lingers')\n"
            "    with trio.CancelScope(shield=True): await trio.sleep(60)"
        )
        await until_text(execution, "begun")
        kernel.process.send_signal(signal.Signals["SIGHUP"])
        await trio.to_thread.run_sync(
            wait_until, lambda: "lingers" in kernel.marked(), "the shutdown to have begun"
        )
        assert kernel.process.poll() is None
        kernel.process.send_signal(signal.Signals["SIGHUP"])
        await kernel.ended(10)


async def test_what_blocks_is_given_up_after_the_grace() -> None:
    async with own_file(SCRIPT, "--shutdown-grace", "0.5") as kernel:
        execution = kernel.client.start("linger 60")
        await until_text(execution, "begun")
        kernel.process.send_signal(signal.SIGTERM)
        await kernel.ended(20)
        assert kernel.files() == []
        assert "lingers" in kernel.marked()


async def test_a_file_that_was_handed_in_stays() -> None:
    """It belongs to whoever made it, who may start the kernel anew."""
    async with own_file() as first:
        path = first.files()[0]
        copy = path.with_name("given.json")
        ports = ("shell", "iopub", "stdin", "control", "hb")
        info = json.loads(path.read_text()) | {f"{name}_port": 0 for name in ports}
        copy.write_text(json.dumps(info))
        copy.chmod(0o600)
        process = _start(SCRIPT, ("-f", str(copy)), str(first.runtime.parent))
        try:
            await trio.to_thread.run_sync(
                wait_until, lambda: '"shell_port": 0' not in copy.read_text(), "the ports"
            )
            async with connect(copy, heartbeat=None):
                process.send_signal(signal.SIGTERM)
            with trio.fail_after(TIMEOUT):
                await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        finally:
            process.kill()
            await trio.to_thread.run_sync(process.communicate)
        assert copy.exists()
        assert "do_shutdown restart=False" in first.marked()


async def test_users_code_may_have_a_handler_of_its_own() -> None:
    """Its own handler for SIGTERM, set in a cell, is what runs then."""
    async with own_file(PYTHON_KERNEL) as kernel:
        (
            await kernel.client.execute(
                "import os, signal\n"
                "came = []\n"
                "signal.signal(signal.SIGTERM, lambda *_: came.append('term'))\n"
                "os.kill(os.getpid(), signal.SIGTERM)"
            )
        ).raise_for_error()
        assert (await kernel.client.execute("came")).result == {"text/plain": "['term']"}


async def test_what_sigkill_left_is_removed_by_the_next_start_or_list_and_nothing_else() -> None:
    async with own_file() as killed, _beside(killed) as living:
        stale = killed.files()
        assert len(stale) == 2
        foreign = killed.runtime / "kernel-foreign.json"
        write_connection_file(foreign, ConnectionInfo(shell_port=1))  # nobody knows whose it is
        killed.process.kill()
        await killed.ended()
        third = _start(SCRIPT, (), str(killed.runtime.parent))
        try:
            path = await trio.to_thread.run_sync(_own_path, third, killed.runtime)
            await trio.to_thread.run_sync(_list_kernels, killed)  # that may tidy up, too
            left = set(killed.files())
            assert path in left
            assert living in left
            assert foreign in left
            assert len(left) == 3
        finally:
            third.kill()
            await trio.to_thread.run_sync(third.communicate)


def _list_kernels(kernel: Started) -> None:
    subprocess.run(
        [sys.executable, "-m", "trikernel", "list"],
        cwd=ROOT,
        env={**os.environ, "JUPYTER_RUNTIME_DIR": str(kernel.runtime)},
        capture_output=True,
        check=True,
        timeout=TIMEOUT,
    )


@asynccontextmanager
async def _beside(other: Started) -> AsyncIterator[Path]:
    """Another kernel that lives in the same runtime folder; its file."""
    process = _start(SCRIPT, (), str(other.runtime.parent))
    try:
        yield await trio.to_thread.run_sync(_own_path, process, other.runtime)
    finally:
        process.kill()
        await trio.to_thread.run_sync(process.communicate)


async def test_after_the_end_requests_fail_at_once() -> None:
    async with own_file() as kernel:
        kernel.process.send_signal(signal.SIGTERM)
        await kernel.ended()
        with trio.fail_after(TIMEOUT), pytest.raises(KernelDied):
            await _ask_on(kernel.client)


async def _ask_on(client: Client) -> None:
    while True:
        await client.kernel_info()
