"""Warm starts: kernels that are forked from a process which has imported everything already.

Imports take most of the time until a kernel's first reply. A *template* (`template`) has done them
once. To start a kernel it forks, and the forked process takes over what an ordinary start would
have given it: environment, streams, working directory (`taking_over`). The program that asks for a
kernel (`asking`) can use that process like a child of its own. Where a template cannot be used, the
kernel starts in the ordinary way.

All that this knows of kernels is the command that starts them, and what they import. The parts of
the package that serve a kernel do not know of this one. See docs/discussion/warm-starts.md.
"""

from __future__ import annotations

from .asking import WarmProcess
from .packets import NotWarm
from .server import ForkServer, open_fork_server
from .starting import warm_is_possible

__all__ = ["ForkServer", "NotWarm", "WarmProcess", "open_fork_server", "warm_is_possible"]
