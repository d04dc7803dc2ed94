"""An engine at its controller, which is played here, under the virtual clock."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from trikernel.engine.registrar import Registered, Registrar
from trikernel.errors import ConnectionFileError, NotRegistered
from trikernel.transport import Controller
from trikernel.wire import Codec

HERE = Controller("tcp://here", {"registration": 1}, (2,), b"key")
PERIOD = 3  # seconds between two pings


class Line:
    """One channel, whose other end is in the test's hands."""

    name = "line"

    def __init__(self, answer: Callable[[list[bytes]], object] = lambda frames: None) -> None:
        self._send, self._receive = trio.open_memory_channel[list[bytes]](1000)
        self._answer = answer

    def send_nowait(self, frames: Any) -> None:
        self._answer(list(frames))

    def put(self, frames: list[bytes]) -> None:
        self._send.send_nowait(frames)

    def receive_nowait(self) -> list[bytes]:
        return self._receive.receive_nowait()

    async def wait_readable(self) -> None:
        frames = await self._receive.receive()
        rest = [frames]
        while True:
            try:
                rest.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
        for one in rest:
            self._send.send_nowait(one)


@attrs.define(eq=False)
class Played:
    """A transport whose controller is played: it answers by ``answers``, by message type."""

    controller: Controller = HERE
    identity: str = "first"
    answers: dict[str, Any] = attrs.field(factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)
    moves: list[Controller] = attrs.field(factory=list)
    connected: list[int] = attrs.field(factory=list)
    beats: int = 0
    drops: int = 0
    farewell: list[bytes] | None = None
    signature_scheme: str = "hmac-sha256"
    registration: Line = attrs.field(init=False)
    events: Line = attrs.field(factory=Line)
    pings: Line = attrs.field(factory=Line)

    def __attrs_post_init__(self) -> None:
        self.registration = Line(self._answer)

    @property
    def key(self) -> bytes:
        return self.controller.key

    def _answer(self, frames: list[bytes]) -> None:
        message = Codec(self.key).decode(frames)
        self.asked.append((message.msg_type, dict(message.content)))
        content = self.answers.get(message.msg_type)
        if callable(content):
            content = content(self, message.content)
        if content is not None:
            name = message.msg_type.replace("request", "reply")
            self.registration.put(Codec(self.key).encode(name, content))

    def connect(self, engine_id: int) -> None:
        self.connected.append(engine_id)

    def beat(self) -> None:
        self.beats += 1

    def move(self, controller: Controller, identity: str) -> None:
        self.moves.append(controller)
        self.controller, self.identity = controller, identity

    async def drop_calls(self) -> None:
        self.drops += 1

    async def ping(self, times: int) -> None:
        for _ in range(times):
            await trio.sleep(PERIOD)
            self.pings.put([b"1.0"])

    def count(self, msg_type: str) -> int:
        return sum(asked == msg_type for asked, _ in self.asked)


def accepts(played: Played, content: Any) -> dict[str, Any]:
    return {"status": "ok", "id": content.get("id", 7), "hb_period": PERIOD * 1000}


def knows(played: Played, content: Any) -> dict[str, Any]:
    return {"status": "ok", "engines": {"7": played.identity}}


def knows_nobody(played: Played, content: Any) -> dict[str, Any]:
    return {"status": "ok", "engines": {}}


def registrar_of(played: Played, told: list[Registered] | None = None, **options: Any) -> Registrar:
    return Registrar(played, (told if told is not None else []).append, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("autojump_clock")
async def test_an_engine_registers_and_connects() -> None:
    told: list[Registered] = []
    played = Played(answers={"registration_request": accepts})
    registered = await registrar_of(played, told).register()
    assert (registered.engine_id, registered.identity, registered.period) == (7, "first", PERIOD)
    assert played.asked == [("registration_request", {"uuid": "first"})]
    assert (played.connected, told) == ([7], [registered])
    farewell = Codec(b"key").decode(played.farewell or [])
    assert (farewell.msg_type, farewell.content) == ("unregistration_request", {"id": 7})


@pytest.mark.usefixtures("autojump_clock")
@pytest.mark.parametrize(("period", "beats"), [(3000, 1), (250, 0)])
async def test_clients_hear_of_an_engine_when_it_takes_calls(period: int, beats: int) -> None:
    answer = {"status": "ok", "id": 7, "hb_period": period}
    played = Played(answers={"registration_request": answer, "connection_request": knows})
    await registrar_of(played).register()
    assert played.beats == beats


@pytest.mark.usefixtures("autojump_clock")
async def test_an_engine_may_ask_for_its_number() -> None:
    played = Played(answers={"registration_request": accepts})
    assert (await registrar_of(played, wanted=3).register()).engine_id == 3


ANSWERS: dict[str, Any] = {
    "refuses": {"status": "error", "ename": "KeyError", "evalue": "uuid in use"},
    "is of another kind": {"status": "ok", "id": "seven"},
    "is silent": None,
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.usefixtures("autojump_clock")
async def test_a_controller_that_does_not_take_it_is_an_error(answer: str) -> None:
    played = Played(answers={"registration_request": ANSWERS[answer]})
    began = trio.current_time()
    with pytest.raises(NotRegistered):
        await registrar_of(played).register()
    assert trio.current_time() - began == (5 if answer == "is silent" else 0)
    assert played.connected == []


@pytest.mark.usefixtures("autojump_clock")
async def test_an_answer_with_a_wrong_signature_is_none() -> None:
    played = Played()
    played.registration.put(Codec(b"another key").encode("registration_reply", {"status": "ok"}))
    with pytest.raises(NotRegistered, match="did not answer within 5 seconds"):
        await registrar_of(played).register()


async def followed(
    played: Played,
    act: Callable[[], Awaitable[object]],
    reread: Callable[[], Controller] = lambda: HERE,
) -> bool:
    """Follow while ``act`` runs; whether the engine has given up. `Played.drops` counts, too."""
    gave_up: list[bool] = []
    registrar = registrar_of(played)
    await registrar.register()
    async with trio.open_nursery() as nursery:
        give_up = partial(gave_up.append, True)
        nursery.start_soon(registrar.follow, reread, give_up, played.drop_calls)
        await act()
        nursery.cancel_scope.cancel()
    return bool(gave_up)


@pytest.mark.usefixtures("autojump_clock")
async def test_an_engine_that_is_pinged_and_known_asks_nothing_more() -> None:
    played = Played(answers={"registration_request": accepts, "connection_request": knows})
    assert not await followed(played, lambda: played.ping(100))
    assert played.count("connection_request") == 1


@pytest.mark.usefixtures("autojump_clock")
async def test_pings_that_were_missing_are_cause_to_ask_and_no_more_if_it_is_known() -> None:
    played = Played(answers={"registration_request": accepts, "connection_request": knows})

    async def act() -> None:
        await played.ping(10)
        await trio.sleep(10 * PERIOD)
        await played.ping(10)

    assert not await followed(played, act)
    assert played.count("connection_request") == 2
    assert played.moves == []


@pytest.mark.usefixtures("autojump_clock")
async def test_an_engine_that_is_not_known_any_more_comes_back_under_another_name() -> None:
    played = Played(answers={"registration_request": accepts, "connection_request": knows_nobody})

    async def act() -> None:
        played.answers["connection_request"] = knows
        await played.ping(10)
        await trio.sleep(20 * PERIOD)
        played.answers["connection_request"] = knows_nobody
        await played.ping(1)
        await trio.testing.wait_all_tasks_blocked()
        played.answers["connection_request"] = knows
        await played.ping(10)

    assert not await followed(played, act)
    assert played.moves == [HERE]
    assert played.drops == 1
    assert played.identity != "first"
    assert played.connected == [7, 7]
    registered = [content for name, content in played.asked if name == "registration_request"]
    assert registered == [{"uuid": "first"}, {"uuid": played.identity, "id": 7}]


@pytest.mark.usefixtures("autojump_clock")
async def test_calls_go_on_if_it_was_the_controller_that_was_away() -> None:
    played = Played(answers={"registration_request": accepts, "connection_request": knows})

    async def act() -> None:
        await played.ping(10)
        await trio.sleep(10 * PERIOD)
        played.answers["connection_request"] = knows_nobody
        played.events.put([b"lost"])
        played.events.put([b"again"])
        await played.ping(1)
        await trio.testing.wait_all_tasks_blocked()
        played.answers["connection_request"] = knows
        await played.ping(10)

    assert not await followed(played, act)
    assert (played.moves, played.drops) == ([HERE], 0)


@pytest.mark.usefixtures("autojump_clock")
async def test_a_new_connection_is_cause_to_ask() -> None:
    played = Played(answers={"registration_request": accepts, "connection_request": knows})

    async def act() -> None:
        await played.ping(10)
        played.events.put([b"again"])
        await played.ping(3)

    assert not await followed(played, act)
    assert played.count("connection_request") == 2


@pytest.mark.usefixtures("autojump_clock")
async def test_a_registration_that_has_not_settled_is_not_doubted() -> None:
    played = Played(answers={"registration_request": accepts, "connection_request": knows_nobody})

    async def act() -> None:
        await played.ping(4)

    assert not await followed(played, act)
    assert played.count("registration_request") == 1


@pytest.mark.usefixtures("autojump_clock")
async def test_another_controller_by_another_file_gets_the_engine() -> None:
    other = attrs.evolve(HERE, interface="tcp://there", key=b"another")
    played = Played(answers={"registration_request": accepts, "connection_request": knows})
    there: list[Controller] = []

    def reread() -> Controller:
        if not there:
            raise ConnectionFileError("there is no file at the moment")
        return there[0]

    async def act() -> None:
        await played.ping(10)
        await trio.sleep(10 * PERIOD)
        there.append(other)
        await played.ping(3)

    assert not await followed(played, act, reread)
    assert (played.moves, played.drops) == ([other], 0)
    assert played.connected == [7, 7]


@pytest.mark.usefixtures("autojump_clock")
async def test_an_engine_without_a_controller_gives_up_in_the_end() -> None:
    played = Played(answers={"registration_request": accepts})
    assert not await followed(played, partial(trio.sleep, 49 * PERIOD))
    played = Played(answers={"registration_request": accepts})
    assert await followed(played, partial(trio.sleep, 60 * PERIOD))


@pytest.mark.usefixtures("autojump_clock")
async def test_coming_back_is_tried_less_and_less_often() -> None:
    played = Played(answers={"registration_request": accepts, "connection_request": knows_nobody})

    async def act() -> None:
        await played.ping(10)
        await trio.sleep(20 * PERIOD)
        played.answers["registration_request"] = None
        await played.ping(200)

    await followed(played, act)
    assert 5 < len(played.moves) < 40


FIELDS = {
    "interface": "tcp://127.0.0.1",
    "location": "here",
    "key": "abc",
    "signature_scheme": "hmac-sha256",
    "pack": "json",
    "unpack": "json",
    **dict.fromkeys(("registration", "mux", "task", "control", "iopub", "hb_ping", "hb_pong"), 5),
    "broadcast": [6, 7],
    "ssh": "",
}


def test_a_controllers_file_is_read() -> None:
    found = Controller.of(json.loads(json.dumps(FIELDS)), "file")
    assert found.url("mux") == "tcp://127.0.0.1:5"
    assert found.shell_urls(3)[-1] == "tcp://127.0.0.1:7"
    assert (found.key, found.curve_serverkey) == (b"abc", None)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"pack": "pickle"}, "'pack'"),
        ({"ssh": "user@host"}, "tunnel"),
        ({"mux": "five"}, "'mux'"),
        ({"mux": True}, "'mux'"),
        ({"mux": 70_000}, "'mux'.*65535"),
        ({"task": 0}, "'task'"),
        ({"key": None}, "'key' must be a string$"),
        ({"signature_scheme": 5}, "'signature_scheme'"),
        ({"broadcast": []}, "'broadcast'"),
        ({"broadcast": 6}, "ipyparallel 7"),
        ({"broadcast": [6, "7"]}, "'broadcast'"),
        ({"interface": "nowhere"}, "'interface'"),
    ],
)
def test_a_file_that_cannot_be_used_names_its_field(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConnectionFileError, match=match):
        Controller.of({**FIELDS, **change}, "file")


@pytest.mark.parametrize("name", ["interface", "registration", "mux", "hb_pong", "broadcast"])
def test_a_field_that_is_missing_is_named(name: str) -> None:
    fields = {field: value for field, value in FIELDS.items() if field != name}
    with pytest.raises(ConnectionFileError, match=f"'{name}'"):
        Controller.of(fields, "file")


def test_fields_that_say_nothing_to_an_engine_do_no_harm() -> None:
    left = {name: FIELDS[name] for name in FIELDS if name not in ("location", "ssh", "pack")}
    assert Controller.of({**left, "hub": 5}, "file") == Controller.of(FIELDS, "file")


@pytest.mark.parametrize("interface", ["tcp://*", "tcp://0.0.0.0"])
def test_who_listens_anywhere_on_this_machine_is_reached_by_the_loopback(interface: str) -> None:
    found = Controller.of({**FIELDS, "interface": interface, "location": "127.0.0.1"}, "file")
    assert found.interface == "tcp://127.0.0.1"
