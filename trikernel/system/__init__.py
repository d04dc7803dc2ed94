"""The process and its loops: what stands under everything else, and knows nothing of Jupyter."""

from __future__ import annotations

from .dropped_interrupts import DroppedInterrupts
from .fork import exit_forked, on_fork
from .gc_pause import freeze, gc_paused
from .import_path import has_debugpy, with_working_folder
from .left_open import LeftOpen, close_what_was_left_open, is_anything_left_open
from .loops import (
    Latch,
    Mailbox,
    RemoteNursery,
    RepeatedEvent,
    call_in,
    cancel_for,
    run_in,
    runs_here,
)
from .nested_run import (
    can_nest_runs,
    interrupt_nested_run,
    is_nested_in,
    nested_token,
    run_nested,
)
from .own_threads import mark_untraced, run_in_own_thread
from .parent_signal import signal_at_parents_end
from .process_end import end_within, run_to_the_end, wait_for_process_end
from .shielding import innermost_status, leave_shield, shield_within
from .signal_timer import SignalTimer, can_signal
from .signals import SignalArrivals, signal_main_thread, unblock_signal, unused_signal
from .stderr import real_stderr, report_crash, stderr_descriptor
from .terminal import harmless

__all__ = [
    "DroppedInterrupts",
    "Latch",
    "LeftOpen",
    "Mailbox",
    "RemoteNursery",
    "RepeatedEvent",
    "SignalArrivals",
    "SignalTimer",
    "call_in",
    "can_nest_runs",
    "can_signal",
    "cancel_for",
    "close_what_was_left_open",
    "end_within",
    "exit_forked",
    "freeze",
    "gc_paused",
    "harmless",
    "has_debugpy",
    "innermost_status",
    "interrupt_nested_run",
    "is_anything_left_open",
    "is_nested_in",
    "leave_shield",
    "mark_untraced",
    "nested_token",
    "on_fork",
    "real_stderr",
    "report_crash",
    "run_in",
    "run_in_own_thread",
    "run_nested",
    "run_to_the_end",
    "runs_here",
    "shield_within",
    "signal_at_parents_end",
    "signal_main_thread",
    "stderr_descriptor",
    "unblock_signal",
    "unused_signal",
    "wait_for_process_end",
    "with_working_folder",
]
