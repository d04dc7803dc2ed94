"""A kernel says who it is before it can run a cell, and loses nothing that comes meanwhile."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trikernel.python.early import ipython_version
from trikernel.python.kernel import PythonApplication, PythonKernel

from ..processes import TIMEOUT, kernel_process, wait_until

HELD = "tests.python.held_import:Held"


def test_who_asks_before_ipython_is_imported_is_answered_in_order(tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    with kernel_process(HELD, HELD=str(go_on)) as kernel:  # it has answered wait_for_ready
        cell = kernel.send("import IPython\nIPython.__version__")
        behind = kernel.client.kernel_info()
        client = kernel.client
        client.control_channel.send(client.session.msg("create_subshell_request", {}))
        kernel.interrupt("message")  # is answered before that, and hits nothing
        go_on.touch()
        reply, outputs = kernel.finish(cell)
        assert reply["status"] == "ok"
        (result,) = [one["content"] for one in outputs if one["msg_type"] == "execute_result"]
        assert result["data"]["text/plain"] == repr(ipython_version())
        reply = kernel.client.get_shell_msg(timeout=TIMEOUT)
        assert reply["parent_header"]["msg_id"] == behind
        reply = client.get_control_msg(timeout=TIMEOUT)
        assert reply["msg_type"] == "create_subshell_reply"
        assert reply["content"]["status"] == "ok"


def test_a_shutdown_before_ipython_is_imported_ends_it(tmp_path: Path) -> None:
    with kernel_process(HELD, "--shutdown-grace", "0.1", HELD=str(tmp_path / "never")) as kernel:
        kernel.client.shutdown()
        reply = kernel.client.get_control_msg(timeout=TIMEOUT)
        assert reply["content"]["status"] == "ok"
        wait_until(lambda: kernel.process.poll() is not None, "the kernel's end")


class WithHook(PythonKernel):
    """Its hook may say something else of the kernel."""

    async def started(self) -> None:
        self.banner = "changed"


def test_what_a_hook_may_change_waits_for_it() -> None:
    info: Any = SimpleNamespace(msg_type="kernel_info_request")
    cell: Any = SimpleNamespace(msg_type="execute_request")
    assert PythonApplication(PythonKernel()).needs_no_start(info)
    assert not PythonApplication(PythonKernel()).needs_no_start(cell)
    assert not PythonApplication(WithHook()).needs_no_start(info)


def test_what_may_end_the_start_is_known_before_anybody_is_answered() -> None:
    info: Any = SimpleNamespace(msg_type="kernel_info_request")
    assert not PythonApplication(PythonKernel(profile="missing")).needs_no_start(info)
    kernel = PythonKernel()
    kernel.flags = ["--profile=missing"]
    assert not PythonApplication(kernel).needs_no_start(info)


def test_the_version_is_that_of_ipython() -> None:
    import IPython

    assert ipython_version() == IPython.__version__
    assert f"IPython {IPython.__version__}:" in PythonKernel.banner
