"""Templates in the environments that are measured: each is started once, and ends with us."""

from __future__ import annotations

import functools
import json
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trikernel.warm.asking import Start, WarmProcess, ask
from trikernel.warm.packets import packet_pair, receive
from trikernel.warm.server import KERNEL_DEFAULTS
from trikernel.warm.starting import Command, start_template

__all__ = ["forked"]

NONE = (subprocess.DEVNULL,) * 3
_ends: dict[tuple[Path, tuple[str, ...]], socket.socket] = {}


def forked(
    preload: tuple[str, ...], python: Path, environ: Mapping[str, str]
) -> Callable[[Sequence[str], Mapping[str, str], str], WarmProcess]:
    """What forks a kernel with a command, an environment and a folder; the template is ready.

    Raises `NotWarm` where that cannot be, and `AssertionError` if something was not preloaded.
    """
    end = _ends.get((python, preload))
    if end is None:
        end, theirs = packet_pair()
        with theirs:
            start_template(
                Command(str(python), ("-P",), ()),
                preload,
                environ,
                defaults=KERNEL_DEFAULTS,
                idle=None,
                where=theirs,
            )
        end.settimeout(300)
        message = json.loads(receive(end)[0])
        assert message["left_out"] == [], message
        _ends[python, preload] = end
    return functools.partial(_fork, end)


def _fork(
    end: socket.socket, command: Sequence[str], environ: Mapping[str, str], folder: str
) -> WarmProcess:
    arguments = command[command.index("start") :]
    return ask(Start(command, "trikernel", arguments, environ, KERNEL_DEFAULTS, folder, NONE), end)[
        0
    ]
