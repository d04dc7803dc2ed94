"""Processes that a fork server starts for tests, each for a piece of code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from trikernel.warm.asking import Start, WarmProcess
from trikernel.warm.server import ForkServer

NONE = (subprocess.DEVNULL,) * 3
PIPES = (subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE)
WAITS = "print('there', flush=True); import time; time.sleep(1000)"


def forked(server: ForkServer, code: str, **options: Any) -> WarmProcess:
    """A process that runs this code."""
    environment = options.pop("environment", dict(os.environ))
    options.setdefault("streams", NONE)
    command = [sys.executable, "-c", code]
    return server.fork(Start(command, "warm_runs", [code], environment, {}, **options))


def result(server: ForkServer, code: str, **options: Any) -> tuple[int, str, str]:
    """The exit code of a process that runs this code, and what it prints to stdout and stderr."""
    process = forked(server, code, streams=PIPES, **options)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as out, process.stderr as errors:
        texts = out.read().decode(), errors.read().decode()
    return process.wait(), *texts


def output(server: ForkServer, code: str, **options: Any) -> str:
    """What that prints; it must end well."""
    exit_code, text, errors = result(server, code, **options)
    assert (exit_code, errors) == (0, "")
    return text


def waiting(server: ForkServer) -> WarmProcess:
    """A process that runs until it is ended."""
    process = forked(server, WAITS, streams=PIPES)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout as out, process.stderr:
        assert out.readline() == b"there\n"
    return process


def has_ended(pid: int | None) -> bool:
    """Whether there is no such process, or its end only waits to be asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def children(pid: int | None) -> list[str]:
    """The processes that one has started and not reaped."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
