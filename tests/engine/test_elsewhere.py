"""Engines that another machine starts; a program stands in for ssh, and a folder for the machine.

What it runs has another process group, another folder and another home, as over ssh.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import ipyparallel
import pytest
from ipyparallel import error
from traitlets.config import Config

from ..processes import ROOT, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups are POSIX"),
]

LONG = 60  # seconds
SSH = """#!{python}
import os, subprocess, sys
os.chdir({there!r})
os.environ["HOME"] = {there!r}
command = " ".join(sys.argv[2:])  # as ssh puts it together, for a shell
sys.exit(subprocess.run(command, shell=True, start_new_session=True).returncode)
"""
SCP = """#!{python}
import os, shutil, sys
places = [one.partition(":") for one in sys.argv[1:]]
shutil.copy(*(os.path.join({there!r}, rest) if name == "there" else name + colon + rest
              for name, colon, rest in places))
"""


def write_program(path: Path, text: str, there: Path) -> list[str]:
    path.write_text(text.format(python=sys.executable, there=str(there)))
    path.chmod(0o755)
    return [str(path)]


def test_engines_started_over_ssh_run_there_are_signalled_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "here"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    there = tmp_path / "there"
    there.mkdir()
    config = Config()
    config.EngineLauncher.engine_cmd = [sys.executable, "-m", "trikernel.engine"]
    config.SSHEngineSetLauncher.engines = {"there": 2}
    config.SSHLauncher.ssh_cmd = write_program(tmp_path / "ssh", SSH, there)
    config.SSHLauncher.scp_cmd = write_program(tmp_path / "scp", SCP, there)
    config.SSHLauncher.remote_python = sys.executable
    config.SSHLauncher.remote_profile_dir = "profile"
    config.SSHLauncher.poll_seconds = 1
    cluster = ipyparallel.Cluster(
        n=2, engines="ssh", config=config, controller_args=["--ping=500"], log_level=30
    )
    cluster.start_cluster_sync()
    try:
        client = cluster.connect_client_sync()
        client.wait_for_engines(2, timeout=LONG)
        view = client[:]
        pids = view.apply_sync(os.getpid)
        assert view.apply_sync(os.getcwd) == [str(there)] * 2
        assert os.getpgrp() not in view.apply_sync(os.getpgrp)
        assert view.apply_sync(kernel_module) == ["trikernel.python.kernel"] * 2
        calls = view.apply_async(time.sleep, 1000)
        wait_until(lambda: calls.sent, "the calls to be sent")
        while not calls.done():
            cluster.signal_engines_sync(signal.SIGINT)
            calls.wait(2)
        with pytest.raises(error.CompositeError, match="KeyboardInterrupt"):
            calls.get(LONG)
        assert view.apply_sync(pow, 2, 2) == [4, 4]
        cluster.stop_engines_sync()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "their end")
        wait_until(lambda: not client.ids, "the controller to know")
        client.close()
    finally:
        cluster.stop_cluster_sync()


def kernel_module() -> str:
    from IPython import get_ipython

    return type(get_ipython().kernel).__module__
