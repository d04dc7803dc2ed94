"""Functions of ipykernel's modules, about the kernel that the calling code runs for.

Each takes the arguments of ipykernel's. The table of `ipykernel_modules` refers to them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..wire import PROTOCOL_VERSION
from .process import served

_LIKE = "7.4.0"
"""The version of ipykernel that is told where none is installed; the names are those of it."""

kernel_protocol_version = PROTOCOL_VERSION
kernel_protocol_version_info = tuple(map(int, PROTOCOL_VERSION.split(".")))


def __getattr__(name: str) -> Any:
    """``__version__`` and ``version_info``, of the installed ipykernel if there is one, and
    jupyter_client's ``write_connection_file``.
    """
    if name == "__version__":
        return _version()
    if name == "version_info":
        numbers = re.match(r"(\d+)\.(\d+)\.(\d+)(.*)", _version())
        assert numbers is not None
        rest = (numbers[4],) if numbers[4] else ()
        return (int(numbers[1]), int(numbers[2]), int(numbers[3]), *rest)
    if name == "write_connection_file":
        from jupyter_client.connect import write_connection_file

        return write_connection_file
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ipykernel")
    except PackageNotFoundError:
        return _LIKE


def get_connection_file(app: Any = None) -> str:
    """The path of the connection file of this kernel, or of ``app``, an application of Jupyter's.

    Raises `RuntimeError` outside of a kernel, and in one that has no file; `OSError` if there is no
    file of ``app``.
    """
    if app is not None:
        folder = getattr(app, "connection_dir", "")
        for path in (Path(app.connection_file), Path(folder, app.connection_file)):
            if path.is_file():
                return str(path.absolute())
        raise OSError(f"there is no connection file {app.connection_file!r}")
    kernel = served.kernel()
    if kernel is None:
        raise RuntimeError("app not specified, and not in a running Kernel")
    if kernel.connection_file is None:
        raise RuntimeError("this kernel has no connection file")
    return str(os.path.abspath(kernel.connection_file))


def get_connection_info(connection_file: str | None = None, unpack: bool = False) -> Any:
    """The text of a connection file; with ``unpack`` its content as a dictionary, the key as bytes.

    The file is this kernel's, or the one that ``connection_file`` names in the same way as
    ``--existing``.
    """
    text = Path(_find(connection_file)).read_text("utf-8")
    if not unpack:
        return text
    info = json.loads(text)
    return {**info, "key": info.get("key", "").encode()}


def connect_qtconsole(
    connection_file: str | None = None, argv: Sequence[str] | None = None
) -> subprocess.Popen[bytes]:
    """Open a Qt console on this kernel, or on another one. Returns the process of the console.

    Raises `RuntimeError` where qtconsole is not installed.
    """
    path = _find(connection_file)
    if importlib.util.find_spec("qtconsole") is None:
        raise RuntimeError("a Qt console needs one more package: pip install qtconsole")
    return subprocess.Popen(
        [sys.executable, "-m", "qtconsole", "--existing", path, *(argv or ())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _find(connection_file: str | None) -> str:
    if connection_file is None:
        return get_connection_file()
    from jupyter_client.connect import find_connection_file

    return str(find_connection_file(connection_file))


def json_clean(obj: Any) -> Any:
    """Returns ``obj`` unchanged: values that are no JSON are converted when they are sent."""
    return obj


def encode_images(format_dict: dict[str, Any]) -> dict[str, Any]:
    """Returns ``format_dict`` unchanged: images are encoded when they are sent."""
    return format_dict
