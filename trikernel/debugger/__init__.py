"""The debugger of a kernel: the Debug Adapter Protocol over ``debug_request``, by debugpy."""

from __future__ import annotations

from .debugger import COMMANDS, Debugger, Needs
from .local import Debuggee, as_json
from .tracing import Traced, is_installed

__all__ = ["COMMANDS", "Debuggee", "Debugger", "Needs", "Traced", "as_json", "is_installed"]
