"""A real controller of ipyparallel's, and engines as processes, in a profile of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipyparallel

from ..processes import ROOT, wait_until

PING = 500  # milliseconds; after 10 of them an engine that does not answer is given up
DIRECTORIES = ("security", "log", "pid", "startup")


class Cluster:
    """A controller in a folder, and its engines. ``options`` are more of ``ipcontroller``."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.engines: list[subprocess.Popen[bytes]] = []
        self.client: Any = None
        for name in DIRECTORIES:
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.controller = self.start_controller()

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "IPYTHONDIR": str(self.folder.parent),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
        }

    def start_controller(self) -> subprocess.Popen[bytes]:
        words = ["ipyparallel.controller", f"--ping={PING}", "--ip=127.0.0.1", "--nodb"]
        return self._start("controller", *words, *self.options)

    def start_engine(self, *options: str) -> subprocess.Popen[bytes]:
        number = len(self.engines)
        engine = self._start(f"engine-{number}", "trikernel.engine", *options)
        self.engines.append(engine)
        return engine

    def _start(self, name: str, module: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, f"--profile-dir={self.folder}", *options]
        with (self.folder / "log" / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def log(self, name: str) -> str:
        return (self.folder / "log" / f"{name}.log").read_text()

    def connect(self) -> Any:
        """A client, once the controller has written its file."""
        folder = self.folder / "security"
        file, last = folder / "ipcontroller-client.json", folder / "ipcontroller-engine.json"
        wait_until(last.exists, "a controller")  # which writes this one when the other is whole
        return ipyparallel.Client(str(file))

    def wait_for(self, n: int) -> None:
        wait_until(lambda: len(self.client.ids) == n, f"{n} engines")

    def close(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError
        if self.client is not None:
            self.client.close()
        for process in (*self.engines, self.controller):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGTERM)
        for process in (*self.engines, self.controller):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def open_cluster(folder: Path, engines: int, *options: str) -> Iterator[Cluster]:
    """A cluster whose engines are there."""
    cluster = Cluster(folder, *options)
    try:
        for _ in range(engines):
            cluster.start_engine()
        cluster.client = cluster.connect()
        cluster.wait_for(engines)
        yield cluster
    finally:
        cluster.close()
