"""Kernelspecs: the files that tell Jupyter how a kernel is started.

Display name, language and interrupt mode are taken from the kernel's class, and the logos from the
folder of its module. If the module is not installed, its folder is written into the kernelspec, so
that it is found wherever the kernel is started.
Source: jupyter_client's documentation, "Kernel specs".
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import is_ours
from ..errors import UsageError
from ..kernel import Kernel
from .launching import add_remote_flags, remote_argv, remote_metadata

__all__ = [
    "add_install_flags",
    "checked_name",
    "doubt_of_provisioner",
    "folder_of",
    "install",
    "installed",
    "kernels_folder",
    "put",
    "remove",
    "variables",
]

PROVISIONER = "trikernel-warm"  # the name of an entry point of this package
PYTHON_NAME = "trikernel"  # the kernelspec of this package's Python kernel
_FILES = Path(__file__).parent / "kernelspec"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def add_install_flags(parser: argparse.ArgumentParser, kernel: str) -> None:
    """Add the flags of ``trikernel install``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="install for this user")
    where.add_argument("--sys-prefix", action="store_true", help="for this Python (the default)")
    where.add_argument("--prefix", metavar="DIR", help="install under DIR")
    name = f"what it is called (default: {PYTHON_NAME}; with --kernel, the implementation's name)"
    parser.add_argument("--name", metavar="NAME", help=name)
    parser.add_argument("--display-name", metavar="TEXT", help="instead of the class's")
    parser.add_argument("--language", metavar="NAME", help="instead of the class's")
    parser.add_argument(
        "--env", action="append", default=[], metavar="KEY=VALUE", help="set in its environment"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--kernel", default=kernel, metavar="PACKAGE.MODULE:CLASS", help="the class (default: ours)"
    )
    wrap = "a kernelspec beside the installed one NAME: it runs that kernel here, as it is"
    what.add_argument("--wrap", metavar="NAME", help=wrap)
    warm = "start it by forking a process that has imported everything (Linux only)"
    parser.add_argument("--warm", action="store_true", help=warm)
    names = "with --warm: what that process imports, too, as in pandas,matplotlib.pyplot"
    parser.add_argument("--preload", metavar="MODULES", help=names)
    add_remote_flags(parser)


def install(options: argparse.Namespace, kernel_class: type[Kernel]) -> tuple[str, str]:
    """Install a kernelspec that starts this Python with the given class. Returns its name and
    folder.

    An existing kernelspec of that name is replaced if ``--name`` was given, or if it starts the
    same class. Nothing else is removed: of a symbolic link only the link, and a folder without a
    kernelspec is not replaced. Raises `UsageError`.
    """
    remote = remote_metadata(options)
    name = options.name
    if name is None:
        name = _name_of(kernel_class) + ("-remote" if remote is not None else "")
    folder = kernels_folder(options) / checked_name(name)
    if options.name is None and _starts_another(folder, options.kernel):
        raise UsageError(f"{folder} starts another kernel: say --name {name} to replace it")
    spec: dict[str, Any] = json.loads((_FILES / "kernel.json").read_text("utf-8"))
    spec["argv"][0] = sys.executable
    spec["argv"] += ["--kernel", options.kernel]
    folder_of_module = _import_folder(options.kernel.partition(":")[0])
    if folder_of_module is not None:
        spec["argv"] += ["--path", folder_of_module]
    spec["language"] = options.language or language_of(kernel_class)
    spec["display_name"] = options.display_name or _display_name(kernel_class, spec["language"])
    spec["interrupt_mode"] = kernel_class.interrupt_mode
    spec["env"] = variables(options)
    features = kernel_class.supported_features
    spec["metadata"]["debugger"] = isinstance(features, Sequence) and "debugger" in features
    if options.warm or options.preload is not None:
        spec["metadata"]["kernel_provisioner"] = _warm(options)
    if remote is not None:
        _make_remote(spec, options, remote)
    put(spec, folder, _logos(kernel_class))
    return folder.name, str(folder)


def _make_remote(
    spec: dict[str, Any], options: argparse.Namespace, metadata: dict[str, Any]
) -> None:
    """Change a kernelspec so that the kernel is started on other machines, and interrupted by a
    message, which is signed.
    """
    if options.warm:
        raise UsageError("--warm does not go with --remote: a fork is of this machine")
    spec["argv"] = remote_argv(spec["argv"], options)
    spec["interrupt_mode"] = "message"
    if not options.display_name:
        name = spec["display_name"]
        inner = name.removesuffix(")")
        spec["display_name"] = f"{name} (remote)" if inner == name else f"{inner}, remote)"
    spec["metadata"] |= metadata


def _warm(options: argparse.Namespace) -> dict[str, Any]:
    """The ``kernel_provisioner`` entry of the kernelspec. Raises `UsageError` for wrong flags."""
    if not options.warm:
        raise UsageError("--preload goes with --warm")
    names = [one.strip() for one in (options.preload or "").split(",") if one.strip()]
    wrong = next((one for one in names if not all(map(str.isidentifier, one.split(".")))), None)
    if wrong is not None:
        raise UsageError(f"--preload: {wrong!r} is no module's name")
    config = {"config": {"preload": names}} if names else {}
    return {"provisioner_name": PROVISIONER, **config}


def doubt_of_provisioner() -> str | None:
    """A warning if Jupyter will not find the provisioner: it looks for the entry point in the
    package's metadata, which is written when the package is installed.
    """
    from importlib.metadata import entry_points  # imported late: only `install` needs it

    if entry_points(group="jupyter_client.kernel_provisioners", name=PROVISIONER):
        return None
    return (
        f"Jupyter finds no provisioner {PROVISIONER} here, and will not start this kernel: "
        "install trikernel once more, by pip, for that name to be known"
    )


def checked_name(name: str) -> str:
    """The name of a kernelspec's folder, in lower case. Raises `UsageError` for an invalid one."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name: {name!r} must begin with a letter or digit, "
            "and have letters, digits, and . _ - only"
        )
    return name.lower()


def put(spec: dict[str, Any], folder: Path, beside: Sequence[Path]) -> None:
    """Write a kernelspec into ``folder``, with copies of files. Raises `UsageError`."""
    if not spec.get("env"):
        spec.pop("env", None)
    try:
        _put(json.dumps(spec, indent=2), folder, beside)
    except OSError as error:
        raise UsageError(
            f"cannot install to {error.filename or folder}: {error.strerror or error}; try --user"
        ) from None


def _name_of(kernel_class: type[Kernel]) -> str:
    """The default name of a kernelspec for this class. Raises `UsageError` if there is none."""
    if is_ours(getattr(sys.modules.get(kernel_class.__module__), "__file__", None) or ""):
        return PYTHON_NAME
    implementation = kernel_class.implementation
    is_own = isinstance(implementation, str) and all(
        implementation != base.implementation for base in _our_bases(kernel_class)
    )
    for text in (implementation if is_own else "", kernel_class.__name__):
        name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
        if name and name != PYTHON_NAME:
            return name
    raise UsageError(f"--name: what shall {kernel_class.__name__} be called?")


def _our_bases(kernel_class: type[Kernel]) -> list[type[Kernel]]:
    """The base classes that are part of this package."""
    return [
        base
        for base in kernel_class.__mro__
        if issubclass(base, Kernel) and base.__module__.partition(".")[0] == "trikernel"
    ]


def _starts_another(folder: Path, kernel: str) -> bool:
    """Whether the folder has a kernelspec that does not start the class ``kernel``. The one that
    this package's installation brings names no class.
    """
    try:
        argv = json.loads((folder / "kernel.json").read_text("utf-8"))["argv"]
        brought = json.loads((_FILES / "kernel.json").read_text("utf-8"))["argv"]
        return kernel not in argv and (argv[1:] != brought[1:] or folder.name != PYTHON_NAME)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def language_of(kernel_class: type[Kernel]) -> str:
    """The language's name in lower case, as frontends compare it with that of a notebook."""
    info = kernel_class.language_info
    name = info.get("name") if isinstance(info, Mapping) else None
    return str(name or kernel_class.language).lower()


def _display_name(kernel_class: type[Kernel], language: str) -> str:
    if kernel_class.display_name:
        return kernel_class.display_name
    own = kernel_class.implementation
    if not isinstance(own, str):  # a property
        own = kernel_class.__name__
    if language == Kernel.language:  # the class does not set a language
        return own.capitalize()
    return f"{language.capitalize()} ({own})" if own != language else own.capitalize()


def _import_folder(module: str) -> str | None:
    """The folder that contains an imported module's top package; None if it is installed."""
    top = sys.modules[module.partition(".")[0]]
    places = list(getattr(top, "__path__", ())) or [getattr(top, "__file__", None) or ""]
    folder = Path(places[0]).resolve().parent
    if not places[0] or is_ours(places[0]) or folder.name in ("site-packages", "dist-packages"):
        return None
    return None if top is sys.modules["trikernel"] else str(folder)


def variables(options: argparse.Namespace) -> dict[str, str]:
    """The environment variables that ``--env`` sets."""
    return dict(map(_variable, options.env))


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--env must be KEY=VALUE, not {text!r}")
    return name, value


def _logos(kernel_class: type[Kernel]) -> list[Path]:
    """The logo files: this package's for its own kernels, else those beside the class's module."""
    file = getattr(sys.modules.get(kernel_class.__module__), "__file__", None)
    if file is None:
        return []
    return sorted((_FILES if is_ours(file) else Path(file).parent).glob("logo-*.*"))


def kernels_folder(options: argparse.Namespace) -> Path:
    """The folder for kernelspecs that the flags select."""
    if options.user:
        return Path(_manager().user_kernel_dir)
    return Path(os.path.abspath(options.prefix or sys.prefix)) / "share" / "jupyter" / "kernels"


def _put(spec: str, folder: Path, beside: Sequence[Path]) -> None:
    """Write a kernelspec into a temporary folder, then rename that to ``folder``, so that there
    never is an incomplete one.
    """
    replaces = folder.is_dir() and not folder.is_symlink()
    if replaces and os.listdir(folder) and not (folder / "kernel.json").is_file():
        raise UsageError(f"{folder} is no kernelspec (it has no kernel.json): not replaced")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        staged.mkdir()
        for file in beside:
            (shutil.copytree if file.is_dir() else shutil.copy)(file, staged / file.name)
        (staged / "kernel.json").write_text(spec, "utf-8")
        if replaces:
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)  # a symbolic link (its target stays) or a file
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def folder_of(name: str) -> Path:
    """The folder of an installed kernelspec. Raises `UsageError`."""
    from jupyter_client.kernelspec import NoSuchKernel

    try:
        return Path(_manager().get_kernel_spec(name).resource_dir)
    except NoSuchKernel:
        raise _no_such(name) from None


def _no_such(name: str) -> UsageError:
    known = ", ".join(one for one, _, _ in installed()) or "none"
    return UsageError(f"there is no kernelspec {name!r}; installed are: {known}")


def remove(name: str) -> str:
    """Remove a kernelspec. Returns its folder. Raises `UsageError`."""
    from jupyter_client.kernelspec import NoSuchKernel

    try:
        return str(_manager().remove_kernel_spec(name))
    except (NoSuchKernel, KeyError):
        raise _no_such(name) from None
    except OSError as error:
        raise UsageError(f"cannot remove {error.filename}: {error.strerror}") from None


def installed() -> Iterator[tuple[str, str, str]]:
    """Every kernelspec that Jupyter finds: name, display name, folder."""
    for name, found in sorted(_manager().get_all_specs().items()):
        yield name, found["spec"]["display_name"], found["resource_dir"]


def _manager() -> Any:
    from jupyter_client.kernelspec import KernelSpecManager

    return KernelSpecManager(ensure_native_kernel=False)
