"""``trikernel new``: a package whose tests pass, or one line and nothing left behind."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from trikernel.cli import main

KINDS = list(itertools.product(["library", "subprocess"], ["async", "sync"]))


def made(folder: Path, *options: str, name: str = "my-kernel") -> Path:
    assert main(["new", name, "--into", str(folder), *options]) == 0
    return folder / name


def options_of(over: str, kind: str) -> list[str]:
    return ["--over", over, *(["--sync"] if kind == "sync" else [])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("over", "kind", "passed"),
    [
        ("library", "async", 8),
        pytest.param("library", "sync", 6, marks=pytest.mark.thorough),
        pytest.param("subprocess", "async", 5, marks=pytest.mark.thorough),
        pytest.param("subprocess", "sync", 5, marks=pytest.mark.thorough),
    ],
)
def test_the_tests_of_a_new_package_pass(
    over: str, kind: str, passed: int, tmp_path: Path, root: Path
) -> None:
    package = made(tmp_path, *options_of(over, kind))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=package,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ["PYTHONPATH"]])},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{passed} passed" in run.stdout


@pytest.mark.parametrize(("over", "kind"), KINDS)
@pytest.mark.usefixtures("capsys")
def test_a_new_package_is_well_formed(over: str, kind: str, tmp_path: Path) -> None:
    package = made(tmp_path, *options_of(over, kind))
    for check in (["check", "--select", "E,F,I,UP,B,SIM,PT,ASYNC"], ["format", "--check"]):
        command = ["ruff", *check, "--isolated", "--no-cache", "--line-length", "100", "."]
        run = subprocess.run(
            [sys.executable, "-m", *command], cwd=package, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout
    for file in filter(Path.is_file, package.rglob("*")):
        assert not re.search(r"__[A-Z]+(_[A-Z]+)*__", file.read_text("utf-8")), file


@pytest.mark.usefixtures("capsys")
def test_names_follow_from_the_packages(tmp_path: Path) -> None:
    package = made(tmp_path, name="Fast.my_lang-kernel")
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["name"] == "Fast.my_lang-kernel"
    text = (package / "fast_my_lang_kernel" / "kernel.py").read_text("utf-8")
    assert "class FastMyLangKernel(trikernel.Kernel):" in text
    assert 'implementation = "fast.my_lang-kernel"' in text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is no package's name"),
        ("my kernel", "is no package's name"),
        ("1st", "is no package's name"),
        ("-x-", "the following arguments are required"),
        ("../up", "is no package's name"),
        ("/root/of/all", "is no package's name"),
        ("ünder", "is no package's name"),
        ("a--b", "is no package's name"),
        ("a\nb", "is no package's name"),
        ("my-", "is no package's name"),
        ("class", "cannot be imported: class is a word of Python's"),
        ("match", "cannot be imported: match is a word of Python's"),
        ("json", "cannot be imported: the name json is taken"),
        ("tests", "cannot be imported: the name tests is taken"),
        ("Python3", "would hide Jupyter's own Python kernel"),
        ("trio", "would hide the module trio, which is installed"),
        ("trikernel", "would hide the module trikernel, which is installed"),
    ],
)
def test_a_name_that_is_none_is_one_line(
    name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["new", name, "--into", str(tmp_path)])
    except SystemExit as exit:
        code = exit.code  # type: ignore[assignment]
    assert code == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_what_exists_stays_as_it_is(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "my-kernel"
    if kind == "folder":
        place.mkdir()
    elif kind == "file":
        place.write_text("mine", "utf-8")
    else:
        place.symlink_to(tmp_path / "nowhere")
    assert main(["new", "my-kernel", "--into", str(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("my-kernel exists; nothing was written\n")
    assert [one.name for one in tmp_path.iterdir()] == ["my-kernel"]
    assert kind != "folder" or list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("into", "name"),
    [("missing", "my-kernel"), ("file", "my-kernel"), ("a\0b", "my-kernel"), (".", "a" * 300)],
)
def test_a_place_where_no_folder_can_be_is_one_line(
    into: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine", "utf-8")
    assert main(["new", name, "--into", str(tmp_path / into)]) == 2
    said = capsys.readouterr().err
    assert "cannot write" in said
    assert said.endswith("nothing was written\n")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="who may write everywhere"
)
def test_a_folder_that_is_only_to_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    assert main(["new", "my-kernel", "--into", str(tmp_path)]) == 2
    assert "Permission denied; nothing was written" in capsys.readouterr().err


@pytest.mark.parametrize("at", range(1, 12))
def test_a_disk_that_is_full_leaves_nothing_behind(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, count = Path.write_text, itertools.count(1)

    def write(self: Path, *args: Any, **options: Any) -> int:
        if next(count) == at:
            raise OSError(28, "No space left on device", str(self))
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "write_text", write)
    assert main(["new", "my-kernel", "--into", str(tmp_path)]) == 2
    assert "No space left on device; nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_in_the_middle_leaves_nothing_behind(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(self: Path, target: Path) -> None:
        raise error

    monkeypatch.setattr(Path, "rename", rename)
    if error is KeyboardInterrupt:
        assert main(["new", "my-kernel", "--into", str(tmp_path)]) == 130
    else:
        with pytest.raises(error):
            main(["new", "my-kernel", "--into", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
