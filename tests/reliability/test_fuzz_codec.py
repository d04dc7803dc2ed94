"""The corpus of the codec's fuzzer, and random bytes, through the fuzzer's own check."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .fuzz_codec import BETWEEN, CORPUS, one_input

MESSAGES = ("execute", "complete", "history", "comm_open", "abort", "shutdown", "numbers", "nested")


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_an_input_of_the_corpus(path: Path) -> None:
    message = one_input(path.read_bytes())
    assert path.name not in MESSAGES or message is not None


def test_the_corpus_is_small() -> None:
    assert sum(one.stat().st_size for one in CORPUS.iterdir()) < 100_000


@given(st.data())
def test_changed_inputs(data: st.DataObject) -> None:
    """Frames of the corpus, cut, swapped, repeated and overwritten."""
    frames = data.draw(st.sampled_from(sorted(CORPUS.iterdir()))).read_bytes().split(BETWEEN)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(frames) - 1))
        other = data.draw(st.integers(0, len(frames) - 1))
        cut = data.draw(st.integers(0, len(frames[at])))
        junk = data.draw(st.binary(max_size=8))
        change = data.draw(st.sampled_from(["cut", "swap", "repeat", "overwrite", "drop"]))
        if change == "cut":
            frames[at] = frames[at][:cut]
        elif change == "swap":
            frames[at], frames[other] = frames[other], frames[at]
        elif change == "repeat":
            frames.insert(other, frames[at])
        elif change == "overwrite":
            frames[at] = frames[at][:cut] + junk + frames[at][cut + len(junk) :]
        elif len(frames) > 1:
            del frames[at]
    message = one_input(BETWEEN.join(frames))  # its own assertions are what matters
    assert message is None or message.header.raw in frames
