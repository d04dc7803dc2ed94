"""Connection files: written for their owner only, refused with the file and the field named."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zmq

from trikernel.errors import ConnectionFileError
from trikernel.transport import (
    ConnectionInfo,
    ZmqClientTransport,
    ZmqTransport,
    read_connection_file,
    write_connection_file,
)
from trikernel.transport.connection_file import read_fields

from ..processes import ROOT

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


def written(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def test_what_is_written_reads_back_unknown_fields_included(tmp_path: Path) -> None:
    info = ConnectionInfo(shell_port=5, key="secret", extra={"kernel_name": "x"})
    write_connection_file(tmp_path / "sub" / "k.json", info)
    assert read_connection_file(tmp_path / "sub" / "k.json") == info


@posix
def test_it_is_written_for_its_owner_only(tmp_path: Path) -> None:
    write_connection_file(tmp_path / "k.json", ConnectionInfo())
    assert stat.S_IMODE((tmp_path / "k.json").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["k.json"]


@posix
def test_one_that_others_can_read_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("JUPYTER_ALLOW_INSECURE_WRITES", raising=False)
    path = written(tmp_path / "k.json", '{"key": ""}', 0o644)
    with pytest.raises(ConnectionFileError, match=r"k\.json: field 'key' can be read by others"):
        read_connection_file(path)
    path = written(path, '{"key": "", "registration_port": 1}', 0o644)
    with pytest.raises(ConnectionFileError, match=r"registration file .*k\.json: field 'key'"):
        read_fields(path)


@posix
def test_it_is_allowed_with_a_warning_where_the_environment_says_so(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("JUPYTER_ALLOW_INSECURE_WRITES", "1")
    path = written(tmp_path / "k.json", '{"key": ""}', 0o644)
    with pytest.warns(RuntimeWarning, match="can be read by others"):
        assert read_connection_file(path).key == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no JSON"),
        ('{"shell_port": 1', "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "field 'key' is missing"),
        ('{"key": 1}', "field 'key' must be a string"),
        ('{"key": "s\\u0007"}', "field 'key' must be of printable characters"),
        ('{"key": "", "shell_port": "1"}', "field 'shell_port' must be a port"),
        ('{"key": "", "shell_port": 70000}', "field 'shell_port' must be a port"),
        ('{"key": "", "iopub_port": true}', "field 'iopub_port' must be a port"),
        ('{"key": "", "transport": "udp"}', "field 'transport' must be one of 'tcp' and 'ipc'"),
        ('{"key": "", "ip": "[::1]"}', "IPv4 address (IPv6 is not supported), not '[::1]'"),
        ('{"key": "", "ip": null}', "field 'ip' must be a string"),
    ],
)
def test_a_bad_one_is_refused_by_file_and_field(tmp_path: Path, content: str, words: str) -> None:
    path = written(tmp_path / "bad.json", content)
    with pytest.raises(ConnectionFileError) as caught:
        read_connection_file(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_one_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFileError, match=r"none\.json: there is no such file"):
        read_connection_file(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["shell", "control", "stdin", "iopub", "hb"])
def test_a_port_in_use_is_named(name: str) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as squatter:
        port = squatter.bind_to_random_port("tcp://127.0.0.1")
        ports: dict[str, Any] = {f"{name}_port": port}
        info = ConnectionInfo(**ports)
        with pytest.raises(ConnectionFileError) as caught:
            ZmqTransport(info, source="connection file k.json")
    text = str(caught.value)
    assert text.startswith(f"connection file k.json: field '{name}_port': cannot bind tcp://")
    assert "in use" in text


@pytest.mark.parametrize("ip", ["192.0.2.1", "no-such-interface"])
def test_an_address_of_another_machine_is_named(ip: str) -> None:
    with pytest.raises(ConnectionFileError) as caught:
        ZmqTransport(ConnectionInfo(ip=ip), source="connection file k.json")
    assert str(caught.value) == (
        f"connection file k.json: field 'ip': this machine has no address {ip!r}"
    )


def test_ports_of_0_are_bound_and_known() -> None:
    with ZmqTransport(ConnectionInfo()) as transport:
        ports = transport.info.ports
        assert len(set(ports.values())) == 5
        assert 0 not in ports.values()


def test_the_file_is_what_jupyter_client_reads(tmp_path: Path) -> None:
    from jupyter_client.blocking.client import BlockingKernelClient

    info = ConnectionInfo(shell_port=1, iopub_port=2, stdin_port=3, control_port=4, hb_port=5)
    write_connection_file(tmp_path / "k.json", info)
    client = BlockingKernelClient(connection_file=str(tmp_path / "k.json"))
    client.load_connection_file()
    assert (client.shell_port, client.hb_port) == (1, 5)
    assert json.loads((tmp_path / "k.json").read_text())["signature_scheme"] == "hmac-sha256"


def test_the_heartbeat_echoes_while_python_is_busy() -> None:
    with (
        ZmqTransport(ConnectionInfo()) as transport,
        zmq.Context() as context,
        context.socket(zmq.REQ) as socket,
    ):
        socket.set(zmq.LINGER, 0)
        socket.connect(transport.info.endpoint(transport.info.hb_port))
        for number in range(20):
            socket.send(b"%d" % number)
            assert socket.poll(10_000)
            assert socket.recv() == b"%d" % number


def test_curve_keys_in_the_file_encrypt_every_channel() -> None:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    extra = {"curve_publickey": public, "curve_secretkey": secret}
    with (
        ZmqTransport(ConnectionInfo(extra=extra)) as transport,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as stranger,
        context.socket(zmq.DEALER) as friend,
    ):
        for socket in (stranger, friend):
            socket.set(zmq.LINGER, 0)
        own_public, own_secret = zmq.curve_keypair()
        friend.set(zmq.CURVE_PUBLICKEY, own_public)
        friend.set(zmq.CURVE_SECRETKEY, own_secret)
        friend.set(zmq.CURVE_SERVERKEY, public.encode())
        endpoint = transport.info.endpoint(transport.info.hb_port)
        for socket in (stranger, friend):
            socket.connect(endpoint)
            socket.send_multipart([b"", b"ping"])
        assert friend.poll(10_000)
        assert not stranger.poll(100)


PUBLIC, SECRET = (key.decode() for key in zmq.curve_keypair())
CURVE_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "only the public key": ({"curve_publickey": PUBLIC}, "'curve_secretkey' is missing"),
    "only the secret key": ({"curve_secretkey": SECRET}, "'curve_publickey' is missing"),
    "a null secret": (
        {"curve_publickey": PUBLIC, "curve_secretkey": None},
        "'curve_secretkey' must be a CURVE key",
    ),
    "an empty key": (
        {"curve_publickey": "", "curve_secretkey": SECRET},
        "'curve_publickey' must be a CURVE key",
    ),
    "a misspelt field": (
        {"curve_publickey": PUBLIC, "curve_secret_key": SECRET},
        "'curve_secret_key' is not known",
    ),
    "another spelling": (
        {"CURVE_PUBLICKEY": PUBLIC, "CURVE_SECRETKEY": SECRET},
        "'CURVE_PUBLICKEY' is not known",
    ),
    "a short key": (
        {"curve_publickey": PUBLIC, "curve_secretkey": SECRET[:-1]},
        "'curve_secretkey' must be a CURVE key",
    ),
    "no Z85": (
        {"curve_publickey": PUBLIC, "curve_secretkey": "\\" * 40},
        "'curve_secretkey' must be a CURVE key",
    ),
    "beyond 32 bits": (
        {"curve_publickey": PUBLIC, "curve_secretkey": "#" * 40},
        "'curve_secretkey' must be a CURVE key",
    ),
    "two that are no pair": (
        {"curve_publickey": zmq.curve_keypair()[0].decode(), "curve_secretkey": SECRET},
        "'curve_publickey' does not belong to",
    ),
}


@pytest.mark.parametrize("case", CURVE_FAULTS)
def test_curve_that_is_not_complete_and_valid_is_refused(tmp_path: Path, case: str) -> None:
    """Who asks for encryption must not get plain text."""
    extra, words = CURVE_FAULTS[case]
    path = written(tmp_path / "k.json", json.dumps({"key": "", **extra}))
    for use in (
        lambda: read_connection_file(path),
        lambda: ZmqTransport(ConnectionInfo(extra=extra), source=f"connection file {path}"),
        lambda: ZmqClientTransport(ConnectionInfo(extra=extra)),
    ):
        with pytest.raises(ConnectionFileError) as caught:
            use()
        assert words in str(caught.value)
        assert SECRET not in str(caught.value)


def test_a_kernel_with_half_a_curve_pair_does_not_start(tmp_path: Path) -> None:
    path = written(tmp_path / "k.json", json.dumps({"key": "", "curve_publickey": PUBLIC}))
    run = subprocess.run(
        [sys.executable, "-m", "trikernel", "start", "-f", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert f"connection file {path}: field 'curve_secretkey' is missing" in line


WATCHER = """
import os, sys
folder, seen = sys.argv[1], 0
print("ready", flush=True)
os.set_blocking(0, False)
while not sys.stdin.buffer.raw.read(1):
    for name in os.listdir(folder):
        try:
            seen += bool(os.stat(f"{folder}/{name}").st_mode & 0o077)
        except FileNotFoundError:
            pass
print(seen)
"""


@posix
def test_an_ipc_socket_is_its_owners_from_the_first_moment(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", WATCHER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as watcher:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "ready\n"
            for number in range(100):
                info = ConnectionInfo(transport="ipc", ip=str(tmp_path / f"k{number}"))
                with ZmqTransport(info):
                    pass
            assert watcher.communicate("x")[0] == "0\n"
    finally:
        assert os.umask(mask) == 0


@posix
def test_an_ipc_path_is_its_listeners_alone(tmp_path: Path) -> None:
    """Who listens keeps it, what is stale is taken over, and nobody removes another one's."""
    info = ConnectionInfo(transport="ipc", ip=str(tmp_path / "k"))
    with ZmqTransport(info) as first:
        with pytest.raises(ConnectionFileError, match=r"'shell_port': cannot bind .* in use"):
            ZmqTransport(first.info)
        assert len(list(tmp_path.iterdir())) == 5
        with zmq.Context() as context, context.socket(zmq.REQ) as beat:
            beat.connect(first.info.endpoint(first.info.hb_port))
            beat.send(b"first")
            assert beat.poll(30_000)
            assert beat.recv() == b"first"
        for path in tuple(tmp_path.iterdir()):
            path.rename(path.with_name(f"old-{path.name}"))
        with ZmqTransport(first.info):
            first.close()
            assert len(list(tmp_path.glob("k-*"))) == 5
    assert len(list(tmp_path.iterdir())) == 5  # of the first one, under other names: stale
    for path in tuple(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.removeprefix("old-")))
    with ZmqTransport(first.info) as third:
        assert third.info == first.info
    assert not list(tmp_path.iterdir())
