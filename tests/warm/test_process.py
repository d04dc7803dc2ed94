"""A forked process is one as if it had been started in the ordinary way."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from trikernel.warm.asking import WarmProcess
from trikernel.warm.packets import NotWarm
from trikernel.warm.server import ForkServer

from ..processes import wait_until
from .forks import forked, output, result, waiting

assert sys.platform == "linux"  # else the folder is not collected

ABOUT = """
import json, os, resource, signal, sys, threading, time
print(json.dumps({
    "argv": sys.argv[1:], "orig_argv": sys.orig_argv, "name": __name__,
    "cwd": os.getcwd(), "environment": dict(os.environ), "umask": os.umask(0),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE), "nice": os.nice(0),
    "session": os.getsid(0) == os.getpgid(0) == os.getpid(), "zone": time.tzname[0],
    "hup": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
    "int": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "mask": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "threads": threading.active_count(), "native": len(os.listdir("/proc/self/task")),
    "open": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1],
    "buffered": [sys.stdout.line_buffering, sys.stderr.line_buffering],
}))
"""


def about(server: ForkServer, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output(server, ABOUT, **options))
    return found


def test_it_takes_over_what_an_ordinary_start_hands_down(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setenv("TZ", "XYZ-3")
    environment = {**os.environ, "SOME_NAME": "a \udcff value"}
    hup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask, blocked = os.umask(0o027), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        found = about(server, cwd=tmp_path, environment=environment)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.umask(mask)
        signal.signal(signal.SIGHUP, hup)
    assert found == {
        "argv": [ABOUT],
        "orig_argv": [sys.executable, "-c", ABOUT],
        "name": "__main__",
        "cwd": str(tmp_path),
        "environment": environment,
        "umask": 0o027,
        "files": [soft - 1, hard],
        "nice": os.nice(0),
        "session": True,
        "zone": "XYZ",
        "hup": True,
        "int": True,
        "mask": [signal.SIGUSR2, *map(int, blocked)],
        "threads": 1,
        "native": 1,
        "open": [0, 1, 2],
        "buffered": [False, True],
    }


STATES = """
import json, multiprocessing, os, random, secrets, ssl, sys, tempfile, uuid
found = [random.random(), str(uuid.uuid4()), ssl.RAND_bytes(8).hex(), secrets.token_hex(8)]
found += [next(tempfile._get_candidate_names()), multiprocessing.current_process().authkey.hex()]
if "numpy.random" in sys.modules:
    found.append(sys.modules["numpy.random"].random())
print(json.dumps([found, tempfile.gettempdir(), os.getpid()]))
"""


@pytest.fixture(scope="module")
def preloads() -> list[str]:
    modules = ["warm_reads", "random", "ssl", "tempfile", "uuid", "multiprocessing", "numpy.random"]
    bad = ("ends", "exits", "crashes", "prints", "socket", "loop", "thread", "process")
    return [*modules, *(f"warm_{one}" for one in bad), "warm_nowhere"]


def test_random_states_keys_and_folders_are_its_own(server: ForkServer, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    first = json.loads(output(server, STATES))
    second = json.loads(output(server, STATES, environment=environment))
    assert [first[1], second[1]] == [tempfile.gettempdir(), str(tmp_path)]
    assert not set(first[0]) & set(second[0])
    assert first[2] != second[2]


def test_what_cannot_be_preloaded_is_left_out_by_name(server: ForkServer) -> None:
    found = {line.partition(" is left out: it ")[0]: line for line in server.left_out}
    found.pop("numpy.random", None)  # where it is not installed
    assert {name: line.partition(": it ")[2] for name, line in found.items()} == {
        "warm_ends": "ends its process with exit code 7",
        "warm_exits": "raises SystemExit: enough",
        "warm_crashes": "ends its process by signal 11",
        "warm_prints": "prints 'hello from an import'",
        "warm_socket": "opens a socket",
        "warm_loop": "opens a loop",
        "warm_thread": "starts a thread: busybody",
        "warm_process": "starts a process",
        "warm_nowhere": "raises ModuleNotFoundError: No module named 'warm_nowhere'",
    }


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("1 / 0", 1),
        ("import os; os._exit(200)", 200),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import signal; signal.raise_signal(15)", -15),
    ],
)
def test_its_exit_code_is_the_systems(server: ForkServer, code: str, expected: int) -> None:
    ended, _, errors = result(server, code)
    assert ended == expected
    assert ("ZeroDivisionError" in errors) == (code == "1 / 0")


def test_signals_and_waits_are_those_of_a_child(server: ForkServer) -> None:
    process = waiting(server)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    os.killpg(process.pid, 0)
    process.terminate()
    assert process.wait() == -signal.SIGTERM
    process.kill()  # of one that has ended is nothing


def test_several_threads_may_ask_for_its_end_at_once(server: ForkServer) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in range(30):
            process, together = forked(server, "raise SystemExit(3)"), Barrier(4)

            def ask(process: WarmProcess = process, together: Barrier = together) -> int | None:
                wait_until(lambda: process.peek() is not None, "its end")
                together.wait(60)
                return process.poll()

            asked = [pool.submit(ask) for _ in range(4)]
            assert [one.result(60) for one in asked] == [3] * 4


def test_its_number_is_its_own_until_its_end_was_asked_for(server: ForkServer) -> None:
    process = forked(server, "raise SystemExit(4)")
    wait_until(lambda: process.peek() is not None, "its end")
    assert process.peek() == 4
    os.kill(process.pid, 0)  # a zombie
    assert process.poll() == 4
    wait_until(lambda: not Path(f"/proc/{process.pid}").exists(), "the template to reap it")


def test_streams_may_be_files_and_one_for_two(server: ForkServer, tmp_path: Path) -> None:
    code = "import sys; print(sys.stdin.read()); print('error', file=sys.stderr)"
    (tmp_path / "in").write_text("input")
    with open(tmp_path / "in") as into, open(tmp_path / "out", "wb") as out:
        assert forked(server, code, streams=(into, out, subprocess.STDOUT)).wait() == 0
    assert sorted((tmp_path / "out").read_text().split()) == ["error", "input"]


def test_a_folder_that_is_none_is_an_error_of_the_caller(server: ForkServer) -> None:
    with pytest.raises(NotADirectoryError):
        forked(server, "", cwd=__file__)


@pytest.mark.parametrize("name", ["PYTHONHASHSEED", "LC_ALL", "WARM_SETTING", "LD_LIBRARY_PATH"])
def test_another_environment_is_refused_by_the_variable(server: ForkServer, name: str) -> None:
    with pytest.raises(NotWarm, match=f"the environment variable {name} is another"):
        forked(server, "", environment={**os.environ, name: "7"})
