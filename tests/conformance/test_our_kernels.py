"""Our two kernels miss nothing, as processes, over each transport. The whole run takes minutes."""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

import attrs
import pytest

from trikernel.conformance import Result, Samples, open_kernelspec, run_checks, select
from trikernel.conformance.samples import PYTHON
from trikernel.conformance.starting import Kernelspec

from ..processes import ROOT

SPEC = json.loads((ROOT / "trikernel" / "cli" / "kernelspec" / "kernel.json").read_text("utf-8"))
ECHO = Samples(code="hello", printing="hello")


def spec_of(name: str) -> Kernelspec:
    """Our kernelspec, as ``trikernel install`` makes it, and the echo kernel's."""
    more = [] if name == "python" else ["--kernel", "echo_kernel:EchoKernel"]
    more += [] if name == "python" else ["--path", str(ROOT / "docs" / "examples")]
    # on a loaded machine a reader that is only slow may come to nothing for longer than the default
    patience = ["--output-budget-seconds", "30"]
    argv = [sys.executable, *SPEC["argv"][1:], *more, *patience]
    env = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    metadata = {**SPEC["metadata"], "debugger": name == "python"}  # as `install` writes it
    return Kernelspec(name, str(ROOT), {**SPEC, "argv": argv, "env": env, "metadata": metadata})


async def results_of(name: str, over: str) -> list[Result]:
    samples = PYTHON if name == "python" else ECHO
    opened = partial(open_kernelspec, spec_of(name), over)
    return await run_checks(select(), opened, samples, can_reopen=True)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("over", ["tcp", "ipc", "curve"])
@pytest.mark.parametrize("name", ["python", "echo"])
async def test_our_kernels_miss_nothing(name: str, over: str) -> None:
    results = await results_of(name, over)
    assert [(str(one.requirement), one.why) for one in results if one.outcome == "missed"] == []
    offered = {one.requirement.feature for one in results if one.outcome == "met"}
    assert {"core", "sockets", "welcome", "comm", "kernelspec", "curve", "handshake"} <= offered
    unchecked = [one for one in results if one.outcome == "not checked"]
    assert all("no sample" in one.why for one in unchecked)
    assert name != "python" or not unchecked


CRASHING = """
import atexit, os
from trikernel import Kernel

class Crashing(Kernel):
    def do_execute(self, code, silent):
        return {"status": "ok"}

atexit.register(os.abort)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
async def test_a_kernel_that_crashes_at_its_end_does_not_end(tmp_path: Path) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING, "utf-8")
    spec = spec_of("echo")
    argv = ["crashing:Crashing" if "echo" in one else one for one in spec.fields["argv"]]
    spec = attrs.evolve(spec, fields={**spec.fields, "argv": [*argv, "--path", str(tmp_path)]})
    (shutdown,) = (one for one in select() if one.id == "shutdown.exit")
    (result,) = await run_checks([shutdown], partial(open_kernelspec, spec, "tcp"), Samples())
    assert (result.outcome, result.why) == ("missed", "it crashes: it ends by signal 6")


async def test_the_echo_kernel_meets_what_shows_at_once() -> None:
    """One process, with what its kernelspec says, and what is sent over sockets."""
    quick = [
        one
        for one in select(["core", "kernelspec", "sockets", "welcome", "curve"])
        if not one.id.startswith(("starting.", "shutdown.", "curve.plain"))
    ]
    opened = partial(open_kernelspec, spec_of("echo"), "curve")
    results = await run_checks(quick, opened, ECHO)
    assert [(str(one.requirement), one.why) for one in results if one.outcome == "missed"] == []
    met = {one.requirement.id for one in results if one.outcome == "met"}
    assert {"kernelspec.version", "sockets.handover", "heartbeat.echo", "welcome.every"} <= met
