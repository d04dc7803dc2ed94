"""How ``ipcluster`` starts engines: as processes on this machine, forked where that is possible.

``ipcluster start --engines=trikernel.engine.TrioEngineLauncher``, or ``--engines=trio``. What else
starts engines (ssh, MPI, a batch system) keeps its own launcher and is told the command:
``c.EngineLauncher.engine_cmd = [sys.executable, "-m", "trikernel.engine"]``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import psutil
from ipyparallel.cluster.launcher import LocalEngineLauncher, LocalEngineSetLauncher
from traitlets import Any as AnyTrait
from traitlets import Bool, Float, default

from ..warm import ForkServer, NotWarm, WarmProcess

__all__ = ["TrioEngineLauncher", "TrioEngineSetLauncher"]

COMMAND = (sys.executable, "-m", "trikernel.engine")
PRELOAD = ("trikernel.engine.application", "ipyparallel.serialize", "ipyparallel.error")


class _OneEngine(LocalEngineLauncher):
    """One engine. With a ``fork_server`` it is forked, and else started like any program."""

    fork_server = AnyTrait()

    def start(self) -> None:
        """Start it."""
        if self.fork_server is None or list(self.engine_cmd) != list(COMMAND):
            super().start()
            return
        environment = {**os.environ, **self.get_env()}
        with open(self.output_file, "ab") as log, open(os.devnull, "rb") as nothing:
            arguments, streams = self.args[len(COMMAND) :], (nothing, log, log)
            try:
                process = self.fork_server.run_module(
                    COMMAND[-1], arguments, environment, self.work_dir, streams
                )
            except NotWarm as error:
                self.log.info("an engine is started in the ordinary way: %s", error)
                super().start()
                return
        self.pid, self.process = process.pid, _Forked(process)
        self.notify_start(process.pid)
        self._start_waiting()


class _Forked:
    """A forked process as a launcher asks it, by the names of `psutil.Process`."""

    def __init__(self, process: WarmProcess) -> None:
        self._process = process
        self.pid, self.send_signal = process.pid, process.send_signal

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises `psutil.TimeoutExpired`."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise psutil.TimeoutExpired(timeout, self.pid) from None

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.peek() is None


class TrioEngineLauncher(LocalEngineSetLauncher):
    """A set of engines of trikernel's on this machine."""

    delay = Float(0.0, help="seconds between starting each engine after the first").tag(config=True)
    warm = Bool(True, help="fork engines from one process that has imported everything").tag(
        config=True
    )
    _server: ForkServer | None = None

    @default("engine_cmd")
    def _our_command(self) -> list[str]:
        return list(COMMAND)

    def start(self, n: int) -> Any:
        """Start ``n`` engines."""
        if self.warm and n > 1:
            server = ForkServer(PRELOAD)
            server.start()
            if server.unavailable is None:
                self._server = server
        try:
            return super().start(n)
        finally:
            if self._server is not None:  # it goes when the last engine has ended
                self._server.close()

    @classmethod
    def launcher_class(cls, **options: Any) -> _OneEngine:
        """One of the set, of which ``parent`` is one if it is started, not found again."""
        return _OneEngine(fork_server=getattr(options.get("parent"), "_server", None), **options)


TrioEngineSetLauncher = TrioEngineLauncher
"""By this name `ipyparallel` would call it."""
