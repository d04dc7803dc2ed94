"""The debugger of a kernel: answers ``debug_request``, which carries the Debug Adapter Protocol, by
means of debugpy.
"""

from __future__ import annotations

from .debugger import COMMANDS, Debugger, Needs
from .local import Debuggee, as_json
from .tracing import Traced, is_installed

__all__ = ["COMMANDS", "Debuggee", "Debugger", "Needs", "Traced", "as_json", "is_installed"]
