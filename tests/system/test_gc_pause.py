"""The garbage collector rests while a block runs, and goes on afterwards in any case."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from trikernel.system import gc_pause, gc_paused


@pytest.fixture
def somebody_else(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is frozen is another's doing, not, as in the suite, that of `freeze`."""
    monkeypatch.setattr(gc_pause, "_is_frozen", False)
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_nothing_is_collected_within_and_it_goes_on_afterwards() -> None:
    with gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_a_failure() -> None:
    with pytest.raises(ImportError), gc_paused():
        raise ImportError
    assert gc.isenabled()


def test_one_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.usefixtures("somebody_else")
def test_what_the_block_made_is_not_looked_at_first() -> None:
    with gc_paused():
        made: list[list[object]] = [[] for _ in range(10_000)]
    assert gc.get_count()[0] < len(made)
    assert any(one is made for one in gc.get_objects(generation=2))


@pytest.mark.usefixtures("somebody_else")
def test_what_somebody_froze_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with gc_paused():
        pass
    assert gc.get_freeze_count() == frozen
