"""Fixtures, and the record that ties rows of the reference pages to passing tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import trio
import trio.testing

from trikernel.kernel.ipykernel_names import _kept
from trikernel.system import freeze
from trikernel.testing import CheckedClient

from . import evidence
from .cells import Medium, served
from .reliability import tally

pytest_plugins = ["pytester"]

hypothesis.settings.register_profile("suite", max_examples=25, deadline=None)
hypothesis.settings.register_profile("deep", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# A folder of modules in the place of those that only take time; for kernels and commands, too.
_WITHOUT = str(Path(__file__).parent / "without")
sys.path.insert(0, _WITHOUT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_WITHOUT, os.environ.get("PYTHONPATH")]))

Serving = Callable[..., AbstractAsyncContextManager[CheckedClient]]

ROOT = Path(__file__).parent.parent


@pytest.fixture(params=["memory", "tcp"])
def medium(request: pytest.FixtureRequest) -> Medium:
    """Where the kernel is served: in memory under a virtual clock, or over real sockets."""
    chosen: Medium = request.param
    return chosen


@pytest.fixture
def serving(medium: Medium) -> Serving:
    """``async with serving(kernel) as client``: over both media in turn."""
    return partial(served, over=medium)


@pytest.fixture
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="module", autouse=True)
def _what_lasts_is_not_searched_for_garbage() -> None:
    """Each Python kernel collects garbage at its end, and would walk all that was ever imported."""
    freeze()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("TRIKERNEL_")]:
        monkeypatch.delenv(name)
    yield
    _kept.clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("trikernel's own suite")
    group.addoption("--thorough", action="store_true", help="what takes minutes each, too")
    group.addoption("--seeds", default="100", help="how many orders of tasks are tried")
    group.addoption("--replay", metavar="SCENARIO:SEED", help="one order of tasks, again")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in tally.lines():
        terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    for table in evidence.TABLES:
        about = f"{table.mark}(number, ...): rows of {table.path.name} that a test shows"
        config.addinivalue_line("markers", about)
    config.addinivalue_line("markers", "slow: repeats something often, whatever the Python")
    config.addinivalue_line(
        "markers", "thorough: only with --thorough; another says nearly the same"
    )
    config.addinivalue_line("markers", "python: the kernel under test is the Python kernel")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note which test shows which row, and let the tests of the table itself come last."""
    thorough = config.getoption("--thorough")
    for item in items:
        parameters = getattr(item, "callspec", None)
        in_memory = parameters is not None and parameters.params.get("medium") == "memory"
        if thorough:
            item.add_marker(pytest.mark.timeout(800))
        elif item.get_closest_marker("thorough"):
            item.add_marker(pytest.mark.skip("with --thorough"))
        if in_memory or "autojump_clock" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.trio(run=_run_on_virtual_time), append=False)
    items.sort(key=lambda item: item.nodeid.startswith("tests/test_evidence.py"))
    evidence.note_items(items)


def _run_on_virtual_time(function: Any, *, clock: Any = None, **options: Any) -> Any:
    """pytest-trio sees a clock only among a test's own arguments, not its fixtures'."""
    return trio.run(function, clock=trio.testing.MockClock(autojump_threshold=0), **options)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    evidence.note_report(report)
