"""The heartbeat: a C loop that sends back what it receives.

It runs in a thread of its own on a context of its own and needs no interpreter lock, so that
it answers while a cell holds it. Source: messaging.rst, "Heartbeat for kernels".
"""

from __future__ import annotations

import contextlib
import threading

import zmq

from .zmqtools import Options, bind, new_socket

__all__ = ["Heartbeat"]


class Heartbeat:
    """Binds at once (raises `zmq.ZMQError` when the address is taken) and echoes until `close`."""

    def __init__(self, endpoint: str, options: Options) -> None:
        self._context = zmq.Context()
        try:
            self._socket = new_socket(self._context, zmq.ROUTER, options)
            self.port = bind(self._socket, endpoint)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._thread = threading.Thread(target=self._echo, name="trikernel heartbeat", daemon=True)
        self._thread.start()

    def _echo(self) -> None:
        try:
            with contextlib.suppress(zmq.ContextTerminated):
                zmq.proxy(self._socket, self._socket)
        finally:  # else `close` would wait for it
            self._socket.close(linger=0)

    def close(self) -> None:
        """End the loop and join its thread."""
        self._context.term()
        self._thread.join()
