"""The entry points of a kernel's process: connection file, sockets, signals, and then the loop.

Signal handlers and the interpreter's switch interval belong to the whole process: `run` sets them
and restores them at the end.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ..core import ServiceTask, run_in_this_thread
from ..errors import KernelClassError, UsageError
from ..system import real_stderr, report_crash, run_to_the_end
from ..transport import (
    ConnectionInfo,
    PortRange,
    Registration,
    Transport,
    ZmqTransport,
    new_connection_file,
    read_connection_file,
    read_startup_file,
    register,
    write_connection_file,
)
from .application import Application, application_of
from .hooks import is_of_hook
from .kernel import Kernel
from .settings import settings_of
from .termination import TerminationSignals
from .tracebacks import render_error

__all__ = [
    "add_setting_flags",
    "add_start_flags",
    "log_to_stderr",
    "main",
    "open_connection",
    "run",
    "run_over",
    "start_kernel",
]

_CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
_IPYKERNEL = "--IPKernelApp."  # prefix of the long names of the same flags, used in kernelspecs


def run(
    kernel: Kernel,
    connection_file: str | os.PathLike[str] | None = None,
    *,
    info: ConnectionInfo | None = None,
) -> None:
    """Serve ``kernel`` in this process until it is told to shut down.

    ``connection_file`` is a path, or the name of a file in Jupyter's runtime folder. If there is no
    such file, a new one of that name is written, with the content of ``info`` if that is given. It
    is named on stderr, and removed at the end. For a port of 0 a free one is bound, and then
    written into the file.

    The file may also be a registration file (JEP 66), which is recognised by its content. Then the
    kernel binds free ports and tells them to the launcher, and writes a new connection file in
    Jupyter's runtime folder, which is removed at the end.

    Raises `ConnectionFileError` for a file that cannot be used, and where no launcher acknowledges
    within ``registration_timeout`` seconds, `KernelClassError` for a class that cannot work, or
    that is given in place of a kernel, and what ``started`` raises as it was raised.
    """
    run_over(kernel, partial(open_connection, kernel, connection_file, info))


def run_over(
    kernel: Kernel,
    open_transport: Callable[[ExitStack, list[Callable[[], object]]], Transport],
    service_tasks: Sequence[ServiceTask] = (),
    application: Application | None = None,
) -> None:
    """As `run`, over the transport that ``open_transport`` returns. It is called after signal
    handlers are installed.

    Its arguments are the exit stack that closes the transport, and a list to which it adds
    functions that are called when the process ends without closing that stack.
    ``service_tasks`` run in the service loop, so also while a cell computes. ``application`` is
    what stands between the kernel and the core; by default that of the kernel's class.
    """
    application = application or application_of(kernel)
    with ExitStack() as stack:
        stack.enter_context(_process_state(kernel))
        signals = stack.enter_context(TerminationSignals(service_tasks))
        transport = open_transport(stack, signals.before_exit)
        try:
            run_in_this_thread(application, transport, signals.listen)
        except BaseExceptionGroup:
            if application.start_error is None:
                raise
            raise application.start_error from None  # without the groups of our nurseries


def open_connection(
    kernel: Kernel,
    given: str | os.PathLike[str] | Registration | None,
    info: ConnectionInfo | None,
    stack: ExitStack,
    before_exit: list[Callable[[], object]],
    *,
    ports: PortRange | None = None,
) -> ZmqTransport:
    """Bind as the given connection file says, or register as the given registration says.

    ``stack`` closes the transport. What is to be called if the process ends without closing it is
    added to ``before_exit``. Ports that are not given are chosen from ``ports`` (None: any).
    """
    path, startup = _startup_of(given)
    if isinstance(startup, ConnectionInfo):
        info = startup
    else:
        name = None if isinstance(given, Registration) else given
        if startup is not None:
            info, name = startup.connection(), _file_name_for(startup.kernel_id)
        path = stack.enter_context(_new_file(name, info, tidies=startup is None))
        before_exit.append(partial(path.unlink, missing_ok=True))
        info = read_connection_file(path)
    assert path is not None
    source = startup.source if isinstance(startup, Registration) else f"connection file {path}"
    transport = stack.enter_context(
        ZmqTransport(
            info,
            shell_channels=kernel.shell_channels,
            max_message_bytes=kernel.max_message_bytes,
            source=source,
            ports=ports,
        )
    )
    if transport.info != info:
        write_connection_file(path, transport.info)
    if isinstance(startup, Registration):
        register(startup, transport.ports, kernel.registration_timeout)
    if startup is None:
        words = f"connect with: jupyter console --existing {_name_of(path)}"
        print(f"{words}\nconnection file: {path}", file=sys.stderr)
    kernel.record_ports(transport.ports)
    kernel.connection_file = str(path)
    return transport


def _startup_of(
    given: str | os.PathLike[str] | Registration | None,
) -> tuple[Path | None, ConnectionInfo | Registration | None]:
    """The path of the given file and its content, if it exists. A `Registration` has no path and is
    returned as it is.
    """
    if isinstance(given, Registration):
        return None, given
    path = _find_file(given) if given else None
    return path, read_startup_file(path) if path else None


def _file_name_for(kernel_id: str) -> str | None:
    """``kernel-ID.json``, by which other programs find a kernel; None if that is not a valid file
    name or the file exists.
    """
    name = f"kernel-{kernel_id}.json"
    is_plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", kernel_id) is not None
    return name if is_plain and not os.path.lexists(Path(_runtime_folder(), name)) else None


def main(kernel_class: type[Kernel], argv: Sequence[str] | None = None) -> None:
    """The entry point of a script: ``python -m mykernel -f FILE``, with a flag for each setting.

    Exits with code 2 and one line on stderr for errors that the caller can correct. It has to be
    the last thing that a script does: once the kernel has ended, the process has ``exit_grace``
    seconds to exit. A script that goes on with something else calls `run`.
    """
    try:
        _check_is_class(kernel_class)
        parser = argparse.ArgumentParser(
            description=f"Start the {kernel_class.implementation} kernel.", allow_abbrev=False
        )
        add_start_flags(parser, kernel_class)
        options, others = parser.parse_known_args(argv)
        start_kernel(kernel_class, options, others)
    except UsageError as error:
        sys.exit(_complain(error))


def log_to_stderr(level: str, file: str | None = None) -> None:
    """Write the kernel's own log to the real stderr, or append it to a file, from ``level`` on.

    The root logger is not changed: in a notebook it is the user's. Raises `UsageError` for an
    unknown level, and a file that cannot be written.
    """
    number = int(level) if level.isdigit() else logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise UsageError(f"--log-level: {level!r} is no level, use DEBUG, INFO, WARNING, ERROR")
    log = logging.getLogger("trikernel")
    try:
        handler = logging.FileHandler(file) if file else logging.StreamHandler(real_stderr)
    except OSError as error:
        raise UsageError(f"--logfile: {file} cannot be written: {error.strerror}") from None
    handler.setFormatter(logging.Formatter("[%(asctime)s trikernel %(levelname)s] %(message)s"))
    log.addHandler(handler)
    log.setLevel(number)
    log.propagate = False


def add_start_flags(parser: argparse.ArgumentParser, kernel_class: type[Kernel]) -> None:
    """Add the flags that `start_kernel` reads: the connection, and those of `add_setting_flags`."""
    existing = "a connection file, existing or to be made (default: one is made, and named)"
    add = parser.add_argument
    file = ("-f", "--f", "--connection-file", f"{_IPYKERNEL}connection_file")
    add(*file, dest="connection_file", metavar="FILE", help=existing)
    made = parser.add_argument_group("a connection file that is made")
    made.add_argument("--ip", f"{_IPYKERNEL}ip", dest="ip", help="the address to listen on")
    choices = ["tcp", "ipc"]
    made.add_argument("--transport", f"{_IPYKERNEL}transport", dest="transport", choices=choices)
    for name in _CHANNELS:
        words, names = f"the port for {name}", (f"--{name}", f"{_IPYKERNEL}{name}_port")
        made.add_argument(*names, dest=name, metavar="PORT", type=int, help=words)
    add_setting_flags(parser, kernel_class)


def add_setting_flags(parser: argparse.ArgumentParser, kernel_class: type[Kernel]) -> None:
    """Add the flags of the log, and one for each setting."""
    add = parser.add_argument
    add("--log-level", default="WARNING", metavar="LEVEL", help="DEBUG, INFO, WARNING ...")
    add("--logfile", metavar="FILE", help="where the kernel's log goes (else to stderr)")
    group = parser.add_argument_group("settings")
    for one in settings_of(kernel_class).values():
        words = one.help.replace("%", "%%")  # the author's text, and no format of argparse's
        group.add_argument(one.flag, dest=one.name, metavar=one.kind.__name__.upper(), help=words)


def _given_settings(options: argparse.Namespace, kernel_class: type[Kernel]) -> dict[str, Any]:
    """The settings that were given on the command line. Raises `SettingError` for a wrong one."""
    return {
        name: one.from_text(getattr(options, name), one.flag)
        for name, one in settings_of(kernel_class).items()
        if getattr(options, name, None) is not None
    }


def start_kernel(
    kernel_class: type[Kernel],
    options: argparse.Namespace,
    others: Sequence[str],
    run_it: Callable[[Kernel], None] | None = None,
) -> None:
    """Run a kernel as the flags of `add_start_flags` say. It has to be the last thing that a
    process does.

    ``others`` are the remaining words of the command line. If ``run_it`` is given it is called
    instead of `run`, and only the flags of `add_setting_flags` are read. Raises `UsageError` for
    errors that the caller can correct, also for an unknown flag if the class takes no flags.
    """
    log_to_stderr(options.log_level, options.logfile)
    try:
        kernel = kernel_class(**_given_settings(options, kernel_class))
    except UsageError:
        raise
    except Exception as error:  # the boundary of the author's code
        error.add_note(f"in {kernel_class.__name__}.__init__")
        _report_author_error(error)
        sys.exit(1)
    unknown = [one for one in others if one.startswith("-")]
    if kernel.flags is not None:
        kernel.flags = others
    elif unknown:
        raise UsageError(f"unrecognized arguments: {' '.join(unknown)} (see --help)")
    serve = partial(run_it, kernel) if run_it is not None else _run_by_flags(kernel, options)
    run_to_the_end(serve, kernel.exit_grace, partial(_report, kernel))


def _run_by_flags(kernel: Kernel, options: argparse.Namespace) -> Callable[[], None]:
    given = {name: getattr(options, name) for name in ("ip", "transport")}
    given |= {f"{name}_port": getattr(options, name) for name in _CHANNELS}
    info = ConnectionInfo(**{name: value for name, value in given.items() if value is not None})
    return partial(run, kernel, options.connection_file, info=info)


def _check_is_class(value: object) -> None:
    if isinstance(value, type) and issubclass(value, Kernel):
        return
    example = type(value).__name__ if isinstance(value, Kernel) else "MyKernel"
    what = f"an instance of {example}" if isinstance(value, Kernel) else repr(value)[:80]
    raise KernelClassError(
        f"trikernel.main takes a kernel's class, as in trikernel.main({example}), not {what}"
    )


def _report(kernel: Kernel, error: BaseException) -> None:
    """Write the error that ends the process to stderr; one of the author's hooks without our
    frames.
    """
    if is_of_hook(kernel, ("start", "started"), error):
        _report_author_error(error)
    else:
        report_crash(error)


def _report_author_error(error: BaseException) -> None:
    """Write a traceback that begins with the author's code to stderr. The exception's notes name
    class and member.
    """
    real_stderr.write("\n".join(render_error(error).traceback) + "\n")


def _complain(error: UsageError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def _runtime_folder() -> str:
    if told := os.environ.get("JUPYTER_RUNTIME_DIR"):  # jupyter_core looks there first, too
        return told
    from jupyter_core.paths import jupyter_runtime_dir  # not needed if a file's path is given

    return str(jupyter_runtime_dir())


def _find_file(given: str | os.PathLike[str]) -> Path | None:
    """The file of that path, or of that name in the runtime folder; None if neither exists."""
    path = Path(given)
    if os.path.lexists(path):
        return path
    elsewhere = Path(_runtime_folder(), path) if path.name == str(path) else path
    return elsewhere if os.path.lexists(elsewhere) else None


@contextmanager
def _new_file(
    given: str | os.PathLike[str] | None, info: ConnectionInfo | None, *, tidies: bool
) -> Iterator[Path]:
    folder, name = os.path.split(given or "")
    path = new_connection_file(folder or _runtime_folder(), info, name or None, tidies=tidies)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _name_of(path: Path) -> str:
    """The argument for ``--existing``: only the name if the file is in the runtime folder."""
    return path.name if str(path.parent) == _runtime_folder() else str(path.absolute())


@contextmanager
def _process_state(kernel: Kernel) -> Iterator[None]:
    """Set the switch interval and the handler of SIGINT; both are restored at the end."""
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
    """Turn off macOS's App Nap for this process, if the package ``appnope`` is installed."""
    try:
        importlib.import_module("appnope").nope()
    except ImportError:
        logging.getLogger("trikernel").info("install appnope to keep macOS from napping kernels")


def _ignore_until_served(*_: object) -> None:
    """The handler of SIGINT before the kernel is served, and after: nothing is interrupted."""
