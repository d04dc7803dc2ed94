"""Every scenario, struck at each of its checkpoints by each misfortune, in both service modes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import pytest
import trio
import trio.testing

from trikernel.testing import InjectedScope, at_every_checkpoint

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
def test_in_one_loop(name: str, request: pytest.FixtureRequest) -> None:
    """A cancel at each checkpoint, and one of the other misfortunes; with ``--thorough`` all."""
    if request.config.getoption("--thorough"):
        rounds: list[tuple[Misfortune, ...]] = [(one,) for one in MISFORTUNES]
    else:
        rounds = [("cancel",), tuple(one for one in MISFORTUNES if one != "cancel")]
    for misfortunes in rounds:
        in_turn = Turns(name, misfortunes)
        clock = trio.testing.MockClock(autojump_threshold=0)
        count = trio.run(at_every_checkpoint, in_turn.play, clock=clock)
        assert count >= 3
        tally.injected.update(in_turn.struck(count))


class Turns:
    """A scenario in one loop, run under one misfortune after the other."""

    def __init__(self, name: str, misfortunes: Sequence[Misfortune]) -> None:
        self._scenario = SCENARIOS[name]
        # which one begins differs from scenario to scenario
        first = tuple(SCENARIOS).index(name) % len(misfortunes)
        self._misfortunes = [*misfortunes[first:], *misfortunes[:first]]
        self._runs = 0

    def _at(self, checkpoint: int) -> Misfortune:
        return self._misfortunes[checkpoint % len(self._misfortunes)]

    async def play(self, scope: InjectedScope) -> None:
        misfortune = self._at(self._runs)
        self._runs += 1
        try:
            await play(self._scenario, misfortune, "inline", scope)
        except BaseException as error:
            error.add_note(f"the misfortune: {misfortune}")
            raise

    def struck(self, count: int) -> Counter[str]:
        """How often each misfortune has struck, of that many times."""
        return Counter(self._at(number) for number in range(count))


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
