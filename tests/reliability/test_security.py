"""Who has no key, or reads nothing, or sends too much: bounded cost, and nobody else suffers."""

from __future__ import annotations

import ast
import hmac
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
import zmq

from trikernel.errors import ConnectionFileError
from trikernel.transport import (
    ConnectionInfo,
    ZmqClientTransport,
    ZmqTransport,
    read_connection_file,
    write_connection_file,
)
from trikernel.wire import Codec

from ..cells import served
from ..harness import Peer, open_peer, served_on
from ..kernel.kernels import Recorder
from ..processes import kernel_process, wait_until
from .forging import ATTACKER, flood

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


# Without the key


@pytest.mark.promise(20)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("channel", "kind"), [("shell", "wrong"), ("control", "unsigned"), ("shell", "garbage")]
)
def test_a_flood_of_forged_messages_costs_bounded_memory_and_log(channel: str, kind: str) -> None:
    outcome = flood(30_000, channel, kind)
    assert outcome.cells >= 10  # the good client's, meanwhile
    assert outcome.growth < 10 << 20
    assert outcome.log_bytes < 2000


@contextmanager
def forger(kernel: Any, channel: str) -> Iterator[None]:
    """A process without the key that sends without an end."""
    port = kernel.client.get_connection_info()[f"{channel}_port"]
    command = [sys.executable, "-c", ATTACKER, f"tcp://127.0.0.1:{port}", "1000000000", "wrong"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == "connected\n"
        try:
            yield
        finally:
            attacker.kill()


@pytest.mark.slow
@pytest.mark.parametrize("channel", ["shell", "control", "stdin"])
def test_questions_interrupts_and_shutdown_get_through_a_flood(channel: str) -> None:
    with kernel_process() as kernel, forger(kernel, channel):
        client = kernel.client
        msg_id = kernel.send("input('name? ')", allow_stdin=True)
        client.get_stdin_msg(timeout=60)
        client.input("Ada")
        assert kernel.finish(msg_id)[0]["status"] == "ok"
        for code in ("while True: pass", "import trio; await trio.sleep(1000)"):
            msg_id = kernel.send(code)
            kernel.until("execute_input")
            kernel.interrupt("message" if channel == "shell" else "signal")
            assert kernel.finish(msg_id)[0]["ename"] == "KeyboardInterrupt"
        client.shutdown()
        assert kernel.process.wait(60) == 0


ODD = (b"", b"\xff\0\0\0\0\0\0\0\1\x7f", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 999)


async def test_bytes_that_are_no_zmtp_and_half_greetings_harm_nobody() -> None:
    kernel = Recorder()
    async with served(kernel, "tcp") as client:
        ports = kernel.server.transport.ports
        with ExitStack() as stack:
            for name in ("shell", "control", "stdin", "iopub"):
                for greeting in (
                    b"",
                    b"\xff\0\0\0\0\0\0\0\1\x7f",
                    b"GET / HTTP/1.1\r\n\r\n",
                    b"\0" * 999,
                ):
                    for _ in range(20):
                        address = "127.0.0.1", ports[f"{name}_port"]
                        half = stack.enter_context(socket.create_connection(address))
                        half.sendall(greeting)
            for number in range(20):
                await client.expect(f"say {number}", stdout=str(number))
        assert not kernel.server.dispatcher.rejected


async def test_a_frame_beyond_the_bound_is_not_even_read() -> None:
    kernel = Recorder()
    with ZmqTransport(ConnectionInfo(key="key"), max_message_bytes=1 << 16) as transport:
        async with served_on(transport, kernel):
            with (
                ZmqClientTransport(transport.info) as big,
                ZmqClientTransport(transport.info) as ok,
            ):
                Peer(big).send("execute_request", {"code": "x" * (1 << 20)})
                peer = Peer(ok)
                await peer.until_subscribed()
                about = await peer.until_idle(peer.send("execute_request", {"code": "say on"}))
                assert "on" in [one.content.get("text") for one in about]
    assert kernel.ran == ["say on"]


AGAIN = [("shell", b"one"), ("shell", b"one"), ("shell", b"two"), ("control", b"one")]


@pytest.mark.promise(20)
async def test_a_message_that_came_is_refused_wherever_it_comes_again() -> None:
    """On the same connection, another one, after a reconnect, on another channel, with buffers."""
    kernel = Recorder()
    frames = Codec(b"key").encode("execute_request", {"code": "say once"})
    with ZmqTransport(ConnectionInfo(key="key")) as transport:
        async with served_on(transport, kernel):
            for number, (channel, name) in enumerate(AGAIN):
                with ZmqClientTransport(transport.info, identity=name) as client:
                    peer = Peer(client)
                    await peer.until_subscribed()
                    peer.send_frames(frames, channel=channel)
                    peer.send_frames([*frames, b"a buffer"], channel=channel)
                    await peer.until_idle(peer.send("kernel_info_request", channel=channel))
                    assert kernel.server.dispatcher.rejected["replay"] == 2 * number + 1
    assert kernel.ran == ["say once"]


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    codec = Codec(b"key")
    frames = codec.encode("x_request", {})
    monkeypatch.setattr(hmac, "compare_digest", compare)
    codec.decode(frames)
    assert compared == [(frames[1], frames[1])]


def test_nothing_unpickles(root: Path) -> None:
    """No module of the package imports what turns bytes into code."""
    forbidden = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle"}
    for path in (root / "trikernel").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {one.name.partition(".")[0] for one in node.names}
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = {(node.module or "").partition(".")[0]}
                assert not names & forbidden, path


# With the key


@pytest.mark.parametrize("seconds", ["NaN", "-1", "1" + "0" * 400, "1e300", "true", '"1"'])
async def test_a_deadline_that_is_none_is_an_error_and_ends_nothing(seconds: str) -> None:
    kernel = Recorder()
    async with served(kernel, "tcp") as client, open_peer(kernel) as peer:
        frames = peer.codec.encode("execute_request", {"code": "say x", "stop_on_error": False})
        frames[4] = b'{"trikernel.timeout":%b}' % seconds.encode()
        frames[1] = peer.codec.sign(frames[2:6])
        peer.send_frames(frames)
        reply = (await peer.receive()).content
        assert reply["ename"] == "ContentError"
        assert "must be a number of seconds from 0 to 1e+09" in reply["evalue"]
        await client.expect("say on", stdout="on")


class Talkative(Recorder):
    """Its replies soon fill what the system keeps for a connection."""

    def do_is_complete(self, code: str) -> dict[str, Any]:
        return {"status": "incomplete", "indent": " " * 20_000}


@contextmanager
def slow_reader(kernel: Recorder) -> Iterator[zmq.Socket[bytes]]:
    """A client for whom little is kept on the way: who does not read is soon seen."""
    transport: Any = kernel.server.transport
    transport.shell[0]._socket.set(zmq.SNDHWM, 1)  # for those who connect from now on
    with zmq.Context() as context, context.socket(zmq.DEALER) as reader:
        for option, value in ((zmq.RCVHWM, 1), (zmq.RCVBUF, 4096), (zmq.LINGER, 0)):
            reader.set(option, value)
        reader.connect(transport.info.endpoint(transport.info.shell_port))
        yield reader


async def test_a_client_that_reads_no_replies_costs_a_budget_and_nobody_else() -> None:
    budget = 1 << 17
    kernel = Talkative(max_backlog_bytes=budget)
    async with served(kernel, "tcp") as client:
        server: Any = kernel.server
        replies, info = server.connection.replies, server.transport.info
        codec = Codec(info.key.encode())
        with slow_reader(kernel) as deaf, trio.fail_after(180):
            while not any(one.lost for one in replies._slow.values()):
                frames = codec.encode("is_complete_request", {"code": "x" * 1000})
                with suppress(zmq.Again):  # the kernel reads, sooner or later
                    deaf.send_multipart(frames, zmq.NOBLOCK)
                await client.kernel_info()
            (waiting,) = replies._slow.values()
            assert 0 < waiting.size <= budget
            await client.expect("say on", stdout="on")
        with trio.fail_after(180):
            while replies._slow:  # until it is seen that it has left
                await client.kernel_info()


async def test_replies_that_waited_come_in_order_once_they_are_read() -> None:
    kernel = Talkative()
    async with served(kernel, "tcp") as client:
        server: Any = kernel.server
        replies, info = server.connection.replies, server.transport.info
        codec, ids = Codec(info.key.encode()), []
        with slow_reader(kernel) as slow, trio.fail_after(180):
            while not any(len(one.waiting) > 20 for one in replies._slow.values()):
                frames = codec.encode("is_complete_request", {"code": ""})
                ids.append(codec.decode_header(frames[2]).msg_id)
                slow.send_multipart(frames)
                await client.kernel_info()
            answered: list[str | None] = []
            while len(answered) < len(ids):
                assert await trio.to_thread.run_sync(slow.poll, 30_000)
                answered.append(codec.decode(slow.recv_multipart()).parent_id)
            assert answered == ids


# Files


@pytest.mark.promise(20)
@posix
def test_nothing_is_readable_by_others_under_any_mask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        path = tmp_path / "deep" / "down" / "k.json"
        write_connection_file(path, ConnectionInfo())
        info = ConnectionInfo(transport="ipc", ip=str(tmp_path / "socket"))
        with ZmqTransport(info) as transport:
            for port in transport.info.ports.values():
                mode = Path(f"{info.ip}-{port}").stat().st_mode
                assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    finally:
        os.umask(mask)
    for one in (path, path.parent, path.parent.parent):
        assert not stat.S_IMODE(one.stat().st_mode) & 0o077
    assert not list(tmp_path.glob("socket*"))


@posix
def test_a_file_in_the_place_of_a_socket_is_kept(tmp_path: Path) -> None:
    precious = tmp_path / "socket-1"
    precious.write_text("precious")
    info = ConnectionInfo(transport="ipc", ip=str(tmp_path / "socket"), shell_port=1)
    with pytest.raises(ConnectionFileError, match="is no socket"):
        ZmqTransport(info)
    assert precious.read_text() == "precious"


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_connection_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if sys.platform == "win32":
        return  # POSIX permissions
    write_connection_file(tmp_path / "k.json", ConnectionInfo())
    os.chown(tmp_path / "k.json", 12345, -1)
    with pytest.raises(ConnectionFileError, match=r"k\.json: belongs to another user"):
        read_connection_file(tmp_path / "k.json")


@posix
def test_a_pipe_is_no_connection_file(tmp_path: Path) -> None:
    if sys.platform == "win32":
        return  # POSIX permissions
    os.mkfifo(tmp_path / "k.json", 0o600)
    with pytest.raises(ConnectionFileError, match="is no plain file"):
        read_connection_file(tmp_path / "k.json")


# A subscriber that does not read


FLOOD = """
import time
end, n = time.monotonic() + {seconds}, 0
while n < {count} or time.monotonic() < end:
    print(n, {filling!r})
    n += 1
print('last', n)
"""


@pytest.mark.promise(9)
@pytest.mark.slow
def test_a_stalled_subscriber_is_told_where_it_lost_output(request: pytest.FixtureRequest) -> None:
    """60 MB, far more than is kept for it; with ``--thorough`` it stalls for a minute instead."""
    count, seconds, filling = 60_000, 0, "x" * 1000
    if request.config.getoption("--thorough"):
        count, seconds, filling = 0, 60, ""
    code = FLOOD.format(count=count, seconds=seconds, filling=filling)
    with kernel_process() as kernel, zmq.Context() as context, context.socket(zmq.SUB) as stalled:
        info = read_connection_file(kernel.path)
        stalled.set(zmq.RCVHWM, 10)
        stalled.set(zmq.LINGER, 0)
        stalled.set(zmq.SUBSCRIBE, b"")
        stalled.connect(info.endpoint(info.iopub_port))
        assert stalled.poll(30_000)  # the welcome; from now on it reads nothing
        process = psutil.Process(kernel.process.pid)
        before = process.memory_info().rss
        msg_id, outputs, grown = kernel.send(code), [], 0
        while True:  # the good one reads all the time
            message = kernel.client.get_iopub_msg(timeout=60)
            grown = max(grown, process.memory_info().rss - before)
            if message["content"].get("execution_state") == "idle":
                break
            outputs.append(message)
        print(f"the kernel has grown by {grown / 2**20:.0f} MiB at most")
        assert grown < 150 << 20  # 1000 messages of 64 KiB, and 16 MiB
        reply = kernel.client.get_shell_msg(timeout=60)
        assert reply["parent_header"]["msg_id"] == msg_id
        assert reply["content"]["status"] == "ok"
        text = "".join(
            one["content"]["text"]
            for one in outputs
            if one["msg_type"] == "stream" and one["content"]["name"] == "stdout"
        )
        lines = text.splitlines()
        count = int(lines[-1].split()[1])
        whole = lines[:-1] == [f"{number} {filling}" for number in range(count)]
        assert whole  # the good one has it all
        found = b"".join(_drain(stalled))
        assert b"output dropped" in found
        kernel.execute("print('heard again')")
        wait_until(lambda: b"heard again" in b"".join(_drain(stalled)), "live output")


def _drain(subscriber: zmq.Socket[Any]) -> Iterator[bytes]:
    while subscriber.poll(500):
        yield from subscriber.recv_multipart()
