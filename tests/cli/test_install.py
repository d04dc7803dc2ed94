"""``trikernel install`` for a kernel of somebody's own: what its class says, and where it lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from trikernel.client import open_kernel

from ..processes import ROOT, TIMEOUT

MODULE = """\
from trikernel import Kernel

class NodeKernel(Kernel):
    implementation = "node"
    language_info = {"name": "JavaScript", "file_extension": ".js"}
    interrupt_mode = "message"

    def do_execute(self, code, silent, **options):
        import os
        text = f"{code} {os.environ.get('COLOUR')}"
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": text})

class Named(NodeKernel):
    display_name = "My Node"
"""


def install(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As it is typed in the folder of the module."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "trikernel", "install", "--prefix", ".", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=folder,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mynode.py").write_text(MODULE, "utf-8")
    (tmp_path / "random.py").write_text("raise RuntimeError('not the one that is meant')", "utf-8")
    (tmp_path / "logo-64x64.png").write_bytes(b"a picture")
    return tmp_path


def spec_of(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "share" / "jupyter" / "kernels" / name / "kernel.json"
    spec: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return spec


def test_what_can_be_known_is_taken_from_the_class(folder: Path) -> None:
    done = install(folder, "--name", "mynode", "--kernel", "mynode:NodeKernel")
    assert done.returncode == 0, done.stderr
    spec = spec_of(folder, "mynode")
    assert spec["language"] == "javascript"
    assert spec["display_name"] == "Javascript (node)"
    assert spec["interrupt_mode"] == "message"
    assert spec["metadata"]["supported_encryption"] == ["curve"]
    there = folder / "share" / "jupyter" / "kernels" / "mynode"
    assert sorted(one.name for one in there.iterdir()) == ["kernel.json", "logo-64x64.png"]
    assert (there / "logo-64x64.png").read_bytes() == b"a picture"


def test_what_is_said_goes_before_what_is_known(folder: Path) -> None:
    named = install(folder, "--name", "named", "--kernel", "mynode:Named", "--language", "js")
    assert named.returncode == 0, named.stderr
    assert spec_of(folder, "named")["display_name"] == "My Node"
    assert spec_of(folder, "named")["language"] == "js"
    flags = "--display-name", "Another", "--env", "COLOUR=blue=green", "--env", "EMPTY="
    assert install(folder, "--name", "named", "--kernel", "mynode:Named", *flags).returncode == 0
    spec = spec_of(folder, "named")
    assert (spec["display_name"], spec["language"]) == ("Another", "javascript")
    assert spec["env"] == {"COLOUR": "blue=green", "EMPTY": ""}


async def test_it_starts_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else lies beside its module, a ``random.py`` for one."""
    flags = "--name", "mynode", "--kernel", "mynode:NodeKernel", "--env", "COLOUR=blue"
    assert install(folder, *flags).returncode == 0
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "share" / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with trio.fail_after(TIMEOUT):
        async with open_kernel("mynode", cwd=Path(folder.anchor)) as client:
            assert (await client.execute("hello")).stdout == "hello blue"


def test_a_folder_that_has_moved_is_named(folder: Path, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    started = subprocess.run(
        [
            sys.executable,
            "-m",
            "trikernel",
            "start",
            "--kernel",
            "mynode:NodeKernel",
            "--path",
            gone,
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        cwd=ROOT,
    )
    assert started.returncode == 2
    assert gone in started.stderr
    assert "install the kernelspec again" in started.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--env", "COLOUR"], "KEY=VALUE"),
        (["--env", "=blue"], "KEY=VALUE"),
        (["--kernel", "mynode:Nothing"], "no Kernel subclass 'Nothing'"),
        (["--kernel", "mynode:__name__"], "no Kernel subclass"),
        (["--kernel", "elsewhere:Kernel"], "cannot import elsewhere"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_installed(
    folder: Path, flags: list[str], words: str
) -> None:
    done = install(folder, "--name", "mynode", *flags)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (folder / "share").exists()
