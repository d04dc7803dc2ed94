"""A part never knows the whole: objects of ours are owned as a tree, and hardly hold each other."""

from __future__ import annotations

import functools
import threading
import weakref
from typing import Any

import pytest
import trio

from .knots import knots, served_knots

LARGEST = {"Kernel": 3, "compat.Kernel": 3, "PythonKernel": 12}


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("moment", ["idle", "within a cell"])
def test_a_served_kernel_is_a_tree_of_owners(name: str, moment: str) -> None:
    found = trio.run(served_knots, name, moment == "within a cell")
    too_large = [str(knot) for knot in found if len(knot) > LARGEST[name]]
    if too_large:
        text = "\n".join([f"Of a {name} at most {LARGEST[name]} may.", *too_large])
        pytest.fail(text, pytrace=False)


class Part:
    """As one of ours: the walk goes by the module that a class says it is from."""

    __module__ = "trikernel.made_up"
    part: Any

    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)

    def call(self) -> None:
        pass


def sizes(*roots: object) -> list[int]:
    return [len(knot) for knot in knots(roots)]


def test_what_is_only_held_downwards_is_no_knot() -> None:
    leaf = Part()
    assert sizes(Part(left=Part(leaf=leaf), right=[leaf])) == [1, 1, 1]


@pytest.mark.parametrize(
    "back",
    [
        lambda whole: whole,
        lambda whole: whole.call,
        lambda whole: lambda: whole,
        lambda whole: [{"deep": (whole,)}],
        lambda whole: functools.partial(print, whole),
        lambda whole: threading.Thread(target=whole.call),
    ],
    ids=["attribute", "method", "closure", "containers", "partial", "thread"],
)
def test_a_way_back_to_the_owner_makes_a_knot(back: Any) -> None:
    whole = Part(part=Part())
    whole.part.back = back(whole)
    assert sizes(whole) == [2]


def test_a_weak_reference_and_a_global_are_no_way_back() -> None:
    whole = Part(part=Part())
    whole.part.back = weakref.ref(whole)
    whole.part.function = test_what_is_only_held_downwards_is_no_knot
    assert sizes(whole) == [1, 1]


def test_a_knot_says_what_holds_it() -> None:
    whole = Part(part=Part())
    whole.part.back = whole.call
    text = str(knots([whole])[0])
    assert "2 objects hold each other: 2 x Part" in text
    assert "Part.back<method call>  ->  Part" in text
