"""What a person waits for who restarts a kernel in JupyterLab, in a headless browser."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .environments import ROOT, environment

__all__ = ["measure_restarts"]

RESTARTS = 5  # in each round, of each kernel
WARM = {"kernel_provisioner": {"provisioner_name": "trikernel-warm", "config": {"idle": 60}}}


def measure_restarts(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds by contender, in turns; nothing where there is no browser."""
    try:
        from ..frontends.lab import CHROMIUM, open_lab
    except ImportError:
        return {}
    if CHROMIUM is None:
        return {}
    from ..warm.entry_points import write_entry_points

    times: dict[str, list[float]] = {"warm": [], "trikernel": [], "ipykernel": []}
    with tempfile.TemporaryDirectory() as folder:
        environ = {"XDG_RUNTIME_DIR": folder}  # where the fork server listens
        paths = [str(write_entry_points(Path(folder))), str(ROOT)]
        environ["PYTHONPATH"] = os.pathsep.join(paths)
        lab_folder = Path(folder) / "lab"
        lab_folder.mkdir()
        with open_lab(lab_folder, _specs(), environ) as lab:
            for _ in range(max(1, rounds // 3)):
                for name, found in times.items():
                    with lab.open(["1"], spec=f"bench-{name}") as book:
                        book.restart()  # a fork server imports meanwhile
                        book.page.wait_for_timeout(3000)
                        found += [book.restart() for _ in range(RESTARTS)]
    return {name: {"restart": statistics.median(found)} for name, found in times.items()}


def _specs() -> Mapping[str, Mapping[str, Any]]:
    """Of the environments that are measured, which take nothing from ours."""
    connection = ["-f", "{connection_file}"]
    ours = [str(environment("trikernel")), "-P", "-m", "trikernel", "start", *connection]
    theirs = [str(environment("ipykernel")), "-m", "ipykernel_launcher", *connection]
    common = {"env": {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}}
    return {
        "bench-warm": {**common, "argv": ours, "metadata": WARM},
        "bench-trikernel": {**common, "argv": ours},
        "bench-ipykernel": {**common, "argv": theirs},
    }
