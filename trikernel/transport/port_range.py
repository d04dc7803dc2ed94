"""A range of ports, as a firewall lets through: each is tried by binding it, from any one on.

To look for a free port and to bind it later would lose it to whoever is first; and many kernels
that begin at the lowest port would try each other's, one after the other.
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
    """The ports from ``lower`` to ``upper``, both of them among them."""

    lower: int
    upper: int

    @classmethod
    def parse(cls, text: str, source: str, at_least: int = 1) -> PortRange | None:
        """``40000..41000`` as a value; None for one without a width, which by the gateways' custom
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
        """Each of them, from a random one on."""
        width = self.upper - self.lower + 1
        start = random.randrange(width)
        for number in range(width):
            yield self.lower + (start + number) % width


def bind_first(bind: Callable[[int], T], port: int, ports: PortRange | None, what: str) -> T:
    """``bind`` a port; where that is 0 and there is a range, the first one of that that is free.

    Raises what ``bind`` raises, and `ConnectionFileError` that says for ``what`` none was free.
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
