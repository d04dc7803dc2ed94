"""A range of ports, for example those that a firewall lets through.

A free port is found by binding: if one only looked for a free port and bound it later, another
process could take it in between. The first port that is tried is a random one: if many kernels
began at the lowest port, each would try all ports that the others have bound.
"""

from __future__ import annotations

import errno
import random
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs
import zmq

from ..errors import ConnectionFileError, UsageError

__all__ = ["PortRange", "bind_first"]

T = TypeVar("T")

_TAKEN = (errno.EADDRINUSE, errno.EACCES, getattr(errno, "WSAEACCES", errno.EACCES))
_FORM = re.compile(r"(\d{1,5})\.\.(\d{1,5})")


@attrs.frozen
class PortRange:
    """The ports from ``lower`` to ``upper``, including both."""

    lower: int
    upper: int

    @classmethod
    def parse(cls, text: str, source: str, at_least: int = 1) -> PortRange | None:
        """``40000..41000`` as a value; None if both ends are the same, which for Jupyter's gateways
        means any port. Raises `UsageError` that names ``source``.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"{source} must be LOWEST..HIGHEST, as in 40000..41000, not {text!r}")
        lower, upper = int(found[1]), int(found[2])
        if lower == upper:
            return None
        if lower > upper:
            raise UsageError(f"{source}: {text} is backwards: say {upper}..{lower}")
        if not 1 <= lower < upper <= 65535:
            raise UsageError(f"{source}: ports are from 1 to 65535, not {text}")
        if upper - lower + 1 < at_least:
            raise UsageError(
                f"{source}: {text} has {upper - lower + 1} ports, and a kernel needs {at_least}"
            )
        return cls(lower, upper)

    def ports(self) -> Iterator[int]:
        """All ports of the range, beginning with a random one."""
        width = self.upper - self.lower + 1
        start = random.randrange(width)
        for number in range(width):
            yield self.lower + (start + number) % width


def bind_first(bind: Callable[[int], T], port: int, ports: PortRange | None, what: str) -> T:
    """Call ``bind`` with ``port``; if that is 0 and there is a range, with the ports of the range
    until one is free. Returns what ``bind`` returns.

    Raises what ``bind`` raises, and `ConnectionFileError`, which begins with ``what``, if no port
    of the range is free.
    """
    if port or ports is None:
        return bind(port)
    for one in ports.ports():
        try:
            return bind(one)
        except (OSError, zmq.ZMQError) as error:
            if error.errno not in _TAKEN:
                raise
    raise ConnectionFileError(
        f"{what}: no port from {ports.lower} to {ports.upper} is free: give a wider range, "
        "or end kernels that are not needed"
    )
