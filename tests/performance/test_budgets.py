"""What a request may cost, as a ratio to the floor that is counted in the same run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from types import FrameType

import pytest
from jupyter_client import jsonutil, session

from trikernel.system import gc_paused

from .instructions import FEW, MANY, count_instructions
from .scenarios import SCENARIOS

# About a twentieth above what was counted when they were set. Whoever has made a request cheaper
# lowers them; whoever raises one says in the commit what the users have from it.
CALLS = {"kernel_info": 0.58, "execute": 0.66, "cell": 0.96}
INSTRUCTIONS = {"kernel_info": 0.63, "execute": 0.75, "cell": 1.19}


@pytest.fixture(autouse=True)
def dates_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """ipyparallel, once it is imported, has `Session`, the floor, leave dates as text."""
    monkeypatch.setattr(session, "extract_dates", jsonutil.extract_dates)


def count_calls(function: Callable[[int], object], count: int) -> int:
    """Calls of functions, of Python and of C, in this thread."""
    calls = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    with gc_paused():  # how often it collects, and whom it calls then, depends on other tests
        sys.setprofile(note)
        try:
            function(count)
        finally:
            sys.setprofile(before)
    return calls


def calls_each(function: Callable[[int], object]) -> float:
    """Calls for one request more."""
    function(FEW)  # caches are warm
    return (count_calls(function, MANY) - count_calls(function, FEW)) / (MANY - FEW)


@pytest.mark.parametrize("name", CALLS)
def test_a_request_takes_no_more_calls(name: str) -> None:
    ratio = calls_each(SCENARIOS[name]) / calls_each(SCENARIOS["floor"])
    assert ratio <= CALLS[name], f"{name} takes {ratio:.3f} of the floor's calls"
    assert 1.1 * ratio > CALLS[name], f"lower the budget: {name} takes {ratio:.3f}"


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_request_takes_no_more_instructions() -> None:
    counted = count_instructions()
    ratios = {name: counted[name] / counted["floor"] for name in INSTRUCTIONS}
    assert {name: ratio for name, ratio in ratios.items() if ratio > INSTRUCTIONS[name]} == {}
    # a budget that a tenth more would not exceed has to be lowered
    assert {one: ratio for one, ratio in ratios.items() if 1.1 * ratio <= INSTRUCTIONS[one]} == {}
