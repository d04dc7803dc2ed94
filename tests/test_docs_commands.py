"""Each command that a page shows does what the page says: from a fresh folder, with the wheel.

A page's ``console`` blocks are one session in a shell, in a folder that holds only what its reader
has by then. ``$`` begins a command, and what follows is its output, in which an ellipsis and the
seconds of a duration may be anything. A command without output may say what it likes; it ends well.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import nbformat
import pexpect
import pytest
from pexpect.popen_spawn import PopenSpawn

from .processes import ROOT

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a shell"),
    pytest.mark.slow,
]

TIMEOUT = 120  # seconds
EXAMPLES = ROOT / "docs" / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@attrs.frozen
class Command:
    """One command of a page, and the lines that it says follow."""

    line: str
    output: tuple[str, ...]


def commands_of(page: Path) -> list[Command]:
    """What a page tells its reader to type, top to bottom."""
    found: list[Command] = []
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text("utf-8"), re.S | re.M):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:], ()))
            else:
                found[-1] = attrs.evolve(found[-1], output=(*found[-1].output, line))
    return found


def notebook(*cells: str, tagged: Mapping[int, str] = {}) -> str:
    """A notebook's text; ``tagged`` gives cells a tag, by their position."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    for position, tag in tagged.items():
        made.cells[position].metadata["tags"] = [tag]
    text: str = nbformat.writes(made)
    return text


DEFAULTS = "year, regions, code = 2025, [], ''"

HAS: dict[str, dict[str, str | Path]] = {
    "README.md": {"echo_kernel.py": EXAMPLES / "echo_kernel.py"},
    "docs/tutorial/a-kernel-in-20-lines.md": {"echo_kernel.py": EXAMPLES / "echo_kernel.py"},
    "docs/tutorial/test-your-kernel.md": {".": EXAMPLES / "countdown"},
    "docs/how-to/wrap-a-program.md": {".": EXAMPLES / "shell_kernel"},
    "docs/how-to/check-your-kernel.md": {
        name: EXAMPLES / name for name in ("echo_kernel.py", "echo_samples.toml")
    },
    "docs/how-to/run-notebooks-in-ci.md": {
        "docs/quickstart.ipynb": EXAMPLES / "quickstart.ipynb",
        "docs/tour.ipynb": notebook(*["1 + 1"] * 10),
        "report.ipynb": notebook(DEFAULTS, "print(year)", tagged={0: "parameters"}),
    },
}
"""What the reader of a page has by then: a file's text, or an example that the page shows."""


def pages_with_commands() -> list[str]:
    return [str(page.relative_to(ROOT)) for page in PAGES if commands_of(page)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of a fresh environment, as a stranger has it: the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / "bin"
    pip = [str(scripts / "python"), "-m", "pip", "-q"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*command: str) -> None:
        subprocess.run([*pip, *command], check=True, timeout=600, env=env)

    run("wheel", "--no-deps", "-w", str(folder), str(ROOT))
    (wheel,) = folder.glob("trikernel-*.whl")
    run("install", f"{wheel}[python,testing]")
    return scripts


class Session:
    """A shell in which one line after the other is run."""

    def __init__(self, folder: Path, installed: Path) -> None:
        env = {
            name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ
        }
        env |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        home = folder.parent / "home"
        home.mkdir()
        env |= {"HOME": str(home), "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}
        options: dict[str, Any] = {"encoding": "utf-8", "timeout": TIMEOUT}
        if sys.platform != "win32":
            options["preexec_fn"] = os.setsid
        self._shell = PopenSpawn(["bash"], cwd=folder, env=env, **options)

    def run(self, command: Command) -> str:
        """Run it; what it put out until it ended, or until all of its output was there."""
        self._shell.sendline(f"{{ {command.line}\n}} < /dev/null 2>&1; echo ended-with-$?")
        self._shell.expect(r"ended-with-(\d+)\n")
        text: str = self._shell.before
        assert self._shell.match.group(1) == "0", f"$ {command.line}\n{text}"
        if command.line.endswith("&") and command.output:
            self._shell.expect(_pattern(command.output[-1]))
            text += self._shell.before + self._shell.after
        return text

    def close(self) -> None:
        if sys.platform != "win32":  # with what a failed session has left behind
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        self._shell.expect(pexpect.EOF)
        self._shell.proc.stdin.close()
        self._shell.proc.stdout.close()


@pytest.fixture
def session(tmp_path: Path, installed: Path, request: pytest.FixtureRequest) -> Iterator[Session]:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, what in HAS.get(request.getfixturevalue("page"), {}).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, str):
            target.write_text(what, "utf-8")
        elif what.is_dir():
            shutil.copytree(what, target, dirs_exist_ok=True)
        else:
            shutil.copy(what, target)
    session = Session(folder, installed)
    yield session
    session.close()


def _pattern(line: str) -> str:
    text = re.escape(line)
    text = re.sub(r"\d+\\\.\d+(\\ )?s\b", r"[\\d.]+\1s", text)
    return text.replace("…", ".*")


# In the longer run: it makes an environment, and the README's lines are run by `.ci/run` itself.
@pytest.mark.thorough
@pytest.mark.parametrize("page", pages_with_commands())
def test_each_command_of_a_page_does_what_the_page_says(page: str, session: Session) -> None:
    for command in commands_of(ROOT / page):
        output = session.run(command)
        for line in command.output:
            assert re.search(_pattern(line), output), f"$ {command.line}\n{output}"
