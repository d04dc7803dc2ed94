"""``trikernel conform``: what it prints, its exit codes, kernels that die and that do not start."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from trikernel import Kernel
from trikernel.cli import main
from trikernel.conformance import Log, Subject
from trikernel.testing import open_memory_client
from trikernel.transport import ConnectionInfo, ZmqTransport, write_connection_file

from ..kernel.kernels import Recorder
from ..processes import TIMEOUT, wait_until

SAMPLES = "code = 'say x'\nfailing = 'fail'\nprinting = 'say x'\n"


class Bad(Recorder):
    async def is_complete_request(self, request: Any) -> Any:
        await super().is_complete_request(request)
        return {"status": "perhaps"}


@pytest.fixture
def samples(tmp_path: Path) -> str:
    path = tmp_path / "samples.toml"
    path.write_text(SAMPLES, "utf-8")
    return str(path)


Installed = Callable[..., list[Kernel]]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Kernels in memory in the place of processes; which were opened."""

    def install(*kernels: Kernel) -> list[Kernel]:
        left, opened = list(kernels), list[Kernel]()

        @asynccontextmanager
        async def open_one(spec: object, over: str, log: Log) -> AsyncIterator[Subject]:
            opened.append(left.pop(0))
            async with open_memory_client(opened[-1]) as client:
                yield Subject(client, is_apart=False)
                client.pop_background_errors()

        monkeypatch.setattr("trikernel.cli.conform.find_kernelspec", lambda name: None)
        monkeypatch.setattr("trikernel.cli.conform.open_kernelspec", open_one)
        return opened

    return install


def test_what_is_met_is_counted_and_what_is_not_checked_is_told(
    installed: Installed, samples: str, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(Recorder())
    assert main(["conform", "recorder", "--feature", "comm", "--samples", samples]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "not checked  comm.open                    there is no sample 'comm' for its language",
        "not checked  comm.listed                  there is no sample 'comm' for its language",
        "not checked  comm.messages                there is no sample 'comm' for its language",
        "recorder: 3 met, 3 not checked",
    ]


def test_a_miss_is_shown_with_its_messages_and_is_exit_code_1(
    installed: Installed, samples: str, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(Bad())
    assert main(["conform", "bad", "--feature", "core", "--samples", samples]) == 1
    out = capsys.readouterr().out
    assert "missed       is-complete.status           Code is complete, incomplete, inv" in out
    assert "             perhaps (messaging.rst, Code completeness)" in out
    assert '               <- reply is_complete_reply {"status": "perhaps"' in out
    assert "bad: " in out.splitlines()[-1]
    assert "2 missed" in out.splitlines()[-1]  # messages.content sees it, too


def test_verbose_shows_what_is_met(
    installed: Installed, samples: str, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(Recorder())
    assert main(["conform", "it", "-v", "--feature", "comm", "--samples", samples]) == 0
    assert "met          comm.info                    The open comms can be listed." in (
        capsys.readouterr().out
    )


def test_json_and_junit_have_every_requirement(
    installed: Installed, samples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(Bad())
    junit = tmp_path / "junit.xml"
    arguments = ["--samples", samples, "--json", "--junit", str(junit), "--feature", "core"]
    assert main(["conform", "bad", *arguments]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["kernel"] == "bad"
    by_id = {one["id"]: one for one in found["results"]}
    assert by_id["is-complete.status"]["outcome"] == "missed"
    assert by_id["is-complete.status"]["messages"][0] == "-> is_complete_request 'say x'"
    assert by_id["execute.reply"]["outcome"] == "met"
    suite = ElementTree.parse(junit).getroot()
    cases = {case.get("name"): case for case in suite}
    assert set(cases) == set(by_id)
    assert suite.get("failures") == "2"
    failure = cases["is-complete.status"].find("failure")
    assert failure is not None
    assert failure.get("message") == "perhaps"
    assert "is_complete_reply" in (failure.text or "")
    assert cases["complete.reply"].find("skipped") is not None
    assert len(cases["execute.reply"]) == 0


class Dying(Recorder):
    """Ends when it is asked about a comm, as a kernel that crashes does."""

    async def comm_info_request(self, request: Any) -> Any:
        self.send_response(self.iopub_socket, "shutdown_reply", {"status": "ok", "restart": False})
        await trio.sleep_forever()


def test_a_kernel_that_dies_costs_one_requirement_and_another_one_is_started(
    installed: Installed, samples: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = installed(Dying(), Recorder())
    assert main(["conform", "dying", "--feature", "comm", "--samples", samples]) == 1
    out = capsys.readouterr().out
    assert len(opened) == 2
    assert "missed       comm.info" in out
    assert "has shut down" in out
    assert out.splitlines()[-1] == "dying: 2 met, 1 missed, 3 not checked"


def test_what_can_be_mended_is_one_line_and_exit_code_2(
    installed: Installed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(Recorder())
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("code = 'fail'", "utf-8")
    gone = str(tmp_path / "gone.json")
    for arguments, words in [
        (["it", "--feature", "no such"], "there is no feature 'no such'"),
        (["it", "--samples", str(wrong)], "the sample code='fail' must end well"),
        ([gone], "there is no such file"),
        ([gone, "--over", "ipc"], "listens where its file says"),
    ]:
        assert main(["conform", *arguments]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert words in lines[0]


def test_an_unknown_kernelspec_is_told_with_those_that_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["conform", "no-such-kernel"]) == 2
    assert "there is no kernelspec 'no-such-kernel'; installed are: " in capsys.readouterr().err


def kernelspec(folder: Path, name: str, *argv: str, **fields: Any) -> None:
    path = folder / "kernels" / name / "kernel.json"
    path.parent.mkdir(parents=True)
    spec = {"argv": list(argv), "display_name": name, "language": "x", **fields}
    path.write_text(json.dumps(spec), "utf-8")


def test_a_kernel_that_does_not_start_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    code = "import sys; sys.exit('out of order')"
    kernelspec(tmp_path, "broken", sys.executable, "-c", code, "{connection_file}")
    kernelspec(tmp_path, "gone", os.path.join(tmp_path, "gone"), "{connection_file}")
    assert main(["conform", "broken"]) == 1
    text = capsys.readouterr().err
    assert "kernel 'broken' died with exit code 1; its last words:" in text
    assert "out of order" in text
    assert main(["conform", "gone"]) == 1
    assert "kernel 'gone' cannot be started: No such file or directory" in capsys.readouterr().err


def test_a_kernel_that_has_ended_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ZmqTransport(ConnectionInfo()) as transport:  # ports that were free a moment ago
        write_connection_file(tmp_path / "kernel.json", transport.info)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", transport.info.shell_port))  # nobody else listens there meanwhile
        assert main(["conform", str(tmp_path / "kernel.json")]) == 1
    assert "nobody listens at tcp://127.0.0.1:" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_told_before_the_checks(
    installed: Installed, samples: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = installed(Recorder())
    path = str(tmp_path / "no folder" / "x.xml")
    assert main(["conform", "some", "--samples", samples, "--junit", path]) == 2
    assert opened == []
    assert "--junit" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C goes to all processes")
def test_ctrl_c_is_one_line_and_leaves_no_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    start = [sys.executable, "-m", "trikernel", "start", "-f", "{connection_file}"]
    kernelspec(tmp_path, "it", *start)
    command = [sys.executable, "-m", "trikernel", "conform", "it", "--verbose"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child would inherit
    with subprocess.Popen(  # that it is ignored, as it is in the background of a script
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdout is not None
        assert "met" in process.stdout.readline()
        found = psutil.Process(process.pid)
        kernels = wait_until(lambda: found.children(recursive=True), "a kernel")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, stderr) == (130, "interrupted\n")
    assert kernels
    wait_until(lambda: not any(one.is_running() for one in kernels), "the kernel's end")
