"""Every scenario under seeded orders of its tasks; a seed that fails, fails again."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from . import tally
from .injection import play
from .orders import seeded_order
from .scenarios import SCENARIOS

CHUNKS = 10


def run(name: str, seed: int) -> int:
    """One scenario under one order; how many batches of tasks were shuffled."""
    with seeded_order(seed) as shuffler:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(play, SCENARIOS[name], "stop", "inline", None, clock=clock)
    return shuffler.shuffled


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_scenario_under_seeded_orders(chunk: int, request: pytest.FixtureRequest) -> None:
    """Each seed runs a quarter of the scenarios; with ``--thorough`` each runs all of them."""
    seeds = int(request.config.getoption("--seeds"))
    step = 1 if request.config.getoption("--thorough") else 4
    for seed in range(chunk, seeds, CHUNKS):
        for name in tuple(SCENARIOS)[seed % step :: step]:
            try:
                tally.orders["batches"] += run(name, seed)
            except BaseException as error:
                error.add_note(f"again: pytest tests/reliability -k replay --replay {name}:{seed}")
                raise
            tally.orders["runs"] += 1
        tally.orders["seeds"] += 1


def test_replay(request: pytest.FixtureRequest) -> None:
    """The one that ``--replay scenario:seed`` names."""
    wanted = request.config.getoption("--replay")
    if wanted is None:
        pytest.skip("with --replay scenario:seed")
    name, _, seed = wanted.partition(":")
    assert run(name, int(seed)) > 0


def test_a_seed_decides_the_order() -> None:
    def order(seed: int) -> list[int]:
        done: list[int] = []

        async def child(number: int) -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                done.append(number)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(child, number)

        with seeded_order(seed):
            trio.run(main)
        return done

    assert order(7) == order(7)
    assert len({tuple(order(seed)) for seed in range(50)}) > 40
