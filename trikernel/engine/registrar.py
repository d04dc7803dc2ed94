"""An engine at its controller: it registers, looks whether it is still known, and comes back.

What is wanted
    An engine that outlives what happens to its controller: one that was restarted has the engine
    again, with its namespace; an engine that stood still for so long that it was given up comes
    back by itself; if there is no controller any more, it ends.

What does not work
    To register again whenever there is doubt: a controller that knows the engine calls that an
    error. To come back under the old name: the controller's heart monitor has heard that name
    already, and takes no notice of it a second time.

What is done
    There is doubt after a registration, which takes a beat of the heart to be complete, when the
    connection to the registration is new, and when pings come again after some were missing. Then
    the controller is asked which engines it knows. Only if this one is not among them it registers,
    as a new engine with a new identity, which asks for its old number. While the controller is
    away, its connection file is read now and then: another one may have written another one.

    A controller tells its clients of an engine when that has answered a ping, with the next one.
    So if that takes longer than the engine's own start, the heart may beat from the beginning;
    otherwise it does when calls are taken, lest clients wait for an engine that is said to be
    there.

    Clients of an engine that is given up are told that their calls have failed, and schedulers give
    these to others. An engine that stood still meanwhile has them still, and drops them. If the
    connection was lost it is the controller that was away, and told nobody: then calls go on.

What remains
    Calls that were on their way when the controller ended are lost with it; clients that wait for
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

POLL_INTERVAL = 0.5  # seconds between two looks at the connection file
MISSED = 2.5  # periods without a ping after which there is doubt
SETTLED_AFTER = 12.0  # seconds after which a controller has forgotten a registration without beats
READY_WITHIN = 1.5  # seconds from a registration until calls are taken
LONGEST_PAUSE = 30.0  # seconds between two registrations
PING, CONNECTION = "ping", "connection"  # what there is to hear of

_log = logging.getLogger("trikernel")


@attrs.frozen
class Registered:
    """What an engine is at its controller: its number, its name, and how often it is pinged.

    ``farewell`` are the frames that tell the controller that it is gone.
    """

    engine_id: int
    identity: str
    period: float  # seconds
    farewell: list[bytes] = attrs.field(repr=False)


class Registrar:
    """Registers an engine over its transport. ``timeout`` is in seconds, of one answer.

    ``wanted`` is the number that the engine asks for, None for any. ``most_missed`` pings may be
    missing before the engine gives up; 0 for any number. ``on_registered`` is told of each
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
        self._was_away = False  # the controller, as far as one sees, since it last knew this engine
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
        """See to it that the controller knows this engine, until cancelled.

        ``reread`` tells where the controller is by now. Once it is away for too long ``give_up`` is
        called, and this returns. ``drop_calls`` is called when it has given up this engine, and has
        told so.
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
        """Wait until the engine is to register again: where. None when it is to give up."""
        last, in_doubt = trio.current_time(), True  # by this loop's clock: each has its own
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
        """The controller that the connection file names, if that is another one."""
        try:
            found = reread()
        except ConnectionFileError:  # none at the moment
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
        """Register as a new engine, trying until the controller takes it."""
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
        """What became of the connection up to its answer needs no doubt."""
        with suppress(trio.WouldBlock):
            while True:
                self._transport.events.receive_nowait()

    def _new_codec(self) -> Codec:
        transport = self._transport
        return Codec(transport.key, transport.signature_scheme, session=transport.identity)

    async def _ask(
        self, msg_type: str, content: Mapping[str, Any], reply_type: str
    ) -> Mapping[str, Any]:
        """The content of the next reply of that type; what else comes is not for us."""
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
    """Say the word for each message of a channel, until that is closed."""
    while True:
        try:
            await receive(channel)
        except trio.ClosedResourceError:
            return
        await send.send(word)
