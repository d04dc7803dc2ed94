"""What is known of debugpy while another thread imports it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from trikernel.debugger.tracing import _Session, trace_this_thread


def test_a_debugger_that_is_being_imported_traces_nothing_and_is_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a module is in sys.modules from the moment in which its import begins
    monkeypatch.setitem(sys.modules, "pydevd", ModuleType("pydevd"))
    before = sys.gettrace()
    trace_this_thread()
    _Session("secret").stop()
    assert sys.gettrace() is before
