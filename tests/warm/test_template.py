"""A template that is stale, gone, stopped, or at its limits; and one that nobody needs any more."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from pathlib import Path

import pytest

from trikernel.warm.asking import UNKNOWN_CODE
from trikernel.warm.packets import START, packet_pair, send
from trikernel.warm.server import ForkServer

from ..processes import wait_until
from .forks import children, forked, has_ended, output, waiting

assert sys.platform == "linux"  # else the folder is not collected

PRINTS = "import os; print(os.getppid())"


def parent_of_one(server: ForkServer) -> int:
    return int(output(server, PRINTS))


@pytest.mark.thorough
def test_a_hundred_at_once_all_start(server: ForkServer) -> None:
    codes: list[int] = []

    def start(number: int) -> None:
        codes.append(forked(server, f"raise SystemExit({number})").wait())

    threads = [threading.Thread(target=start, args=[number]) for number in range(100)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(codes) == list(range(100))
    wait_until(lambda: not children(server.template_pid), "all to be reaped")


def test_who_asks_and_is_gone_leaves_no_process(server: ForkServer, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    end = server._running()
    for descriptors in ([], [0] * 5):  # a request without its parts, and one that says nothing
        ours, theirs = packet_pair()
        with ours, theirs:
            send(end, START, [theirs.fileno(), *descriptors])
    process = forked(server, f"open({str(ran)!r}, 'w')")
    assert process.wait() == 0
    assert ran.exists()
    wait_until(lambda: not children(server.template_pid), "nothing to be left")


def test_a_template_that_is_killed_while_asked_loses_no_request(server: ForkServer) -> None:
    pid = server.template_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    parents: list[int] = []
    asking = threading.Thread(target=lambda: parents.append(parent_of_one(server)))
    asking.start()
    os.kill(pid, signal.SIGKILL)
    asking.join()
    assert parents == [server.template_pid]
    assert server.template_pid != pid


def test_processes_outlive_their_template_but_for_the_exit_code(server: ForkServer) -> None:
    process = waiting(server)
    assert server.template_pid is not None
    os.kill(server.template_pid, signal.SIGKILL)
    wait_until(lambda: has_ended(server.template_pid), "the template's end")
    assert process.poll() is None
    process.terminate()
    assert process.wait() == UNKNOWN_CODE


def test_a_stale_template_is_replaced_and_stays_for_its_processes(
    server: ForkServer, module_folder: Path
) -> None:
    old = parent_of_one(server)
    process = waiting(server)
    (module_folder / "installed.py").write_text("")  # as an installer does
    assert parent_of_one(server) != old
    assert not has_ended(old)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: has_ended(old), "the end of the stale template")


def test_without_descriptors_a_template_refuses_and_another_one_serves(server: ForkServer) -> None:
    pid = server.template_pid
    assert pid is not None
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    in_use = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (in_use, hard))
    assert parent_of_one(server) == server.template_pid != pid


def test_a_template_that_is_idle_ends_and_comes_back(
    module_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (str(Path(__file__).parent / "modules"), os.environ.get("PYTHONPATH"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
    server = ForkServer(idle=0.1)
    server.start()
    first = server.template_pid
    wait_until(lambda: has_ended(first), "its end")
    assert parent_of_one(server) != first
    server.close()
