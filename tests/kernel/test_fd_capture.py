"""Output on descriptors 1 and 2, from child processes and from C, under its cell."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from trikernel.kernel.fd_capture import CAPACITY, FdCapture, _Pipe

from ..processes import TIMEOUT, KernelProcess, kernel_process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be waited for")


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        yield kernel


CASES = {
    "os.system": ("import os; os.system('echo out')", "out\n"),
    "a child process": ("import subprocess as s; s.run(['echo', 'out'])", "out\n"),
    "a child of Trio": ("import trio; await trio.run_process(['echo', 'out'])", "out\n"),
    "os.write": ("import os; os.write(1, b'out\\n')", "out\n"),
    "sys.__stdout__": ("import sys; print('out', file=sys.__stdout__, flush=True)", "out\n"),
    "printf in C": ("import ctypes; ctypes.CDLL(None).printf(b'out %d\\n', 7)", "out 7\n"),
    "sys.stdout.buffer": ("import sys; sys.stdout.buffer.write('ü\\n'.encode())", "ü\n"),
}


@pytest.mark.promise(10)
@pytest.mark.parametrize("case", CASES)
def test_it_is_there_before_the_reply_of_its_cell(kernel: KernelProcess, case: str) -> None:
    code, text = CASES[case]
    assert kernel.text(code + ";") == text


def test_stderr_of_a_child_is_stderr_of_the_cell(kernel: KernelProcess) -> None:
    reply, outputs = kernel.execute("import os; os.system('echo bad >&2');")
    streams = [one["content"] for one in outputs if one["msg_type"] == "stream"]
    assert reply["status"] == "ok"
    assert streams == [{"name": "stderr", "text": "bad\n"}]


def test_both_descriptors_may_be_flooded_at_once(kernel: KernelProcess) -> None:
    """As a noisy build does. Each waits until there is room for more."""
    reply, outputs = kernel.execute(
        "import threading\n"
        "def flood(fd, text):\n"
        "    for _ in range(100):\n"
        "        left = text * 100_000\n"
        "        while left:\n"
        "            left = left[os.write(fd, left):]\n"
        "thread = threading.Thread(target=flood, args=(2, b'e'))\n"
        "thread.start()\n"
        "flood(1, b'o')\n"
        "thread.join()"
    )
    assert reply["status"] == "ok"
    texts = {"stdout": 0, "stderr": 0}
    for one in outputs:
        if one["msg_type"] == "stream":
            texts[one["content"]["name"]] += len(one["content"]["text"])
    assert texts == {"stdout": 10_000_000, "stderr": 10_000_000}


@pytest.mark.promise(10)
def test_a_child_that_outlives_its_cell_writes_under_it(kernel: KernelProcess) -> None:
    msg_id = kernel.send("child = os.popen('read x; echo late >&2', 'w')")
    kernel.finish(msg_id)
    kernel.client.complete("os.po", 5)  # not a cell: it changes nothing about whose text it is
    kernel.client.get_shell_msg(timeout=60)
    silent = kernel.send("child.write('go\\n'); child.flush()", silent=True, store_history=False)
    late = kernel.until("stream")
    assert late["content"] == {"name": "stderr", "text": "late\n"}
    assert late["parent_header"]["msg_id"] == msg_id
    assert silent != msg_id


@pytest.mark.promise(10)
@pytest.mark.skipif(sys.platform != "linux", reason="pipes hold a mebibyte on Linux only")
def test_a_burst_of_a_million_bytes_under_the_interpreter_lock_arrives(
    kernel: KernelProcess,
) -> None:
    assert CAPACITY >= 1_000_000
    code = (
        "import ctypes\n"
        "locked = ctypes.PyDLL(None)  # keeps the interpreter lock during its calls\n"
        "burst = b'x' * 1_000_000\n"
        "written = locked.write(1, burst, len(burst))"
    )
    assert kernel.text(code) == "x" * 1_000_000
    assert kernel.text("print(written)") == "1000000\n"


@pytest.mark.promise(9)
def test_a_flood_from_a_child_arrives_whole(kernel: KernelProcess) -> None:
    count = 200_000
    text = kernel.text(f"import subprocess as s; s.run(['seq', '{count}']);")
    assert text == "".join(f"{number}\n" for number in range(1, count + 1))


def test_c_code_that_never_stops_printing_leaves_control_reachable(kernel: KernelProcess) -> None:
    msg_id = kernel.send(
        "import ctypes, time\n"
        "libc, big = ctypes.CDLL(None), b'x' * (1 << 20)\n"
        "end = time.monotonic() + 2\n"
        "print('begun', flush=True)\n"
        "while time.monotonic() < end: libc.puts(big);"
    )
    kernel.until("stream")
    client, idle = kernel.client, False

    def read(timeout: float) -> None:
        nonlocal idle
        message = client.get_iopub_msg(timeout=timeout)
        about_it = message["parent_header"].get("msg_id") == msg_id
        idle |= about_it and message["content"].get("execution_state") == "idle"

    for _ in range(20):
        client.control_channel.send(client.session.msg("kernel_info_request", {}))
        assert client.get_control_msg(timeout=60)["content"]["status"] == "ok"
        with contextlib.suppress(queue.Empty):  # all the time: who does not read loses some
            for _ in range(50):
                read(0)
    while not idle:
        read(TIMEOUT)
    reply = client.get_shell_msg(timeout=60)
    assert (reply["parent_header"]["msg_id"], reply["content"]["status"]) == (msg_id, "ok")


def test_a_character_cut_in_two_is_put_together(kernel: KernelProcess) -> None:
    assert kernel.text("import os; os.write(1, b'\\xc3'); os.write(1, b'\\xbc\\n');") == "ü\n"


def test_a_cell_that_closes_the_descriptors_ends_nothing() -> None:
    with kernel_process() as kernel:
        code = "import os\nfor fd in range(3):\n    os.close(fd)\nprint('still here')"
        assert kernel.text(code) == "still here\n"
        assert kernel.text("print('and here')") == "and here\n"


def test_a_fatal_error_is_written_to_the_real_stderr() -> None:
    with kernel_process() as kernel:
        kernel.send("import ctypes; ctypes.string_at(0)")
        assert kernel.process.wait(60) != 0
        assert kernel.process.stderr is not None
        assert "Segmentation fault" in kernel.process.stderr.read()


def test_what_nobody_has_read_goes_to_the_descriptor_when_it_is_put_back(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "import trio\n"
        "from trikernel.kernel.fd_capture import FdCapture\n"
        "captured = []\n"
        "take = lambda name, text: captured.append((name, text))\n"
        "capture = FdCapture(take, trio.lowlevel.checkpoint)\n"
        "capture.install()\n"
        "os.write(1, b'taken')\n"
        "capture.collect()\n"
        "os.write(1, b'left')\n"
        "os.write(2, b'bad')\n"
        "capture.restore()\n"
        "os.write(1, repr(captured).encode())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "left[('stdout', 'taken')]"
    assert ended.stderr == "bad"


def test_what_a_thread_writes_as_it_is_put_back_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a thread that writes just after the pipe was read for the last time."""
    read = _Pipe.read

    def read_and_write(pipe: _Pipe) -> str:
        text = read(pipe)
        if pipe.fd == 1:
            os.write(1, b"late")
        return text

    monkeypatch.setattr(_Pipe, "read", read_and_write)
    path, saved = tmp_path / "out", os.dup(1)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 1)
        try:
            capture = FdCapture(lambda name, text: None, trio.lowlevel.checkpoint)
            capture.install()
            os.write(1, b"early")
            capture.restore()
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    assert b"early" in path.read_bytes()
    assert b"late" in path.read_bytes()


def test_both_are_put_back_although_nobody_reads_one_of_them_any_more() -> None:
    code = (
        "import os, trio\n"
        "from trikernel.kernel.fd_capture import FdCapture\n"
        "capture = FdCapture(lambda name, text: None, trio.lowlevel.checkpoint)\n"
        "capture.install()\n"
        "os.write(1, b'left')\n"
        "os.write(2, b'bad')\n"
        "capture.restore()\n"
        "os.write(2, b', and worse')\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as nobody_reads:
        words = [sys.executable, "-c", code]
        ended = subprocess.run(words, stdout=nobody_reads, stderr=subprocess.PIPE, text=True)
    assert ended.stderr == "bad, and worse"


def test_a_forked_child_lets_go_of_the_pipes() -> None:
    capture = FdCapture(lambda name, text: None, trio.lowlevel.checkpoint)
    capture.install()
    if sys.platform == "win32":
        raise NotImplementedError
    try:
        readers = [pipe.reader for pipe in capture._pipes]
        child = os.fork()
        if child == 0:
            capture.collect()  # nothing to read any more
            closed = sum(not os.path.exists(f"/dev/fd/{reader}") for reader in readers)
            os._exit(closed)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    finally:
        capture.restore()


@pytest.mark.parametrize(
    "code",
    [
        "import select; del select.poll",  # as libraries do that make everything green
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (1, r.getrlimit(r.RLIMIT_NOFILE)[1]))",
    ],
)
def test_a_cell_that_takes_what_reading_needs_ends_nothing(code: str) -> None:
    with kernel_process() as kernel:
        kernel.client.hb_channel.pause()  # libzmq ends a process in which it may not poll two
        kernel.execute("'what it has asked by now is answered'")
        kernel.execute(code)
        assert kernel.text("print(6 * 7)") == "42\n"
