"""The handlers for an engine's own requests, first of all ``apply_request``: a function call.

A call waits for its turn in the shell lane, as a cell does. Plain functions are called one after
the other, in order of arrival. If a function returns an awaitable, as async functions do, that is
awaited in the task of its request, while the lane goes on with the next request. So any number of
calls may await at once, and no other call runs between two awaits of one.

What a call raises is handled as for any other request; `application` makes the reply. A call is
stopped through its request's cancel scope: by an abort, a deadline, an interrupt or the engine's
end.
"""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Mapping, Sequence
from types import CoroutineType
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from ..core import Reply, Request, await_unprotected, call_unprotected
from ..errors import ContentError, TrikernelError
from ..kernel import built_in, message_type
from .limits import Within
from .packing import flat, pack, serializer

__all__ = ["CONTROL_HANDLERS", "SHELL_HANDLERS"]

REPLY_LEAVES = 0.05  # seconds within which a reply has been sent
_LONGEST = 1e9  # seconds of a deadline


@built_in
@enable_ki_protection
async def apply_request(request: Request) -> Reply:
    """Call a function. The request has the function and its arguments in its buffers, the reply has
    ``status`` in its content and the result in its buffers.
    """
    kernel = request.kernel
    _set_deadline(kernel, request, request.message.metadata.get("trikernel.timeout", 0))
    function, args, kwargs = call_unprotected(
        serializer().unpack_apply_message, request.message.buffers, kernel.shell.user_ns, copy=False
    )
    if isinstance(function, Within):
        _set_deadline(kernel, request, function.seconds)
        function = function.f
    _check_possible(function)
    result = call_unprotected(function, *args, **kwargs)
    del function, args, kwargs  # what was sent may be large
    if isinstance(result, CoroutineType) or inspect.isawaitable(result):
        server = kernel.server
        server.lane.let_go_on(request, server.cells)
        result = await await_unprotected(result)
    return Reply({"status": "ok"}, frames=[flat(one) for one in call_unprotected(pack, result)])


def _set_deadline(kernel: Any, request: Request, seconds: Any) -> None:
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds <= _LONGEST:
        raise ContentError(
            "apply_request: the metadata 'trikernel.timeout' must be a number of seconds from 0 to "
            f"{_LONGEST:g}, not {seconds!r:.80}"
        )
    if seconds:
        kernel.server.stopper_here.stop_after(request, seconds)


def _check_possible(function: Any) -> None:
    """Raise `TrikernelError`, with the reason, for a function that cannot work on this engine."""
    if getattr(function, "__module__", None) != "ipyparallel.util":
        return
    if getattr(function, "__name__", "") == "become_dask_worker":
        raise TrikernelError(
            "this engine cannot become a worker of dask: that runs in the engine's own loop and "
            "needs one of asyncio's, and here that is Trio's. Start the engines that are to be "
            "workers with ipyparallel's own launcher"
        )


@message_type(beside_cells=True)
def signal_request(request: Request) -> Mapping[str, Any]:
    """Send this process a signal. Content: ``sig``, a number or a name. Reply: ``ok``.

    The reply is sent before the signal (but for SIGINT): the client waits for it, and the signal
    may end this process.
    """
    wanted = request.message.content.get("sig")
    number = getattr(signal, wanted, None) if isinstance(wanted, str) else wanted
    if not isinstance(number, int) or isinstance(number, bool):
        raise ContentError(f"signal_request: there is no signal {wanted!r:.80}")
    if number == signal.SIGINT:
        os.kill(os.getpid(), number)
    else:
        request.kernel.server.stopper.services.start_soon(_signal_soon, number)
    return {"status": "ok"}


async def _signal_soon(number: int) -> None:
    await trio.sleep(REPLY_LEAVES)
    os.kill(os.getpid(), number)


@built_in
async def abort_request(request: Request) -> Mapping[str, Any]:
    """Abort calls by their ids, queued or running; without ids, all that is queued.

    Content: ``msg_ids``, one id or a list. An id of a broadcast is found, too, although each engine
    receives that under an id of its own. Reply: ``ok``.
    """
    kernel = request.kernel
    wanted = request.message.content.get("msg_ids")
    names = {wanted} if isinstance(wanted, str) else set(_texts(wanted))
    ids = names | {f"{name}_{kernel.ident}" for name in names}
    await kernel.server.abort(ids if names else None, waits=False)
    return {"status": "ok"}


def _texts(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ContentError(f"abort_request: 'msg_ids' must be text or a list, not {value!r:.80}")
    return value


SHELL_HANDLERS = {"apply_request": apply_request}
CONTROL_HANDLERS = {
    "apply_request": apply_request,
    "abort_request": abort_request,
    "signal_request": signal_request,
}
"""Requests on control that an engine handles and a kernel does not, or not in this way."""
