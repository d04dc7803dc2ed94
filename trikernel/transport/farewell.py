"""One message to a controller on behalf of an engine that can no longer send it.

This is also run by its path, alone (`trikernel.engine.watcher`): it imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import zmq

__all__ = ["send_farewell"]

LINGER = 3000  # milliseconds that the controller has to take it


def send_farewell(url: str, frames: Sequence[bytes], curve_serverkey: bytes | None) -> None:
    """Send ready frames to ``url``, and wait until they have left, within three seconds."""
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
