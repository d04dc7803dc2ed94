"""A cluster for programs that run Trio: calls are awaited, and a cancel stops them on the engine.

ipyparallel's own client talks to the cluster, in a thread of its own; here a Trio task waits for
that client's futures. If a task is cancelled while it waits for a call, by a deadline or because a
sibling failed, the call is aborted on its engine, where that cancels the call's scope.
`abort_on_cancel` does the same for ipyparallel's own results, whose ``cancel`` alone does not tell
the engine.
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

PING = 1000  # milliseconds between pings: a controller shows a new engine after the second one
STOP_TIMEOUT = 15  # seconds that stopping a cluster may take
ABORT_TIMEOUT = 1.0  # seconds that a cancelled task waits for the engine's reply to the abort


@asynccontextmanager
async def open_cluster(
    n: int | None = None, *, ready_within: float = 60, **options: Any
) -> AsyncIterator[ClusterView]:
    """A view of a cluster: of a new one with ``n`` engines, which is stopped at the block's end, or
    of one that runs already.

    ::

        async with open_cluster(4) as view:
            print(await view.map(fetch, urls, limit=20))

    Without ``n``, ``options`` are those of `ipyparallel.Client` (``profile``, ``cluster_id``, a
    connection file as ``url_info`` ...), with it those of `ipyparallel.Cluster`. Raises
    `trio.TooSlowError` if the engines (without ``n``: one engine) have not registered within
    ``ready_within`` seconds, and what ipyparallel raises. Cancelled, it stops what it has started.
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
    """All engines of a cluster, for use in Trio tasks. Made by `open_cluster`.

    ``client`` is ipyparallel's own client, for everything that this class does not have.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._running: dict[int, int] = {}

    @property
    def engines(self) -> list[int]:
        """The numbers of the engines that are registered now."""
        return list(self.client.ids)

    async def apply(
        self, f: Callable[..., Any], *args: Any, engine: int | None = None, **kwargs: Any
    ) -> Any:
        """Call ``f`` on an engine and return its result; an awaitable result is awaited there.
        Without ``engine`` it is the one that has the fewest calls of this view.

        Raises what ``f`` raises, as ipyparallel's `RemoteError`, and `EngineError` if the engine
        has died. Cancelled, the call is stopped on the engine: if it has not begun, it never will.
        """
        number = engine if engine is not None else self._least_loaded()
        self._running[number] = self._running.get(number, 0) + 1
        try:
            view = self.client[number]
            return await _result(view, view.apply_async(f, *args, **kwargs))
        finally:
            self._running[number] -= 1

    async def apply_all(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Call ``f`` on each engine; the results are in the order of `engines`. If one call fails,
        the others are cancelled and its error is raised.
        """
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
        """Call ``f`` for each item; the results are in the order of the items. Each engine has at
        most ``limit`` of these calls at once: more than one makes sense for async functions.

        ``on_result`` is called with each result when it comes, and with its index before that. If a
        call fails, the others are cancelled and its error is raised. No call is made twice: if its
        engine dies, that is an error. Cancelled, all running calls are stopped on their engines.
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
        """Set variables on every engine."""
        view = self.client[:]
        await _result(view, view.push(names, block=False))

    async def pull(self, names: str | Sequence[str]) -> list[Any]:
        """The value of a variable, or of several, on every engine."""
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
    """Have ``result.cancel()`` abort the call on its engines. ``view`` is the view that made it.

    ::

        call = abort_on_cancel(view, view.apply_async(f))

    ``result`` is an `AsyncResult` of ipyparallel's, and is returned. Without this its ``cancel``
    only ends the waiting, while the call goes on. `asyncio.wrap_future` cancels it when its task is
    cancelled. The abort does not wait for the engines: ``get`` raises `CancelledError` at once.
    """

    def abort(_: object) -> None:
        if result.cancelled():
            with suppress(Exception):  # the client is closed, or all engines are gone
                view.abort(result, block=False)

    result.add_done_callback(abort)
    return result


async def _result(view: Any, future: Any) -> Any:
    """Wait for an `AsyncResult` of ipyparallel's. Cancelled, its call is aborted.

    Then this waits for the engine's reply to the abort, but at most `ABORT_TIMEOUT`: an engine that
    is stopped, or has died, does not reply.
    """
    try:
        await _done(future)
    except trio.Cancelled:
        with trio.move_on_after(ABORT_TIMEOUT, shield=True), suppress(Exception):
            await _done(view.abort(future, block=False))  # raises if the cluster is gone
        raise
    return future.get(0)


async def _done(future: Any) -> None:
    """Wait for a future of ipyparallel's, which calls its callbacks in the client's thread."""
    token, done = trio.lowlevel.current_trio_token(), trio.Event()

    future.add_done_callback(lambda _: run_in(token, done.set))
    await done.wait()


async def _gather(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of concurrent calls; the first error cancels the others, and is raised."""
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
    while len(client.ids) < n:  # noqa: ASYNC110  # the client has no callback for this
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
