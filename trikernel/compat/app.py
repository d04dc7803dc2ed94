"""`IPKernelApp`: the application that starts a kernel, with the name it has in ipykernel.

traitlets reads flags and configuration files. For each error in them a warning is logged, and the
kernel starts without that value. `trikernel.run` serves the kernel.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from traitlets import Any as AnyTrait
from traitlets import Bool, Dict, Integer, Type, Unicode, default
from traitlets.config import Application

from ..errors import UsageError
from ..kernel import log_to_stderr, run, served_kernel
from ..system import real_stderr, run_to_the_end
from ..transport import ConnectionInfo
from .adapter import describe
from .failed import failed_kernel
from .flags import (
    ALIASES,
    FLAGS,
    flags_of_python,
    name_of_flag,
    own_flags,
    take_flags,
    without_misfits,
)
from .kernel import IPythonKernel, Kernel

__all__ = ["IPKernelApp"]


class _OfKernel:
    """The kernel's attribute of the same name, unless the application's is set."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, app: Any, owner: type) -> Any:
        return self if app is None else getattr(app.kernel, self._name, None)


class IPKernelApp(Application):
    """Starts a kernel: ``IPKernelApp.launch_instance(kernel_class=MyKernel)``.

    ::

        app = IPKernelApp.instance(kernel_class=MyKernel)
        app.initialize(["-f", "connection.json"])
        app.start()

    ``start`` has to be the last thing that a process does. In a process in which something else has
    started a kernel, `instance` describes that kernel.
    """

    name = "ipython-kernel"
    description = "Start a kernel."
    aliases = Dict(ALIASES)
    flags = Dict(FLAGS)
    classes: Any = [Kernel]  # noqa: RUF012
    subcommands: Any = {}  # noqa: RUF012

    kernel_class = Type(IPythonKernel, klass=Kernel, help="the kernel's class").tag(config=True)
    kernel = AnyTrait()
    shell = AnyTrait()
    session = _OfKernel()
    user_ns = _OfKernel()
    profile_dir = AnyTrait(help="the folder of the IPython profile")
    connection_file = Unicode(help="the connection file").tag(config=True)
    connection_dir = Unicode(help="where a connection file is that has no folder").tag(config=True)
    ip = Unicode(help="the address to listen on").tag(config=True)
    transport = Unicode(help="tcp or ipc").tag(config=True)
    shell_port = Integer(0, help="a port").tag(config=True)
    iopub_port = Integer(0, help="a port").tag(config=True)
    stdin_port = Integer(0, help="a port").tag(config=True)
    control_port = Integer(0, help="a port").tag(config=True)
    hb_port = Integer(0, help="a port").tag(config=True)
    profile = Unicode("default", help="an IPython profile").tag(config=True)
    ipython_dir = Unicode(help="the folder of IPython's profiles").tag(config=True)
    config_file = Unicode(help="one more configuration file").tag(config=True)
    ident = Unicode(help="no effect: the kernel names its session").tag(config=True)
    user = Unicode(help="no effect").tag(config=True)
    keyfile = Unicode(help="no effect: the key is in the connection file").tag(config=True)
    quiet = Bool(True, help="no effect").tag(config=True)

    kernel_flags: list[str] | None = None  # the flags that a Python kernel reads
    has_started: ClassVar[bool] = False

    @classmethod
    def initialized(cls) -> bool:
        """Whether this process has an application, or serves a kernel that `instance` describes."""
        return super().initialized() or _served_process() is not None

    @classmethod
    def instance(cls, *args: Any, **kwargs: Any) -> Any:
        """The application of this process. If something else has started the kernel, a new one is
        made that has the kernel, its shell, configuration and connection.
        """
        is_made = super().initialized()
        app = super().instance(*args, **kwargs)
        kernel = None if is_made or kwargs else _served_process()
        if kernel is not None:
            app.kernel, app.connection_file = kernel, kernel.connection_file or ""
            app.shell = getattr(kernel, "shell", None)
            app.config = getattr(app.shell, "config", app.config)
            info = kernel.server.transport.info
            app.ip, app.transport = info.ip, info.transport
            for name, port in kernel.ports.items():
                setattr(app, name, port)
            if app.connection_file:
                app.connection_dir = str(Path(app.connection_file).absolute().parent)
        return app

    @default("log")
    def _default_log(self) -> Any:
        return logging.getLogger("trikernel")

    @default("connection_dir")
    def _default_connection_dir(self) -> str:
        from jupyter_core.paths import jupyter_runtime_dir

        return str(jupyter_runtime_dir())

    @default("ipython_dir")
    def _default_ipython_dir(self) -> str:
        return os.environ.get("IPYTHONDIR") or os.path.expanduser("~/.ipython")

    @default("profile_dir")
    def _default_profile_dir(self) -> Any:
        if self.shell is not None:
            return self.shell.profile_dir
        try:
            from ..python.profile import made_profile_dir
        except ImportError:  # IPython is not installed: a kernel for another language
            return None
        return made_profile_dir(self.ipython_dir, self.profile)

    @property
    def ports(self) -> dict[str, int]:
        """Each channel's port, once the kernel is served."""
        ports = getattr(self.kernel, "trikernel_adapter", self.kernel).ports
        return {name.removesuffix("_port"): port for name, port in ports.items()}

    @property
    def config_file_paths(self) -> list[str]:
        """The folders of configuration files, the one with the highest precedence first."""
        from jupyter_core.paths import jupyter_config_path

        return [
            os.path.join(self.ipython_dir, f"profile_{self.profile}"),
            *jupyter_config_path(),
        ]

    @property
    def config_file_name(self) -> str:
        """The name of the configuration file, without its suffix."""
        return self.name.replace("-", "_") + "_config"

    @property
    def abs_connection_file(self) -> str:
        """The connection file's path. A name without folder that does not exist in the working
        folder is taken from ``connection_dir``.
        """
        path: str = self.connection_file
        if path and os.path.basename(path) == path and not os.path.exists(path):
            return os.path.join(str(self.connection_dir), path)
        return path

    def initialize(self, argv: Any = None) -> None:
        """Read flags and files, and create the kernel. It opens no sockets before `start`."""
        self.classes = [type(self), self.kernel_class, *self.classes]
        words = list(sys.argv[1:] if argv is None else argv)
        own = None
        if issubclass(self.kernel_class, IPythonKernel):
            own = own_flags(self)
            self.kernel_flags = flags_of_python(words, own)
        complaints = take_flags(self, words)
        if self.subapp is not None:
            return
        log_to_stderr(str(self.log_level))
        for text in complaints:
            # Of other flags of a Python kernel IPython's profile warns.
            if own is None or name_of_flag(text.split()[1]) in own:
                self.log.warning(text)
        self.read_files()
        self._hold_signals()
        self.init_kernel()
        self.shell = getattr(self.kernel, "shell", None)

    def read_files(self) -> None:
        """Read the configuration files; the command line takes precedence over them."""
        given = self.cli_config
        for name in ("ipython_config", self.config_file_name):
            for folder in reversed(self.config_file_paths):  # the last one has precedence
                self._read_file(folder, name)
        if self.config_file:
            self._read_file(*os.path.split(os.path.abspath(self.config_file)))
        kept = without_misfits(self.config, self.classes, self.log)  # type: ignore[has-type]
        self.config = kept
        self.update_config(without_misfits(given, self.classes, self.log, tells=False))

    def _read_file(self, folder: str, name: str) -> None:
        self.raise_config_file_errors = True
        try:
            self.load_config_file(name, path=folder)
        except Exception as error:  # the file is the user's code, which may raise anything
            path = os.path.join(folder, f"{name.removesuffix('.py')}.py")
            path = path if os.path.exists(path) else f"{path[:-3]}.json"
            self.log.warning("%s has no effect: %s", path, describe(error))

    def _hold_signals(self) -> None:
        """Ignore SIGINT while the kernel is created. A handler is set, not SIG_IGN, because child
        processes would inherit that.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, _ignore)

    def init_kernel(self) -> None:
        """Create the kernel. If that raises, a kernel is created that answers each cell with the
        error.

        What the kernel's ``__init__`` starts on asyncio's current loop runs once it is served.
        """
        import asyncio  # imported late, because it takes a while

        from ..loops import GuestLoop

        loop = None if _served_process() else GuestLoop()
        if loop is not None:
            asyncio.set_event_loop(loop)
        try:
            self.kernel = self.kernel_class.instance(parent=self)
        except UsageError as error:
            self.exit_with(error)
        except Exception as error:
            cls = self.kernel_class
            text = f"{cls.__module__}.{cls.__qualname__} cannot start: {describe(error)}"
            print(f"error: {text}", file=real_stderr, flush=True)
            self.log.info(text, exc_info=error)
            self.kernel = failed_kernel(cls, error)
        if loop is not None:
            self.kernel.trikernel_adapter.guest_loop = loop

    def start(self) -> None:
        """Serve the kernel until it is told to shut down. It has to be the last thing that a
        process does.
        """
        IPKernelApp.has_started = True
        if self.subapp is not None:
            self.subapp.start()
            return
        names = ("ip", "transport", *(f"{one}_port" for one in _CHANNELS))
        info = ConnectionInfo(**{name: value for name in names if (value := getattr(self, name))})
        path = self.abs_connection_file
        try:
            serve = partial(run, self.kernel, path or None, info=info)
            run_to_the_end(serve, self.kernel.exit_grace)
        except UsageError as error:
            self.exit_with(error)

    def exit_with(self, error: UsageError) -> None:
        """Print one line about an error that the caller can correct, and exit with code 2."""
        print(f"error: {error}", file=real_stderr, flush=True)
        self.exit(2)


_CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


def _ignore(*_: object) -> None:
    """A signal handler that does nothing."""


def _served_process() -> Any:
    kernel = served_kernel()
    if kernel is None or not kernel.owns_process:
        return None
    find = getattr(kernel, "find_author", None)
    return (find() if find is not None else None) or kernel
