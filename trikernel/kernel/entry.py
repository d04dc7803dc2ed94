"""A process's entry: connection file, sockets, signals, and then the loop.

Only `run` and `main` touch what belongs to the whole process; they put it back on exit.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from ..core import serve
from ..errors import UsageError
from ..system import real_stderr, run_to_the_end
from ..transport import (
    ZmqTransport,
    new_connection_file,
    read_connection_file,
    write_connection_file,
)
from .base import Kernel
from .settings import settings_of

__all__ = ["add_setting_flags", "given_settings", "log_to_stderr", "main", "run"]


def run(kernel: Kernel, connection_file: str | os.PathLike[str] | None = None) -> None:
    """Serve ``kernel`` in this process until it is told to shut down.

    ``connection_file`` names an existing one; without it a new one is written to Jupyter's
    runtime folder, named on stderr, and removed at the end. Ports of 0 are bound first and then
    written back. Raises `ConnectionFileError` for a file that cannot be used.
    """
    with ExitStack() as stack:
        stack.enter_context(_process_state(kernel))
        path = Path(connection_file) if connection_file else stack.enter_context(_new_file())
        info = read_connection_file(path)
        transport = stack.enter_context(
            ZmqTransport(
                info,
                shell_channels=kernel.shell_channels,
                max_message_bytes=kernel.max_message_bytes,
                source=f"connection file {path}",
            )
        )
        if transport.info != info:
            write_connection_file(path, transport.info)
        if connection_file is None:
            print(f"connect with: jupyter console --existing {path.name}", file=sys.stderr)
            print(f"connection file: {path}", file=sys.stderr)
        kernel.record_ports(transport.ports)
        trio.run(partial(serve, kernel, transport, owns_process=True))


def main(kernel_class: type[Kernel], argv: Sequence[str] | None = None) -> None:
    """A script's entry: ``python -m mykernel -f FILE``, each setting a flag.

    Exits with code 2 and one line on stderr for what the caller can mend. It is the last thing that
    a script does: once the kernel has ended, the process has ``exit_grace`` seconds to exit. One
    that goes on with something else calls `run`.
    """
    parser = argparse.ArgumentParser(
        description=f"Start the {kernel_class.implementation} kernel.", allow_abbrev=False
    )
    parser.add_argument(
        "-f", "--connection-file", metavar="FILE", help="an existing one (else one is made)"
    )
    parser.add_argument("--log-level", default="WARNING", help="DEBUG, INFO, WARNING ...")
    add_setting_flags(parser, kernel_class)
    options = parser.parse_args(argv)
    try:
        log_to_stderr(options.log_level)
        kernel = kernel_class(**given_settings(options, kernel_class))
        run_to_the_end(partial(run, kernel, options.connection_file), kernel.exit_grace)
    except UsageError as error:
        sys.exit(_complain(error))


def log_to_stderr(level: str) -> None:
    """Have the kernel's own log go to the real stderr, from ``level`` on.

    The root logger stays as it is: in a notebook it is the user's. Raises `UsageError`.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise UsageError(f"--log-level: {level!r} is no level, use DEBUG, INFO, WARNING, ERROR")
    log = logging.getLogger("trikernel")
    handler = logging.StreamHandler(real_stderr)
    handler.setFormatter(logging.Formatter("[%(asctime)s trikernel %(levelname)s] %(message)s"))
    log.addHandler(handler)
    log.setLevel(number)
    log.propagate = False


def add_setting_flags(parser: argparse.ArgumentParser, kernel_class: type[Kernel]) -> None:
    """One flag for each setting of the class."""
    group = parser.add_argument_group("settings")
    for one in settings_of(kernel_class).values():
        group.add_argument(
            one.flag, dest=one.name, metavar=one.kind.__name__.upper(), help=one.help
        )


def given_settings(options: argparse.Namespace, kernel_class: type[Kernel]) -> dict[str, Any]:
    """The settings that the command line gave; `SettingError` for a wrong one."""
    return {
        name: one.from_text(getattr(options, name), one.flag)
        for name, one in settings_of(kernel_class).items()
        if getattr(options, name, None) is not None
    }


def _complain(error: UsageError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


@contextmanager
def _new_file() -> Iterator[Path]:
    from jupyter_core.paths import jupyter_runtime_dir

    path = new_connection_file(jupyter_runtime_dir())
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _process_state(kernel: Kernel) -> Iterator[None]:
    """The switch interval and SIGINT, as they were before afterwards."""
    interval = sys.getswitchinterval()
    handler = signal.signal(signal.SIGINT, _ignore_until_served)
    sys.setswitchinterval(kernel.switch_interval)
    if sys.platform == "darwin" and kernel.darwin_app_nap:
        _keep_awake()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGINT, handler)


def _keep_awake() -> None:
    """Ask macOS not to nap this process, where the package ``appnope`` is installed."""
    try:
        importlib.import_module("appnope").nope()
    except ImportError:
        logging.getLogger("trikernel").info("install appnope to keep macOS from napping kernels")


def _ignore_until_served(*_: object) -> None:
    """An interrupt before the kernel serves, or after, has nothing to interrupt."""
