"""Where shared templates listen, and how a template is started.

A shared template listens in a folder that only its user can enter. The name of its socket is a hash
of all that its forks have from it: interpreter and its flags, preloaded modules, the environment
that is read at start, the user's ids, control group and namespaces. A start that differs in one of
these finds another name there, and so another template.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from .. import __version__
from .packets import NotWarm
from .staleness import is_read_at_start

__all__ = [
    "MODULE",
    "Command",
    "parse_command",
    "shared_path",
    "start_template",
    "warm_is_possible",
]

LAUNCH_TIMEOUT = 30  # seconds until a template's process has detached itself
MODULE = "trikernel"
# These variables have everything measured from the first import on. A forked process has its
# imports behind it, so a kernel with one of them starts in the ordinary way.
MEASURING = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "PYTHONPROFILEIMPORTTIME")


def warm_is_possible() -> str | None:
    """Why this system has no templates; None if it has.

    Windows cannot fork. On macOS a process that has used a system framework must not go on after a
    fork, and an import may use one already. On other systems there is no tested way to wait for a
    process that is another one's child.
    """
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        return None
    return f"warm starts are not offered on {sys.platform}"


@attrs.frozen
class Command:
    """A kernel's command, taken apart: ``python flags -m trikernel arguments``."""

    python: str
    flags: tuple[str, ...]
    arguments: tuple[str, ...]


def parse_command(command: Sequence[str], environment: Mapping[str, str]) -> Command:
    """Take a kernelspec's command apart. Raises `NotWarm` if a template cannot run it."""
    reason = warm_is_possible()
    if reason is not None:
        raise NotWarm(reason)
    python, *rest = command
    if "-m" not in rest or rest[rest.index("-m") + 1 :][:2] != [MODULE, "start"]:
        raise NotWarm(f"its command is not 'python -P -m {MODULE} start ...'")
    place = rest.index("-m")
    flags = tuple(rest[:place])
    if "-P" not in flags or any(not one.startswith("-") for one in flags):
        raise NotWarm("its command has no -P, so what it imports depends on its folder")
    found = next((one for one in MEASURING if environment.get(one)), None)
    if found is not None:
        raise NotWarm(f"the environment variable {found} wants its imports measured")
    path = environment.get("PYTHONPATH", "")
    if path and not all(os.path.isabs(one) for one in path.split(os.pathsep)):
        raise NotWarm("PYTHONPATH names a folder relative to the working directory")
    return Command(python, flags, tuple(rest[place + 2 :]))


def shared_path(command: Command, preload: Sequence[str], environment: Mapping[str, str]) -> str:
    """The path of the socket at which the template for such processes listens. Raises `NotWarm` if
    there is no folder for it.
    """
    try:
        folder = _own_folder()
        parts = {
            "version": __version__,
            "python": command.python,
            "real": os.path.realpath(command.python),
            "flags": command.flags,
            "preload": list(preload),
            "environment": {k: v for k, v in environment.items() if is_read_at_start(k)},
            "place": _place(),
        }
    except OSError as error:
        raise NotWarm(f"there is no place for its template: {error}") from None
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
    return str(folder / name)


def _own_folder() -> Path:
    """The folder of this user's templates, made if it is missing. Raises `OSError`."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):
        folder = Path(runtime) / "trikernel-warm"
    else:
        folder = Path(tempfile.gettempdir()) / f"trikernel-warm-{_uid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != _uid():
        raise OSError(f"{folder} is not a folder of this user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise OSError(f"others than this user may enter {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):  # each template that is started would fail
        raise OSError(f"nothing can be put into {folder}")
    return folder


def _uid() -> int:
    if sys.platform != "linux":
        raise NotImplementedError
    return os.getuid()


def _place() -> list[Any]:
    """Ids, control group, namespaces and root directory of this process, which a process that it
    starts in the ordinary way has from it.
    """
    if sys.platform != "linux":
        raise NotImplementedError
    with open("/proc/self/cgroup") as file:
        groups = file.read()
    names = sorted(os.listdir("/proc/self/ns"))
    spaces = [os.readlink(f"/proc/self/ns/{one}") for one in names]
    ids = [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.getgroups())]
    return [ids, groups, spaces, os.readlink("/proc/self/root")]


def start_template(
    command: Command,
    preload: Sequence[str],
    environment: Mapping[str, str],
    *,
    defaults: Mapping[str, str],
    idle: float | None,
    where: str | socket.socket,
) -> None:
    """Start a template's process, which runs on detached from this one. Returns while it imports.

    ``where`` is the path at which it listens, or the template's end of the socket pair with its
    owner. ``idle`` is in seconds. Raises `NotWarm`.
    """
    options = {
        "path": where if isinstance(where, str) else None,
        "owner": None if isinstance(where, str) else where.fileno(),
        "preload": list(preload),
        "defaults": dict(defaults),
        "idle": idle,
    }
    argv = [command.python, *command.flags, "-m", "trikernel.warm", json.dumps(options)]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=dict(environment),
            pass_fds=[where.fileno()] if isinstance(where, socket.socket) else [],
            timeout=LAUNCH_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotWarm(f"its template cannot be started: {error}") from None
    if done.returncode:
        raise NotWarm(f"its template cannot be started: exit code {done.returncode}")
