"""A fork server for the tests of a module."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trikernel.warm.server import ForkServer

MODULES = Path(__file__).parent / "modules"

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module")
def preloads() -> list[str]:
    """What the fork server of a module imports; for modules to override."""
    return ["warm_reads"]


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that modules are found in, and that a test may change."""
    return tmp_path_factory.mktemp("modules")


@pytest.fixture(scope="module")
def server(preloads: list[str], module_folder: Path) -> Iterator[ForkServer]:
    with pytest.MonkeyPatch.context() as patch:
        folders = (str(MODULES), str(module_folder), os.environ.get("PYTHONPATH"))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
        server = ForkServer(preloads)
        server.start()
        assert server.unavailable is None
        try:
            yield server
        finally:
            server.close()
