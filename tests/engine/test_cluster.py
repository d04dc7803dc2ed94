"""Engines as processes at an unmodified controller of ipyparallel's, spoken to by its client."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import ipyparallel
import pytest
from ipyparallel import error

from trikernel.engine import abort_on_cancel, bind_kernel, within

from ..processes import wait_until
from .cluster import Cluster, open_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups are POSIX"),
]

LONG = 60  # seconds; far more than any of these takes
CURVE = ["--IPController.enable_curve=True"]


@pytest.fixture(
    scope="module",
    params=[CURVE, pytest.param([], marks=pytest.mark.thorough)],
    ids=["curve", "plain"],
)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("ipython") / "profile_default"
    with open_cluster(folder, 2, *request.param) as cluster:
        yield cluster


async def sleep_there(seconds: float) -> float:
    import trio

    await trio.sleep(seconds)
    return seconds


def test_every_view_reaches_every_engine(cluster: Cluster) -> None:
    client = cluster.client
    direct, balanced = client[:], client.load_balanced_view()
    assert direct.apply_sync(pow, 2, 3) == [8, 8]
    assert client.broadcast_view().apply_sync(pow, 2, 3) == [8, 8]
    assert client.broadcast_view(is_coalescing=True).apply_sync(pow, 2, 4) == [16, 16]
    assert balanced.map_sync(abs, range(-20, 0)) == list(range(20, 0, -1))
    direct.scatter("part", list(range(10)), block=True)
    assert direct.gather("part", block=True) == list(range(10))
    direct.push({"a": b"x" * 3_000_000}, block=True)
    assert direct.pull("a", block=True) == [b"x" * 3_000_000] * 2
    ran = direct.execute("import os; print(os.getpid()); a = 5", silent=False)
    ran.get(LONG)
    assert ran.wait_for_output(LONG)
    assert {int(one) for one in ran.stdout} == {one.pid for one in cluster.engines}
    assert direct["a"] == [5, 5]


def test_an_engine_is_known_by_the_number_that_the_controller_gave_it(cluster: Cluster) -> None:
    def number() -> int:
        from IPython import get_ipython

        return int(get_ipython().kernel.int_id)

    assert cluster.client[:].apply_sync(number) == cluster.client.ids


def test_async_calls_await_beside_each_other_on_one_engine(cluster: Cluster) -> None:
    view = cluster.client[cluster.client.ids[0]]
    view.apply_sync(sleep_there, 0)
    began = time.monotonic()
    calls = [view.apply_async(sleep_there, 2) for _ in range(50)]
    assert [one.get(LONG) for one in calls] == [2] * 50
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("function", [sleep_there, time.sleep], ids=["awaits", "blocks"])
def test_an_abort_stops_a_call_that_runs(cluster: Cluster, function: Any) -> None:
    view = cluster.client[cluster.client.ids[0]]
    call, waits = view.apply_async(function, 1000), view.apply_async(function, 1000)
    cluster.client.abort([call, waits], targets=view.targets, block=True)
    for one in (call, waits):
        with pytest.raises(error.TaskAborted):
            one.get(LONG)
    assert view.apply(pow, 2, 2).get(LONG) == 4


@pytest.mark.parametrize("kind", ["direct", "load-balanced"])
def test_a_cancelled_result_stops_its_call_where_that_is_asked_for(
    cluster: Cluster, kind: str
) -> None:
    client = cluster.client
    view = client.load_balanced_view() if kind == "load-balanced" else client[:]
    calls = [abort_on_cancel(view, view.apply_async(sleep_there, 1000)) for _ in range(3)]
    msg_ids = [one for call in calls for one in call.msg_ids]
    for call in calls:
        assert call.cancel()
        with pytest.raises(CancelledError):
            call.get(LONG)
    wait_until(lambda: not client.outstanding.intersection(msg_ids), "the engines' answers")
    assert {client.metadata[one]["status"] for one in msg_ids} <= {"aborted", None}
    assert client[:].apply_sync(pow, 2, 2) == [4] * len(client.ids)


def print_much(lines: int) -> int:
    import resource
    import sys

    if sys.platform == "win32":
        raise NotImplementedError
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(lines):
        sys.stdout.write("x" * 999 + "\n")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return grown // 1024 if sys.platform == "darwin" else grown


def test_a_call_that_prints_much_takes_no_memory_for_it_and_loses_nothing(
    cluster: Cluster,
) -> None:
    lines, view = 20_000, cluster.client[cluster.client.ids[0]]
    call = view.apply_async(print_much, lines)
    assert call.get(LONG) < 16_000  # KiB, of 20 MB
    assert call.wait_for_output(LONG)
    assert call.stdout == ("x" * 999 + "\n") * lines


def test_a_deadline_stops_a_call_that_blocks(cluster: Cluster) -> None:
    view = cluster.client[cluster.client.ids[0]]
    with pytest.raises(error.RemoteError, match="DeadlineExceeded"):
        view.apply(within(0.2, time.sleep), 1000).get(LONG)


def test_a_signal_interrupts_and_the_engine_lives_on(cluster: Cluster) -> None:
    number = cluster.client.ids[0]
    view = cluster.client[number]
    call = view.apply_async(time.sleep, 1000)
    began = view.apply_async(sleep_there, 0)  # it waits behind the one that blocks
    while not call.done():
        cluster.client.send_signal(signal.SIGINT, targets=number, block=True)
        call.wait(1)
    with pytest.raises(error.RemoteError, match="KeyboardInterrupt"):
        call.get(LONG)
    began.wait(LONG)
    assert view.apply(pow, 2, 2).get(LONG) == 4


def test_unmet_dependencies_send_a_task_elsewhere(cluster: Cluster) -> None:
    first = cluster.client.ids[0]

    def is_first(number: int) -> bool:
        from IPython import get_ipython

        return bool(get_ipython().kernel.int_id == number)

    here = ipyparallel.depend(is_first, first)(os.getpid)
    view = cluster.client.load_balanced_view()
    found = {view.apply(here).get(LONG) for _ in range(4)}
    assert found == {cluster.client[first].apply_sync(os.getpid)}


def test_clearing_and_other_pickles(cluster: Cluster) -> None:
    view = cluster.client[:]
    view.push({"gone": 1}, block=True)
    cluster.client.clear(block=True)
    with pytest.raises(error.CompositeError, match="NameError"):
        view.pull("gone", block=True)
    cloudpickle = pytest.importorskip("cloudpickle")
    assert cloudpickle
    view.use_cloudpickle()
    try:
        offset = 5
        assert view.apply_sync(lambda: offset + 1) == [6, 6]
    finally:
        view.use_pickle()


def test_an_engine_is_a_kernel_for_notebooks_too(cluster: Cluster) -> None:
    from jupyter_client.blocking import BlockingKernelClient

    view = cluster.client[cluster.client.ids[-1]]
    if cluster.options:
        with pytest.raises(error.RemoteError, match="CURVE"):
            view.apply(bind_kernel).get(LONG)
        return
    path = view.apply(bind_kernel).get(LONG)
    assert view.apply(ipyparallel.bind_kernel).get(LONG) == path
    view.push({"shared": 7}, block=True)
    notebook = BlockingKernelClient(connection_file=path)
    notebook.load_connection_file()
    notebook.start_channels()
    try:
        notebook.wait_for_ready(timeout=LONG)
        reply = notebook.execute_interactive("answer = shared + 1", timeout=LONG)
        assert reply["content"]["status"] == "ok"
    finally:
        notebook.stop_channels()
    assert view.pull("answer", block=True) == 8


def empty_builtins() -> None:
    import builtins

    vars(builtins).clear()


ENDS: dict[str, tuple[Any, ...]] = {
    "exits": (os._exit, 3),
    "is killed": (time.sleep, 1000),
    "closes its sockets": (os.closerange, 3, 256),
    "has no builtins": (empty_builtins,),
}


@pytest.mark.parametrize(
    "how",
    ["exits", "is killed", *(pytest.param(one, marks=pytest.mark.thorough) for one in [*ENDS][2:])],
)
def test_an_engine_that_dies_is_missed_at_once(cluster: Cluster, how: str) -> None:
    process, before = cluster.start_engine(), set(cluster.client.ids)
    wait_until(lambda: len(cluster.client.ids) == 3, "a third engine")
    (number,) = set(cluster.client.ids) - before
    view = cluster.client[number]
    function, *args = ENDS[how]
    call, waits = view.apply_async(function, *args), view.apply_async(pow, 2, 2)
    if how == "is killed":
        process.kill()
    for one in (call, waits):
        with pytest.raises(error.RemoteError, match="EngineError"):
            one.get(LONG)
    process.wait(LONG)
    cluster.wait_for(2)


def test_an_engine_that_ends_says_good_bye(cluster: Cluster) -> None:
    process, before = cluster.start_engine(), set(cluster.client.ids)
    wait_until(lambda: len(cluster.client.ids) == 3, "a third engine")
    (number,) = set(cluster.client.ids) - before
    cluster.client.shutdown(targets=number, block=True)
    assert process.wait(LONG) == 0
    cluster.wait_for(2)


def test_an_engine_without_a_controller_says_so_and_ends(cluster: Cluster) -> None:
    options = (f"--file={cluster.folder / 'nowhere.json'}", "--IPEngine.wait_for_url_file=0.1")
    process = cluster.start_engine(*options)
    assert process.wait(LONG) == 1
    cluster.engines.remove(process)
    assert "is the controller running?" in cluster.log(f"engine-{len(cluster.engines)}")


def test_an_engine_with_a_wrong_key_says_so_and_ends(cluster: Cluster) -> None:
    import json

    file = cluster.folder / "security" / "ipcontroller-engine.json"
    fields = json.loads(file.read_text())
    changed = "curve_serverkey" if fields.get("curve_serverkey") else "key"
    fields[changed] = fields[changed][:-2] + ("ab" if fields[changed][-2:] != "ab" else "cd")
    wrong = file.with_name("wrong.json")
    wrong.write_text(json.dumps(fields))
    process = cluster.start_engine(f"--file={wrong}", "--timeout=2")
    assert process.wait(LONG) == 1
    cluster.engines.remove(process)
    assert "did not answer within 2 seconds" in cluster.log(f"engine-{len(cluster.engines)}")
