"""The shell kernel's own tests: a real bash behind a kernel that is served in memory."""

import os

import pytest
import trio
from shell_kernel import ShellKernel

from trikernel.errors import ExecutionTimeout
from trikernel.testing import Samples, assert_conforms, open_memory_client


@pytest.fixture
def kernel():
    return ShellKernel(interrupt_grace=10, stop_grace=20)  # a busy machine takes its time


@pytest.fixture
def fifo(tmp_path):
    """A file by which a cell and its test wait for each other."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def first_line(path):
    with path.open() as file:
        return file.readline()


async def in_thread(function, *args):
    with trio.fail_after(10):
        return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True)


async def test_what_a_cell_does_is_there_in_the_next_one(kernel_client):
    await kernel_client.expect("x=3; cd /; twice() { echo $(($1 * 2)); }", stdout="")
    await kernel_client.expect("twice $x; pwd", stdout="6\n/\n")
    await kernel_client.expect("echo über >&2", stderr="über\n")
    await kernel_client.expect("read y; echo \"<$y>\"; printf 'a\\0b'", stdout="<>\na\0b")


async def test_output_comes_while_the_cell_runs(kernel_client, fifo):
    execution = kernel_client.start(f"echo begun; cat {fifo}")
    async for output in execution:
        assert output["text"] == "begun\n"
        break
    await in_thread(fifo.write_text, "ended\n")
    await execution.wait()
    assert execution.stdout == "begun\nended\n"


async def test_a_status_is_an_error_and_says_which(kernel_client):
    execution = await kernel_client.expect("echo said; (exit 3)", stdout="said", error="ExitStatus")
    assert execution.error.evalue == "3"
    assert execution.status == "error"
    await kernel_client.expect("echo $?", stdout="3")
    missing = "bash: nosuchcommand: command not found"
    await kernel_client.expect("nosuchcommand", stderr=missing, error="ExitStatus: 127")


@pytest.mark.parametrize(
    "code", ["sleep 1000", "while :; do :; done", "for i in 1 2; do sleep 1000; done"]
)
async def test_an_interrupt_ends_what_runs_and_keeps_the_shell(kernel_client, fifo, code):
    await kernel_client.expect("x=3")
    execution = kernel_client.start(f"echo > {fifo}; {code}")
    await in_thread(first_line, fifo)
    await kernel_client.interrupt()
    await execution.wait()
    assert execution.error.ename == "KeyboardInterrupt"
    await kernel_client.expect("echo $x", stdout="3")


async def test_a_command_that_does_not_stop_is_killed_and_a_new_shell_begun(fifo):
    stubborn = f"trap '' INT; echo > {fifo}; while :; do sleep 1000; done"
    async with open_memory_client(ShellKernel(interrupt_grace=0.2)) as client:
        execution = client.start(f"x=3; sh -c {stubborn!r}")
        await in_thread(first_line, fifo)
        await client.interrupt()
        await execution.wait()
        assert execution.error.ename == "KeyboardInterrupt"
        execution = await client.expect('echo "<$x>"', stdout="<>")
        assert "this is a new shell" in execution.stderr


async def test_a_deadline_interrupts_it(kernel_client):
    deadline = {"trikernel.timeout": 0.2}
    await kernel_client.expect("x=3; sleep 1000", metadata=deadline, error="DeadlineExceeded")
    await kernel_client.expect("echo $x", stdout="3")
    with pytest.raises(ExecutionTimeout):
        await kernel_client.execute("sleep 1000", timeout=0.1)
    await kernel_client.expect("echo $x", stdout="3")


async def test_a_shell_that_ends_is_replaced(kernel_client):
    await kernel_client.expect("echo last words; exit 3", stdout="last words", error="ShellEnded")
    execution = await kernel_client.expect("echo first words", stdout="first words")
    assert "this is a new shell" in execution.stderr


async def test_nothing_that_a_cell_has_started_outlives_the_kernel(fifo):
    async with open_memory_client(ShellKernel()) as client:
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        await client.expect(f"sleep 1000 > {fifo} &")
        await client.expect("exit", error="ShellEnded")
        await client.expect(f"sleep 1000 > {fifo} &\necho > {fifo}")
    os.set_blocking(reading, True)
    assert await in_thread(os.read, reading, 10) == b"\n"
    assert await in_thread(os.read, reading, 10) == b""  # nobody is left who could write
    os.close(reading)


async def test_it_completes(kernel_client, tmp_path):
    (tmp_path / "first file").touch()
    await kernel_client.expect(f"cd {tmp_path}; number=1; my_function() {{ :; }}")
    for code, match, start in (("my_f", "my_function", 0), ("cat fir", "first file", 4)):
        reply = (await kernel_client.complete(code)).content
        assert (reply["matches"], reply["cursor_start"]) == ([match], start)


async def test_it_knows_when_code_is_complete(kernel_client):
    for code, status in (("echo", "complete"), ("if true", "incomplete"), ("fi", "invalid")):
        assert (await kernel_client.is_complete(code)).content["status"] == status


async def test_it_speaks_the_protocol():
    samples = Samples(code=":", failing="false", printing="echo hello", completing="ech")
    assert await assert_conforms(ShellKernel(), samples)
