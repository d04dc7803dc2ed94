"""What an author subclasses, and how a kernel becomes a process."""

from __future__ import annotations

from ..system import run_to_the_end
from .base import Kernel
from .entry import add_setting_flags, given_settings, log_to_stderr, main, run
from .handlers import BACKGROUND_FAILED
from .promptness import prompt
from .rendering import NO_TEXT, render_error
from .sending import ChannelHandle
from .settings import Setting, setting, settings_of

__all__ = [
    "BACKGROUND_FAILED",
    "NO_TEXT",
    "ChannelHandle",
    "Kernel",
    "Setting",
    "add_setting_flags",
    "given_settings",
    "log_to_stderr",
    "main",
    "prompt",
    "render_error",
    "run",
    "run_to_the_end",
    "setting",
    "settings_of",
]
