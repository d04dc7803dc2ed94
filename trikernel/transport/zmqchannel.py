"""One zmq socket as a channel: sends from any thread, receives in one, parks on its descriptor.

A zmq socket's file descriptor signals edges, and any call on the socket may eat one. So every
call is made under the channel's lock, after each send and receive ``EVENTS`` is read again,
and a receiver parks only after having just seen no message: see the discussion page
"why not await zmq-anyio".
"""

from __future__ import annotations

import errno
import os
import selectors
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import trio
import zmq

from ..errors import PeerGone
from .base import Frames, Parking
from .fork import forget_in_child

__all__ = ["LINGER", "ZmqChannel"]

LINGER = 1000  # milliseconds that close waits for peers to take what was sent
AWHILE = 0.05  # seconds between two looks at a channel that somebody else blocks on
COPY_LIMIT = 1 << 16  # bytes; larger frames are handed to libzmq without a copy
# Plain integers: the enums' operators cost more than the calls that they are for.
_POLLIN = int(zmq.POLLIN)
_LAST = int(zmq.NOBLOCK)
_MORE = _LAST | int(zmq.SNDMORE)


class ZmqChannel:
    """One socket. Sending from any thread, receiving in the thread of its one receiver."""

    def __init__(self, name: str, socket: zmq.Socket[Any]) -> None:
        self.name = name
        self._socket = socket
        self._lock = threading.RLock()
        self._parking = Parking()
        self._fd = int(socket.get(zmq.FD))
        self._closed = False
        self._sending = self._blocked = False
        self._outgoing: deque[Sequence[bytes]] = deque()
        forget_in_child(self)

    def forget(self) -> None:
        """In a forked child: the socket is the parent's."""
        self._lock = threading.RLock()
        self._closed = True

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Send, and wake the receiver if the send ate its edge."""
        with self._lock:
            self._check_open()
            self._outgoing.append(frames)
            if self._sending:  # a finalizer, run by the collector in the middle of a send
                return
            self._sending = True
            try:
                self._send(self._outgoing.popleft())
            finally:
                while self._outgoing:  # the finalizers', whose errors are not the caller's
                    with suppress(trio.WouldBlock, PeerGone):
                        self._send(self._outgoing.popleft())
                self._sending = False
                self._wake_if_readable()

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        """One send with XPUB_NODROP off: a stalled subscriber loses it, the others do not."""
        with self._lock:
            self._check_open()
            self._socket.set(zmq.XPUB_NODROP, 0)
            try:
                self.send_nowait(frames)
            finally:
                self._socket.set(zmq.XPUB_NODROP, 1)

    def send_beyond(self, frames: Sequence[bytes]) -> None:
        """One send with room for one message more."""
        with self._lock:
            self._check_open()
            bound = int(self._socket.get(zmq.SNDHWM))
            self._socket.set(zmq.SNDHWM, bound + 1)  # holds for open connections, too
            try:
                self.send_nowait(frames)
            finally:
                self._socket.set(zmq.SNDHWM, bound)

    def receive_nowait(self) -> Frames:
        """Take the next message."""
        with self._lock:
            self._check_open()
            try:
                return self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                raise trio.WouldBlock from None

    async def wait_readable(self) -> None:
        """Park on the file descriptor, after having just seen that no message is there."""
        with self._lock:
            self._check_open()
            scope = None if self._readable() else self._parking.__enter__()
        if scope is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            with scope:
                await trio.lowlevel.wait_readable(self._fd)
        finally:
            self._parking.__exit__()
        self._check_open()

    async def tend(self) -> None:
        """Let libzmq see to connections, which it does only while somebody calls it.

        Else each that comes and goes would leave something behind. Not on Windows, where the
        descriptor is none that could be duplicated.
        """
        if sys.platform == "win32":
            await trio.sleep_forever()
        own = os.dup(self._fd)  # a descriptor has one waiter in a loop
        try:
            while True:
                await trio.lowlevel.wait_readable(own)
                with self._lock:
                    self._check_open()
                    blocked = self._blocked
                    if not blocked:
                        self._readable()
                        self._wake_if_readable()
                if blocked:  # whoever blocks on it sees to it
                    await trio.sleep(AWHILE)
        finally:
            os.close(own)

    def check_blocking(self) -> None:
        """Blocking is possible on a socket."""

    def wait_readable_blocking(self, wake_fd: int) -> None:
        """Block until the socket's descriptor or ``wake_fd`` is readable."""
        with self._lock:
            self._check_open()
            if self._readable():
                return
            self._blocked = True
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._fd, selectors.EVENT_READ)
                selector.register(wake_fd, selectors.EVENT_READ)
                selector.select()
        finally:
            self._blocked = False

    def close(self) -> None:
        """Close the socket; a parked receiver gets `trio.ClosedResourceError`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._parking.wake()
            self._socket.close()  # lingers as its option says

    def _send(self, frames: Sequence[bytes]) -> None:
        copy = max(map(len, frames)) < COPY_LIMIT
        try:
            for frame in frames[:-1]:
                self._socket.send(frame, _MORE, copy=copy)
            self._socket.send(frames[-1], _LAST, copy=copy)
        except zmq.Again:
            raise trio.WouldBlock from None
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise PeerGone(f"no client {frames[0]!r} is connected") from None
            raise

    def _readable(self) -> bool:
        return bool(int(self._socket.get(zmq.EVENTS)) & _POLLIN)

    def _wake_if_readable(self) -> None:
        if self._parking.occupied and self._readable():
            self._parking.wake()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"the {self.name} channel is closed")
