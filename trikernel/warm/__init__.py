"""Warm starts: kernels that are forked from a process which has imported everything already.

What a kernel imports takes most of the time until its first reply. A *template* (`template`) has
done that once; it forks, and the forked process takes over what it would have been given by an
ordinary start (`taking_over`). Whoever asks (`asking`) has a process as if it were a child of its
own. Wherever a template cannot do it, the kernel starts in the ordinary way.

Knows of kernels the command that starts them, and what they import. Nothing in the package that
serves a kernel knows of this. See docs/discussion/warm-starts.md.
"""

from __future__ import annotations

from .asking import WarmProcess
from .packets import NotWarm
from .server import ForkServer, open_fork_server
from .starting import warm_is_possible

__all__ = ["ForkServer", "NotWarm", "WarmProcess", "open_fork_server", "warm_is_possible"]
