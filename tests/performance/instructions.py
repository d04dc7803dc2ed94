"""``python -m tests.performance.instructions``: what valgrind counts for each scenario.

One process imports and warms up everything; then a fork of it runs each scenario, few times and
many times: the difference is what the scenario costs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .scenarios import SCENARIOS

__all__ = ["count_instructions"]

FEW, MANY = 5, 45
ROOT = Path(__file__).parent.parent.parent
_COLLECTED = re.compile(r"==(\d+)== Collected : (\d+)")
_FORKED = re.compile(r"forked (\w+) (\d+) (\d+)")


def count_instructions(patience: float = 600) -> dict[str, float]:
    """Instructions for one request, by scenario. Raises `FileNotFoundError` without valgrind."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise FileNotFoundError("valgrind is not installed")
    command = [valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    run = subprocess.run(
        [*command, sys.executable, "-m", f"{__package__}.instructions", "--fork"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    collected = {pid: int(count) for pid, count in _COLLECTED.findall(run.stderr)}
    counts = {(name, times): collected[pid] for name, times, pid in _FORKED.findall(run.stdout)}
    return {
        name: (counts[name, str(MANY)] - counts[name, str(FEW)]) / (MANY - FEW)
        for name in SCENARIOS
    }


def _fork_each() -> None:
    if sys.platform == "win32":
        raise NotImplementedError("there are no forks")
    for scenario in SCENARIOS.values():
        scenario(FEW)
    for name, scenario in SCENARIOS.items():
        for times in (FEW, MANY):
            child = os.fork()
            if not child:
                scenario(times)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if status:
                sys.exit(f"{name} failed")
            print("forked", name, times, child)


if __name__ == "__main__":
    if "--fork" in sys.argv:
        _fork_each()
    else:
        counted = count_instructions()
        for name, count in counted.items():
            print(f"{name:12} {count:12,.0f}  {count / counted['floor']:.3f} of the floor")
