"""A manifest of what a Jupyter kernel must do, and checks of whether any given kernel does it.

Each requirement has a check that talks to the kernel by messages only. This package knows neither
our kernels nor pytest; `trikernel conform` and `trikernel.testing` use it.
"""

from __future__ import annotations

from . import requirements as _requirements  # noqa: F401  # fills the table
from .manifest import FEATURES, REQUIREMENTS, NotChecked, NotOffered, Requirement, select
from .opening import open_file, open_kernelspec
from .probe import Log, Probe, Subject
from .report import as_json, as_junit, as_lines, summary
from .run import Result, check_samples, result_of, run_checks
from .samples import Samples, read_samples
from .schema import assert_order, message_types
from .starting import find_kernelspec

__all__ = [
    "FEATURES",
    "REQUIREMENTS",
    "Log",
    "NotChecked",
    "NotOffered",
    "Probe",
    "Requirement",
    "Result",
    "Samples",
    "Subject",
    "as_json",
    "as_junit",
    "as_lines",
    "assert_order",
    "check_samples",
    "find_kernelspec",
    "message_types",
    "open_file",
    "open_kernelspec",
    "read_samples",
    "result_of",
    "run_checks",
    "select",
    "summary",
]
