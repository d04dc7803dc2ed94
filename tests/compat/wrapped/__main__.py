"""``python -m`` this package starts its kernel, or with ``install`` does something else."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

from ipykernel.kernelapp import IPKernelApp
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

    def do_execute(self, code: str, silent: bool, *args: Any, **options: Any) -> Any:
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
    WrappedApp.launch_instance(kernel_class=chosen)
