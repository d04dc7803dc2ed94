"""How ``ipcluster`` starts engines: as processes on this machine, forked where that is possible.

``ipcluster start --engines=trikernel.engine:TrioEngineLauncher``, or ``--engines=trio``. What else
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

from ..warm import ForkServer
from ..warm.asking import Start
from ..warm.packets import NotWarm
from ..warm.server import KERNEL_DEFAULTS

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
            start = Start(
                self.args,
                COMMAND[-1],
                self.args[len(COMMAND) :],
                environment,
                KERNEL_DEFAULTS,
                self.work_dir,
                (nothing, log, log),
            )
            try:
                process = self.fork_server.fork(start)
            except NotWarm as error:
                self.log.info("an engine is started in the ordinary way: %s", error)
                super().start()
                return
        self._forked = process
        self.pid, self.process = process.pid, psutil.Process(process.pid)
        self.notify_start(process.pid)
        self._start_waiting()

    def _wait(self) -> None:
        """In a thread: wait for its end, which is its forker's child's."""
        forked = self._forked
        if forked is None:
            super()._wait()
            return
        code = None
        while code is None and not self._stop_waiting.is_set() and self.state == "running":
            try:
                code = forked.wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
        told = {"exit_code": code, "pid": self.pid, "identifier": self.identifier}
        self.loop.add_callback(lambda: self.notify_stop(told))

    _forked: Any = None


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
