"""What a request may cost, as a ratio to the floor that is counted in the same run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from .instructions import count_instructions
from .scenarios import SCENARIOS

# About a twentieth above what was counted when they were set. Whoever has made a request cheaper
# lowers them; whoever raises one says in the commit what the users have from it.
CALLS = {"kernel_info": 0.72, "execute": 0.96, "cell": 1.36}
INSTRUCTIONS = {"kernel_info": 0.78, "execute": 1.01, "cell": 1.55}

FEW, MANY = 5, 45


def count_calls(function: Callable[[int], object], count: int) -> int:
    """Calls of functions, of Python and of C, in this thread."""
    calls = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
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


def test_a_dearer_request_is_noticed() -> None:
    def dearer(count: int) -> None:
        SCENARIOS["kernel_info"](count)
        for _ in range(60 * count):
            abs(1)

    assert calls_each(dearer) - calls_each(SCENARIOS["kernel_info"]) == pytest.approx(60, abs=10)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_request_takes_no_more_instructions() -> None:
    counted = count_instructions()
    ratios = {name: counted[name] / counted["floor"] for name in INSTRUCTIONS}
    assert {name: ratio for name, ratio in ratios.items() if ratio > INSTRUCTIONS[name]} == {}
