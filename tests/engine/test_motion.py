"""What becomes of engines while their controller, or they themselves, stand still or go."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from ipyparallel import error

from ..processes import wait_until
from .cluster import open_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups are POSIX"),
]

LONG = 60  # seconds


@pytest.mark.parametrize(
    "options", [[], ["--IPController.enable_curve=True"]], ids=["key", "curve"]
)
def test_a_controller_that_comes_back_has_its_engines_with_their_names(
    tmp_path: Path, options: list[str]
) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    with open_cluster(tmp_path / "profile_default", 2, *options) as cluster:
        cluster.client[:].push({"kept": 5}, block=True)
        pids = set(cluster.client[:].apply_sync(os.getpid))
        lost = cluster.client[0].apply_async(time.sleep, 2)
        cluster.client.close()
        os.killpg(cluster.controller.pid, signal.SIGKILL)
        cluster.controller.wait()
        for file in (cluster.folder / "security").iterdir():
            file.unlink()
        cluster.controller = cluster.start_controller()
        cluster.client = cluster.connect()
        cluster.wait_for(2)
        assert cluster.client[:].pull("kept", block=True) == [5, 5]
        assert set(cluster.client[:].apply_sync(os.getpid)) == pids
        assert not lost.done()


def test_an_engine_that_stands_still_is_given_up_and_comes_back(tmp_path: Path) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    with open_cluster(tmp_path / "profile_default", 1) as cluster:
        view = cluster.client[0]
        view.push({"kept": 5}, block=True)
        call = view.apply_async(time.sleep, 0.01)
        call.get(LONG)
        cluster.engines[0].send_signal(signal.SIGSTOP)
        runs = view.apply_async(time.sleep, 1000)
        waits = view.execute("kept = 6")
        for one in (runs, waits):
            with pytest.raises(error.RemoteError, match="EngineError"):
                one.get(LONG)
        cluster.wait_for(0)
        cluster.engines[0].send_signal(signal.SIGCONT)
        cluster.wait_for(1)
        again = cluster.client[cluster.client.ids[0]]
        assert again.apply_async(kept).get(LONG) == 5


def test_tasks_of_a_dead_engine_are_done_by_another_as_often_as_they_may(tmp_path: Path) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    with open_cluster(tmp_path / "profile_default", 2) as cluster:
        view = cluster.client.load_balanced_view()
        pid = cluster.client[0].apply_sync(os.getpid)
        with view.temp_flags(retries=1):
            tasks = [view.apply_async(_die_in, pid) for _ in range(2)]  # one for each engine
        assert pid not in [task.get(LONG) for task in tasks]
        with view.temp_flags(retries=0):
            wait_until(lambda: len(cluster.client.ids) == 1, "one engine to be missed")
            alone = view.apply_async(os._exit, 1)
        with pytest.raises(error.RemoteError, match="EngineError"):
            alone.get(LONG)


def kept() -> object:
    from IPython import get_ipython

    return get_ipython().user_ns["kept"]


def _die_in(pid: int) -> int:
    import os
    import time

    if os.getpid() == pid:
        os._exit(1)
    time.sleep(1)  # so that the next one is for the other engine
    return os.getpid()
