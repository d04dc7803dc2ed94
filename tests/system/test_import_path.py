"""What is installed is looked for seldom: each look gives the interpreter lock away."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import pytest

from trikernel.system import has_debugpy, import_path


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was looked for; nothing is known at the beginning."""
    found: list[str] = []

    def find_spec(name: str) -> Any:
        found.append(name)
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(import_path, "_debugpy_is_there", False)
    monkeypatch.setattr(import_path, "_looked_at", -1e9)
    return found


def test_what_is_there_is_looked_for_once(
    looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str) -> str:
        looks.append(name)
        return "a spec"

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert [has_debugpy() for _ in range(100)] == [True] * 100
    assert looks == ["debugpy"]


def test_what_is_not_there_is_looked_for_again_after_a_while(
    looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_debugpy()
    assert not has_debugpy()
    assert looks == ["debugpy"]
    monkeypatch.setattr(import_path, "_looked_at", time.monotonic() - import_path.LOOK_AGAIN - 1)
    assert not has_debugpy()
    assert looks == ["debugpy", "debugpy"]
