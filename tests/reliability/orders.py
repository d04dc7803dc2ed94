"""Trio's task order as a function of a seed: every order in which runnable tasks may go.

Trio itself only reverses a batch of runnable tasks or not, by its own random generator. Here each
batch is shuffled, so that more orders come by, and the same ones for the same seed.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import trio

__all__ = ["seeded_order"]


class _Shuffler(random.Random):
    """Takes the place of Trio's generator, which is asked once for each batch."""

    shuffled = 0

    def random(self) -> float:
        frame = sys._getframe(1)
        batch = frame.f_locals["batch"]
        assert frame.f_code.co_name == "unrolled_run"
        assert isinstance(batch, list)
        batch.sort(key=lambda task: task._counter)  # whatever order they became runnable in
        for at in reversed(range(1, len(batch))):
            other = self.getrandbits(32) % (at + 1)
            batch[at], batch[other] = batch[other], batch[at]
        self.shuffled += len(batch) > 1
        return 1.0  # do not reverse it


@contextmanager
def seeded_order(seed: int) -> Iterator[_Shuffler]:
    """Have runnable tasks go in an order that the seed decides."""
    shuffler, own = _Shuffler(seed), trio._core._run._r
    trio._core._run._r = shuffler
    try:
        yield shuffler
    finally:
        trio._core._run._r = own
