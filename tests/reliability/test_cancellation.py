"""Every scenario, with each fault at each of its checkpoints, in both service modes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import pytest
import trio
import trio.testing

from trikernel.testing import InjectedScope, at_every_checkpoint

from . import tally
from .injection import FAULTS, Fault, play
from .scenarios import SCENARIOS

IN_CI = {
    "an_error_aborts_the_queue",
    "comm_messages_while_a_cell_awaits",
    "a_shutdown_of_a_busy_kernel",
    "nested_cells_are_interrupted",
}
"""With a thread beside, time is real, and a scenario takes seconds instead of milliseconds."""
LONG = {
    "a_debugger_that_leaves_at_a_breakpoint",
    "a_stop_at_a_breakpoint",
    "a_subshell_at_a_breakpoint",
}
"""Scenarios of many checkpoints, which seeded orders run ordinarily, too."""


def test_there_is_a_scenario_for_everything() -> None:
    assert len(SCENARIOS) >= 25


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_one_loop(name: str, request: pytest.FixtureRequest) -> None:
    """A cancel at each checkpoint, and one of the other faults; with ``--thorough`` all."""
    if request.config.getoption("--thorough"):
        rounds: list[tuple[Fault, ...]] = [(one,) for one in FAULTS]
    elif name in LONG:
        pytest.skip("with --thorough")
    else:
        rounds = [("cancel",), tuple(one for one in FAULTS if one != "cancel")]
    for faults in rounds:
        in_turn = Turns(name, faults)
        clock = trio.testing.MockClock(autojump_threshold=0)
        count = trio.run(at_every_checkpoint, in_turn.play, clock=clock)
        assert count >= 3
        tally.injected.update(in_turn.counted(count))


class Turns:
    """A scenario in one loop, run under one fault after the other."""

    def __init__(self, name: str, faults: Sequence[Fault]) -> None:
        self._scenario = SCENARIOS[name]
        # which one begins differs from scenario to scenario
        first = tuple(SCENARIOS).index(name) % len(faults)
        self._faults = [*faults[first:], *faults[:first]]
        self._runs = 0

    def _at(self, checkpoint: int) -> Fault:
        return self._faults[checkpoint % len(self._faults)]

    async def play(self, scope: InjectedScope) -> None:
        fault = self._at(self._runs)
        self._runs += 1
        try:
            await play(self._scenario, fault, "inline", scope)
        except BaseException as error:
            error.add_note(f"the fault: {fault}")
            raise

    def counted(self, count: int) -> Counter[str]:
        """How often each fault has come, of that many times."""
        return Counter(self._at(number) for number in range(count))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_with_a_service_thread(name: str, fault: Fault, request: pytest.FixtureRequest) -> None:
    if name not in IN_CI and not request.config.getoption("--thorough"):
        pytest.skip("with --thorough")
    count = trio.run(at_every_checkpoint, partial(play, SCENARIOS[name], fault, "thread"))
    assert count >= 3
    tally.injected[fault] += count
