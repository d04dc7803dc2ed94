"""Registers an engine at its controller, checks that the controller still knows it, and registers
it again if not.

What is wanted
    An engine that survives what happens to its controller. If the controller is restarted, it gets
    the engine back, with its namespace. If an engine was stopped for so long that the controller
    gave it up, it comes back by itself. If there is no controller any more, the engine ends.

What does not work
    To register again whenever the engine is not sure: a controller that knows the engine reports
    that as an error. To register under the old name: the controller's heart monitor has seen that
    name already, and ignores it the second time.

What is done
    The engine is *in doubt* in three cases: after a registration, which is only complete after a
    heartbeat; when the connection to the registration socket was lost or made anew; and when no
    ping has come for some time. At the next ping it asks the controller which engines that knows.
    Only if it is not among them it registers, as a new engine with a new identity, and asks for its
    old number. While no ping comes, it also reads the connection file now and then: another
    controller may have written a new one.

    A controller tells its clients of an engine at the ping after the first one that the engine has
    answered. If the pings are further apart than the engine's start takes, the engine answers them
    from the beginning; otherwise only when it takes calls, so that no client waits for an engine
    that does not take calls yet.

    When a controller gives up an engine, it tells the clients that their calls have failed, and
    schedulers give the calls to other engines. If that engine was only stopped, it still has these
    calls, and drops them. But if the engine's connection was lost, the controller was away and told
    nobody: then the calls go on.

What remains
    Calls that were on their way when the controller ended are lost; but the clients that wait for
    them have lost their controller, too.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import attrs
import trio

from ..errors import ConnectionFileError, NotRegistered, WireError
from ..transport import Controller, EngineTransport, ZmqChannel, receive
from ..wire import Codec

__all__ = ["Registered", "Registrar"]

POLL_INTERVAL = 0.5  # seconds between two reads of the connection file
MISSED = 2.5  # ping periods without a ping, after which the engine is in doubt
SETTLED_AFTER = 12.0  # seconds: then a controller has dropped a registration without heartbeats
READY_WITHIN = 1.5  # seconds from a registration until the engine takes calls
LONGEST_PAUSE = 30.0  # seconds between two tries to register
PING, CONNECTION = "ping", "connection"  # what `_wait_for_another` is told

_log = logging.getLogger("trikernel")


@attrs.frozen
class Registered:
    """A registration: the engine's number and name, and how often the controller pings it.

    ``farewell`` are the frames that tell the controller that the engine has ended.
    """

    engine_id: int
    identity: str
    period: float  # seconds
    farewell: list[bytes] = attrs.field(repr=False)


class Registrar:
    """Registers an engine over its transport. ``timeout`` is how many seconds an answer may take.

    ``wanted`` is the number that the engine asks for, None for any. After ``most_missed`` missing
    pings the engine gives up; with 0 it never does. ``on_registered`` is called with each
    registration.
    """

    def __init__(
        self,
        transport: EngineTransport,
        on_registered: Callable[[Registered], object],
        *,
        wanted: int | None = None,
        timeout: float = 5.0,
        most_missed: int = 50,
    ) -> None:
        self._transport = transport
        self._on_registered = on_registered
        self._wanted = wanted
        self._timeout = timeout
        self._most_missed = most_missed
        self._period = 3.0
        # Whether the controller seems to have been away since it last knew this engine.
        self._was_away = False
        self._codec = self._new_codec()

    async def register(self) -> Registered:
        """Register, and connect to the schedulers. Raises `NotRegistered`."""
        transport = self._transport
        content: dict[str, Any] = {"uuid": transport.identity}
        if self._wanted is not None:
            content["id"] = self._wanted
        with trio.move_on_after(self._timeout):
            reply = await self._ask("registration_request", content, "registration_reply")
            return self._accept(reply)
        raise NotRegistered(
            f"the controller at {transport.controller.url('registration')} did not answer within "
            f"{self._timeout:g} seconds: it is not there, not reachable from here, or has other "
            f"keys than {transport.controller.source}"
        )

    def _accept(self, reply: Mapping[str, Any]) -> Registered:
        if reply.get("status") != "ok":
            raise NotRegistered(f"the controller refuses this engine: {reply.get('evalue')}")
        engine_id, period = reply.get("id"), reply.get("hb_period", 3000)
        if not isinstance(engine_id, int) or not isinstance(period, (int, float)):
            raise NotRegistered(
                f"the controller answers what this engine does not understand: {reply!r:.200}"
            )
        self._period, self._wanted = max(period, 1) / 1000, engine_id
        farewell = self._codec.encode("unregistration_request", {"id": engine_id})
        registered = Registered(engine_id, self._transport.identity, self._period, farewell)
        self._transport.farewell = farewell
        self._drop_events()
        self._on_registered(registered)
        self._transport.connect(engine_id)
        if self._period > READY_WITHIN:
            self._transport.beat()
        return registered

    async def follow(
        self,
        reread: Callable[[], Controller],
        give_up: Callable[[], object],
        drop_calls: Callable[[], Awaitable[object]],
    ) -> None:
        """Keep this engine registered, until cancelled.

        ``reread`` returns where the controller is now. If the controller is away for too long,
        ``give_up`` is called and this returns. ``drop_calls`` is called when the controller has
        given up this engine, and has told the clients of its calls.
        """
        while True:
            transport = self._transport
            transport.beat()
            send, heard = trio.open_memory_channel[str](64)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell, transport.pings, send, PING)
                nursery.start_soon(_tell, transport.events, send, CONNECTION)
                found = await self._wait_for_another(heard, reread)
                nursery.cancel_scope.cancel()
            if found is None:
                give_up()
                return
            if not self._was_away:
                await drop_calls()
            await self._come_back(found)

    async def _wait_for_another(
        self, heard: trio.MemoryReceiveChannel[str], reread: Callable[[], Controller]
    ) -> Controller | None:
        """Wait until the engine must register again; the controller to register at. None if the
        engine must give up.
        """
        last, in_doubt = trio.current_time(), True  # on this loop's clock: each loop has its own
        settles_at = last + SETTLED_AFTER + MISSED * self._period
        while True:
            word = ""
            with trio.move_on_after(POLL_INTERVAL if in_doubt else MISSED * self._period):
                word = await heard.receive()
            now = trio.current_time()
            silent = now - last
            if word == PING:
                last = now
                in_doubt = in_doubt or silent > MISSED * self._period
                if in_doubt:
                    known = await self._is_known()
                    if known is False and now > settles_at:
                        return self._transport.controller
                    if known:
                        in_doubt, settles_at, self._was_away = False, now, False
            elif word == CONNECTION:
                in_doubt = self._was_away = True
            else:
                in_doubt = True
                if self._most_missed and silent > self._most_missed * self._period:
                    _log.critical("no word of the controller for %d seconds: the end", silent)
                    return None
                other = self._other(reread)
                if other is not None:
                    self._was_away = True
                    return other

    def _other(self, reread: Callable[[], Controller]) -> Controller | None:
        """The controller that the connection file names now, if it is another one."""
        try:
            found = reread()
        except ConnectionFileError:  # there is no file at the moment
            return None
        return found if found != self._transport.controller else None

    async def _is_known(self) -> bool | None:
        """Whether the controller knows this engine; None if it does not say."""
        with trio.move_on_after(self._timeout):
            reply = await self._ask("connection_request", {}, "connection_reply")
            engines = reply.get("engines")
            if isinstance(engines, Mapping):
                return self._transport.identity in engines.values()
        return None

    async def _come_back(self, controller: Controller) -> None:
        """Register as a new engine; try again until the controller accepts it."""
        pause = POLL_INTERVAL
        while True:
            _log.warning("this engine is not known to its controller: it registers again")
            self._transport.move(controller, str(uuid.uuid4()))
            self._codec = self._new_codec()
            try:
                await self.register()
                return
            except NotRegistered as error:
                _log.warning("%s", error)
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _drop_events(self) -> None:
        """Drop what has happened to the connection up to the answer: it is no reason for doubt."""
        with suppress(trio.WouldBlock):
            while True:
                self._transport.events.receive_nowait()

    def _new_codec(self) -> Codec:
        transport = self._transport
        return Codec(transport.key, transport.signature_scheme, session=transport.identity)

    async def _ask(
        self, msg_type: str, content: Mapping[str, Any], reply_type: str
    ) -> Mapping[str, Any]:
        """Send a request, and wait for the next reply of that type; its content. Other messages are
        ignored.
        """
        channel = self._transport.registration
        channel.send_nowait(self._codec.encode(msg_type, content))
        while True:
            try:
                message = self._codec.decode(await receive(channel))
            except WireError as error:
                _log.warning("dropped a message of the controller: %s", error)
                continue
            if message.msg_type == reply_type:
                return message.content


async def _tell(channel: ZmqChannel, send: trio.MemorySendChannel[str], word: str) -> None:
    """Send ``word`` for each message on a channel, until that is closed."""
    while True:
        try:
            await receive(channel)
        except trio.ClosedResourceError:
            return
        await send.send(word)
