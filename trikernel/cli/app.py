"""The parser of the command line, and what each subcommand does. An error that the caller can
correct is one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from ..errors import UsageError
from ..kernel import (
    Kernel,
    add_setting_flags,
    add_start_flags,
    check_class,
    settings_of,
    start_kernel,
)
from ..system import with_working_folder
from ..transport import remove_stale_files
from . import kernelspecs
from .launching import remote_doubts
from .new import add_new_flags, new
from .runflags import add_conform_flags, add_existing_flags, add_run_flags

__all__ = ["main"]

PROGRAM = "trikernel"
PYTHON_KERNEL = "trikernel.python:PythonKernel"
_PACKAGES = ("trio", "pyzmq", "jupyter_client", "attrs", "orjson", "zmq-anyio", "ipython")


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, and exits with code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0, or 2 for an error that the caller can correct, 130
    after Ctrl-C; `run` and `conform` have more.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["start"]:  # without the parsers of other commands, which takes time
            start = _Parser(prog=f"{PROGRAM} start", allow_abbrev=False)
            return _start(_add_start_flags(start), arguments[1:])
        if arguments[:1] == ["launch"]:
            made = _Parser(prog=f"{PROGRAM} launch", allow_abbrev=False)
            return _launch(_add_start_flags(made), arguments[1:])
        parser, run_command = _parser()
        if arguments[:1] == ["run"]:  # options and notebooks may stand in any order
            return _run(run_command.parse_intermixed_args(arguments[1:]))
        options = parser.parse_args(arguments)
        code: int = options.function(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, for example `head`, has closed the pipe
        sys.stdout = None  # at exit Python would try to flush it again
        return 1
    except UsageError as error:
        print(f"trikernel: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # Ctrl-C while the command does not handle it itself
        return _interrupted()
    except BaseExceptionGroup as group:  # the same, within a nursery
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        return _interrupted()


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return 130


def _add_start_flags(start: _Parser) -> _Parser:
    start.add_argument("--kernel", metavar="PACKAGE.MODULE:CLASS", default=PYTHON_KERNEL)
    start.add_argument("--path", metavar="FOLDER", help="where the class is imported from, too")
    trio_loop = "ipykernel's flag for what this kernel does anyway: cells run in a Trio loop"
    start.add_argument("--trio-loop", action="store_true", help=trio_loop)
    return start


def _parser() -> tuple[_Parser, _Parser]:
    parser = _Parser(
        prog=PROGRAM,
        description="A Jupyter kernel built on Trio's structured concurrency.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)

    run_command = commands.add_parser("run", help="run notebooks and show their outputs")
    add_run_flags(run_command)

    words = "start a kernel (what a kernelspec calls); takes ipykernel's flags, too"
    _add_start_flags(commands.add_parser("start", help=words, allow_abbrev=False))

    words = "start a kernel for a gateway on another machine (what its kernelspec calls)"
    commands.add_parser("launch", help=words)

    install = commands.add_parser("install", help="install a kernelspec")
    kernelspecs.add_install_flags(install, PYTHON_KERNEL)
    install.set_defaults(function=_install)

    remove = commands.add_parser("remove", help="remove a kernelspec")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(function=_remove)

    commands.add_parser("list", help="list kernelspecs").set_defaults(function=_list)

    conform = commands.add_parser("conform", help="check what a kernel does by the protocol")
    add_conform_flags(conform)
    conform.set_defaults(function=_conform)

    words = "write a kernel package to start from"
    add_new_flags(package := commands.add_parser("new", help=words))
    package.set_defaults(function=_new)
    tasks = commands.add_parser("tasks", help="show what the tasks of a running kernel do")
    attach = commands.add_parser("attach", help="run lines in a kernel that runs already")
    add_existing_flags(tasks, attach)
    tasks.set_defaults(function=_tasks)
    attach.set_defaults(function=_attach)

    info = commands.add_parser("info", help="show versions and settings")
    info.set_defaults(function=_info)
    return parser, run_command


def load_kernel_class(spec: str) -> type[Kernel]:
    """The class that ``package.module:Class`` names. Raises `UsageError`."""
    module_name, _, class_name = spec.partition(":")
    if not module_name or not class_name:
        raise UsageError(f"--kernel must be PACKAGE.MODULE:CLASS, not {spec!r}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if spec == PYTHON_KERNEL:
            raise UsageError(
                f"the Python kernel needs more packages ({error.name} is missing): "
                "pip install 'trikernel[python]'"
            ) from None
        is_missing = f"{module_name}.".startswith(f"{error.name}.")  # itself, not its imports
        hint = _how_to_name(module_name, class_name) if is_missing else ""
        raise UsageError(f"--kernel: cannot import {module_name}: {error}{hint}") from None
    except Exception as error:  # the boundary of the author's code
        text = f"{type(error).__name__}: {error}{_place_of(error)}"
        raise UsageError(f"--kernel: importing {module_name} has raised {text}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Kernel)):
        hint = _how_to_launch(module_name, found) if isinstance(found, type) else ""
        raise UsageError(f"--kernel: {module_name} has no Kernel subclass {class_name!r}{hint}")
    return found


def _how_to_launch(module_name: str, found: type) -> str:
    """The end of the error's text for a class that was written for ipykernel."""
    theirs = ("ipykernel.", "trikernel.compat.")
    if not any(base.__module__.startswith(theirs) for base in found.__mro__):
        return ""
    launcher = f"python -m trikernel.compat {module_name.removesuffix('.__main__')}"
    return f" of trikernel's; this one is started by: {launcher} -f FILE"


def _how_to_name(module_name: str, class_name: str) -> str:
    """The end of the error's text if there is no such module."""
    if module_name.endswith(".py"):
        return f" (name the module, not its file: {module_name.removesuffix('.py')}:{class_name})"
    return " (what is not installed `install` finds in its own folder, `start` by --path FOLDER)"


def _place_of(error: Exception) -> str:
    """The file and line where an import failed, preferably in code that is outside of Python's
    library folder. Empty for a `SyntaxError`, whose text has them.
    """
    if isinstance(error, SyntaxError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    installed = "<", os.path.dirname(os.__file__)
    own = [one for one in frames[1:] if not one.filename.startswith(installed)]
    last = (own or frames)[-1]
    return f" ({os.path.basename(last.filename)}, line {last.lineno})"


def _start(parser: _Parser, arguments: list[str]) -> int:
    """Start a kernel. Its flags include the settings of its class, which is determined first."""
    spec = _known(parser, arguments)
    kernel_class = _class_of(spec.kernel, spec.path)
    add_start_flags(parser, kernel_class)
    options, others = parser.parse_known_args(arguments)
    start_kernel(kernel_class, options, others)
    return 0


def _launch(parser: _Parser, arguments: list[str]) -> int:
    """Start a kernel for a gateway, which is told where it listens; otherwise as `_start`."""
    from ..remote import add_launch_flags, class_name_of
    from .launching import launch_kernel

    add_launch_flags(parser)
    spec = _known(parser, arguments)
    kernel_class = _class_of(class_name_of(spec) or spec.kernel, spec.path)
    add_setting_flags(parser, kernel_class)
    options, others = parser.parse_known_args(arguments)
    launch_kernel(kernel_class, options, others)
    return 0


def _known(parser: _Parser, arguments: list[str]) -> argparse.Namespace:
    """Parse the flags that are known before the kernel's class is. ``--help`` is left for later,
    when its settings are known.
    """
    asked = [one for one in arguments if one not in ("-h", "--help")]
    return parser.parse_known_args(asked)[0]


def _class_of(spec: str, path: str | None) -> type[Kernel]:
    """The kernel's class; if ``path`` is given, its module may be in that folder. Raises
    `UsageError`.
    """
    if path is not None:
        if not os.path.isdir(path):
            raise UsageError(f"--path: {path} is gone; install the kernelspec again")
        sys.path.append(path)
    return load_kernel_class(spec)


def _run(options: argparse.Namespace) -> int:
    from .early import early_fork_server

    with early_fork_server(options) as warm:
        try:
            from . import runner
        except ImportError as error:
            raise UsageError(
                f"running notebooks needs more packages ({error.name} is missing): "
                "pip install 'trikernel[python]'"
            ) from None
        return runner.run_files(options, warm)


def _conform(options: argparse.Namespace) -> int:
    from .conform import conform

    return conform(options)


def _tasks(options: argparse.Namespace) -> int:
    from .existing import show_tasks

    return show_tasks(options)


def _attach(options: argparse.Namespace) -> int:
    from .existing import attach

    return attach(options)


def _install(options: argparse.Namespace) -> int:
    sys.path[:] = with_working_folder(sys.path)
    if options.wrap is not None:
        if options.warm or options.preload is not None or options.remote is not None:
            raise UsageError("--warm, --preload and --remote do not go with --wrap")
        from . import wrapping

        name, path = wrapping.wrap(options)
    else:
        kernel_class = load_kernel_class(options.kernel)
        doubts = list(check_class(kernel_class))
        if options.warm:
            from ..warm import warm_is_possible  # not needed to start a kernel

            doubts += filter(None, [warm_is_possible()])
        if options.remote is not None:
            doubts += remote_doubts()
        for doubt in doubts:
            print(f"trikernel: warning: {doubt}", file=sys.stderr)
        name, path = kernelspecs.install(options, kernel_class)
        if options.warm and (doubt_of_name := kernelspecs.doubt_of_provisioner()):
            print(f"trikernel: warning: {doubt_of_name}", file=sys.stderr)
    print(f"installed kernelspec {name} in {path}")
    first = next((folder for one, _, folder in kernelspecs.installed() if one == name), None)
    if first is None:
        place = os.path.dirname(os.path.dirname(path))
        warning = f"Jupyter does not look there, unless JUPYTER_PATH has {place}"
        print(f"trikernel: warning: {warning}", file=sys.stderr)
    elif not os.path.samefile(first, path):
        warning = (
            f"Jupyter starts the {name} of {first}, which goes before it: "
            "install it there, or with another --name"
        )
        print(f"trikernel: warning: {warning}", file=sys.stderr)
    return 0


def _remove(options: argparse.Namespace) -> int:
    print(f"removed {kernelspecs.remove(options.name)}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from jupyter_core.paths import jupyter_runtime_dir

    for name, display_name, path in kernelspecs.installed():
        print(f"{name:<20} {display_name:<28} {path}")
    for removed in remove_stale_files(jupyter_runtime_dir()):
        print(f"removed the connection file of a kernel that was killed: {removed}")
    return 0


def _new(options: argparse.Namespace) -> int:
    made = new(options)
    print(f"made {made}; now: cd {shlex.quote(str(made))} && pip install -e '.[test]' && pytest")
    return 0


def _info(options: argparse.Namespace) -> int:
    print(
        f"trikernel {__version__}, {platform.python_implementation()} "
        f"{platform.python_version()} on {platform.system()}"
    )
    for package in _PACKAGES:
        print(f"  {package:<16} {_version(package)}")
    print("settings (flag, environment variable, default):")
    for one in settings_of(Kernel).values():
        print(f"  {one.flag:<26} {one.variable:<36} {_show(one.default):<10} {one.help}")
    return 0


def _show(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
