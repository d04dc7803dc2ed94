"""What only a real process can show: stdin, signals, the parent, the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ..processes import ROOT, TIMEOUT, KernelProcess, kernel_process, wait_until

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
HERE = "tests.kernel.process_kernels"


@pytest.fixture(scope="module")
def asking() -> Iterator[KernelProcess]:
    with kernel_process(f"{HERE}:Asking") as kernel:
        yield kernel


@pytest.fixture(scope="module")
def blocking() -> Iterator[KernelProcess]:
    with kernel_process(f"{HERE}:Blocking") as kernel:
        yield kernel


def ask(kernel: KernelProcess, code: str) -> tuple[str, dict[str, Any]]:
    msg_id = kernel.send(code, allow_stdin=True)
    question = kernel.client.get_stdin_msg(timeout=TIMEOUT)
    assert question["parent_header"]["msg_id"] == msg_id
    return msg_id, question["content"]


def text_of(outputs: list[dict[str, Any]]) -> str:
    return "".join(one["content"]["text"] for one in outputs if one["msg_type"] == "stream")


@pytest.mark.seed(19)
@pytest.mark.parametrize(("code", "password"), [("input", False), ("password", True)])
def test_a_question_reaches_the_asking_client_and_its_answer_comes_back(
    asking: KernelProcess, code: str, password: bool
) -> None:
    msg_id, question = ask(asking, code)
    assert question == {"prompt": "word? " if password else "name? ", "password": password}
    asking.client.input("Ada")
    reply, outputs = asking.finish(msg_id)
    assert reply["status"] == "ok"
    assert text_of(outputs) == "'Ada'"


@pytest.mark.seed(19)
def test_getpass_warns_about_its_stream(asking: KernelProcess) -> None:
    msg_id, _ = ask(asking, "stream")
    asking.client.input("Ada")
    assert "no effect in a notebook" in text_of(asking.finish(msg_id)[1])


@pytest.mark.seed(19)
def test_input_is_refused_at_once_when_the_frontend_does_not_allow_it(
    asking: KernelProcess,
) -> None:
    reply, _ = asking.execute("input", allow_stdin=False)
    assert reply["ename"] == "StdinNotImplementedError"


@pytest.mark.seed(19)
def test_end_of_file_is_an_eof_error(asking: KernelProcess) -> None:
    msg_id, _ = ask(asking, "input")
    asking.client.input("\x04")
    assert asking.finish(msg_id)[0]["ename"] == "EOFError"


@pytest.mark.seed(19)
def test_a_bad_reply_reads_as_an_empty_string(asking: KernelProcess) -> None:
    msg_id, _ = ask(asking, "input")
    client = asking.client
    client.stdin_channel.send(client.session.msg("input_reply", {"no": "value"}))
    assert text_of(asking.finish(msg_id)[1]) == "''"


@pytest.mark.promise(16)
@pytest.mark.seed(19)
def test_stale_replies_are_dropped(asking: KernelProcess) -> None:
    asking.client.input("stale")
    msg_id, _ = ask(asking, "input")
    client = asking.client
    old = {"header": {"msg_id": "older question", "msg_type": "input_request"}}
    message = client.session.msg("input_reply", {"value": "old"}, parent=old)
    client.stdin_channel.send(message)
    client.input("fresh")
    assert text_of(asking.finish(msg_id)[1]) == "'fresh'"


@pytest.mark.promise(16)
@posix
@pytest.mark.seed(19)
def test_an_interrupt_ends_the_question(asking: KernelProcess) -> None:
    msg_id, _ = ask(asking, "input")
    asking.interrupt()
    reply, outputs = asking.finish(msg_id)
    assert reply["ename"] == "KeyboardInterrupt"
    assert [one["content"]["ename"] for one in outputs if one["msg_type"] == "error"] == [
        "KeyboardInterrupt"
    ]
    msg_id, _ = ask(asking, "input")
    asking.client.input("again")
    assert text_of(asking.finish(msg_id)[1]) == "'again'"


@posix
@pytest.mark.seed(23)
@pytest.mark.parametrize("code", ["sleep", "spin"])
@pytest.mark.parametrize("by", ["signal", "message"])
def test_a_blocking_verb_catches_the_interrupt_itself(
    blocking: KernelProcess, code: str, by: str
) -> None:
    msg_id = blocking.send(code)
    blocking.until("stream")
    blocking.interrupt(by)
    reply, outputs = blocking.finish(msg_id)
    assert reply["status"] == "aborted"
    assert text_of(outputs) == "caught"


@posix
@pytest.mark.seed(23)
def test_an_idle_kernel_ignores_interrupts(asking: KernelProcess) -> None:
    for _ in range(50):
        asking.interrupt()
    time.sleep(0.2)  # longer than the kernel waits before it insists
    asking.client.kernel_info(reply=True, timeout=TIMEOUT)
    assert asking.process.poll() is None


@posix
@pytest.mark.seed(24)
def test_an_interrupt_breaks_a_blocking_event_loop_and_not_the_kernel() -> None:
    with kernel_process(f"{HERE}:Looping") as kernel:
        kernel.execute("on")
        kernel.until("stream")
        kernel.interrupt()
        kernel.until("stream")
        assert kernel.execute("off")[0]["status"] == "ok"


@pytest.mark.seed(28)
def test_flags_set_settings() -> None:
    with kernel_process(f"{HERE}:Reporting", "--switch-interval", "0.25") as kernel:
        assert kernel.text("x").endswith(" 0.25")


@pytest.mark.promise(8)
@posix
@pytest.mark.seed(18)
@pytest.mark.parametrize("code", ["sleep", "spin"])
def test_shutdown_is_bounded_while_a_verb_blocks(code: str) -> None:
    with kernel_process(f"{HERE}:Blocking") as kernel:
        kernel.send(code)
        kernel.until("stream")
        kernel.client.shutdown()
        reply = kernel.client.get_control_msg(timeout=TIMEOUT)
        assert reply["content"] == {"status": "ok", "restart": False}
        assert kernel.until("shutdown_reply")["content"] == reply["content"]
        assert kernel.process.wait(TIMEOUT) == 0


@posix
def test_a_kernel_ends_with_its_parent(tmp_path: Any) -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with kernel_process(f"{HERE}:Asking", JPY_PARENT_PID=str(parent.pid)) as kernel:
        assert kernel.process.poll() is None
        parent.communicate(b"\n")
        assert kernel.process.wait(TIMEOUT) == 0


@pytest.mark.promise(8)
@posix
def test_a_busy_kernel_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with kernel_process(f"{HERE}:Blocking", JPY_PARENT_PID=str(parent.pid)) as kernel:
        kernel.send("spin")
        kernel.until("stream")
        parent.communicate(b"\n")
        assert kernel.process.wait(TIMEOUT) == 0


@pytest.mark.seed(28)
def test_a_script_is_an_entry_with_settings_as_flags(tmp_path: Any) -> None:
    script = [sys.executable, str(ROOT / "docs" / "examples" / "echo_kernel.py")]
    shown = subprocess.run([*script, "--help"], capture_output=True, text=True, timeout=TIMEOUT)
    assert "--stop-on-error-timeout" in shown.stdout
    for flags, words in [
        (["-f", str(tmp_path)], "cannot be read"),
        (["--poll-interval", "never"], "poll_interval must be a number from"),
        (["--no-such-flag"], "--no-such-flag"),
    ]:
        run = subprocess.run([*script, *flags], capture_output=True, text=True, timeout=TIMEOUT)
        assert run.returncode == 2
        assert words in run.stderr.strip().splitlines()[-1]
        assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ([], "kernel-*.json"),
        (["-f", "mine.json"], "mine.json"),
    ],
    ids=["no name", "a name"],
)
def test_without_a_file_a_kernel_makes_one_and_removes_it(
    tmp_path: Any, flags: list[str], name: str
) -> None:
    script = [sys.executable, str(ROOT / "docs" / "examples" / "echo_kernel.py")]
    env = {**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    process = subprocess.Popen([*script, *flags], env=env, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        (path,) = tmp_path.glob(name)
        assert line.endswith(f"--existing {path.name}\n")
        wait_until(lambda: '"shell_port": 0' not in path.read_text(), "the ports")
        kernel = KernelProcess(process, path)
        kernel.client.shutdown()
        assert process.wait(TIMEOUT) == 0
        kernel.client.stop_channels()
        assert list(tmp_path.rglob("*.json")) == []
    finally:
        process.kill()
        process.communicate()


def test_a_file_that_is_not_there_is_made_and_removed(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import trikernel
    from trikernel.transport import read_connection_file

    class Brief(trikernel.Kernel):
        seen: Any = None

        async def started(self) -> None:
            assert self.connection_file is not None
            Brief.seen = read_connection_file(self.connection_file)
            self.server.stop()

    path = tmp_path / "new" / "k.json"
    trikernel.run(Brief(), connection_file=path)
    assert Brief.seen.shell_port > 0
    assert not path.exists()
    assert f"--existing {path}\n" in capsys.readouterr().err


@posix
@pytest.mark.seed(23)
def test_run_puts_back_what_belongs_to_the_process(tmp_path: Any) -> None:
    import json

    import trikernel
    from trikernel.transport import ConnectionInfo, write_connection_file

    class Brief(trikernel.Kernel):
        seen: Any = None

        async def started(self) -> None:
            Brief.seen = (signal.getsignal(signal.SIGINT), sys.getswitchinterval())
            self.server.stop()

    before = (signal.getsignal(signal.SIGINT), sys.getswitchinterval())
    write_connection_file(tmp_path / "k.json", ConnectionInfo())
    trikernel.run(Brief(switch_interval=0.5), connection_file=tmp_path / "k.json")
    assert Brief.seen[0] != before[0]
    assert Brief.seen[1] == 0.5
    assert (signal.getsignal(signal.SIGINT), sys.getswitchinterval()) == before
    assert json.loads((tmp_path / "k.json").read_text())["shell_port"] > 0
