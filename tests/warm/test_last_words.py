"""What a forked process has had done when it is gone."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from trikernel.warm.server import ForkServer

from ..processes import wait_until
from .forks import PIPES, children, forked, output

assert sys.platform == "linux"  # else the folder is not collected

WRITES = """
import os, time
from trikernel.warm import last_words
for line in {lines!r}:
    os.write(last_words.descriptor, line.encode())
{then}
"""


def run(server: ForkServer, lines: list[str], then: str) -> None:
    code = WRITES.format(lines=lines, then=then)
    process = forked(server, code, last_words="warm_hears", streams=PIPES)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr as errors:
        assert errors.read() == b""
    process.wait()


@pytest.mark.parametrize("end", ["", "os._exit(3)", "os.kill(os.getpid(), 9)", "os.abort()"])
def test_the_last_whole_line_is_carried_out_however_it_ends(
    server: ForkServer, tmp_path: Path, end: str
) -> None:
    path = tmp_path / "done"
    run(server, ["/elsewhere\n", f"{path}\n", "/not/whole"], end)
    wait_until(path.exists, "its last words")
    pid, parent, _ = map(int, path.read_text().split())
    assert pid not in (os.getpid(), server.template_pid)
    assert parent != server.template_pid
    wait_until(lambda: not children(server.template_pid), "nothing to be left")
    assert output(server, "print('goes on')") == "goes on\n"


def test_an_empty_line_takes_back_what_was_written_before(
    server: ForkServer, tmp_path: Path
) -> None:
    taken_back, done = tmp_path / "taken back", tmp_path / "done"
    run(server, [f"{taken_back}\n", "\n"], "")
    run(server, [], "")
    run(server, [f"{done}\n"], "")
    wait_until(done.exists, "the last one's last words")
    assert not taken_back.exists()


def test_what_carries_it_out_holds_nothing_of_the_template_open(
    server: ForkServer, tmp_path: Path
) -> None:
    others = [forked(server, "import time; time.sleep(1000)") for _ in range(5)]
    path = tmp_path / "done"
    try:
        run(server, [f"{path}\n"], "")
        wait_until(path.exists, "its last words")
        assert int(path.read_text().split()[2]) < 10
    finally:
        for one in others:
            one.send_signal(signal.SIGKILL)
            one.wait()


def test_a_process_has_none_unless_that_was_asked_for(server: ForkServer) -> None:
    code = "from trikernel.warm import last_words; print(last_words.descriptor)"
    assert output(server, code) == "None\n"
