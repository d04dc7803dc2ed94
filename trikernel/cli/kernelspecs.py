"""Kernelspecs: what Jupyter reads to know how a kernel is started."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UsageError

__all__ = ["add_install_flags", "install", "installed", "remove"]

_FILES = Path(__file__).parent / "kernelspec"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def add_install_flags(parser: argparse.ArgumentParser, kernel: str) -> None:
    """The flags of ``trikernel install``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="install for this user")
    where.add_argument("--prefix", metavar="DIR", help="install under DIR (default: this Python's)")
    parser.add_argument("--name", default="trikernel", metavar="NAME")
    parser.add_argument("--display-name", default="Python 3 (Trio)", metavar="TEXT")
    parser.add_argument("--kernel", default=kernel, metavar="PACKAGE.MODULE:CLASS")


def install(options: argparse.Namespace) -> str:
    """Install a kernelspec that starts this very Python; where it is.

    One of the same name is replaced. Nothing else is removed, wherever links may lead: the name
    is one folder's, and a folder that holds no kernelspec stays. Raises `UsageError`.
    """
    if not _NAME.fullmatch(options.name):
        raise UsageError(
            f"--name: {options.name!r} must begin with a letter or digit, "
            "and have letters, digits, and . _ - only"
        )
    spec: dict[str, Any] = json.loads((_FILES / "kernel.json").read_text("utf-8"))
    spec["argv"][0] = sys.executable
    spec["argv"] += ["--kernel", options.kernel]
    spec["display_name"] = options.display_name
    folder = _kernels_folder(options) / options.name.lower()
    try:
        _put(json.dumps(spec, indent=2), folder)
    except OSError as error:
        raise UsageError(
            f"cannot install to {error.filename or folder}: {error.strerror or error}; try --user"
        ) from None
    return str(folder)


def _kernels_folder(options: argparse.Namespace) -> Path:
    if options.user:
        return Path(_manager().user_kernel_dir)
    return Path(os.path.abspath(options.prefix or sys.prefix)) / "share" / "jupyter" / "kernels"


def _put(spec: str, folder: Path) -> None:
    """Put a kernelspec into ``folder``: beside it first, so that nothing is there by halves."""
    replaces = folder.is_dir() and not folder.is_symlink()
    if replaces and os.listdir(folder) and not (folder / "kernel.json").is_file():
        raise UsageError(f"{folder} is no kernelspec (it has no kernel.json): not replaced")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    try:
        shutil.copytree(_FILES, staged)
        (staged / "kernel.json").write_text(spec, "utf-8")
        if replaces:
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)  # a link, of which only the link goes, or a file
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def remove(name: str) -> str:
    """Remove a kernelspec; where it was."""
    from jupyter_client.kernelspec import NoSuchKernel

    try:
        return str(_manager().remove_kernel_spec(name))
    except (NoSuchKernel, KeyError):
        raise UsageError(f"there is no kernelspec {name!r}") from None
    except OSError as error:
        raise UsageError(f"cannot remove {error.filename}: {error.strerror}") from None


def installed() -> Iterator[tuple[str, str, str]]:
    """Every kernelspec that Jupyter finds: name, display name, folder."""
    for name, found in sorted(_manager().get_all_specs().items()):
        yield name, found["spec"]["display_name"], found["resource_dir"]


def _manager() -> Any:
    from jupyter_client.kernelspec import KernelSpecManager

    return KernelSpecManager(ensure_native_kernel=False)
