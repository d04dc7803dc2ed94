"""docs/reference/reliability.md names tests that are there, and each part of this folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PAGE = "docs/reference/reliability.md"


def rows(root: Path) -> list[tuple[str, str, str]]:
    """Promise, tests, figure."""
    text = (root / PAGE).read_text("utf-8")
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [(one[0], one[1], one[2]) for one in cells if "`tests/" in one[1]]


def test_each_promise_names_existing_tests(root: Path) -> None:
    found = rows(root)
    assert len(found) >= 30
    for promise, tests, figure in found:
        assert promise.strip()
        assert figure.strip()
        names = re.findall(r"`(tests/[^:`]+)::(\w+)`", tests)
        assert names, promise
        for path, name in names:
            tree = ast.parse((root / path).read_text("utf-8"))
            defined = {
                node.name
                for node in ast.walk(tree)
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            }
            assert name in defined, f"{promise}: {path} has no {name}"


def test_each_command_is_there(root: Path) -> None:
    commands = re.findall(r"python -m tests\.reliability\.(\w+)", (root / PAGE).read_text("utf-8"))
    assert set(commands) >= {"soak", "forging", "fuzz_codec"}
    for name in commands:
        assert (root / "tests" / "reliability" / f"{name}.py").exists()
