"""One message to a controller on behalf of an engine that can no longer send it.

`trikernel.engine.watcher` runs this file by its path, without the package: so it imports no other
module of trikernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import zmq

__all__ = ["send_farewell"]

LINGER = 3000  # milliseconds in which the message can still be sent after the socket is closed


def send_farewell(url: str, frames: Sequence[bytes], curve_serverkey: bytes | None) -> None:
    """Send frames, as they are, to ``url``. Blocks until they are sent, at most three seconds."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, LINGER)
    if curve_serverkey is not None:
        public, secret = zmq.curve_keypair()
        socket.set(zmq.CURVE_SERVERKEY, curve_serverkey)
        socket.set(zmq.CURVE_PUBLICKEY, public)
        socket.set(zmq.CURVE_SECRETKEY, secret)
    socket.connect(url)
    socket.send_multipart(list(frames))
    socket.close()
    context.term()
