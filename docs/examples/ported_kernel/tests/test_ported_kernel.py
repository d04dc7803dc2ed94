"""The ported kernel's tests: in memory, and in a process where something is interrupted."""

import json
import shutil
import sys

import ported_kernel
import pytest
import trio
from ported_kernel import PortedKernel

from trikernel.testing import Samples, assert_conforms

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="it wraps bash")


@pytest.fixture
def kernel():
    kernel = PortedKernel()
    yield kernel
    kernel.do_shutdown(False)


@pytest.fixture(scope="session")
def kernel_process_name(tmp_path_factory):
    """A kernelspec of it: what blocks a whole process is interrupted from outside."""
    folder = tmp_path_factory.mktemp("jupyter")
    spec = folder / "kernels" / "ported" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, ported_kernel.__file__, "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Ported", "language": "bash"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        yield "ported"


async def test_what_a_cell_does_is_there_in_the_next_one(kernel_client):
    await kernel_client.expect("x=3; cd /", stdout="")
    await kernel_client.expect("echo $x; pwd; echo oh >&2", stdout="3\n/\noh\n")


async def test_a_status_is_an_error(kernel_client):
    await kernel_client.expect("echo said; (exit 3)", stdout="said\n", error="ExitStatus")
    missing = await kernel_client.expect("nosuchcommand", error="ExitStatus")
    assert "command not found" in missing.stdout


async def test_it_completes(kernel_client):
    reply = (await kernel_client.complete("echo | unali")).content
    assert (reply["matches"], reply["cursor_start"]) == (["unalias"], 7)


async def test_an_interrupt_ends_what_runs_and_keeps_the_shell(kernel_process):
    await kernel_process.expect("x=3")
    execution = kernel_process.start("echo begun; sleep 1000")
    async for output in execution:
        assert output["text"] == "begun\n"
        await kernel_process.interrupt()
    assert execution.status == "aborted"
    await kernel_process.expect("echo $x", stdout="3\n")


async def test_a_deadline_ends_what_runs(kernel_process):
    deadline = {"trikernel.timeout": 0.5}
    execution = await kernel_process.execute("sleep 1000", metadata=deadline)
    assert execution.status == "aborted"
    await kernel_process.expect("echo on", stdout="on\n")


async def test_what_is_queued_behind_a_failure_is_aborted(kernel_client):
    failing = kernel_client.start("false")
    queued = kernel_client.start("echo never")
    with trio.fail_after(10):
        await failing.wait()
        await queued.wait()
    assert (failing.status, queued.status) == ("error", "aborted")


async def test_its_traits_are_configured():
    with pytest.raises(FileNotFoundError, match="no-such-shell"):
        PortedKernel(program="no-such-shell")


async def test_it_speaks_the_protocol(kernel):
    samples = Samples(code=":", failing="false", printing="echo hello", completing="ech")
    assert await assert_conforms(kernel, samples)
