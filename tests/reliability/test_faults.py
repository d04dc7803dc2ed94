"""What user code and the machine do to a real kernel: it goes on answering, or it is seen to end.

To end means: with an exit code that is not 0 (where the code did not ask for 0 itself), and with a
word on stderr wherever the kernel still had control.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import zmq

from trikernel.transport import read_connection_file

from ..processes import PYTHON, TIMEOUT, KernelProcess, kernel_process, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="faults of POSIX systems"),
]


def ends_well(kernel: KernelProcess) -> None:
    """It answers a cell, an interrupt and a shutdown, and is gone."""
    assert kernel.text("import sys; sys.stdout.write('on')") == "on"
    msg_id = kernel.send("while True: pass")
    kernel.until("execute_input")
    kernel.interrupt("message")
    assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
    kernel.client.shutdown()
    assert kernel.process.wait(TIMEOUT) == 0


GOES_ON = {
    "streams are closed": "import sys; sys.__stdout__.close(); sys.__stderr__.close()",
    "descriptors 0 to 2 are closed": "import os; [os.close(fd) for fd in (0, 1, 2)]",
    "SIGINT is ignored": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "SIGINT is handled": "import signal; signal.signal(signal.SIGINT, lambda *_: None)",
    "SIGINT is blocked": "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})",
    "the wakeup descriptor is taken": "import signal; signal.set_wakeup_fd(-1)",
    "SIGCHLD is ignored": "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "asyncio in a thread": (
        "import asyncio, threading\nloop = asyncio.new_event_loop()\n"
        "threading.Thread(target=loop.run_forever, daemon=True).start()\n"
        "asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()"
    ),
    "Trio in a thread": (
        "import threading, trio\nthreading.Thread(target=trio.run, args=(trio.sleep_forever,),"
        " daemon=True).start()"
    ),
    "asyncio in the main thread": (
        "import asyncio\nfor _ in range(50): asyncio.run(asyncio.sleep(0))"
    ),
    "ten thousand tasks": (
        "import trio\nfrom trikernel.notebook import nursery\n"
        "for _ in range(10_000): nursery.start_soon(trio.sleep, 0.5)"
    ),
    "ten thousand tasks in a cell": (
        "import trio\nasync with trio.open_nursery() as n:\n"
        "    for _ in range(10_000): n.start_soon(trio.sleep, 0.1)"
    ),
    "a thousand threads": (
        "import threading, time\nfor _ in range(1000):"
        " threading.Thread(target=time.sleep, args=(1,), daemon=True).start()"
    ),
    "deep recursion": "def f(): f()\ntry: f()\nexcept RecursionError: pass",
    "a low recursion limit": "import sys; sys.setrecursionlimit(150)",
    "no working directory": (
        "import os, tempfile\nd = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)"
    ),
    "an empty environment": "import os; os.environ.clear()",
    "logging is shut down": "import logging; logging.disable(); logging.shutdown()",
    "warnings are errors": "import warnings; warnings.simplefilter('error')",
    "no garbage collection": "import gc; gc.disable(); gc.freeze()",
    "print is gone": "import builtins; del builtins.print",
    "open is another one": "import builtins; builtins.open = None",
    "clocks go wrong": "import time; time.time = lambda: -1.0",
    "one allocation is too big": (
        "import resource, psutil\nnow = psutil.Process().memory_info().vms\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + (200 << 20), -1))\n"
        "try: bytes(1 << 32)\nexcept MemoryError: pass"
    ),
    "a child is forked and returns": "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)",
    "a child awaits": (
        "import os, trio\npid = os.fork()\nif not pid: await trio.sleep(0.2)\n"
        "else: await trio.to_thread.run_sync(os.waitpid, pid, 0)"
    ),
    "a child of a process with closed streams": (
        "import os, sys\nsys.__stdout__.close()\npid = os.fork()\nif pid: os.waitpid(pid, 0)"
    ),
    "multiprocessing by fork": (
        "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as pool:\n"
        "    assert pool.map(abs, [-1, -2]) == [1, 2]"
    ),
    "multiprocessing by spawn": (
        "import multiprocessing as m\nwith m.get_context('spawn').Pool(1) as pool:\n"
        "    assert pool.map(abs, [-1, -2]) == [1, 2]"
    ),
    "threads cannot be started": (
        'import threading, os\ndef no(*a, **k): raise RuntimeError("can\'t start new thread")\n'
        "for name in ('_start_joinable_thread', '_start_new_thread'):\n"
        "    if hasattr(threading, name): setattr(threading, name, no)\n"
        "pid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)\n"
        "await __import__('trio').sleep(1.5)"
    ),
}


# Each costs a process: these are for the longer run.
RARE = {
    "SIGCHLD is ignored",
    "Trio in a thread",
    "a child of a process with closed streams",
    "a low recursion limit",
    "an empty environment",
    "asyncio in the main thread",
    "clocks go wrong",
    "logging is shut down",
    "multiprocessing by spawn",
    "no garbage collection",
    "no working directory",
    "one allocation is too big",
    "open is another one",
    "print is gone",
    "ten thousand tasks",
    "warnings are errors",
}
CASES = [
    pytest.param(code, id=name, marks=pytest.mark.thorough if name in RARE else ())
    for name, code in GOES_ON.items()
]


@pytest.mark.parametrize("code", CASES)
def test_it_goes_on(code: str) -> None:
    with kernel_process() as kernel:
        if "fork" in code:
            kernel.execute("import warnings; warnings.simplefilter('ignore')")
        reply, outputs = kernel.execute(code)
        assert reply["status"] == "ok", (reply, outputs)
        ends_well(kernel)


def test_without_a_stdout_it_goes_on() -> None:
    with kernel_process() as kernel:
        kernel.execute("import sys; out, sys.stdout, sys.stderr = sys.stdout, None, None")
        assert kernel.execute("print('to nobody'); 1 / 0")[0]["ename"] == "ZeroDivisionError"
        assert kernel.execute("sys.stdout = out")[0]["status"] == "ok"
        ends_well(kernel)


ENDS = {
    "os._exit": ("import os; os._exit(3)", 3, False),
    "os.abort": ("import os; os.abort()", -signal.SIGABRT, True),
    "a signal": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, False),
    "a segmentation fault": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV, True),
    "len is gone": ("import builtins; del builtins.len", None, True),
    "all builtins are gone": ("import builtins; builtins.__dict__.clear()", None, True),
    "descriptors from 3 on are closed": ("import os; os.closerange(3, 256)", None, False),
    "every scope is cancelled": (
        "import gc, trio\nfor one in gc.get_objects():\n"
        "    if isinstance(one, trio.CancelScope): one.cancel()",
        None,
        False,
    ),
    "the loop's epoll is closed": (
        "import os, trio\nrunner = trio._core._run.GLOBAL_RUN_CONTEXT.runner\n"
        "os.close(runner.io_manager._epoll.fileno())",
        1,
        True,
    ),
    "the pipe of signals is closed": (
        "import gc, os\nfor one in gc.get_objects():\n"
        "    if type(one).__name__ == 'SignalArrivals': os.close(one._writing.fileno())",
        1,
        True,
    ),
}


@pytest.mark.parametrize(("code", "exit_code", "speaks"), ENDS.values(), ids=ENDS)
def test_it_is_seen_to_end(code: str, exit_code: int | None, speaks: bool) -> None:
    with kernel_process(PYTHON, "--exit-grace", "1") as kernel:
        kernel.send(code)
        found = kernel.process.wait(TIMEOUT)
        assert found == exit_code if exit_code is not None else found != 0
        assert kernel.process.stderr is not None
        word = kernel.process.stderr.read()
        assert word or not speaks


LOSES_ITS_LOOP = {
    "the loop is broken": (
        "import trio; trio.lowlevel.current_trio_token().run_sync_soon(lambda: 1 / 0)\n"
        "await trio.sleep_forever()"
    ),
    "every task is cancelled": (
        "import trio\ntrio.lowlevel.current_root_task().child_nurseries[0].cancel_scope.cancel()\n"
        "await trio.sleep_forever()"
    ),
    "a loop that crashed beside a thread that goes on": (
        "import threading, time, trio\n"
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        "trio.lowlevel.current_trio_token().run_sync_soon(lambda: 1 / 0)\n"
        "await trio.sleep_forever()"
    ),
}


@pytest.mark.parametrize("code", LOSES_ITS_LOOP.values(), ids=LOSES_ITS_LOOP)
def test_it_goes_on_in_a_new_loop(code: str) -> None:
    """The cell that runs gets an error; what is in the namespace stays."""
    with kernel_process() as kernel:
        kernel.execute("import os; kept, pid = object(), os.getpid(); same = id(kept)")
        reply, outputs = kernel.execute(code)
        assert (reply["status"], reply["ename"]) == ("error", "LoopLost"), reply
        assert [one["content"]["ename"] for one in outputs if one["msg_type"] == "error"] == [
            "LoopLost"
        ]
        assert kernel.text("print(id(kept) == same, os.getpid() == pid)") == "True True\n"
        assert kernel.text("await __import__('trio').sleep(0); print('awaited')") == "awaited\n"
        ends_well(kernel)


def test_a_kernel_that_loses_each_new_loop_ends() -> None:
    with kernel_process() as kernel:
        kernel.send(
            "import trio\n"
            "async def crash():\n"
            "    trio.lowlevel.current_trio_token().run_sync_soon(lambda: 1 / 0)\n"
            "    await trio.sleep_forever()\n"
            "get_ipython().kernel.server.application.enter_loop = crash\n"
            "await crash()"
        )
        assert kernel.process.wait(TIMEOUT) == 1
        assert kernel.process.stderr is not None
        assert "ZeroDivisionError" in kernel.process.stderr.read()


def test_a_loop_that_crashes_during_a_shutdown_does_not_hold_it_up() -> None:
    with kernel_process() as kernel:
        kernel.execute(
            "import trio\n"
            "async def do_shutdown(restart):\n"
            "    trio.lowlevel.current_trio_token().run_sync_soon(lambda: 1 / 0)\n"
            "    await trio.sleep_forever()\n"
            "get_ipython().kernel.do_shutdown = do_shutdown"
        )
        msg_id = kernel.send("await trio.sleep_forever()")
        kernel.until("execute_input")
        kernel.client.shutdown()
        kernel.process.wait(TIMEOUT)
        assert kernel.finish(msg_id)[0]["status"] in ("aborted", "error")
        assert kernel.until("shutdown_reply")["content"] == {"status": "ok", "restart": False}
        assert kernel.client.get_control_msg(timeout=TIMEOUT)["msg_type"] == "shutdown_reply"


@pytest.mark.parametrize("piece", ["bytearray(1 << 20)", "object()", "print('x' * 1000)"])
def test_memory_runs_out(piece: str) -> None:
    """It goes on after a `MemoryError`, or a library that gets none ends the process."""
    with kernel_process() as kernel:
        kernel.send(
            "import resource, psutil\nnow = psutil.Process().memory_info().vms\n"
            "resource.setrlimit(resource.RLIMIT_AS, (now + (200 << 20), -1))\nkept = []\n"
            f"while True: kept.append({piece}); kept.extend([b''] * 100_000)"
        )
        poll = kernel.client.shell_channel.msg_ready
        wait_until(lambda: poll() or kernel.process.poll() is not None, "an answer or a death")
        if kernel.process.poll() is None:
            kernel.client.get_shell_msg(timeout=TIMEOUT)
            kernel.send("kept.clear()")

            def ended() -> bool:  # what arrives while there is no memory may be lost
                kernel.client.shutdown()
                with suppress(subprocess.TimeoutExpired):
                    kernel.process.wait(TIMEOUT / 10)
                return kernel.process.poll() is not None

            wait_until(ended, "the end")


LINGERING = {
    "a thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()",
    "an executor": (
        "import time\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "ThreadPoolExecutor().submit(time.sleep, 1000)"
    ),
    "an exit handler": "import atexit, time; atexit.register(time.sleep, 1000)",
}


@pytest.mark.parametrize("code", LINGERING.values(), ids=LINGERING)
def test_an_ended_kernel_exits_whatever_still_runs(code: str) -> None:
    with kernel_process(PYTHON, "--exit-grace", "1") as kernel:
        assert kernel.execute(code)[0]["status"] == "ok"
        kernel.client.shutdown()
        assert kernel.process.wait(TIMEOUT) == 1
        assert kernel.process.stderr is not None
        assert "most recent call first" in kernel.process.stderr.read()


def test_no_descriptor_is_left_and_it_goes_on_once_there_are_some() -> None:
    with kernel_process() as kernel:
        kernel.execute("import os, subprocess\nkept = []")
        text = kernel.text(
            "try:\n    while True: kept.append(os.open(os.devnull, os.O_RDONLY))\n"
            "except OSError as error: print(error.errno)"
        )
        assert text == "24\n"
        assert kernel.text("print('on')") == "on\n"
        assert kernel.execute("subprocess.run(['true'])")[0]["ename"] == "OSError"
        msg_id = kernel.send("while True: pass")
        kernel.until("execute_input")
        kernel.interrupt("message")
        assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
        kernel.execute("for fd in kept: os.close(fd)")
        assert kernel.text("print(subprocess.run(['true']).returncode)") == "0\n"
        ends_well(kernel)


def test_a_client_that_dies_in_mid_reply_harms_nobody() -> None:
    """Its reply is 100 MB; it reads a part of it and is killed."""
    script = (
        "import sys, zmq\n"
        "from trikernel.transport import read_connection_file, ZmqClientTransport\n"
        "from trikernel.wire import Codec\n"
        "info = read_connection_file(sys.argv[1])\n"
        "transport = ZmqClientTransport(info)\n"
        "code = {'code': '', 'user_expressions': {'a': \"'x' * 100_000_000\"}}\n"
        "transport.shell.send_nowait(Codec(info.key.encode()).encode('execute_request', code))\n"
        "print('sent', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with kernel_process() as kernel:
        for _ in range(3):
            with subprocess.Popen(
                [sys.executable, "-c", script, str(kernel.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as client:
                assert client.stdout is not None
                assert client.stdout.readline() == b"sent\n"
                kernel.until("execute_input")
                client.kill()
            assert kernel.text("print('on')") == "on\n"
        process = psutil.Process(kernel.process.pid)
        wait_until(lambda: process.memory_info().rss < 300 << 20, "the replies' memory")
        ends_well(kernel)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("limit", [0, 4096])
def test_files_that_cannot_grow_end_nothing(limit: int) -> None:
    """As on a full disk: the history, the connection file and temporary files are all files."""
    with kernel_process() as kernel:
        kernel.execute(
            "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, -1))"
        )
        for number in range(5):
            assert kernel.text(f"print({number})") == f"{number}\n"
        ends_well(kernel)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.write_text("this is no folder")
    command = [sys.executable, "-m", "trikernel", "start"]
    done = subprocess.run(
        command,
        env={**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime), "JUPYTER_PLATFORM_DIRS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("trikernel: error: connection file ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("folder", ["/dev/null/ipython", "/proc/ipython", "/dev/full"])
def test_an_ipython_folder_that_cannot_be_used_is_done_without(folder: str) -> None:
    with kernel_process(IPYTHONDIR=folder) as kernel:
        ends_well(kernel)


def test_many_connections_that_say_nothing_keep_out_nobody_who_is_in() -> None:
    """More than the process has descriptors for: those who are connected are served."""
    with kernel_process() as kernel, zmq.Context() as context:
        kernel.execute(
            "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE,"
            " (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))"
        )
        info = read_connection_file(kernel.path)
        sockets = []
        for _ in range(300):
            one = context.socket(zmq.STREAM)
            one.set(zmq.LINGER, 0)
            one.connect(info.endpoint(info.shell_port))
            sockets.append(one)
        try:
            for number in range(10):
                assert kernel.text(f"print({number})") == f"{number}\n"
        finally:
            for one in sockets:
                one.close()
        ends_well(kernel)


def test_a_death_is_seen_soon_by_the_runner(tmp_path: Path) -> None:
    """From the process's end to the client's error it takes a moment, not a time-out."""
    script = (
        "import time, trio\n"
        "from trikernel.client import open_kernel\n"
        "from trikernel.errors import KernelDied\n"
        "async def main():\n"
        "    async with open_kernel() as client:\n"
        "        await client.execute('import os')\n"
        "        began = time.monotonic()\n"
        "        try:\n"
        "            await client.execute('os._exit(7)')\n"
        "        except KernelDied:\n"
        "            print(time.monotonic() - began)\n"
        "trio.run(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert float(done.stdout) < 5, done.stderr  # seconds; it takes a tenth of one


def test_exit_handlers_have_the_grace_that_is_set() -> None:
    with kernel_process(PYTHON, "--exit-grace", "0") as kernel:
        kernel.execute("import atexit, time; atexit.register(time.sleep, 2)")
        kernel.client.shutdown()
        assert kernel.process.wait(TIMEOUT) == 0
