"""Trio's task order as a function of a seed: every order in which runnable tasks may go.

Trio has a switch for that, which hypothesis sets, too: each batch of runnable tasks is sorted, then
shuffled by its generator. Neither is public; `seeded_order` fails where they are missing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from trio._core import _run

__all__ = ["Shuffler", "seeded_order"]


class Shuffler(random.Random):
    """Takes the place of Trio's generator; ``shuffled`` counts batches of more than one task."""

    shuffled = 0

    def shuffle(self, x: Any) -> None:
        self.shuffled += len(x) > 1
        super().shuffle(x)


@contextmanager
def seeded_order(seed: int) -> Iterator[Shuffler]:
    """Have runnable tasks go in an order that the seed decides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(_run, "_r", shuffler := Shuffler(seed))
        yield shuffler
