"""What an author subclasses, and how a kernel becomes a process."""

from __future__ import annotations

from .application import BACKGROUND_FAILED, Application, serve
from .handlers import built_in
from .kernel import Kernel
from .process import add_start_flags, main, run, start_kernel
from .sender import ChannelHandle, Sender
from .settings import Setting, setting, settings_of
from .tracebacks import NO_TEXT, render_error

__all__ = [
    "BACKGROUND_FAILED",
    "NO_TEXT",
    "Application",
    "ChannelHandle",
    "Kernel",
    "Sender",
    "Setting",
    "add_start_flags",
    "built_in",
    "main",
    "render_error",
    "run",
    "serve",
    "setting",
    "settings_of",
    "start_kernel",
]
