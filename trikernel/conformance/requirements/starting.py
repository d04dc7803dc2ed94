"""How a kernel begins and ends: connection files, transports, keys, parent processes.

Each check starts kernels of its own, by the kernelspec.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ...system import wait_for_process_end
from ...transport import ConnectionInfo, ZmqClientTransport, receive
from ...transport.connection_file import PORTS
from ...wire import Codec
from ..manifest import NotChecked, NotOffered, requirement
from ..probe import Probe
from ..schema import require

if TYPE_CHECKING:
    from ..starting import Started

FILES = "Making kernels for Jupyter: Connection files"
MORE = 30  # seconds for a kernel to begin, where no client waits for it
SOON = 10  # seconds for a kernel to end
CRASHES = {signal.SIGABRT, signal.SIGSEGV, signal.SIGFPE, signal.SIGILL}


@requirement(
    "starting.quiet",
    "From its start to the first request it publishes nothing without a parent but one starting, "
    "and welcomes.",
    "Kernel status: starting; Parent header",
    "sockets",
)
async def check_quiet(probe: Probe) -> None:
    from ..probe import Log

    log = Log()
    async with probe.start(prepare=log.listen):
        pass
    found = [one for one in log.iopub if not one.parent_header]
    states = [one for one in found if one.msg_type == "status"]
    known = ("status", "iopub_welcome", "shutdown_reply")
    others = [one for one in found if one.msg_type not in known]
    probe.seen.extend(others or states)
    kinds = ", ".join(dict.fromkeys(one.msg_type for one in others))
    require(not others, f"{len(others)} messages have no parent: {kinds}")
    said = [one.content.get("execution_state") for one in states]
    require(said in (["starting"], []), f"the states without a parent are {said}")


@requirement(
    "starting.session", "The session in its headers is new in each process.", "Message header",
    "sockets",
)  # fmt: skip
async def check_session(probe: Probe) -> None:
    async with probe.start() as other:
        sessions = []
        for client in (probe.client, other.client):
            reply = await client.kernel_info()
            sessions.append(reply.header.session)
    require(sessions[0] != sessions[1], f"two kernels have the session {sessions[0]}")


@requirement("starting.ipc", "It listens over ipc, too.", FILES, "sockets")
async def check_ipc(probe: Probe) -> None:
    if sys.platform == "win32":
        raise NotOffered("there is no ipc on Windows")
    async with probe.start("ipc") as other:
        await _answers(probe, other)


@requirement("starting.no-key", "An empty key turns signing off.", "The Wire Protocol", "sockets")
async def check_no_key(probe: Probe) -> None:
    async with probe.start(file={"key": ""}) as other:
        await _answers(probe, other)


@requirement(
    "starting.scheme", "Messages are signed by the scheme of the connection file.", FILES, "sockets"
)
async def check_scheme(probe: Probe) -> None:
    async with probe.start(file={"signature_scheme": "hmac-sha512"}) as other:
        await _answers(probe, other)


async def _answers(probe: Probe, other: Started) -> None:
    for channel in ("shell", "control"):
        await probe.reply(other.client.send("kernel_info_request", {}, channel=channel), MORE)
    with ZmqClientTransport(other.info) as transport:
        transport.heartbeat.send_nowait([b"", b"beat"])
        with trio.move_on_after(SOON) as scope:
            await receive(transport.heartbeat)
    require(not scope.cancelled_caught, "the heartbeat does not answer")


@requirement(
    "starting.ports",
    "Ports of 0 are bound to any, and the file is written anew, for its owner only.",
    f"{FILES}; JEP 66",
    "sockets",
)
async def check_ports(probe: Probe) -> None:
    zeros = dict.fromkeys(PORTS, 0)
    async with probe.start(file=zeros, connects=False) as other:
        fields: dict[str, Any] = {}
        with trio.move_on_after(SOON):
            while not all(fields.get(name) for name in PORTS):
                if other.process.returncode is not None:
                    break
                await trio.sleep(0.1)
                fields = _read(other)
        if not all(fields.get(name) for name in PORTS):
            raise NotOffered("a connection file with ports of 0 is left as it is")
        if sys.platform != "win32":
            mode = stat.S_IMODE(other.file.stat().st_mode)
            require(mode == 0o600, f"the file's mode is {mode:04o}")
        await _speaks(other, {name: fields[name] for name in PORTS})


def _read(started: Started) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(started.file.read_text("utf-8"))
    except (OSError, ValueError):  # the kernel is writing it
        return {}
    return found


async def _speaks(started: Started, ports: Mapping[str, Any]) -> None:
    from ..starting import attached

    info = attrs.evolve(started.info, **ports)
    async with attached(info, "the kernel") as client:
        await client.kernel_info()


_PARENT = """
import os, subprocess, sys
env = {**os.environ, "JPY_PARENT_PID": str(os.getpid())}
kernel = subprocess.Popen(sys.argv[1:], env=env)
print(kernel.pid, flush=True)
sys.stdin.read()
os._exit(0)
"""


@requirement(
    "starting.parent", "It ends when the process in JPY_PARENT_PID has ended.",
    "jupyter_client: JPY_PARENT_PID", "sockets",
)  # fmt: skip
async def check_parent(probe: Probe) -> None:
    if not sys.platform.startswith("linux"):
        raise NotChecked("it is looked at on Linux only")
    async with probe.start(wrapper=[sys.executable, "-c", _PARENT]) as other:
        children = f"/proc/{other.process.pid}/task/{other.process.pid}/children"
        pid = int((await trio.Path(children).read_text()).split()[0])
        other.process.kill()  # the kernel's parent; the kernel itself gets no signal
        try:
            with trio.move_on_after(SOON) as scope:
                await wait_for_process_end(pid)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    require(not scope.cancelled_caught, f"it still runs {SOON} seconds later")


@requirement("shutdown.exit", "After a shutdown its process ends.", "Kernel shutdown", "sockets")
async def check_exit(probe: Probe) -> None:
    async with probe.start() as other:
        await _ends(probe, other, restart=False)


@requirement(
    "shutdown.restart", "A shutdown for a restart says so, and ends the process.",
    "Kernel shutdown; JEP 118", "sockets",
)  # fmt: skip
async def check_restart(probe: Probe) -> None:
    async with probe.start() as other:
        await _ends(probe, other, restart=True)


@requirement(
    "shutdown.busy", "A shutdown while a cell runs is answered, and ends the process.",
    "Kernel shutdown; Sockets: Control", "sockets",
)  # fmt: skip
async def check_busy(probe: Probe) -> None:
    code = probe.sample("endless")
    async with probe.start() as other:
        await probe.begun(other.client.start(code))
        await _ends(probe, other, restart=False)


async def _ends(probe: Probe, other: Started, *, restart: bool) -> None:
    execution = other.client.send("shutdown_request", {"restart": restart}, channel="control")
    content = await probe.reply(execution, SOON)
    require(content.get("status") == "ok", f"the reply is {dict(content)}")
    require(content.get("restart") is restart, f"restart is {content.get('restart')}")
    require(await other.has_ended(SOON), f"it still runs {SOON} seconds later")
    code = other.process.returncode or 0
    require(-code not in CRASHES, f"it crashes: it ends by signal {-code}")


@requirement(
    "curve.answers", "With CURVE keys in its file it speaks CURVE on all five sockets.",
    "JEP 145 (open):", "curve",
)  # fmt: skip
async def check_curve(probe: Probe) -> None:
    async with probe.start("curve") as other:
        await _answers(probe, other)


@requirement(
    "curve.plain", "Then a client without CURVE, or for another key, hears nothing.",
    "JEP 145 (open):", "curve",
)  # fmt: skip
async def check_plain(probe: Probe) -> None:
    async with probe.start("curve") as other:
        plain = attrs.evolve(other.info, extra={})
        for info in (plain, plain.encrypted()):
            await _hears_nothing(info)
        await _answers(probe, other)


async def _hears_nothing(info: ConnectionInfo) -> None:
    with ZmqClientTransport(info) as transport:
        codec = Codec(transport.key, transport.signature_scheme)
        names = ("shell", "control", "heartbeat")
        for name in names:
            frames = codec.encode("kernel_info_request", {})
            getattr(transport, name).send_nowait([b"", b"beat"] if name == "heartbeat" else frames)
        for name in (*names, "iopub"):
            with trio.move_on_after(0.3) as scope:
                await receive(getattr(transport, name))
            require(scope.cancelled_caught, f"it hears something on {name}")
