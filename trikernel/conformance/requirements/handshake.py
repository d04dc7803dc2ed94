"""The startup handshake: a kernel is started with a registration file instead of a connection file.

Each check acts as the launcher: it opens a registration socket and starts a kernel.
Source: JEP 66; messaging.rst, "Kernel startup handshake"; "Registration file format".
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import trio

from ...errors import PeerGone
from ...transport import ConnectionInfo, ZmqTransport, receive
from ...transport.connection_file import PORTS
from ...wire import DELIMITER, Codec
from ...wire import json as wire_json
from ..manifest import requirement
from ..probe import Probe
from ..schema import require

if TYPE_CHECKING:
    from ..starting import Started

JEP = "JEP 66: Kernel Handshaking pattern"
MESSAGE = "Kernel startup handshake"
KERNEL_ID = "conform-kernel"
BEGINS = 30  # seconds for a kernel to register
ENDS = 60  # seconds for a kernel to end that gets no acknowledgement


class _Launcher:
    """A registration socket, its key, and the registration file that names them."""

    def __init__(self, transport: ZmqTransport, key: str) -> None:
        self._channel = transport.shell[0]
        self.key = key
        self.codec = Codec(key.encode())
        self.file = {
            "kernel_id": KERNEL_ID,
            "transport": "tcp",
            "registration_ip": "127.0.0.1",
            "registration_port": transport.ports["shell_port"],
            "signature_scheme": "hmac-sha256",
            "key": key,
        }
        self.identities: list[bytes] = []

    async def registered(self) -> dict[str, Any]:
        """The content of the kernel's registration. Raises `AssertionError` if none comes, or if
        its signature is wrong.
        """
        with trio.move_on_after(BEGINS) as scope:
            frames = [bytes(frame) for frame in await receive(self._channel)]
        require(not scope.cancelled_caught, f"no registration came in {BEGINS} seconds")
        require(DELIMITER in frames, f"the registration has no delimiter: {frames!r:.200}")
        cut = frames.index(DELIMITER)
        self.identities, body = frames[:cut], frames[cut + 1 :]
        require(len(body) == 2, f"{len(body)} frames follow the delimiter, not 2")
        require(self.codec.sign(body[1:]) == body[0], "the registration's signature is wrong")
        fields = wire_json.loads(body[1])
        require(isinstance(fields, dict), f"the registration is {fields!r:.80}")
        return dict(fields)

    def acknowledge(self, signature: bytes | None = None) -> None:
        """Send an acknowledgement, signed with the key unless the signature is given."""
        body = json.dumps({"kernel_id": KERNEL_ID, "status": "ok"}).encode()
        signature = self.codec.sign([body]) if signature is None else signature
        self._channel.send_nowait([*self.identities, DELIMITER, signature, body])


@asynccontextmanager
async def _launched(probe: Probe) -> AsyncIterator[tuple[_Launcher, Started]]:
    key = os.urandom(16).hex()
    with ZmqTransport(ConnectionInfo(key=key)) as transport:
        launcher = _Launcher(transport, key)
        async with probe.start(only=launcher.file, connects=False) as other:
            yield launcher, other


def _ports(fields: Mapping[str, Any]) -> dict[str, Any]:
    missing = [name for name in PORTS if not str(fields.get(name, "")).isdecimal()]
    require(not missing, f"the registration has no {', '.join(missing)}")
    return {name: int(fields[name]) for name in PORTS}


async def _speaks(launcher: _Launcher, ports: Mapping[str, Any], times: Sequence[str]) -> None:
    from ..starting import attached

    async with attached(ConnectionInfo(key=launcher.key, **ports), "the kernel") as client:
        for channel in times:
            with trio.move_on_after(BEGINS) as scope:
                await client.send("kernel_info_request", {}, channel=channel).wait_reply()
            require(not scope.cancelled_caught, f"no kernel_info_reply on {channel}")


@requirement(
    "handshake.registers",
    "With a registration file it binds ports of its own, tells them signed, and listens there.",
    JEP,
    "handshake",
)
async def check_registers(probe: Probe) -> None:
    async with _launched(probe) as (launcher, _):
        ports = _ports(await launcher.registered())
        launcher.acknowledge()
        await _speaks(launcher, ports, ["shell", "control"])


@requirement(
    "handshake.content",
    "The registration has the file's kernel_id and five ports, as strings, all different.",
    MESSAGE,
    "handshake",
)
async def check_content(probe: Probe) -> None:
    async with _launched(probe) as (launcher, _):
        fields = await launcher.registered()
    require(fields.get("kernel_id") == KERNEL_ID, f"its kernel_id is {fields.get('kernel_id')!r}")
    numbers = [name for name in PORTS if not isinstance(fields.get(name), str)]
    require(not numbers, f"no strings are {', '.join(numbers)}: {fields!r:.200}")
    require(len(set(_ports(fields).values())) == len(PORTS), f"two are the same: {fields!r:.200}")


@requirement("handshake.twice", "A second acknowledgement does it no harm.", MESSAGE, "handshake")
async def check_twice(probe: Probe) -> None:
    async with _launched(probe) as (launcher, _):
        ports = _ports(await launcher.registered())
        launcher.acknowledge()
        with suppress(PeerGone):  # the kernel has closed its socket already
            launcher.acknowledge()
        await _speaks(launcher, ports, ["shell", "control", "shell"])


@requirement("handshake.unacknowledged", "It ends if no acknowledgement comes.", JEP, "handshake")
async def check_unacknowledged(probe: Probe) -> None:
    async with _launched(probe) as (launcher, other):
        await launcher.registered()
        require(await other.has_ended(ENDS), f"it still runs {ENDS} seconds later")
        require(other.process.returncode, "it ends with exit code 0")


@requirement(
    "handshake.unsigned", "An acknowledgement with a wrong signature is none: it ends.",
    MESSAGE, "handshake",
)  # fmt: skip
async def check_unsigned(probe: Probe) -> None:
    async with _launched(probe) as (launcher, other):
        await launcher.registered()
        launcher.acknowledge(b"0" * 64)
        require(await other.has_ended(ENDS), f"it still runs {ENDS} seconds later")
        require(other.process.returncode, "it ends with exit code 0")


@requirement(
    "handshake.restart", "Started again with the same file it registers again.", JEP, "handshake"
)
async def check_restart(probe: Probe) -> None:
    key = os.urandom(16).hex()
    with ZmqTransport(ConnectionInfo(key=key)) as transport:
        launcher = _Launcher(transport, key)
        for _ in range(2):
            async with probe.start(only=launcher.file, connects=False):
                ports = _ports(await launcher.registered())
                launcher.acknowledge()
                await _speaks(launcher, ports, ["shell"])
