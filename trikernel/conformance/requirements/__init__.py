"""The requirements, in one module for each subject. Importing this fills the table `REQUIREMENTS`,
and sorts it by the order of `MODULES`.
"""

from __future__ import annotations

from ..manifest import REQUIREMENTS
from . import (
    asking,
    comms,
    control,
    debugger,
    executing,
    frames,
    handshake,
    kernelspec,
    malformed,
    messages,
    outputs,
    sockets,
    starting,
    stdin,
    subshells,
)

__all__ = ["MODULES"]

MODULES = (
    kernelspec,
    asking,
    executing,
    outputs,
    comms,
    stdin,
    malformed,
    frames,
    control,
    sockets,
    starting,
    handshake,
    debugger,
    subshells,
    messages,
)

_place = {module.__name__: number for number, module in enumerate(MODULES)}
REQUIREMENTS.sort(key=lambda one: _place[one.check.__module__])
