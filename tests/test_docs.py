"""The docs say what is true: examples run, links lead somewhere, tables are current."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import reference
from .processes import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / ".github").glob("*.md"),
]
EXAMPLES = ROOT / "docs" / "examples"


def test_the_readme_has_exactly_two_set_up_lines() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    assert [len(block.strip().splitlines()) for block in blocks] == [1, 1]
    assert "trikernel run docs/examples/quickstart.ipynb" in blocks[0]
    assert "pytest" in blocks[1]
    assert text.index(blocks[1]) < 2000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Anchors, too, by the names that GitHub gives to headings. What leaves is only looked at."""
    for target in re.findall(r"\]\(([^)]+)\)", without_code(page)):
        if "://" in target:
            assert re.fullmatch(r"https://([\w-]+\.)+\w+(/[^\s]*)?", target), target
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def without_code(page: Path) -> str:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
    return re.sub(r"`[^`\n]+`", lambda found: re.sub(r"[\[\]()]", "", found[0]), text)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), re.M)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("name", reference.PAGES)
def test_reference_pages_are_current(name: str) -> None:
    assert (reference.FOLDER / name).read_text("utf-8") == reference.PAGES[name]()


def test_the_embedded_example_runs() -> None:
    run = subprocess.run(
        [sys.executable, "embedded.py"], cwd=EXAMPLES, capture_output=True, text=True, timeout=60
    )
    assert (run.stdout, run.stderr) == ("hello -> ok\n", "")


def test_the_example_of_a_timeline_runs(tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    run = subprocess.run(
        [sys.executable, "record_tasks.py", picture],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stderr == ""
    assert "the cell held the loop for" in run.stdout
    assert "time.sleep(0.2)" in run.stdout
    assert picture.read_text("utf-8").startswith("<svg")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "printed"),
    [
        ("start_many.py", ["0 squared is 0", "1 squared is 1", "2 squared is 4"]),
        ("launch_encrypted.py", ["42"]),
        ("launch_elsewhere.py", [f"a cell has run on {platform.node()!r}"]),
    ],
)
def test_the_examples_of_the_handshake_run(example: str, printed: list[str]) -> None:
    command = [sys.executable, example]
    run = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=120)
    assert (sorted(run.stdout.splitlines()), run.stderr) == (printed, "")


@pytest.mark.thorough
def test_the_example_of_a_cluster_runs() -> None:
    command = [sys.executable, "cluster_calls.py"]
    run = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    found = [line for line in run.stdout.splitlines() if ": " in line]
    assert found == [
        "sum: 20540",
        "cancelled: True",
        "too late: True",
        "and on: ['counted', 'counted']",
    ]


@pytest.mark.parametrize(
    ("page", "example"),
    [
        ("how-to/start-many-kernels.md", "start_many.py"),
        ("how-to/encrypt-a-connection.md", "launch_encrypted.py"),
        ("how-to/remote-kernels.md", "launch_elsewhere.py"),
        ("how-to/run-on-a-cluster.md", "cluster_calls.py"),
        ("tutorial/a-kernel-in-20-lines.md", "echo_kernel.py"),
        ("how-to/embed-a-kernel.md", "embedded.py"),
        ("how-to/embed-a-kernel.md", "server_with_a_door.py"),
        ("how-to/subshells.md", "progress_in_a_subshell.py"),
        ("how-to/start-kernels-warm.md", "warm_kernels.py"),
    ],
)
def test_a_page_shows_the_file_that_is_tested(page: str, example: str) -> None:
    code = (EXAMPLES / example).read_text("utf-8").partition('"""\n\n')[2]
    assert code in (ROOT / "docs" / page).read_text("utf-8")


def test_each_picture_has_a_script_that_makes_it_and_a_page_that_shows_it() -> None:
    folder = ROOT / "docs" / "images"
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    for picture in (*folder.glob("*.svg"), *folder.glob("*.png")):
        script = folder / f"make_{picture.stem}_picture.py"
        assert f'"{picture.name}"' in script.read_text("utf-8")
        assert f"images/{picture.name})" in pages


def test_a_picture_that_moves_stands_still_for_who_asked_for_it_and_loads_nothing() -> None:
    text = (ROOT / "docs" / "images" / "session.svg").read_text("utf-8")
    assert "prefers-color-scheme: dark" in text
    assert "prefers-reduced-motion: reduce" in text
    assert "<script" not in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]


def test_the_top_level_holds_what_it_should() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    visible = {name for name in names if not name.startswith(".")}
    assert visible == {"pyproject.toml", "trikernel", "tests", "docs", "README.md", "LICENSE"}


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        pytest.param("code_interpreter", "5 passed", marks=pytest.mark.thorough),
        pytest.param(
            "ported_kernel",
            "8 passed",
            marks=pytest.mark.skipif(shutil.which("bash") is None, reason="it wraps bash"),
        ),
        pytest.param(
            "shell_kernel",
            "13 passed",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="it wraps a shell"),
        ),
    ],
)
def test_an_example_passes_its_own_tests(name: str, passed: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=EXAMPLES / name,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert passed in run.stdout


def test_the_subshell_example_runs() -> None:
    run = subprocess.run(
        [sys.executable, "progress_in_a_subshell.py"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (run.stdout, run.stderr) == ("not yet at the end: True\n", "")


def test_the_client_example_runs() -> None:
    run = subprocess.run(
        [sys.executable, "ask_a_kernel.py"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.splitlines() == [
        "hello 42 ok",
        "ZeroDivisionError: division by zero",
        "got ['0', '1', '2']",
        "the cell took longer than 0.5 seconds and was interrupted",
        "['import']",
    ]
    assert run.stderr == ""


def test_the_warm_example_runs() -> None:
    run = subprocess.run(
        [sys.executable, "warm_kernels.py"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (sorted(run.stdout.splitlines()), run.stderr) == (["'0'", "'1'", "'2'"], "")


def test_the_tutorial_shows_the_package_that_is_tested() -> None:
    page = (ROOT / "docs" / "tutorial" / "test-your-kernel.md").read_text("utf-8")
    package = EXAMPLES / "countdown"
    assert (package / "countdown_kernel.py").read_text("utf-8").partition('"""\n\n')[2] in page
    tests = (package / "tests" / "test_countdown.py").read_text("utf-8")
    for part in tests.partition('"""\n\n')[2].split("\n\n\n"):
        assert part.strip() in page


@pytest.mark.parametrize(
    ("name", "example", "tests", "blocks"),
    [
        ("wrap-a-program", "shell_kernel", "test_shell", 9),
        ("port-a-kernel", "ported_kernel", "test_ported_kernel", 6),
    ],
)
def test_the_page_on_a_package_shows_the_one_that_is_tested(
    name: str, example: str, tests: str, blocks: int
) -> None:
    page = (ROOT / "docs" / "how-to" / f"{name}.md").read_text("utf-8")
    package = EXAMPLES / example
    files = [package / f"{example}.py", package / "tests" / f"{tests}.py"]
    code = [line.strip() for file in files for line in file.read_text("utf-8").splitlines()]
    text = "\n".join(line for line in code if line)
    shown = re.findall(r"```python\n(.*?)\n```", page, re.S)
    assert len(shown) == blocks
    for block in shown:
        for part in block.split("\n\n\n"):
            lines = [line.strip() for line in part.splitlines()]
            assert "\n".join(line for line in lines if line) in text


def test_the_page_on_checking_a_kernel_shows_the_files_that_are_tested() -> None:
    page = (ROOT / "docs" / "how-to" / "check-your-kernel.md").read_text("utf-8")
    test = (EXAMPLES / "test_echo_conforms.py").read_text("utf-8")
    assert test.partition('"""\n\n')[2] in page
    samples = (EXAMPLES / "echo_samples.toml").read_text("utf-8")
    assert samples.partition("\n")[2] in page


def test_the_echo_kernel_conforms_as_the_page_tests_it() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_echo_conforms.py"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"\d\d passed, \d\d skipped", run.stdout), run.stdout
