"""JupyterLab starts and restarts a warm kernel, in a browser."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pytest.importorskip("jupyterlab")

import psutil

from ..frontends.lab import CHROMIUM, open_lab
from ..processes import ROOT, wait_until
from .entry_points import write_entry_points

assert sys.platform == "linux"  # else the folder is not collected

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
SPEC = {
    "argv": [sys.executable, "-P", "-m", "trikernel", "start", "-f", "{connection_file}"],
    "metadata": {"kernel_provisioner": {"provisioner_name": "trikernel-warm"}},
}
PARENT = "import os; print('of', os.getppid())"


def test_a_kernel_is_restarted_from_the_template(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    paths = [str(write_entry_points(tmp_path)), str(ROOT)]
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(paths)}
    with open_lab(folder, {"warm": SPEC}, environment) as lab, lab.open([PARENT], "warm") as book:
        (place,) = wait_until(
            lambda: [one for one in tmp_path.glob("trikernel-warm/*") if one.is_socket()],
            "the template to listen",
        )
        book.restart()
        template = _template(place)
        book.run(0)
        book.expect_text(0, f"of {template}")
        book.restart()
        book.run(0)
        book.expect_ended(0)
        book.expect_text(0, f"of {template}")
        kernels = psutil.Process(template).children()
        assert len(kernels) == 1
    wait_until(lambda: not psutil.Process(template).children(), "the kernel's end with its server")
    os.kill(template, signal.SIGKILL)


def _template(place: Path) -> int:
    """The process that listens there."""
    for one in psutil.process_iter(["cmdline"]):
        if any(str(place) in part for part in one.info["cmdline"] or ()):
            return int(one.pid)
    raise AssertionError(f"nobody listens at {place}")
