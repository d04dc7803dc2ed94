"""A request goes a short way: few frames of ours, in few modules."""

from __future__ import annotations

import pytest
import trio

from .path import PathCount, count_path

FRAMES = {"Kernel": 150, "PythonKernel": 200}
MODULES = {"Kernel": 17, "PythonKernel": 30}


@pytest.fixture(scope="module")
def counts() -> dict[str, PathCount]:
    return {name: trio.run(count_path, name) for name in FRAMES}


@pytest.mark.parametrize("name", FRAMES)
def test_an_execute_passes_through_few_frames(name: str, counts: dict[str, PathCount]) -> None:
    if counts[name].frames > FRAMES[name]:
        pytest.fail(f"at most {FRAMES[name]} frames may be; {counts[name]}", pytrace=False)


@pytest.mark.parametrize("name", MODULES)
def test_an_execute_passes_through_few_modules(name: str, counts: dict[str, PathCount]) -> None:
    if len(counts[name].modules) > MODULES[name]:
        pytest.fail(f"at most {MODULES[name]} modules may be; {counts[name]}", pytrace=False)
