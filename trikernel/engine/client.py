"""A cluster for programs that run Trio: calls are awaited, and a cancel stops them on the engine.

ipyparallel's own client does the speaking; it has a thread for that. Here its futures become what a
task awaits. A call that is cancelled, by a deadline or because a sibling failed, is aborted on its
engine, which cancels the call's scope there. `abort_on_cancel` does that for ipyparallel's own
results, whose ``cancel`` tells no engine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import trio

from ..errors import TrikernelError
from ..system import run_in

__all__ = ["ClusterView", "abort_on_cancel", "open_cluster"]

PING = 1000  # milliseconds: a controller takes notice of new engines with its second ping
STOP_TIMEOUT = 15  # seconds that the end of a cluster may take
ABORT_TIMEOUT = 1.0  # seconds that a cancelled task waits for its engine's word


@asynccontextmanager
async def open_cluster(
    n: int | None = None, *, ready_within: float = 60, **options: Any
) -> AsyncIterator[ClusterView]:
    """A view of a cluster: a new one of ``n`` engines, which ends with the block, or an existing.

    ::

        async with open_cluster(4) as view:
            print(await view.map(fetch, urls, limit=20))

    Without ``n``, ``options`` are those of `ipyparallel.Client` (``profile``, ``cluster_id``, a
    connection file as ``url_info`` ...), with it those of `ipyparallel.Cluster`. The engines are
    to be there ``ready_within`` seconds. Raises `trio.TooSlowError`, and what ipyparallel raises.
    Cancelled, it stops what it has started.
    """
    open_one = _connect if n is None else partial(_start, n)
    cluster, client = await trio.to_thread.run_sync(partial(open_one, **options))
    try:
        with trio.fail_after(ready_within):
            await _engines_are_there(client, n or 1)
        yield ClusterView(client)
    finally:
        with trio.move_on_after(STOP_TIMEOUT, shield=True):
            await trio.to_thread.run_sync(_close, cluster, client)


class ClusterView:
    """All engines of a cluster, as tasks of Trio use them. Made by `open_cluster`.

    ``client`` is ipyparallel's own client, for all that is not here.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._running: dict[int, int] = {}

    @property
    def engines(self) -> list[int]:
        """The numbers of the engines that are there now."""
        return list(self.client.ids)

    async def apply(
        self, f: Callable[..., Any], *args: Any, engine: int | None = None, **kwargs: Any
    ) -> Any:
        """What ``f`` returns, or what it returns awaits, on an engine: the one that has fewest
        calls of this view's, unless it is named.

        Raises what it raises there, as ipyparallel's `RemoteError`, and `EngineError` if the engine
        is gone. Cancelled, the call is stopped there: if it has not begun, it never does.
        """
        number = engine if engine is not None else self._least_loaded()
        self._running[number] = self._running.get(number, 0) + 1
        try:
            view = self.client[number]
            return await _result(view, view.apply_async(f, *args, **kwargs))
        finally:
            self._running[number] -= 1

    async def apply_all(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """What ``f`` returns on each engine, in the order of `engines`. If one fails, all do."""
        engines = self.engines
        calls = [partial(self.apply, f, *args, engine=one, **kwargs) for one in engines]
        return await _gather(calls)

    async def map(
        self,
        f: Callable[..., Any],
        *iterables: Iterable[Any],
        limit: int = 1,
        on_result: Callable[[int, Any], object] = lambda number, value: None,
    ) -> list[Any]:
        """What ``f`` returns for each item, in their order; ``limit`` calls at once on an engine.

        More than one makes sense for async functions. ``on_result`` is told each result as it
        comes, with its place. If a call fails, the others are cancelled and its error is raised.
        Each call is made once: if its engine dies that is an error. Cancelled, all are.
        """
        if limit < 1:
            raise ValueError(f"limit is a positive number of calls, not {limit}")
        items = list(zip(*iterables, strict=False))
        results: list[Any] = [None] * len(items)
        left = iter(enumerate(items))

        async def work(engine: int) -> None:
            for number, args in left:
                results[number] = await self.apply(f, *args, engine=engine)
                on_result(number, results[number])

        engines = self.engines
        if items and not engines:
            raise TrikernelError("there are no engines")
        await _gather([partial(work, one) for _ in range(limit) for one in engines])
        return results

    async def push(self, names: dict[str, Any]) -> None:
        """Set names on every engine."""
        view = self.client[:]
        await _result(view, view.push(names, block=False))

    async def pull(self, names: str | Sequence[str]) -> list[Any]:
        """The values of a name, or of several, on every engine."""
        view = self.client[:]
        result: list[Any] = await _result(view, view.pull(names, block=False))
        return result

    async def execute(self, code: str) -> None:
        """Run code on every engine."""
        view = self.client[:]
        await _result(view, view.execute(code, block=False))

    def _least_loaded(self) -> int:
        engines = self.engines
        if not engines:
            raise TrikernelError("there are no engines")
        return min(engines, key=lambda one: self._running.get(one, 0))


def abort_on_cancel(view: Any, result: Any) -> Any:
    """Have ``result.cancel()`` abort the call on its engines; ``view`` is where it was made.

    ::

        call = abort_on_cancel(view, view.apply_async(f))

    It is for ipyparallel's `AsyncResult`, which is returned, and for whoever cancels that:
    `asyncio.wrap_future` does, when its task is cancelled. By itself a cancel of it only gives up
    the wait. It does not wait for the engines' word; ``get`` raises `CancelledError` at once.
    """

    def abort(_: object) -> None:
        if result.cancelled():
            with suppress(Exception):  # the client is closed, or all engines are gone
                view.abort(result, block=False)

    result.add_done_callback(abort)
    return result


async def _result(view: Any, future: Any) -> Any:
    """The result of one of ipyparallel's. Cancelled, it is aborted.

    A cancel waits a moment for the engine to say that it has been told: one that stands still, or
    has died, does not say that.
    """
    try:
        await _done(future)
    except trio.Cancelled:
        with trio.move_on_after(ABORT_TIMEOUT, shield=True), suppress(Exception):
            await _done(view.abort(future, block=False))  # raises if the cluster is gone
        raise
    return future.get(0)


async def _done(future: Any) -> None:
    """Wait for one of ipyparallel's, whose callbacks are called in its client's thread."""
    token, done = trio.lowlevel.current_trio_token(), trio.Event()

    future.add_done_callback(lambda _: run_in(token, done.set))
    await done.wait()


async def _gather(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of calls beside each other; the first error cancels the others, and is raised."""
    results: list[Any] = [None] * len(calls)
    errors: list[Exception] = []

    async def run(number: int, call: Callable[[], Any], scope: trio.CancelScope) -> None:
        try:
            results[number] = await call()
        except Exception as error:
            errors.append(error)
            scope.cancel()

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(run, number, call, nursery.cancel_scope)
    if errors:
        raise errors[0]
    return results


async def _engines_are_there(client: Any, n: int) -> None:
    while len(client.ids) < n:  # noqa: ASYNC110  # the client's thread tells no loop of it
        await trio.sleep(0.05)


def _connect(**options: Any) -> tuple[Any, Any]:
    import ipyparallel

    return None, ipyparallel.Client(**options)


def _start(n: int, **options: Any) -> tuple[Any, Any]:
    import ipyparallel

    from .launcher import TrioEngineLauncher

    defaults = {"engines": TrioEngineLauncher, "controller_args": [f"--ping={PING}"]}
    cluster = ipyparallel.Cluster(n=n, **{**defaults, **options})
    cluster.start_cluster_sync()
    return cluster, cluster.connect_client_sync()


def _close(cluster: Any, client: Any) -> None:
    client.close()
    if cluster is not None:
        cluster.stop_cluster_sync()
