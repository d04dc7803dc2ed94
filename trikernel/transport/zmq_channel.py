"""One zmq socket as a channel: sends from any thread, receives in one, parks on its descriptor.

What is wanted
    A message is taken in the loop and the thread where it is needed, without a thread or a task of
    ours in between. Anybody may send, from any thread and from a finalizer. A receiver that waits
    may be cancelled at any time, and no message is lost by it.

What does not work
    ``await socket.arecv()`` of zmq-anyio: cancelled, it loses the next message; see the discussion
    page "why not await zmq-anyio". To wait for the socket's descriptor and then read: the
    descriptor signals *edges*, and any call on the socket, a send too, may eat one. Then the
    receiver waits forever, with messages in its queue. A second socket and a thread that passes
    messages on: two more queues, out of which an abort takes nothing.

What is done
    Every call on the socket is made under the channel's lock, which is the fence that libzmq asks
    for between threads. ``EVENTS`` are read before each receive, and after each send while a
    receiver is parked: if a message is there by then, the receiver is woken. A receiver parks only
    if nothing has touched the socket since it saw, under the lock, that there is no message.
    It is woken by `trio.lowlevel.notify_closing`, in its own thread. A finalizer that sends while
    this very thread is in the middle of a send leaves its frames to that send, because the frames
    of two messages must not mix.

    Beside the main thread frames are sent and received without giving away the interpreter lock:
    see `held_calls`.

    That a subscriber has room again is signalled by the same descriptor.
    `ZmqBroadcastChannel.wait_writable_blocking` waits for it without the lock, and checks every
    2 ms whether another thread has taken the signal.

What remains
    One task waits on a channel at a time. libzmq handles connections only while it is called, so
    a channel from which nobody receives needs `ZmqChannel.service_connections`; Windows has no
    descriptor to duplicate for that. A forked child must not touch the socket: there the channel
    counts as closed.
"""

from __future__ import annotations

import errno
import os
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import trio
import zmq
from trio.lowlevel import enable_ki_protection

from ..errors import PeerGone
from ..system import on_fork, run_in, runs_here
from ..wire import DELIMITER
from .base import Frames
from .held_calls import HELD, may_keep_the_lock

__all__ = ["LINGER", "ZmqBroadcastChannel", "ZmqChannel", "ZmqClientChannel"]

T = TypeVar("T")

LINGER = 1000  # milliseconds that close waits for peers to take what was sent
BLOCKED_INTERVAL = 0.05  # seconds between two checks of a channel that another thread blocks on
ROOM_INTERVAL = 0.002  # seconds between two checks whether another thread has seen room first
COPY_LIMIT = 1 << 16  # bytes; larger frames are handed to libzmq without a copy
# Plain integers: the enums' operators cost more than the calls that they are for.
_EVENTS, _HAS_MORE = int(zmq.EVENTS), int(zmq.RCVMORE)
_POLLIN = int(zmq.POLLIN)
_LAST = int(zmq.NOBLOCK)
_MORE = _LAST | int(zmq.SNDMORE)


class ZmqChannel:
    """One socket. Sending from any thread, receiving in the thread of its one receiver."""

    def __init__(self, name: str, socket: zmq.Socket[Any]) -> None:
        self.name = name
        self._socket = socket
        # pyzmq's Python methods around these take as long again, for options that are not used here
        bare: Any = super(zmq.Socket, socket)
        self._get, self._send_frame, self._receive_frame = bare.get, bare.send, bare.recv
        self._lock = threading.RLock()
        self._parked: trio.lowlevel.TrioToken | None = None
        self._fd = int(socket.get(zmq.FD))
        self._address = int(socket.underlying)
        self._closed = False
        self._seen_empty = False
        self._sending = self._blocked = False
        self._outgoing: deque[Sequence[bytes]] = deque()
        on_fork(self)

    def after_fork(self) -> None:
        """In a forked child: the socket is the parent's."""
        self._lock = threading.RLock()
        self._closed = True

    def send_nowait(self, frames: Sequence[bytes]) -> None:
        """Send, and wake the receiver if the send has taken the signal that was for it."""
        with self._lock:
            self._check_open()
            self._outgoing.append(frames)
            if self._sending:  # a finalizer, run by the collector in the middle of a send
                return
            self._sending = True
            try:
                self._send(self._outgoing.popleft())
            finally:
                if self._outgoing:
                    self._send_finalizers()
                self._sending = False
                self._wake_if_readable()

    def receive_nowait(self) -> Frames:
        """Take the next message."""
        with self._lock:
            self._check_open()
            if not self._readable():  # a failed receive would take longer than this check
                self._seen_empty = True
                raise trio.WouldBlock
            receive: Callable[[int], bytes] = self._receive_frame
            if HELD is not None and may_keep_the_lock():
                receive = partial(HELD.receive, self._address)
            try:
                frames = [receive(_LAST)]
            except zmq.Again:
                raise trio.WouldBlock from None
            while self._get(_HAS_MORE):
                frames.append(receive(_LAST))
            return frames

    def receive_parts(self, plain: int, large: int) -> Frames:
        """As `receive_nowait`, but large buffers are not copied: after the delimiter and ``plain``
        more frames, a frame of at least ``large`` bytes is a `memoryview` of libzmq's memory.
        """
        with self._lock:
            self._check_open()
            if not self._readable():
                self._seen_empty = True
                raise trio.WouldBlock
            try:
                frames: list[Any] = [self._receive_frame(_LAST)]
            except zmq.Again:
                raise trio.WouldBlock from None
            left = -1  # plain frames that are still to come, once the delimiter was there
            while self._get(_HAS_MORE):
                if left == 0:
                    frame = self._receive_frame(_LAST, False)
                    frames.append(frame.buffer if len(frame) >= large else frame.bytes)
                    continue
                frames.append(self._receive_frame(_LAST))
                left = left - 1 if left > 0 else plain if frames[-1] == DELIMITER else left
            return frames

    def configure(self, function: Callable[[zmq.Socket[Any]], T]) -> T:
        """Call ``function`` with the socket, under the lock; returns what it returns."""
        with self._lock:
            self._check_open()
            try:
                return function(self._socket)
            finally:
                self._wake_if_readable()

    async def wait_readable(self) -> None:
        """Park on the file descriptor, after having just seen that no message is there."""
        with self._lock:
            self._check_open()
            token = trio.lowlevel.current_trio_token()
            if self._parked is token:  # a receiver of another loop may be left from a lost one
                raise trio.BusyResourceError("another task already receives from this channel")
            readable = not self._seen_empty and self._readable()
            self._seen_empty = False
            if not readable:
                self._parked = token
        if readable:
            await trio.lowlevel.checkpoint()
            return
        try:
            await trio.lowlevel.wait_readable(self._fd)
        except trio.ClosedResourceError:
            pass  # `_wake` ends a wait in this way; whether the channel is closed is asked below
        finally:
            if self._parked is token:
                self._parked = None
        self._check_open()

    def _wake(self) -> None:
        """Wake the parked receiver, if there is one; in its thread.

        A cancel scope around each wait would do it too, and cost more than the wait.
        """
        if self._parked is not None:
            with suppress(OSError):  # the socket was closed by another thread meanwhile
                trio.lowlevel.notify_closing(self._fd)

    async def service_connections(self) -> None:
        """Let libzmq handle connections, which it does only while it is called.

        Otherwise each client that comes and goes would leave something behind. Does nothing on
        Windows, where the descriptor cannot be duplicated.
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
                if blocked:  # the thread that blocks on it calls libzmq
                    await trio.sleep(BLOCKED_INTERVAL)
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
            token = self._parked
            if token is not None and runs_here(token):
                self._wake()
            elif token is not None:
                run_in(token, self._wake)
            self._socket.close()  # lingers as its option says

    def _send_finalizers(self) -> None:
        """Send what finalizers have sent during a send. Errors of these are not raised, as they do
        not concern the caller.
        """
        while self._outgoing:
            with suppress(trio.WouldBlock, PeerGone):
                self._send(self._outgoing.popleft())

    def _send(self, frames: Sequence[bytes]) -> None:
        self._seen_empty = False  # this send may take the signal of a message that has come since
        send = self._send_frame
        small = [len(frame) < COPY_LIMIT for frame in frames]  # of all, before any is sent
        try:
            if HELD is not None and may_keep_the_lock() and all(small):
                for frame in frames[:-1]:
                    HELD.send(self._address, bytes(frame), _MORE)
                HELD.send(self._address, bytes(frames[-1]), _LAST)
                return
            for frame, copy in zip(frames[:-1], small, strict=False):
                send(frame, _MORE, copy)
            send(frames[-1], _LAST, small[-1])
        except zmq.Again:
            raise trio.WouldBlock from None
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise PeerGone(f"no client {frames[0]!r} is connected") from None
            raise

    def _readable(self) -> bool:
        self._seen_empty = False
        return bool(self._get(_EVENTS) & _POLLIN)

    def _wake_if_readable(self) -> None:
        token = self._parked
        if token is not None and self._readable():
            run_in(token, self._wake)  # not at once: it may be about to wait

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError(f"the {self.name} channel is closed")


class ZmqClientChannel(ZmqChannel):
    """A client's: connected to one endpoint, with room for any number of messages.

    libzmq gives a connection up for good, without an error, if a socket of another kind is at its
    other end. This happens when a client connects before its kernel listens, and for a moment
    another process has a socket at the same port.
    """

    def __init__(self, name: str, socket: zmq.Socket[Any], endpoint: str) -> None:
        super().__init__(name, socket)
        self._endpoint = endpoint
        socket.connect(endpoint)

    def reconnect(self) -> None:
        """Connect anew. Messages that were not transferred yet are lost."""
        with self._lock:
            self._check_open()
            self._seen_empty = False
            with suppress(zmq.ZMQError):  # raised if it is not connected
                self._socket.disconnect(self._endpoint)
            self._socket.connect(self._endpoint)

    def _send(self, frames: Sequence[bytes]) -> None:
        try:
            super()._send(frames)
        except trio.WouldBlock:  # there is room, so there is no connection
            self.reconnect()
            super()._send(frames)


class ZmqBroadcastChannel(ZmqChannel):
    """The kernel's iopub: an XPUB with ``XPUB_NODROP`` and a queue of ``SNDHWM`` messages for each
    subscriber. This mark is set before the socket is bound, and is changed by `send_beyond` only:
    libzmq tells each connection of a change, and a connection that is just closing may be gone by
    then, which ends the process.
    """

    def __init__(self, name: str, socket: zmq.Socket[Any]) -> None:
        super().__init__(name, socket)
        self._checks = self._checks_when_full = 0

    def send_dropping(self, frames: Sequence[bytes]) -> None:
        """Send with XPUB_NODROP off: subscribers whose queue is full lose the message."""
        with self._lock:
            self._check_open()
            self._socket.set(zmq.XPUB_NODROP, 0)
            try:
                self.send_nowait(frames)
            finally:
                self._socket.set(zmq.XPUB_NODROP, 1)

    def send_beyond(self, frames: Sequence[bytes]) -> None:
        """Send with room for one message more in each queue.

        Only a change of the mark puts a message into a full queue. The subscriber whose queue that
        is stays connected; another one that closes its connection in this very moment would end
        the process, as the class says. Where 40 connections were opened and closed all the time,
        it took 4,000 changes or more; here there are two for each time that a budget is spent.
        """
        with self._lock:
            self._check_open()
            mark = int(self._socket.get(zmq.SNDHWM))
            self._sending = True
            try:
                self._socket.set(zmq.SNDHWM, mark + 1)
                super()._send(frames)
            finally:
                self._socket.set(zmq.SNDHWM, mark)
                self._send_finalizers()
                self._sending = False
                self._wake_if_readable()

    def receive_nowait(self) -> Frames:
        """Take the next subscription."""
        with self._lock:
            self._checks += 1
            return super().receive_nowait()

    def wait_writable_blocking(self, seconds: float) -> None:
        """Wait until libzmq signals that a subscriber has read something.

        It does so by the descriptor that signals messages, too, so another thread may take the
        signal first: then the events were checked since the last send was refused.
        """
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._fd, selectors.EVENT_READ)
            while self._checks == self._checks_when_full and (left := until - time.monotonic()) > 0:
                if selector.select(min(ROOM_INTERVAL, left)):
                    break
        self._check_events()

    @enable_ki_protection
    def _check_events(self) -> None:
        """Have libzmq handle what has come, and wake the receiver if that is a message."""
        with self._lock:
            self._check_open()
            self._checks += 1
            self._readable()
            self._wake_if_readable()

    def _send(self, frames: Sequence[bytes]) -> None:
        try:
            super()._send(frames)
        except trio.WouldBlock:
            self._readable()  # without this libzmq does not notice at once that there is room
            try:
                super()._send(frames)
            except trio.WouldBlock:
                self._checks_when_full = self._checks
                raise
