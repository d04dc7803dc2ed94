"""What a killed kernel leaves is removed later, and never anything of one that may be alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trikernel.transport import new_connection_file, read_connection_file, remove_stale_files
from trikernel.transport.connection_file import PROCESS_FIELD

from ..processes import ROOT, wait_until

TIMEOUT = 60
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def start(runtime: Path) -> tuple[subprocess.Popen[str], Path]:
    """A kernel that makes its own connection file, once it serves."""
    before = set(runtime.glob("kernel-*.json"))
    process = subprocess.Popen(
        [sys.executable, "-m", "trikernel", "start"],
        cwd=ROOT,
        env={**os.environ, "JUPYTER_RUNTIME_DIR": str(runtime)},
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def made() -> Path | None:
        new = [one for one in set(runtime.glob("kernel-*.json")) - before if one.stat().st_size]
        return new[0] if new and json.loads(new[0].read_text())["shell_port"] else None

    wait_until(lambda: made() is not None or process.poll() is not None, "the connection file")
    found = made()
    assert found is not None
    return process, found


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(TIMEOUT)


def test_the_next_start_removes_what_a_killed_kernel_left(tmp_path: Path) -> None:
    killed, left = start(tmp_path)
    alive, kept = start(tmp_path)
    try:
        assert left.exists()
        kill(killed)
        assert left.exists()
        third, own = start(tmp_path)
        try:
            assert set(tmp_path.glob("kernel-*.json")) == {kept, own}
            assert read_connection_file(kept).shell_port
        finally:
            kill(third)
    finally:
        kill(alive)


def test_list_removes_it_and_says_so(tmp_path: Path) -> None:
    process, left = start(tmp_path)
    kill(process)
    run = subprocess.run(
        [sys.executable, "-m", "trikernel", "list"],
        cwd=ROOT,
        env={**os.environ, "JUPYTER_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert run.returncode == 0, run.stderr
    assert str(left) in run.stdout
    assert not left.exists()


def ended_pid() -> int:
    """A number that some process had a moment ago."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(TIMEOUT)
    return process.pid


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return new_connection_file(tmp_path)


def change(path: Path, **fields: Any) -> None:
    content = json.loads(path.read_text())
    content[PROCESS_FIELD].update(fields)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "fields",
    [
        {"boot": "another machine, or an earlier boot"},
        {"namespace": "pid:[1]"},
        {"clock": "time:[1]"},
        {"pid": 0},
        {"pid": -1},
        {"pid": True},
        {"pid": "1"},
        {"pid": 1.5},
        {"pid": 1 << 80},
        {"started": None},
        {"more": 1},
    ],
)
def test_without_a_proof_it_stays(own: Path, fields: dict[str, Any]) -> None:
    change(own, **{"pid": ended_pid(), **fields})
    assert remove_stale_files(own.parent) == []
    assert own.exists()


def test_a_live_process_keeps_its_file(own: Path) -> None:
    assert remove_stale_files(own.parent) == []
    assert own.exists()


def test_a_number_that_was_given_to_another_process_is_no_life(own: Path) -> None:
    change(own, started=1)
    assert remove_stale_files(own.parent) == [own]


def test_with_the_proc_of_another_namespace_nothing_is_said_of_a_process(tmp_path: Path) -> None:
    """There the same number may be another process, which ends while this one lives."""
    make = f"from trikernel.transport import new_connection_file as n; n({str(tmp_path)!r})"
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True, timeout=TIMEOUT)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs user namespaces")
    subprocess.run([*unshare, sys.executable, "-c", make], cwd=ROOT, check=True, timeout=TIMEOUT)
    (made,) = tmp_path.glob("kernel-*.json")
    assert PROCESS_FIELD not in json.loads(made.read_text())


def test_an_ended_process_loses_its_file(own: Path) -> None:
    change(own, pid=ended_pid())
    assert remove_stale_files(own.parent) == [own]


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    for name, content in (
        ("kernel-a.json", "{}"),
        ("kernel-b.json", "no JSON"),
        ("kernel-c.json", "[1]"),
        ("kernel-d.json", "[" * 100_000),
        ("other.json", "{}"),
    ):
        (tmp_path / name).write_text(content)
    (tmp_path / "kernel-e.json").mkdir()
    gone = new_connection_file(tmp_path)
    change(gone, pid=ended_pid())
    target = tmp_path / "target.json"
    gone.rename(target)
    (tmp_path / "kernel-f.json").symlink_to(target)
    before = sorted(tmp_path.iterdir())
    assert remove_stale_files(tmp_path) == []
    assert remove_stale_files(tmp_path / "none") == []
    assert sorted(tmp_path.iterdir()) == before
