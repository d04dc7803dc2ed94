"""Kernelspecs: what Jupyter reads to know how a kernel is started."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UsageError

__all__ = ["add_install_flags", "install", "installed", "remove"]

_FILES = Path(__file__).parent / "kernelspec"


def add_install_flags(parser: argparse.ArgumentParser, kernel: str) -> None:
    """The flags of ``trikernel install``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="install for this user")
    where.add_argument("--prefix", metavar="DIR", help="install under DIR (default: this Python's)")
    parser.add_argument("--name", default="trikernel", metavar="NAME")
    parser.add_argument("--display-name", default="Python 3 (Trio)", metavar="TEXT")
    parser.add_argument("--kernel", default=kernel, metavar="PACKAGE.MODULE:CLASS")


def install(options: argparse.Namespace) -> str:
    """Install a kernelspec that starts this very Python; where it is."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", options.name):
        raise UsageError(f"--name: {options.name!r} may have letters, digits, and . _ - only")
    spec: dict[str, Any] = json.loads((_FILES / "kernel.json").read_text("utf-8"))
    spec["argv"][0] = sys.executable
    spec["argv"] += ["--kernel", options.kernel]
    spec["display_name"] = options.display_name
    with tempfile.TemporaryDirectory() as folder:
        for file in _FILES.iterdir():
            shutil.copy(file, folder)
        (Path(folder) / "kernel.json").write_text(json.dumps(spec, indent=2), "utf-8")
        prefix = None if options.user else options.prefix or sys.prefix
        try:
            path = _manager().install_kernel_spec(
                folder, options.name, user=options.user, prefix=prefix
            )
        except OSError as error:
            raise UsageError(
                f"cannot install to {error.filename}: {error.strerror}; try --user"
            ) from None
    return str(path)


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
