"""How ``ipcluster`` starts engines: as processes on this machine, forked where that is possible.

``ipcluster start --engines=trio``, or ``--engines=trikernel.engine:TrioEngineLauncher``. To start
engines in another way (by ssh, MPI, a batch system), use ipyparallel's launcher for that, and set
its command: ``c.EngineLauncher.engine_cmd = [sys.executable, "-m", "trikernel.engine"]``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import attrs
import psutil
from ipyparallel.cluster.launcher import LocalEngineLauncher, LocalEngineSetLauncher
from traitlets import Any as AnyTrait
from traitlets import Bool, Float, default

from ..warm import ForkServer, NotWarm, WarmProcess

__all__ = ["TrioEngineLauncher", "TrioEngineSetLauncher"]

COMMAND = (sys.executable, "-m", "trikernel.engine")
WATCHER = "trikernel.engine.watcher"
AT_ONCE = 16  # engines that are being forked at the same time
PRELOAD = ("trikernel.engine.preloaded",)


@attrs.define(eq=False)
class _Forks:
    """The fork server of a set of engines while the set starts, and the forks under way."""

    server: ForkServer
    at_once: int
    _begun: deque[Callable[[], None]] = attrs.field(factory=deque)

    def add(self, finish: Callable[[], None]) -> None:
        """Note an engine that is being forked; ``finish`` waits for it. If there are more than
        ``at_once``, this waits for the oldest.
        """
        self._begun.append(finish)
        if len(self._begun) > self.at_once:
            self._begun.popleft()()

    def close(self) -> None:
        """Wait for all forks, and close the server, which exits when its last engine has ended."""
        with ExitStack() as stack:
            stack.callback(self.server.close)
            while self._begun:
                stack.callback(self._begun.pop())


class _OneEngine(LocalEngineLauncher):
    """One engine. With ``forks`` it is forked, otherwise it is started like any program."""

    forks = AnyTrait()

    def start(self) -> None:
        """Start the engine. One that is forked has its process number only when `_Forks` has waited
        for it.
        """
        if self.forks is None or list(self.engine_cmd) != list(COMMAND):
            super().start()
            return
        environment = {**os.environ, **self.get_env()}
        with ExitStack() as stack:
            log = stack.enter_context(open(self.output_file, "ab"))
            nothing = stack.enter_context(open(os.devnull, "rb"))
            arguments, streams = self.args[len(COMMAND) :], (nothing, log, log)
            try:
                finish = self.forks.server.begin_module(
                    COMMAND[-1], arguments, environment, self.work_dir, streams, WATCHER
                )
            except NotWarm as error:
                self._start_cold(error)
            else:
                self.forks.add(partial(self._finish, finish, stack.pop_all()))

    def _finish(self, finish: Callable[[], WarmProcess], streams: ExitStack) -> None:
        """Wait until the engine is forked; if that fails, start it in the ordinary way."""
        with streams:
            try:
                process = finish()
            except NotWarm as error:
                self._start_cold(error)
                return
        self.pid, self.process = process.pid, _Forked(process)
        self.notify_start(process.pid)
        self._start_waiting()

    def _start_cold(self, error: NotWarm) -> None:
        self.log.info("an engine is started in the ordinary way: %s", error)
        super().start()


class _Forked:
    """A forked process, with those names of `psutil.Process` that a launcher uses."""

    def __init__(self, process: WarmProcess) -> None:
        self._process = process
        self.pid, self.send_signal = process.pid, process.send_signal

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process; its exit code. Raises `psutil.TimeoutExpired`."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise psutil.TimeoutExpired(timeout, self.pid) from None

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.peek() is None


class TrioEngineLauncher(LocalEngineSetLauncher):
    """A set of trikernel's engines on this machine."""

    delay = Float(0.0, help="seconds between starting each engine after the first").tag(config=True)
    warm = Bool(True, help="fork engines from one process that has imported everything").tag(
        config=True
    )
    entrypoint_name = "trio"  # the one of its two entry points that ipyparallel shows as its name
    _forks: _Forks | None = None

    @default("engine_cmd")
    def _our_command(self) -> list[str]:
        return list(COMMAND)

    def start(self, n: int) -> Any:
        """Start ``n`` engines."""
        if self.warm and n > 1:
            server = ForkServer(PRELOAD)
            server.start()
            if server.unavailable is None:
                self._forks = _Forks(server, 0 if self.delay else AT_ONCE)
        try:
            return super().start(n)
        finally:
            if self._forks is not None:
                self._forks.close()
                self._forks = None

    @classmethod
    def launcher_class(cls, **options: Any) -> _OneEngine:
        """One engine of the set ``parent``; it is forked while that has a fork server."""
        return _OneEngine(forks=getattr(options.get("parent"), "_forks", None), **options)


TrioEngineSetLauncher = TrioEngineLauncher
"""The same under the kind of name that ipyparallel has for its sets of engines."""
