"""The response, which tells the waiting gateway where a kernel listens, and its key.

The connection information is JSON, encrypted by AES with a key that is made for it. That key is
encrypted with the gateway's public RSA key, so that only the gateway can read it. Both are Base64
in a JSON object, which is itself sent as Base64 over one TCP connection; the end of the connection
is the end of the response. The contract (version 1) gives the ciphers: AES-128 in ECB mode with
PKCS #7 padding, RSA with PKCS #1 v1.5. The gateway sends no answer.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import trio

from ..errors import UsageError

__all__ = ["Gateway", "OpenStream", "gateway_of", "seal", "send_response"]

VERSION = 1  # of the response's format
PAUSE = 0.25  # seconds before the next try, if nobody listens
SMALLEST_KEY = 1024  # bits: gateways use this; the library accepts no smaller key

OpenStream = Callable[[str, int], Awaitable[trio.abc.Stream]]
_MISSING = "telling a gateway needs one more package: pip install 'trikernel[remote]'"


@attrs.frozen
class Gateway:
    """The gateway that waits for the response: its address, its name for the kernel, and its public
    key (DER).
    """

    host: str
    port: int
    kernel_id: str
    public_key: bytes = attrs.field(repr=False)

    @property
    def address(self) -> str:
        """``HOST:PORT``, for messages to the user."""
        return f"{self.host}:{self.port}"


def gateway_of(response_address: str, kernel_id: str, public_key: str) -> Gateway:
    """The gateway that three flags describe. Raises `UsageError`, which names the flag and says
    what to give.

    ``public_key`` is Base64, with or without the first and the last line of PEM.
    """
    host, _, port = response_address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not host.isprintable() or " " in host or not port.isdecimal():
        raise UsageError(f"--response-address must be HOST:PORT, not {response_address!r:.100}")
    if ":" in host and not response_address.startswith("["):
        raise UsageError(
            f"--response-address: write an IPv6 address in brackets, not {response_address!r:.100}"
        )
    if not 0 < int(port) <= 65535:
        raise UsageError(f"--response-address: the port must be from 1 to 65535, not {port:.20}")
    if not kernel_id or not kernel_id.isprintable() or len(kernel_id) > 200:
        raise UsageError("--kernel-id must be the gateway's name for the kernel, printable text")
    der = _decoded(public_key)
    _check_key(der)
    return Gateway(host, int(port), kernel_id, der)


def _decoded(public_key: str) -> bytes:
    body = re.sub(r"-----[A-Z ]+-----|\s", "", public_key)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(
            "--public-key is no Base64: give the gateway's public key as it passes it, "
            "in quotes where a shell is in between"
        ) from None


def _check_key(der: bytes) -> None:
    try:
        from Cryptodome.PublicKey import RSA
    except ImportError:
        raise UsageError(_MISSING) from None
    try:
        key = RSA.import_key(der)
    except (ValueError, IndexError, TypeError):
        raise UsageError("--public-key is no RSA key (was it cut off?)") from None
    if key.has_private():
        raise UsageError("--public-key holds a private key: give the public one")
    if key.size_in_bits() < SMALLEST_KEY:
        bits = key.size_in_bits()
        raise UsageError(f"--public-key has {bits} bits, and must have {SMALLEST_KEY} at least")


def seal(fields: Mapping[str, Any], public_key: bytes) -> bytes:
    """The response, encrypted so that only the owner of the private key can read it."""
    from Cryptodome.Cipher import AES, PKCS1_v1_5
    from Cryptodome.PublicKey import RSA
    from Cryptodome.Random import get_random_bytes
    from Cryptodome.Util.Padding import pad

    secret = get_random_bytes(16)
    plain = pad(json.dumps(fields).encode(), 16)
    response = {
        "version": VERSION,
        "key": _text(PKCS1_v1_5.new(RSA.import_key(public_key)).encrypt(secret)),
        "conn_info": _text(AES.new(secret, AES.MODE_ECB).encrypt(plain)),
    }
    return base64.b64encode(json.dumps(response).encode())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def send_response(
    gateway: Gateway, response: bytes, seconds: float, open_stream: OpenStream | None = None
) -> None:
    """Send the whole response within ``seconds``; if nobody listens yet, try again.

    Raises `UsageError`, which says what to look at. Cancelled, the gateway may have received a part
    of the response, which it cannot read.
    """
    reason = "it does not answer"
    with trio.move_on_after(seconds) as scope:
        while True:
            try:
                stream = await (open_stream or trio.open_tcp_stream)(gateway.host, gateway.port)
                async with stream:
                    await stream.send_all(response)
                    if isinstance(stream, trio.abc.HalfCloseableStream):
                        await stream.send_eof()
                return
            except (OSError, trio.BrokenResourceError) as error:
                reason = _reason(error)
            await trio.sleep(PAUSE)
    if scope.cancelled_caught:
        raise UsageError(
            f"--response-address: cannot tell {gateway.address} where the kernel listens: {reason} "
            f"(tried for {seconds:g} seconds; is the gateway there, and no firewall in between?)"
        )


def _reason(error: BaseException) -> str:
    """The system's error message; if the host has several addresses, the message for the last."""
    cause = error.__cause__
    last = cause.exceptions[-1] if isinstance(cause, BaseExceptionGroup) else cause or error
    number = getattr(last, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return getattr(last, "strerror", None) or str(last) or type(last).__name__
