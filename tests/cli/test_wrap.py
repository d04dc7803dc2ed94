"""``trikernel install --wrap``: a kernelspec beside another one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trikernel.cli import main

OTHER: dict[str, Any] = {
    "argv": [sys.executable, "-X", "utf8", "-m", "its_kernel", "-f", "{connection_file}", "-v"],
    "display_name": "Its",
    "language": "its",
    "interrupt_mode": "message",
    "env": {"PS1": "$"},
    "metadata": {"a": 1},
}


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where Jupyter looks for kernelspecs."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return tmp_path / "kernels"


def put(kernels: Path, name: str, argv: list[str]) -> None:
    folder = kernels / name
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({**OTHER, "argv": argv}), "utf-8")
    (folder / "logo-svg.svg").write_bytes(b"a picture")


def spec_of(kernels: Path, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads((kernels / name / "kernel.json").read_text("utf-8"))
    return spec


@pytest.mark.usefixtures("capsys")
def test_everything_but_the_launcher_and_the_name_stays(kernels: Path) -> None:
    put(kernels, "its", OTHER["argv"])
    assert main(["install", "--wrap", "its", "--env", "A=b"]) == 0
    words = ["-m", "trikernel.compat", "its_kernel", "-f", "{connection_file}", "-v"]
    assert spec_of(kernels, "its-trio") == {
        **OTHER,
        "argv": [*OTHER["argv"][:-5], *words],
        "display_name": "Its (Trio)",
        "env": {"PS1": "$", "A": "b"},
    }
    assert (kernels / "its-trio" / "logo-svg.svg").read_bytes() == b"a picture"
    assert spec_of(kernels, "its") == OTHER


@pytest.mark.usefixtures("capsys")
def test_an_installed_script_becomes_its_function(kernels: Path, tmp_path: Path) -> None:
    script = tmp_path / "pip"
    script.write_text(f"#!{sys.executable}\n", "utf-8")
    script.chmod(0o755)
    put(kernels, "its", [str(script), "--kernel", "{connection_file}"])
    assert main(["install", "--wrap", "its", "--name", "mine", "--display-name", "Mine"]) == 0
    spec = spec_of(kernels, "mine")
    function = ["pip._internal.cli.main:main", "--kernel", "{connection_file}"]
    assert spec["argv"] == [sys.executable, "-m", "trikernel.compat", *function]
    assert spec["display_name"] == "Mine"


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([sys.executable, "kernel.py", "-f", "x"], "runs no module"),
        (["no-such-program", "x"], "runs 'no-such-program', and there is no such program"),
        (["sh", "x"], "runs 'sh', which is no script of Python's"),
        ([sys.executable, "-m", "trikernel.compat", "x"], "is wrapped already"),
        ([sys.executable, "-m", "trikernel", "start"], "is a kernel of trikernel's as it is"),
        ([], "has no argv"),
        (["/nowhere/python3", "-m", "x"], "the interpreter of 'its' does not run"),
    ],
)
def test_what_cannot_be_wrapped_is_one_line(
    kernels: Path, capsys: pytest.CaptureFixture[str], argv: list[str], complaint: str
) -> None:
    put(kernels, "its", argv)
    assert main(["install", "--wrap", "its"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("trikernel: error: --wrap: ")
    assert complaint in said
    assert said.count("\n") == 1
    assert not (kernels / "its-trio").exists()


def test_a_class_that_was_written_for_ipykernel_is_told_by_what_it_is_started(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["install", "--kernel", "tests.compat.kernels:Echo"]) == 2
    assert "python -m trikernel.compat tests.compat.kernels -f FILE" in capsys.readouterr().err


def test_one_that_another_goes_before_is_told(
    kernels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(kernels, "its", OTHER["argv"])
    assert main(["install", "--name", "its", "--prefix", str(tmp_path / "elsewhere")]) == 0
    said = capsys.readouterr().err
    words = f"Jupyter starts the its of {kernels / 'its'}, which goes before it: "
    words += "install it there, or with another --name"
    assert said == f"trikernel: warning: {words}\n"


def test_a_kernelspec_that_is_not_there_is_one_line(
    kernels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["install", "--wrap", "nobodys"]) == 2
    error = "trikernel: error: there is no kernelspec 'nobodys'; installed are: "
    assert capsys.readouterr().err.startswith(error)


def test_an_interpreter_without_this_package_is_told(
    kernels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'x'\" >&2; exit 1\n")
    python.chmod(0o755)
    put(kernels, "its", [str(python), "-m", "x"])
    assert main(["install", "--wrap", "its"]) == 2
    said = capsys.readouterr().err
    assert "cannot run trikernel (ModuleNotFoundError: No module named 'x')" in said
    assert f"{python} -m pip install" in said
