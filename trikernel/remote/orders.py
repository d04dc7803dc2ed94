"""Carries out a gateway's orders; for some signals this is the same as a message on control.

=============================  ====================================================================
signal                         what it does
=============================  ====================================================================
0                              nothing: that it could be sent says that the process is there
SIGINT                         interrupts the cell, as an ``interrupt_request`` does
SIGTERM, SIGHUP, SIGQUIT       end the kernel, as a SIGTERM does that comes by itself
SIGKILL                        ends the process at once
one that the user's code       is sent to the process
handles, or that does nothing
any other, or none             is refused, and logged: by its default it would end or stop the
                               process, and nobody could tell it to go on
=============================  ====================================================================

A gateway that orders a shutdown also sends a ``shutdown_request`` on control, which says more:
whether the kernel will be restarted. So an order to shut down is carried out after
`REQUEST_TIMEOUT`, to let the request come first.
"""

from __future__ import annotations

import logging
import os
import signal
from functools import partial

import trio

from ..core import Server
from .communication import CommunicationPort, Order

__all__ = ["obey", "serve_orders"]

REQUEST_TIMEOUT = 0.5  # seconds that a shutdown_request may take to come

_log = logging.getLogger("trikernel")


def _numbers(*names: str) -> set[int]:
    return {int(getattr(signal, name)) for name in names if hasattr(signal, name)}


_TERMINATING = _numbers("SIGTERM", "SIGHUP", "SIGQUIT")
_KILL = _numbers("SIGKILL")
_STOPPING = _numbers("SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU")
_HARMLESS = _numbers("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH")


async def serve_orders(port: CommunicationPort, server: Server) -> None:
    """Take orders on the port and carry them out, in the service loop, until cancelled."""
    told = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_when_told, told, server, name="ordered shutdown")
        await port.serve(partial(obey, server, told))


async def _end_when_told(told: trio.Event, server: Server) -> None:
    await told.wait()
    await trio.sleep(REQUEST_TIMEOUT)
    server.terminate()  # if the request has come, the kernel is ending already


def obey(server: Server, told: trio.Event, order: Order, peer: str) -> None:
    """Carry out an order; one to shut down sets ``told``. Raises nothing."""
    if order.signum:  # not for 0, which a gateway sends every few seconds
        _log.info("signal %s ordered by %s", order.signum, peer)
        _signal(server, order.signum, peer)
    if order.shutdown:
        _log.info("shutdown ordered by %s", peer)
        told.set()


def _signal(server: Server, signum: int, peer: str) -> None:
    if signum == signal.SIGINT:
        server.interrupt()
    elif signum in _TERMINATING:
        server.terminate()
    elif signum in _KILL:
        for function in server.before_exit:
            function()
        os.kill(os.getpid(), signum)
    elif _may_be_sent(signum):
        os.kill(os.getpid(), signum)
    else:
        _log.warning("refused signal %s, ordered by %s: nothing handles it", signum, peer)


def _may_be_sent(signum: int) -> bool:
    if signum in _HARMLESS:
        return True
    if signum in _STOPPING:
        return False
    try:
        return callable(signal.getsignal(signum))
    except (ValueError, OverflowError):  # there is no such signal
        return False
