"""How engines are started: what launchers of ipyparallel's put on the command line, and ours."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import ipyparallel
import pytest
import trio
from ipyparallel import error, traitlets
from ipyparallel.cluster import launcher as theirs
from traitlets.config import Config

from trikernel.engine import TrioEngineLauncher, app, within
from trikernel.engine import launcher as launcher_module
from trikernel.engine import open_cluster as open_view
from trikernel.engine.app import Options, read_options
from trikernel.engine.launcher import AT_ONCE
from trikernel.errors import SettingError
from trikernel.warm import NotWarm, warm_is_possible

from ..processes import ROOT, wait_until
from .cluster import open_cluster

COMMAND = [sys.executable, "-m", "trikernel.engine"]
KILL = 9  # which has no name on Windows
FORKS = warm_is_possible() is None
GIVEN = {"profile_dir": "/a/profile", "cluster_id": "mine"}


def options_of(command: list[str], environment: dict[str, str]) -> Options:
    """What an engine makes of a launcher's command, and of the environment that it sets."""
    assert command[: len(COMMAND)] == COMMAND
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return read_options(command[len(COMMAND) :])


NAMES = ("trio", "trikernel.engine:TrioEngineLauncher", "trikernel.engine.TrioEngineLauncher")


@pytest.mark.parametrize("name", NAMES)
def test_ipcluster_finds_it_by_each_of_its_names(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = "ipyparallel.engine_launchers"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    entries = project["entry-points"][group].items()
    given = [EntryPoint(one, value, group) for one, value in entries]
    monkeypatch.setattr(traitlets, "entry_points", lambda group: given)
    monkeypatch.setattr(theirs, "entry_points", lambda group: given)
    found = ipyparallel.Cluster(engines=name).engine_launcher_class
    assert found is TrioEngineLauncher
    assert theirs.abbreviate_launcher_class(found) == "trio"


def test_our_launchers_command_is_our_engines() -> None:
    launcher = TrioEngineLauncher(**GIVEN, engine_args=["--log-level=10"])
    one = launcher.launcher_class(parent=launcher, **GIVEN)
    one.engine_cmd, one.engine_args = launcher.engine_cmd, launcher.engine_args
    found = options_of(one.find_args(), one.get_env())
    assert found.connection_file == Path("/a/profile/security/ipcontroller-mine-engine.json")
    assert (found.log_level, found.others) == ("10", [])


@pytest.mark.parametrize(
    "launcher_class",
    [theirs.LocalEngineLauncher, theirs.SSHEngineLauncher, theirs.MPIEngineSetLauncher],
    ids=lambda one: one.__name__,
)
def test_launchers_for_other_machines_start_it_by_engine_cmd(launcher_class: Any) -> None:
    launcher = launcher_class(config=Config({"EngineLauncher": {"engine_cmd": COMMAND}}), **GIVEN)
    assert launcher.engine_cmd == COMMAND


@pytest.mark.parametrize(
    "launcher_class",
    [theirs.SlurmEngineSetLauncher, theirs.PBSEngineSetLauncher, theirs.LSFEngineSetLauncher],
    ids=lambda one: one.__name__,
)
def test_batch_systems_get_a_script_that_starts_it(launcher_class: Any, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    config = Config({"EngineLauncher": {"engine_cmd": COMMAND}})
    launcher = launcher_class(config=config, profile_dir=str(tmp_path), cluster_id="mine")
    command = [*launcher.program, *launcher.program_args]
    found = options_of(command, launcher.get_env())
    assert (found.folder, found.cluster_id) == (tmp_path, "mine")


def test_flags_by_their_long_names_and_a_profiles_file(tmp_path: Path) -> None:
    (tmp_path / "ipengine_config.py").write_text(
        "c.IPEngine.timeout = 7\nc.IPEngine.id = 3\nc.IPEngine.startup_command = 'a = 1'\n"
    )
    found = read_options(
        [
            f"--ProfileDir.location={tmp_path}",
            "--IPEngine.id=5",
            "--mpi",
            "--debug",
            "--InteractiveShell.colors=nocolor",
            "-c",
            "b = 2",
        ]
    )
    assert (found.folder, found.id, found.timeout) == (tmp_path, 5, 7)
    assert (found.use_mpi, found.log_level, found.startup_command) == (True, "DEBUG", "b = 2")
    assert found.others == ["--InteractiveShell.colors=nocolor"]


@pytest.mark.parametrize("flag", ["--timeout=soon", "--id=first"])
def test_a_flag_that_does_not_fit_is_named(flag: str) -> None:
    with pytest.raises(SettingError, match=flag.partition("=")[0]):
        read_options([flag])


@pytest.mark.parametrize("flag", ["-h", "--help", "--profile=x --help-all"])
def test_help_names_flags_that_there_are_and_waits_for_no_controller(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app.main(argv=flag.split())
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m trikernel.engine ")
    named = re.findall(r"(?<=[ \[])--?[a-z][a-z-]*", shown.partition("\n")[2])
    assert len(named) > 10
    assert read_options([f"{name}=1" for name in named]).others == []


def test_a_file_that_is_being_written_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "engine.json"
    file.write_text('{"interface": "tcp://127')
    whole = {
        "interface": "tcp://127.0.0.1",
        **dict.fromkeys(("registration", "mux", "task", "control", "iopub"), 5),
        **dict.fromkeys(("hb_ping", "hb_pong"), 5),
        "broadcast": [6],
    }
    monkeypatch.setattr(time, "sleep", lambda seconds: file.write_text(json.dumps(whole)))
    found = app.find_controller(read_options([f"--file={file}"]))
    assert found.broadcast == (6,)


async def nap(seconds: float) -> int:
    import os

    import trio

    await trio.sleep(seconds)
    return os.getpid()


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="an engine is killed")
async def test_a_cluster_for_programs_on_trio(tmp_path: Path) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path))
        patch.setenv("PYTHONPATH", str(ROOT))
        async with open_view(2, ready_within=120) as view:
            seen: list[int] = []
            pids = await view.map(
                nap, [0.1] * 40, limit=10, on_result=lambda place, value: seen.append(place)
            )
            assert len(set(pids)) == 2
            assert sorted(seen) == list(range(40))
            with trio.move_on_after(0.5) as scope:
                await view.apply(time.sleep, 1000, engine=view.engines[0])
            assert scope.cancelled_caught
            with pytest.raises(Exception, match="DeadlineExceeded"):
                await view.apply(within(0.2, time.sleep), 1000, engine=view.engines[0])
            with pytest.raises(Exception, match="ZeroDivisionError"):
                await view.map(divmod, [1, 2, 3], [1, 0, 1])
            await view.push({"a": 5})
            assert await view.pull("a") == [5, 5]
            os.kill(pids[0], signal.SIGKILL)
            with pytest.raises(Exception, match="EngineError"):
                await view.map(nap, [5] * 2)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="it ends it by a signal")
def test_ipcluster_starts_engines_and_ends_them(tmp_path: Path) -> None:
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    words = ["-m", "ipyparallel.cluster", "start", "-n", "2"]
    command = [sys.executable, *words, "--engines=trikernel.engine.TrioEngineLauncher"]
    with (tmp_path / "log").open("wb") as log:
        cluster = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        folder = tmp_path / "profile_default" / "security"
        wait_until(lambda: [*folder.glob("ipcontroller*-engine.json")], "a controller")
        file = next(folder.glob("ipcontroller*-client.json"))  # whole when that one is there
        from ipyparallel import Client

        client = Client(str(file))
        wait_until(lambda: len(client.ids) == 2, "two engines")
        pids = client[:].apply_sync(os.getpid)
        client.close()
    finally:
        cluster.send_signal(signal.SIGINT)
        cluster.wait(60)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "their end")


@pytest.mark.slow
@pytest.mark.skipif(not FORKS, reason="there is no fork server here")
def test_engines_are_forked_from_one_process_which_says_when_one_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "profile_default"
    never = "--HeartMonitor.max_heartmonitor_misses=10000"  # else a ping might tell it as well
    with open_cluster(folder, 0, never) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        launcher = asyncio.run(launched(folder, AT_ONCE + 2))
        engines = list(launcher.launchers.values())
        try:
            cluster.wait_for(len(engines))
            found = cluster.client[:].apply_async(parents).get_dict(60)
            pids = {number: pid for number, (pid, _) in found.items()}
            assert set(pids.values()) == {one.pid for one in engines}
            assert len({parent for _, parent in found.values()}) == 1
            assert {one.state for one in engines} == {"running"}
            killed = engines.pop()
            (number,) = (one for one, pid in pids.items() if pid == killed.pid)
            call = cluster.client[number].apply_async(time.sleep, 1000)
            killed.process.send_signal(KILL)
            with pytest.raises(error.RemoteError, match="EngineError"):
                call.get(60)
            cluster.wait_for(len(engines))
            engines[0].process.send_signal(signal.SIGTERM)
            cluster.wait_for(len(engines) - 1)
        finally:
            for one in launcher.launchers.values():
                one.process.send_signal(signal.SIGTERM)
            for one in launcher.launchers.values():
                one.process.wait(60)


async def launched(folder: Path, n: int, **options: Any) -> TrioEngineLauncher:
    """Engines of a launcher; it is asyncio that this one lives in."""
    launcher = TrioEngineLauncher(profile_dir=str(folder), **options)
    launcher.start(n)
    return launcher


def parents() -> tuple[int, int]:
    return os.getpid(), os.getppid()


class NoForks:
    """A fork server that is asked in vain, at once or for an answer."""

    unavailable = None

    def __init__(self, story: list[str], *, answers: bool = True) -> None:
        self.story = story
        self.answers = answers

    def start(self) -> None: ...

    def begin_module(self, *args: Any) -> Any:
        self.story.append("asked")
        if not self.answers:
            raise NotWarm("it is not to be had")
        return self.finish

    def finish(self) -> Any:
        raise NotWarm("it has ended")

    def close(self) -> None:
        self.story.append("closed")


AT_THE_SAME_TIME = ["asked"] * 3 + ["cold"] * 3 + ["closed"]
ONE_BY_ONE = ["asked", "cold"] * 3 + ["closed"]


@pytest.mark.parametrize(
    ("answers", "delay", "expected"),
    [(True, 0.0, AT_THE_SAME_TIME), (True, 0.001, ONE_BY_ONE), (False, 0.0, ONE_BY_ONE)],
)
def test_what_cannot_be_forked_is_started_in_the_ordinary_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answers: bool,
    delay: float,
    expected: list[str],
) -> None:
    story: list[str] = []
    monkeypatch.setattr(theirs.LocalEngineLauncher, "start", lambda self: story.append("cold"))
    monkeypatch.setattr(
        launcher_module, "ForkServer", lambda preload: NoForks(story, answers=answers)
    )
    (tmp_path / "log").mkdir()
    asyncio.run(launched(tmp_path, 3, delay=delay))
    assert story == expected
