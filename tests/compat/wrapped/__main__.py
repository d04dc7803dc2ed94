"""``python -m`` this package starts its kernel, or with ``install`` does something else."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from tornado.ioloop import IOLoop, PeriodicCallback
from traitlets.config import Application

from ..kernels import Awaiting, Blocking


class Installer(Application):
    kernel_class: Any = None

    def initialize(self, argv: Any = None) -> None:
        self.argv = argv

    def start(self) -> None:
        print("installs", self.kernel_class.implementation, *self.argv)


class WrappedApp(IPKernelApp):
    name = "wrapped"

    @property
    def subcommands(self) -> Any:
        class ThisInstaller(Installer):
            kernel_class = self.kernel_class

        return {"install": (ThisInstaller, "Install it")}


class Wrapped(Blocking):
    """What it says of itself begins with what ``ipykernel`` is here."""

    banner = IPKernelApp.__module__

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.begun = asyncio.get_event_loop().create_task(asyncio.sleep(0.01, "begun"))
        self.called: list[str] = []
        IOLoop.current().add_callback(self.called.append, "called")
        self.ticks = PeriodicCallback(self.tick, 10)
        self.ticks.start()

    def tick(self) -> None:
        self.called.append("ticked")
        self.ticks.stop()

    async def started_early(self) -> Any:
        text = await self.begun
        while len(self.called) < 2:  # noqa: ASYNC110  # as a test sees it
            await asyncio.sleep(0.01)
        is_same = self.begun.get_loop() is asyncio.get_event_loop()
        return super().do_execute(repr([text, *self.called, is_same]), False)

    def do_execute(self, code: str, silent: bool, *args: Any, **options: Any) -> Any:
        if code == "early":
            return self.started_early()
        if code == "child":
            words = "import signal; print(signal.getsignal(signal.SIGINT).__name__)"
            return super().do_execute(
                subprocess.getoutput(f"{sys.executable} -c '{words}'"), silent
            )
        if code == "handler":
            code = signal.getsignal(signal.SIGINT).__class__.__name__
        return super().do_execute(code, silent)


if __name__ == "__main__":
    chosen: Any = Wrapped
    if "--async" in sys.argv:
        sys.argv.remove("--async")
        chosen = Awaiting
    if "--python" in sys.argv:
        sys.argv.remove("--python")
        chosen = IPythonKernel
    WrappedApp.launch_instance(kernel_class=chosen)
