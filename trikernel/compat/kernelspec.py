"""The functions of ``ipykernel.kernelspec``, for environments without ipykernel.

The kernelspecs start this Python with ``trikernel start``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

__all__ = [
    "KERNEL_NAME",
    "RESOURCES",
    "get_kernel_dict",
    "install",
    "make_ipkernel_cmd",
    "write_kernel_spec",
]

KERNEL_NAME = f"python{sys.version_info[0]}"
RESOURCES = str(Path(__file__).parents[1] / "cli" / "kernelspec")
"""The folder of the logos."""


def make_ipkernel_cmd(
    mod: str = "ipykernel_launcher",
    executable: str | None = None,
    extra_arguments: Sequence[str] | None = None,
    python_arguments: Sequence[str] | None = None,
) -> list[str]:
    """The command that starts a kernel: trikernel's if ``mod`` is ipykernel's, else ``mod``."""
    ours = mod.partition(".")[0] in ("ipykernel", "ipykernel_launcher")
    words = ["trikernel", "start"] if ours else [mod]
    python = [executable or sys.executable, *(python_arguments or ())]
    return [*python, "-m", *words, "-f", "{connection_file}", *(extra_arguments or ())]


def get_kernel_dict(
    extra_arguments: Sequence[str] | None = None, python_arguments: Sequence[str] | None = None
) -> dict[str, Any]:
    """The content of a ``kernel.json``."""
    spec: dict[str, Any] = json.loads((Path(RESOURCES) / "kernel.json").read_text("utf-8"))
    python_arguments = ["-P"] if python_arguments is None else python_arguments
    spec["argv"] = make_ipkernel_cmd(
        extra_arguments=extra_arguments, python_arguments=python_arguments
    )
    return spec


def write_kernel_spec(
    path: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
    extra_arguments: Sequence[str] | None = None,
    python_arguments: Sequence[str] | None = None,
) -> str:
    """Write a kernelspec into ``path``, or into a temporary folder. Returns the folder.

    Raises `OSError` if it cannot be written.
    """
    folder = Path(tempfile.mkdtemp(suffix="_kernels")) / KERNEL_NAME if path is None else Path(path)
    copytree(RESOURCES, folder, dirs_exist_ok=True)
    spec = {**get_kernel_dict(extra_arguments, python_arguments), **(overrides or {})}
    (folder / "kernel.json").write_text(json.dumps(spec, indent=1), "utf-8")
    return str(folder)


def install(
    kernel_spec_manager: KernelSpecManager | None = None,
    user: bool = False,
    kernel_name: str = KERNEL_NAME,
    display_name: str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    env: Mapping[str, str] | None = None,
    frozen_modules: bool = False,
) -> str:
    """Install a kernelspec. Returns its folder. Raises `OSError` if it cannot be written."""
    overrides: dict[str, Any] = {"display_name": display_name} if display_name else {}
    if env:
        overrides["env"] = dict(env)
    words = ["--profile", profile] if profile else None
    with tempfile.TemporaryDirectory() as made:
        write_kernel_spec(made, overrides, words)
        manager = kernel_spec_manager or KernelSpecManager()
        placed: str = manager.install_kernel_spec(
            made, kernel_name=kernel_name, user=user, prefix=prefix
        )
    return placed
