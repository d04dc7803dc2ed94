"""The startup handshake, both ends of it, and what else comes to a registration socket."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import zmq

from trikernel.errors import ConnectionFileError, WireError
from trikernel.transport import (
    ConnectionInfo,
    Registrar,
    Registration,
    ZmqTransport,
    offers_handshake,
    read_connection_file,
    read_startup_file,
    register,
)
from trikernel.wire import DELIMITER, Codec

TIMEOUT = 30  # seconds; far more than any test needs
PORTS: dict[str, Any] = {
    "shell_port": 1,
    "iopub_port": 2,
    "stdin_port": 3,
    "control_port": 4,
    "hb_port": 5,
}
GOOD = {
    "kernel_id": "k",
    "transport": "tcp",
    "registration_ip": "127.0.0.1",
    "registration_port": 1,
    "signature_scheme": "hmac-sha256",
    "key": "secret-key",
}


def place(over: str, folder: Path) -> ConnectionInfo:
    if over == "ipc":
        return ConnectionInfo(transport="ipc", ip=str(folder / "socket"))
    return ConnectionInfo().encrypted() if over == "curve" else ConnectionInfo()


async def registering(registration: Registration) -> None:
    await trio.to_thread.run_sync(register, registration, PORTS, TIMEOUT)


class Stranger:
    """Speaks to a registration socket, or is one, without trikernel's code."""

    def __init__(self, registration: Registration) -> None:
        self.codec = Codec(registration.key.encode())
        self.kernel_id = registration.kernel_id
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.connect(registration.endpoint)

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.context.destroy(linger=1000)

    def send(self, fields: Any) -> None:
        """A content that is signed with the key, whatever it is."""
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        self.socket.send_multipart([DELIMITER, self.codec.sign([body]), body])


@contextmanager
def registered_by_a_stranger() -> Iterator[tuple[Registrar, Stranger]]:
    """A registration socket, and a peer of it that is no kernel."""
    with Registrar(ConnectionInfo()) as registrar, Stranger(registrar.registration) as kernel:
        yield registrar, kernel


@pytest.mark.parametrize("over", ["tcp", "ipc", "curve"])
async def test_the_ports_that_a_kernel_has_bound_reach_its_launcher(
    over: str, tmp_path: Path
) -> None:
    with trio.fail_after(TIMEOUT), Registrar(place(over, tmp_path)) as registrar:
        registrar.write(tmp_path / "registration.json")
        registration = read_startup_file(tmp_path / "registration.json")
        assert isinstance(registration, Registration)
        asked = registration.connection()
        assert asked.curve_keys() == place_keys(registrar)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registering, registration)
            info = await registrar.wait_registered()
    assert info.ports == PORTS
    zeros: dict[str, Any] = dict.fromkeys(PORTS, 0)
    assert attrs.evolve(info, **zeros) == asked
    assert os.listdir(tmp_path) == ["registration.json"]


def place_keys(registrar: Registrar) -> tuple[bytes, bytes] | None:
    return ConnectionInfo(extra=registrar.registration.extra).curve_keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kernel_id": None}, "'kernel_id' is missing"),
        ({"kernel_id": ""}, "'kernel_id' must be a string that is not empty"),
        ({"kernel_id": 7}, "'kernel_id' must be a string"),
        ({"kernel_id": "a\nb"}, "'kernel_id' must be a string of printable"),
        ({"registration_ip": None}, "'registration_ip' is missing"),
        ({"registration_ip": ["127.0.0.1"]}, "'registration_ip' must be a string"),
        ({"registration_port": None}, "'registration_port' is missing"),
        ({"registration_port": "1"}, "'registration_port' must be a port"),
        ({"registration_port": 0}, "'registration_port' must be a port"),
        ({"registration_port": True}, "'registration_port' must be a port"),
        ({"registration_port": 1 << 16}, "'registration_port' must be a port"),
        ({"transport": "udp"}, "'transport' must be one of 'tcp' and 'ipc'"),
        ({"registration_ip": "::1"}, "IPv4 address (IPv6 is not supported), not '::1'"),
        ({"key": None}, "'key' is missing"),
        ({"key": "secret-key\n"}, "'key' must be a string of printable characters"),
        ({"signature_scheme": "hmac-nonsense"}, "signature_scheme: 'hmac-nonsense' is not known"),
        ({"shell_port": 1}, "'shell_port' is a connection file's"),
        ({"curve_secretkey": "x"}, "'curve_publickey' is missing"),
        ({"curve_publickey": "x", "curve_secretkey": "y"}, "'curve_publickey' must be a CURVE key"),
    ],
)
def test_a_bad_file_is_refused_by_file_and_field(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    fields = {name: one for name, one in {**GOOD, **change}.items() if one is not None}
    path = tmp_path / "bad.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(fields))
    with pytest.raises(ConnectionFileError) as caught:
        read_startup_file(path)
    text = str(caught.value)
    assert text.startswith(f"registration file {path}: field ")
    assert words in text
    assert "\n" not in text
    assert "secret-key" not in text


def test_no_client_takes_it_for_a_connection_file(tmp_path: Path) -> None:
    path = tmp_path / "registration.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(GOOD))
    with pytest.raises(ConnectionFileError, match="is a registration file"):
        read_connection_file(path)


def test_an_address_that_no_way_leads_to_is_told() -> None:
    registration = Registration("k", "tcp", "no such host", 1, "key", source="registration file x")
    with pytest.raises(ConnectionFileError, match=r"^registration file x: field 'registration_ip'"):
        registration.connection()


def test_nobody_listens() -> None:
    with Registrar(ConnectionInfo()) as registrar:
        registration = registrar.registration
    with pytest.raises(ConnectionFileError, match="nobody listens at tcp://127"):
        register(registration, PORTS, 0.2)


def test_nobody_listens_on_an_ipc_path(tmp_path: Path) -> None:
    """The kernel would take the path itself, and register with itself."""
    with Registrar(place("ipc", tmp_path)) as registrar:
        registration = registrar.registration
        assert registration.connection().ip == registration.registration_ip
    with pytest.raises(ConnectionFileError, match="nobody listens at ipc:"):
        registration.connection()


def test_who_listens_does_not_speak_zeromq() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConnectionFileError, match="nobody listens"):
            register(Registration("k", "tcp", "127.0.0.1", port, "key"), PORTS, 0.2)


def test_nobody_acknowledges() -> None:
    refused = pytest.raises(ConnectionFileError, match=r"not acknowledged within 0\.2 seconds")
    with Registrar(ConnectionInfo()) as registrar, refused:
        register(registrar.registration, PORTS, 0.2)


def two(codec: Codec, body: bytes) -> list[list[bytes]]:
    return [[DELIMITER, codec.sign([body]), body]] * 2


ANSWERS: dict[str, tuple[Callable[[Codec, bytes], list[list[bytes]]], str]] = {
    "two": (two, ""),
    "no JSON in it": (lambda codec, _: [[DELIMITER, codec.sign([b"yes"]), b"yes"]], ""),
    "unsigned": (lambda _, body: [[DELIMITER, b"", body]], "wrong signature"),
    "signed with another key": (
        lambda _, body: [[DELIMITER, Codec(b"other").sign([body]), body]],
        "wrong signature",
    ),
    "a whole message": (lambda codec, _: [codec.encode("ack", {})], "5 frames after the delimiter"),
    "no delimiter": (lambda _, body: [[body]], "no <IDS|MSG> delimiter"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_comes_for_an_acknowledgement(case: str) -> None:
    """One that is signed is enough, whatever it says; what is not signed ends the wait at once."""
    make, words = ANSWERS[case]
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        registration = Registration("k", "tcp", "127.0.0.1", port, "key")

        def answer() -> None:
            identity = router.recv_multipart()[0]
            for frames in make(Codec(b"key"), b'{"status": "ok"}'):
                router.send_multipart([identity, *frames])

        launcher = threading.Thread(target=answer)
        launcher.start()
        try:
            if not words:
                register(registration, PORTS, TIMEOUT)
            else:
                with pytest.raises(ConnectionFileError, match=words):
                    register(registration, PORTS, TIMEOUT)
        finally:
            launcher.join()


async def test_what_is_not_signed_with_the_key_does_not_disturb_a_registration() -> None:
    with trio.fail_after(TIMEOUT), registered_by_a_stranger() as (registrar, kernel):
        for _ in range(50):
            kernel.socket.send_multipart([b"garbage"])
            kernel.socket.send_multipart([DELIMITER, b"", b"{}", b"{}"])
            kernel.socket.send_multipart([DELIMITER, b"0" * 64, b"{}"])
        kernel.send({"kernel_id": "another one", **PORTS})
        kernel.send({"kernel_id": kernel.kernel_id, **PORTS})
        assert (await registrar.wait_registered()).ports == PORTS
    refused = {"delimiter": 50, "frames": 50, "signature": 50, "kernel_id": 1}
    assert registrar.refused == refused


@pytest.mark.parametrize(
    "fields",
    [
        b"no json",
        b"[]",
        {"shell_port": None},
        {"shell_port": True},
        {"shell_port": ""},
        {"shell_port": "0"},
        {"shell_port": "65536"},
        {"shell_port": "\u0661"},
        {"shell_port": -1},
        {"shell_port": "2"},
    ],
)
async def test_a_signed_registration_that_is_wrong_is_told_at_once(fields: Any) -> None:
    with trio.fail_after(TIMEOUT), registered_by_a_stranger() as (registrar, kernel):
        if isinstance(fields, dict):
            fields = {"kernel_id": kernel.kernel_id, **PORTS, **fields}
        kernel.send(fields)
        with pytest.raises(WireError):
            await registrar.wait_registered()


async def test_ports_may_be_strings_or_numbers() -> None:
    """The specification has strings; a number says the same."""
    for kind in (str, int):
        with trio.fail_after(TIMEOUT), registered_by_a_stranger() as (registrar, kernel):
            ports = {name: kind(port) for name, port in PORTS.items()}
            kernel.send({"kernel_id": kernel.kernel_id, **ports})
            assert (await registrar.wait_registered()).ports == PORTS
            wait = partial(kernel.socket.poll, TIMEOUT * 1000)
            assert await trio.to_thread.run_sync(wait)


def test_a_registration_socket_that_cannot_be_bound_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFileError, match="registration socket: cannot bind tcp://"):
        Registrar(ConnectionInfo(ip="no-such-interface"))


def test_an_ipc_path_in_no_folder_is_told(tmp_path: Path) -> None:
    place = ConnectionInfo(transport="ipc", ip=str(tmp_path / "none" / "socket"))
    for make in (Registrar, ZmqTransport):
        with pytest.raises(
            ConnectionFileError, match=r"cannot bind ipc:.*: No such file"
        ) as caught:
            make(place)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("version", "does"),
    [("5.6", True), ("5.6.0", True), ("6.0", True), ("5.10", True), ("5.5.0", False), ("", False),
     ("5", False), ("new", False)],
)  # fmt: skip
def test_a_kernelspec_offers_it_by_its_version(version: str, does: bool) -> None:
    assert offers_handshake(version) is does
