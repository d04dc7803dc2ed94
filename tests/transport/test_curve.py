"""CURVE on all five sockets, over tcp and ipc: who has the key speaks, and nobody else is heard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
import trio
import zmq
from zmq.utils.monitor import recv_monitor_message

from trikernel.transport import ConnectionInfo, ZmqClientTransport, ZmqTransport, receive
from trikernel.wire import Codec

from ..harness import KEY, Peer, served_on
from ..kernel.kernels import Recorder
from ..processes import wait_until

TIMEOUT = 60
SOCKETS = {
    "shell": zmq.DEALER,
    "control": zmq.DEALER,
    "stdin": zmq.DEALER,
    "iopub": zmq.SUB,
    "hb": zmq.DEALER,
}
FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
)


class Asking(Recorder):
    """Asks for a line."""

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        if code == "ask":
            code = f"say {await self.async_input('who? ')}"
        return await super().do_execute(code, silent, **options)


def encrypted(over: str, folder: Path) -> ConnectionInfo:
    plain = ConnectionInfo(key=KEY.decode())
    if over == "ipc":
        plain = attrs.evolve(plain, transport="ipc", ip=str(folder / "socket"))
    return plain.encrypted()


def without_keys(info: ConnectionInfo) -> ConnectionInfo:
    return attrs.evolve(info, extra={})


def with_other_keys(info: ConnectionInfo) -> ConnectionInfo:
    return info.encrypted()


STRANGERS = {"no key": without_keys, "wrong key": with_other_keys}


def options_of(info: ConnectionInfo) -> dict[int, bytes]:
    keys = info.curve_keys()
    if keys is None:
        return {}
    public, secret = zmq.curve_keypair()
    return {
        zmq.CURVE_SERVERKEY: keys[0],
        zmq.CURVE_PUBLICKEY: public,
        zmq.CURVE_SECRETKEY: secret,
    }


@contextmanager
def connected(info: ConnectionInfo, name: str, context: zmq.Context[Any]) -> Iterator[Any]:
    """A socket to one channel, and what its monitor has to say."""
    with context.socket(SOCKETS[name]) as socket:
        for option, value in {**options_of(info), zmq.RECONNECT_IVL: 1}.items():
            socket.set(option, value)
        socket.set(zmq.LINGER, 0)
        if name == "iopub":
            socket.set(zmq.SUBSCRIBE, b"")
        with socket.get_monitor_socket(FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED) as monitor:
            socket.connect(info.endpoint(getattr(info, f"{name}_port")))
            yield socket, monitor
            socket.disable_monitor()


@pytest.mark.parametrize("over", ["tcp", "ipc"])
async def test_who_has_the_key_is_heard_on_all_five_sockets(over: str, tmp_path: Path) -> None:
    with ZmqTransport(encrypted(over, tmp_path)) as transport:
        async with served_on(transport, Asking()):
            with ZmqClientTransport(transport.info) as sockets, trio.fail_after(TIMEOUT):
                peer = Peer(sockets)
                await peer.until_subscribed()
                for channel in ("shell", "control"):
                    msg_id = peer.send("kernel_info_request", channel=channel)
                    assert (await peer.receive(channel)).parent_id == msg_id
                sockets.heartbeat.send_nowait([b"", b"beat"])
                assert await receive(sockets.heartbeat) == [b"", b"beat"]
                content = {"code": "ask", "allow_stdin": True}
                msg_id = peer.send("execute_request", content)
                question = await peer.receive("stdin")
                peer.send("input_reply", {"value": "Ada"}, channel="stdin", parent=question.header)
                about = await peer.until_idle(msg_id)
                assert "Ada" in [one.content.get("text") for one in about]


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("over", ["tcp", "ipc"])
async def test_nobody_else_gets_beyond_the_first_words_on_any(
    over: str, stranger: str, tmp_path: Path
) -> None:
    """Each connection is refused while it is made; then what it has sent is never read."""
    kernel = Recorder()
    with ZmqTransport(encrypted(over, tmp_path)) as transport, zmq.Context() as context:
        info = STRANGERS[stranger](transport.info)
        async with served_on(transport, kernel):
            for name in SOCKETS:
                with connected(info, name, context) as (socket, monitor):
                    if name != "iopub":
                        frames = Codec(KEY).encode("execute_request", {"code": "say no"})
                        with suppress(zmq.Again):  # refused already: there is nobody to send it to
                            socket.send_multipart(frames, zmq.NOBLOCK)
                    event = await trio.to_thread.run_sync(next_event, monitor)
                    assert event & FAILED, name
                    assert not socket.poll(0)
            with ZmqClientTransport(transport.info) as sockets:
                peer = Peer(sockets)
                peer.send("execute_request", {"code": "say yes"})
                assert (await peer.receive()).content["status"] == "ok"
            assert not kernel.server.dispatcher.rejected
    assert kernel.ran == ["say yes"]


def next_event(monitor: zmq.Socket[Any]) -> int:
    """The next thing that happens to a connection; 0 for nothing."""
    return int(recv_monitor_message(monitor)["event"]) if monitor.poll(TIMEOUT * 1000) else 0


@contextmanager
def flooded(info: ConnectionInfo) -> Iterator[list[int]]:
    """Somebody with another key connects to every socket, again and again; how often."""
    is_over, counts, wrong = threading.Event(), [0], info.encrypted()

    def flood() -> None:
        with zmq.Context() as context:
            while not is_over.is_set():
                for name in SOCKETS:
                    with connected(wrong, name, context) as (socket, monitor):
                        if name != "iopub":
                            socket.send(b"x")
                        counts[0] += bool(monitor.poll(TIMEOUT * 1000))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield counts
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("over", ["tcp", "ipc"])
async def test_a_flood_of_wrong_keys_keeps_nobody_waiting_and_leaves_nothing_open(
    over: str, tmp_path: Path
) -> None:
    kernel = Recorder()
    with ZmqTransport(encrypted(over, tmp_path)) as transport:
        async with served_on(transport, kernel):
            process = psutil.Process()
            few = process.num_fds() + 10  # some are opened once the services have begun

            def few_are_open() -> bool:
                return bool(process.num_fds() <= few)

            with flooded(transport.info) as counts, ZmqClientTransport(transport.info) as sockets:
                peer = Peer(sockets)
                await peer.until_subscribed()
                number = 0
                while number < 20 or counts[0] < 50:
                    number += 1
                    await peer.until_idle(peer.send("execute_request", {"code": f"say {number}"}))
                    await peer.receive()
                    msg_id = peer.send("kernel_info_request", channel="control")
                    assert (await peer.receive("control")).parent_id == msg_id
            await trio.to_thread.run_sync(wait_until, few_are_open, "the connections to be closed")
            assert not kernel.server.dispatcher.rejected
    assert kernel.ran == [f"say {one}" for one in range(1, number + 1)]
