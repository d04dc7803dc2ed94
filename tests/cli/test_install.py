"""``trikernel install`` for a kernel of somebody's own: what its class says, and where it lies."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from trikernel import cli
from trikernel.cli import main
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
    assert spec["metadata"]["debugger"] is False
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


# Without a name, and classes that cannot work: in this process


CLASSES = """\
from trikernel import Kernel
from trikernel.python import PythonKernel

class Runs(Kernel):
    def do_execute(self, code, silent): ...

class ShellKernel(Runs):
    implementation = "My shell (2.0)"

class Other(Runs):
    implementation = "my-shell-2.0"

class Ünnamed(Runs):
    pass

class Sub(PythonKernel):
    pass

class Computed(Runs):
    implementation = property(lambda self: "late")

class Same(Runs):
    implementation = "trikernel"

class Misspelt(Kernel):
    def do_excute(self, code, silent): ...

class Unmade(Runs):
    def __init__(self, **settings):
        super().__init__(**settings)
        raise OSError("no shell here")

class NoSuper(Runs):
    def __init__(self, **settings): ...

class Wrong(Runs):
    language_info = "bash"

class Bare(Kernel):
    pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that one is in and where Jupyter looks, with a module of several kernels."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    (tmp_path / "several.py").write_text(CLASSES, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "several", raising=False)
    yield tmp_path
    sys.modules.pop("several", None)


def install_here(name: str, *flags: str) -> int:
    return main(["install", "--prefix", ".", "--kernel", f"several:{name}", *flags])


def installed_names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.glob("share/jupyter/kernels/*"))


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        ("ShellKernel", "my-shell-2.0"),
        ("Ünnamed", "nnamed"),
        ("Sub", "sub"),
        ("Computed", "computed"),
        ("Same", "same"),
    ],
)
def test_without_a_name_it_is_that_of_the_class_and_said(
    here: Path, capsys: pytest.CaptureFixture[str], kernel: str, name: str
) -> None:
    assert install_here(kernel) == 0
    assert capsys.readouterr().out.startswith(f"installed kernelspec {name} in ")
    assert installed_names(here) == [name]
    assert install_here(kernel) == 0  # again: the same kernel


def test_another_kernel_is_replaced_by_its_name_only(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install_here("ShellKernel") == 0
    before = spec_of(here, "my-shell-2.0")
    assert install_here("Other") == 2
    said = capsys.readouterr().err
    assert "starts another kernel: say --name my-shell-2.0 to replace it\n" in said
    assert spec_of(here, "my-shell-2.0") == before
    assert install_here("Other", "--name", "My-Shell-2.0") == 0
    assert "installed kernelspec my-shell-2.0 in " in capsys.readouterr().out
    assert "several:Other" in spec_of(here, "my-shell-2.0")["argv"]


def test_the_kernelspec_that_the_installation_brings_is_replaced(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = here / "share" / "jupyter" / "kernels" / "trikernel"
    shutil.copytree(Path(cli.__file__).parent / "kernelspec", folder)
    assert main(["install", "--prefix", str(here), "--display-name", "Mine"]) == 0
    assert spec_of(here, "trikernel")["display_name"] == "Mine"


def test_a_folder_where_jupyter_does_not_look_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    assert install_here("ShellKernel") == 0
    folder = here / "share" / "jupyter"
    assert f"Jupyter does not look there, unless JUPYTER_PATH has {folder}" in (
        capsys.readouterr().err
    )
    monkeypatch.setenv("JUPYTER_PATH", str(folder))
    assert install_here("ShellKernel") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("flags", [[], ["--sys-prefix"]])
def test_without_more_it_is_for_this_python(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is said for other kernels, too."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert main(["install", "--name", "here", *flags]) == 0
    assert (tmp_path / "share" / "jupyter" / "kernels" / "here" / "kernel.json").exists()


def test_the_help_says_what_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["install", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "(default: trikernel; with --kernel, the implementation's name)" in words


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        ("Misspelt", "Misspelt.do_excute is no verb: it must be called do_execute"),
        ("Unmade", "Unmade.__init__ has raised OSError: no shell here"),
        ("NoSuper", "NoSuper.__init__ must call super().__init__"),
        ("Wrong", "Wrong.language_info must be a dictionary"),
    ],
)
def test_a_class_that_cannot_work_is_one_line_and_nothing_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], kernel: str, words: str
) -> None:
    assert install_here(kernel, "--name", "mine") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"trikernel: error: {words}")
    assert said.count("\n") == 1
    assert not (here / "share").exists()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("syntax", "class X(: pass", "importing broken has raised SyntaxError: invalid syntax ("),
        ("failing", "import json\njson.loads('x')", "value: line 1 column 1 (char 0) (broken.py, "),
        ("missing", "import no_such_thing", "broken: No module named 'no_such_thing'\n"),
        ("file", "", "(name the module, not its file: broken:X)"),
        ("elsewhere", None, "(what is not installed `install` finds in its own folder, "),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, words: str
) -> None:
    if text is not None:
        (here / "broken.py").write_text(text, "utf-8")
    sys.modules.pop("broken", None)
    spec = "broken.py:X" if name == "file" else "broken:X"
    assert main(["install", "--prefix", ".", "--kernel", spec]) == 2
    said = capsys.readouterr().err
    assert said.startswith("trikernel: error: --kernel: ")
    assert words in said
    assert said.count("\n") == 1
    sys.modules.pop("broken", None)


def test_a_kernel_without_a_language_has_its_own_name(here: Path) -> None:
    assert install_here("ShellKernel") == install_here("Computed") == 0
    assert spec_of(here, "my-shell-2.0")["display_name"] == "My shell (2.0)"
    assert spec_of(here, "computed")["display_name"] == "Computed"


def test_what_is_hardly_meant_is_installed_with_a_warning(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install_here("Bare") == 0
    assert capsys.readouterr().err == (
        "trikernel: warning: Bare has no do_execute: it answers every cell with an error\n"
    )
    assert installed_names(here) == ["bare"]


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
