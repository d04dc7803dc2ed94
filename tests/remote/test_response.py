"""The response, and what is wrong with who is to get it: by gateway_provisioners' own cipher."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.errors import UsageError
from trikernel.remote import Gateway, gateway_of, seal, send_response

Cryptodome = pytest.importorskip("Cryptodome")

from Cryptodome.Cipher import AES, PKCS1_v1_5  # noqa: E402
from Cryptodome.PublicKey import ECC, RSA  # noqa: E402
from Cryptodome.Util.Padding import unpad  # noqa: E402

PRIVATE = RSA.generate(1024)


def plain(key: Any) -> str:
    """A public key as a gateway passes it: without a PEM's lines."""
    exported = key.export_key(format="PEM")
    text = exported if isinstance(exported, str) else exported.decode()
    return "".join(line for line in text.splitlines() if not line.startswith("-----"))


PUBLIC = plain(PRIVATE.publickey())


def opened(response: bytes, private: Any = PRIVATE) -> Any:
    """What the gateway reads, by the steps of its own."""
    fields = json.loads(base64.b64decode(response))
    assert fields.keys() == {"version", "key", "conn_info"}
    assert fields["version"] == 1
    secret = PKCS1_v1_5.new(private).decrypt(base64.b64decode(fields["key"]), b"wrong")
    cipher = AES.new(secret, AES.MODE_ECB)
    return json.loads(unpad(cipher.decrypt(base64.b64decode(fields["conn_info"])), 16))


@pytest.mark.parametrize("length", [0, 15, 16, 17, 5000])
def test_the_gateway_reads_what_was_sealed_for_it(length: int) -> None:
    fields = {"key": "é" * length}
    response = seal(fields, gateway_of("host:1", "id", PUBLIC).public_key)
    assert opened(response) == fields
    assert seal(fields, gateway_of("host:1", "id", PUBLIC).public_key) != response


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:8877", "127.0.0.1", 8877),
        ("gateway.example:1", "gateway.example", 1),
        ("[::1]:65535", "::1", 65535),
    ],
)
def test_an_address_is_read(address: str, host: str, port: int) -> None:
    gateway = gateway_of(address, "id", PRIVATE.publickey().export_key("PEM").decode())
    assert (gateway.host, gateway.port) == (host, port)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"response_address": "8877"}, "--response-address must be HOST:PORT, not '8877'"),
        ({"response_address": ":8877"}, "--response-address must be HOST:PORT"),
        ({"response_address": "host:"}, "--response-address must be HOST:PORT"),
        ({"response_address": "host:http"}, "--response-address must be HOST:PORT"),
        ({"response_address": "ho st:1"}, "--response-address must be HOST:PORT"),
        ({"response_address": "a\nb:1"}, "--response-address must be HOST:PORT"),
        ({"response_address": "::1:1"}, "--response-address: write an IPv6 address in brackets"),
        ({"response_address": "host:0"}, "the port must be from 1 to 65535, not 0"),
        ({"response_address": "host:65536"}, "the port must be from 1 to 65535"),
        ({"kernel_id": "a\nb"}, "--kernel-id must be"),
        ({"kernel_id": "a" * 201}, "--kernel-id must be"),
        ({"public_key": "no base64!"}, "--public-key is no Base64"),
        ({"public_key": "é"}, "--public-key is no Base64"),
        ({"public_key": PUBLIC[:-8]}, "--public-key is no RSA key"),
        ({"public_key": "QUJD"}, "--public-key is no RSA key"),
        ({"public_key": plain(PRIVATE)}, "--public-key holds a private key"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_flag(change: dict[str, str], words: str) -> None:
    good = {"response_address": "host:1", "kernel_id": "id", "public_key": PUBLIC}
    with pytest.raises(UsageError) as caught:
        gateway_of(**{**good, **change})
    text = str(caught.value)
    assert words in text
    assert "\n" not in text
    assert PUBLIC[40:60] not in text


def test_a_key_of_another_kind_is_none() -> None:
    key = plain(ECC.generate(curve="p256").public_key())
    with pytest.raises(UsageError, match="is no RSA key"):
        gateway_of("host:1", "id", key)


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Cryptodome.PublicKey", None)
    with pytest.raises(UsageError, match=r"pip install 'trikernel\[remote\]'"):
        gateway_of("host:1", "id", PUBLIC)


def one_gateway() -> Gateway:
    return Gateway("host", 1, "id", b"")


def opener(*answers: OSError | trio.abc.Stream) -> Callable[[str, int], Awaitable[Any]]:
    """Opens these, one after the other; the last one again and again."""
    left = list(answers)

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        assert (host, port) == ("host", 1)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    return open_stream


async def test_a_gateway_that_listens_a_little_later_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    open_stream = opener(*[ConnectionRefusedError(111, "Connection refused")] * 3, ours)
    await send_response(one_gateway(), b"response", 5, open_stream)
    received = b"".join([chunk async for chunk in theirs])
    assert received == b"response"
    assert 0 < trio.current_time() < 5


async def test_nobody_listens_there(autojump_clock: trio.testing.MockClock) -> None:
    refused = opener(ConnectionRefusedError(111, "Connection refused"))
    with pytest.raises(UsageError) as caught:
        await send_response(one_gateway(), b"response", 5, refused)
    assert str(caught.value) == (
        "--response-address: cannot tell host:1 where the kernel listens: Connection refused "
        "(tried for 5 seconds; is the gateway there, and no firewall in between?)"
    )
    assert trio.current_time() == pytest.approx(5)


async def test_a_gateway_that_takes_nothing_is_left_in_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A connection that is open and does not read, or one that is never made."""

    class Stuck(trio.abc.Stream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.sleep_forever()

        async def wait_send_all_might_not_block(self) -> None:
            raise NotImplementedError

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise NotImplementedError

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    with pytest.raises(UsageError, match="it does not answer"):
        await send_response(one_gateway(), b"response", 5, opener(Stuck()))
    assert trio.current_time() == pytest.approx(5)


async def test_telling_can_be_cancelled_at_any_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with trio.move_on_after(1) as scope:
        await send_response(one_gateway(), b"response", 5, opener(ConnectionRefusedError()))
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(1)
