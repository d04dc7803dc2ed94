"""The sockets of an engine: they connect to a controller of ipyparallel, and listen on demand.

::

    controller                             engine
    registration  ROUTER ──────────────── DEALER   registration
    mux, task, one leaf of broadcast ───── ROUTER   shell
    control       ROUTER ──────────────── ROUTER   control
    iopub         SUB    ──────────────── XPUB     iopub
    hb_ping       PUB    ────── SUB ┐
    hb_pong       ROUTER ─── DEALER ┘ the heart, in C

The three schedulers are peers of one ROUTER: a request comes with the identity of its scheduler in
front of the client's, so the reply goes back to the same scheduler. All sockets have the engine's
identity, by which the controller knows it.

The heart sends each ping back, in a thread and on a context of its own. It needs no interpreter
lock, so it beats while a call holds the lock. Each ping is also sent to `EngineTransport.pings`, by
which an engine knows that its controller lives. `EngineTransport.events` tells when the connection
to the controller is made and lost.

A controller that is started again may have other ports or another key. Then `EngineTransport.move`
connects the same sockets to it, under a new identity, so that the tasks which read from them go on.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import trio
import zmq

from ..errors import ConnectionFileError
from ..system import mark_untraced
from .base import Frames
from .connection_file import ConnectionInfo
from .controller import Controller
from .zmq_channel import LINGER, ZmqBroadcastChannel, ZmqChannel
from .zmq_transport import IOPUB_HWM, Heartbeat, Options, bind_socket, new_socket

__all__ = ["EngineTransport"]

JSON_FRAMES = 5  # behind the delimiter: the signature, and the four that are signed
SMALL = 1 << 16  # bytes; of larger buffers no copy is made
PINGS_HWM = 16  # pings that are kept until somebody reads them
FIRST_EVENT, LOST_EVENT = int(zmq.EVENT_HANDSHAKE_SUCCEEDED), int(zmq.EVENT_DISCONNECTED)


class EngineTransport:
    """An engine's side of its connections; a `Transport`. Use it as a context manager.

    At first only the registration is connected. Call `connect` when the controller has told the
    engine its number. ``identity`` is the name that the engine has at the controller. `farewell`,
    unless it is None, is sent to the controller's registration by `close`.
    Raises `ConnectionFileError` for an invalid CURVE key or address.
    """

    def __init__(self, controller: Controller, identity: str) -> None:
        self.controller = controller
        self.identity = identity
        self.key = controller.key
        self.signature_scheme = controller.signature_scheme
        self.ports: Mapping[str, int] = {}
        self.farewell: Frames | None = None
        self._context: zmq.Context[Any] = zmq.Context()
        self._heart: _Heart | None = None
        self._echo: Heartbeat | None = None
        self._curve = self._curve_options()
        self._connected: list[tuple[ZmqChannel, str]] = []
        router: Options = {zmq.ROUTER_HANDOVER: 1, zmq.ROUTER_MANDATORY: 1, zmq.SNDHWM: 0}
        try:
            self.registration = self._channel("registration", zmq.DEALER, {})
            self.events = self._monitor(self.registration)
            self._connect(self.registration, controller.url("registration"))
            self.shell = (self._channel("shell", zmq.ROUTER, router),)
            self.control = self._channel("control", zmq.ROUTER, router)
            self.stdin = self._channel("stdin", zmq.ROUTER, router)  # to which nobody connects
            published: Options = {zmq.SNDHWM: IOPUB_HWM, zmq.XPUB_VERBOSE: 1, zmq.XPUB_NODROP: 1}
            socket = self._socket(zmq.XPUB, published)
            self.iopub = ZmqBroadcastChannel("iopub", socket)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise ConnectionFileError(f"{controller.source}: {error.strerror}") from None

    def __enter__(self) -> EngineTransport:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def pings(self) -> ZmqChannel:
        """The pings of the controller's heart, a message each; only after `beat`."""
        assert self._heart is not None
        return self._heart.pings

    def connect(self, engine_id: int) -> None:
        """Connect to the schedulers as the engine of that number."""
        controller = self.controller
        for url in controller.shell_urls(engine_id):
            self._connect(self.shell[0], url)
        self._connect(self.control, controller.url("control"))
        self._connect(self.iopub, controller.url("iopub"))

    def beat(self) -> None:
        """Start the heart, unless it beats already. By its first answer the controller knows that
        the engine is there, and tells clients of it.
        """
        if self._heart is not None:
            return
        controller = self.controller
        options: Options = {**self._curve, zmq.LINGER: 0}
        identity = self.identity.encode()
        urls = controller.url("hb_ping"), controller.url("hb_pong")
        self._heart = _Heart(*urls, identity, options)

    def move(self, controller: Controller, identity: str) -> None:
        """Disconnect from the controller, and connect the registration, and nothing else, to the
        next one.

        From any thread. Messages to the old controller that it has not taken are lost, and so are
        those that it still sends.
        """
        if self._heart is not None:
            self._heart.close()
            self._heart = None
        connected, self._connected = self._connected, []
        for channel, url in connected:
            with contextlib.suppress(zmq.ZMQError):  # libzmq may have another spelling of the url
                channel.configure(partial(_disconnect, url))
        self.controller, self.identity, self.key = controller, identity, controller.key
        self._curve = self._curve_options()
        options = {**self._curve, zmq.IDENTITY: identity.encode()}
        for channel in (self.registration, *self.shell, self.control, self.iopub):
            channel.configure(lambda socket: _set(socket, options))
        self._connect(self.registration, controller.url("registration"))

    def bind(self, info: ConnectionInfo) -> ConnectionInfo:
        """Listen for frontends, too, as a kernel does. Returns ``info`` with the real ports.

        Requests of frontends come on the same channels as those of the schedulers. Raises
        `ConnectionFileError` for an address that cannot be bound, and under CURVE, where a socket
        is either a client or a server.
        """
        if self.controller.curve_serverkey is not None:
            raise ConnectionFileError(
                "an engine whose controller is reached by CURVE cannot be a kernel for frontends, "
                "which would have to reach it by the same sockets"
            )
        ports: dict[str, int] = {}
        try:
            for channel in (*self.shell, self.control, self.stdin, self.iopub):
                field = f"{channel.name}_port"
                endpoint = info.endpoint(getattr(info, field))
                ports[field] = channel.configure(partial(bind_socket, endpoint=endpoint))
            self._echo = Heartbeat(info.endpoint(info.hb_port), {zmq.LINGER: 0})
        except (zmq.ZMQError, OSError) as error:
            raise ConnectionFileError(f"the engine cannot listen: {error.strerror}") from None
        self.ports = {**ports, "hb_port": self._echo.port}
        fields = {**info.as_dict(), **self.ports, "key": self.key.decode()}
        return ConnectionInfo(**fields)

    def close(self) -> None:
        """Send the `farewell`, and close every socket, lingering at most a second. May be called
        twice.
        """
        if self._context.closed:
            return
        if self._heart is not None:
            self._heart.close()
            self._heart = None
        if self._echo is not None:
            self._echo.close()
            self._echo = None
        farewell, self.farewell = self.farewell, None
        if farewell is not None:
            with contextlib.suppress(trio.WouldBlock, trio.ClosedResourceError):
                self.registration.send_nowait(farewell)
        self.registration.configure(lambda socket: socket.disable_monitor())
        channels = (*self.shell, self.control, self.stdin, self.iopub, self.registration)
        for channel in (self.events, *channels):
            channel.close()
        self._context.term()

    def _curve_options(self) -> dict[int, bytes]:
        server = self.controller.curve_serverkey
        if server is None:
            return {}
        public, secret = zmq.curve_keypair()
        return {
            zmq.CURVE_SERVERKEY: server,
            zmq.CURVE_PUBLICKEY: public,
            zmq.CURVE_SECRETKEY: secret,
        }

    def _socket(self, kind: int, options: Options) -> zmq.Socket[Any]:
        own: Options = {zmq.LINGER: LINGER, zmq.IDENTITY: self.identity.encode()}
        return new_socket(self._context, kind, {**options, **self._curve, **own})

    def _channel(self, name: str, kind: int, options: Options) -> ZmqChannel:
        return _BufferChannel(name, self._socket(kind, options))

    def _connect(self, channel: ZmqChannel, url: str) -> None:
        channel.configure(lambda socket: socket.connect(url))
        self._connected.append((channel, url))

    def _monitor(self, channel: ZmqChannel) -> ZmqChannel:
        events = FIRST_EVENT | LOST_EVENT
        return ZmqChannel(
            "events", channel.configure(lambda socket: socket.get_monitor_socket(events))
        )


class _BufferChannel(ZmqChannel):
    """A channel that does not copy large buffers: they are a `memoryview` of libzmq's memory."""

    def receive_nowait(self) -> Frames:
        """Take the next message. JSON frames are copied, which costs less than a frame object."""
        return self.receive_parts(JSON_FRAMES, SMALL)


class _Heart:
    """Sends each ping of the controller's heart back, until `close`. Copies go to `pings`."""

    def __init__(self, ping: str, pong: str, identity: bytes, options: Options) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        heard = new_socket(self._context, zmq.SUB, {**options, zmq.SUBSCRIBE: b""})
        sent = new_socket(self._context, zmq.DEALER, {**options, zmq.IDENTITY: identity})
        told = new_socket(self._context, zmq.PUB, {zmq.LINGER: 0})
        told.bind("inproc://pings")
        counted: Options = {zmq.SUBSCRIBE: b"", zmq.RCVHWM: PINGS_HWM, zmq.LINGER: 0}
        counter = new_socket(self._context, zmq.SUB, counted)
        counter.connect("inproc://pings")
        self.pings = ZmqChannel("pings", counter)
        sent.connect(pong)
        heard.connect(ping)
        self._sockets: Sequence[zmq.Socket[Any]] = (heard, sent, told)
        thread = threading.Thread(target=self._beat, name="trikernel heart", daemon=True)
        self._thread = mark_untraced(thread)
        self._thread.start()

    def _beat(self) -> None:
        try:
            with contextlib.suppress(zmq.ContextTerminated):
                zmq.proxy(*self._sockets)
        finally:
            for socket in self._sockets:
                socket.close(linger=0)

    def close(self) -> None:
        """End the loop and join its thread. A task that waits for `pings` gets
        `trio.ClosedResourceError`.
        """
        self.pings.close()
        self._context.term()
        self._thread.join()


def _disconnect(url: str, socket: zmq.Socket[Any]) -> None:
    socket.disconnect(url)


def _set(socket: zmq.Socket[Any], options: Options) -> None:
    for option, value in options.items():
        socket.set(option, value)
