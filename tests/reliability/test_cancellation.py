"""Every scenario, struck at each of its checkpoints by each misfortune, in both service modes."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from trikernel.testing import at_every_checkpoint

from . import tally
from .misfortunes import MISFORTUNES, Misfortune, play
from .scenarios import SCENARIOS

IN_CI = {
    "an_error_aborts_the_queue",
    "comm_messages_while_a_cell_awaits",
    "a_shutdown_of_a_busy_kernel",
    "nested_cells_are_interrupted",
}
"""With a thread beside, time is real, and a scenario takes seconds instead of milliseconds."""


def test_there_is_a_scenario_for_everything() -> None:
    assert len(SCENARIOS) >= 25


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_one_loop(name: str) -> None:
    clock = partial(trio.testing.MockClock, autojump_threshold=0)
    for misfortune in MISFORTUNES:
        run = partial(play, SCENARIOS[name], misfortune, "inline")
        count = trio.run(at_every_checkpoint, run, clock=clock())
        assert count >= 3
        tally.injected[misfortune] += count


@pytest.mark.slow
@pytest.mark.parametrize("misfortune", MISFORTUNES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_with_a_service_thread(
    name: str, misfortune: Misfortune, request: pytest.FixtureRequest
) -> None:
    if name not in IN_CI and not request.config.getoption("--thorough"):
        pytest.skip("with --thorough")
    count = trio.run(at_every_checkpoint, partial(play, SCENARIOS[name], misfortune, "thread"))
    assert count >= 3
    tally.injected[misfortune] += count
