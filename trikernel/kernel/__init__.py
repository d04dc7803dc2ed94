"""The class that authors of kernels subclass, and what runs a kernel as a process."""

from __future__ import annotations

from .application import (
    BACKGROUND_FAILED,
    Application,
    application_of,
    serve,
    use_application,
)
from .checks import check_class
from .handlers import built_in, is_built_in
from .ipykernel_names import served_kernel
from .kernel import Kernel
from .own_types import message_type
from .process import (
    add_setting_flags,
    add_start_flags,
    log_to_stderr,
    main,
    open_connection,
    run,
    run_over,
    start_kernel,
)
from .recording import note_error, recorder_of
from .sender import ChannelHandle, Sender
from .settings import Setting, setting, settings_of
from .tracebacks import NO_TEXT, clean, render_error

__all__ = [
    "BACKGROUND_FAILED",
    "NO_TEXT",
    "Application",
    "ChannelHandle",
    "Kernel",
    "Sender",
    "Setting",
    "add_setting_flags",
    "add_start_flags",
    "application_of",
    "built_in",
    "check_class",
    "clean",
    "is_built_in",
    "log_to_stderr",
    "main",
    "message_type",
    "note_error",
    "open_connection",
    "recorder_of",
    "render_error",
    "run",
    "run_over",
    "serve",
    "served_kernel",
    "setting",
    "settings_of",
    "start_kernel",
    "use_application",
]
