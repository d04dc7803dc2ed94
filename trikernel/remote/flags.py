"""Reads the flags of ``trikernel launch``, in the spellings that the gateways' kernelspecs use.

A kernelspec has words in braces, which the gateway replaces by its values. A word that it does not
know stays in braces; one for which it has no value becomes empty, and a remote shell drops an empty
word. So each of these flags may come without a value, and a word in braces counts as no value. In a
container the values are in the environment.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import sys
from collections.abc import Callable
from typing import TypeVar

from ..errors import UsageError
from ..transport import PortRange, Registration, read_startup_file, registration_of
from .communication import Network
from .launch import Launch
from .response import gateway_of

__all__ = ["add_launch_flags", "class_name_of", "launch_of"]

T = TypeVar("T")

PORTS_NEEDED = 6  # shell, iopub, stdin, control, heartbeat, and the communication port
STOCK_KERNEL = "ipykernel.ipkernel.IPythonKernel"
_OLD = "--RemoteProcessProxy."
_GATEWAYS = {  # flag: its variables in a container, its help
    "response-address": (("RESPONSE_ADDRESS", "EG_RESPONSE_ADDRESS"), "HOST:PORT of the gateway"),
    "kernel-id": (("KERNEL_ID",), "the gateway's name for the kernel"),
    "public-key": (("PUBLIC_KEY", "EG_PUBLIC_KEY"), "the gateway's RSA key, for the response"),
    "port-range": (("PORT_RANGE", "EG_PORT_RANGE"), "ports to bind, as in 40000..41000"),
    "transport-encryption": (("TRANSPORT_ENCRYPTION",), "disabled, auto or required: CURVE"),
}
_POLICIES = ("disabled", "auto", "required")


def add_launch_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the launcher contract, and ours."""
    group = parser.add_argument_group("how the kernel is told to whoever has started it")
    for name, (variables, words) in _GATEWAYS.items():
        about = f"{words} (default: {' or '.join('$' + one for one in variables)})"
        metavar = name.replace("-", "_").upper()
        group.add_argument(f"--{name}", f"{_OLD}{name}", nargs="?", metavar=metavar, help=about)
    file = "a registration file, - for standard input: register there, in place of all of these"
    group.add_argument("--registration-file", metavar="FILE", help=file)
    group.add_argument("--ip", metavar="ADDRESS", help="what to listen on (default: 0.0.0.0)")
    trust = "take signals from there only, an address or 10.0.0.0/8 (default: from everywhere)"
    group.add_argument("--trust", action="append", default=[], metavar="NETWORK", help=trust)
    spark = "only none: no Spark context is made"
    mode = "spark-context-initialization-mode"
    group.add_argument(f"--{mode}", f"{_OLD}{mode}", dest="spark", nargs="?", help=spark)
    also = argparse.SUPPRESS
    group.add_argument("--cluster-type", f"{_OLD}cluster-type", nargs="?", help=also)
    group.add_argument("--kernel-class-name", nargs="?", help=also)


def launch_of(options: argparse.Namespace) -> Launch:
    """The flags as a `Launch`. Raises `UsageError`, whose one line says what to give."""
    if _word(options.spark) not in (None, "none"):
        raise UsageError(
            f"--spark-context-initialization-mode: only none is possible, not {options.spark!r:.40}"
        )
    values = {name: _value_of(options, name) for name in _GATEWAYS}
    needed = PORTS_NEEDED - bool(options.registration_file)
    text = values["port-range"]
    ports = None if text is None else PortRange.parse(text, "--port-range", needed)
    if options.registration_file is not None:
        return _registered(options, ports)
    missing = [one for one in ("response-address", "kernel-id", "public-key") if not values[one]]
    if missing:
        flags = ", ".join(f"--{one}" for one in missing)
        raise UsageError(f"{flags}: missing (a gateway gives all three; else --registration-file)")
    encryption = (values["transport-encryption"] or "disabled").lower()
    if encryption not in _POLICIES:
        raise UsageError(f"--transport-encryption must be one of {', '.join(_POLICIES)}")
    address, kernel_id, key = (
        values[one] or "" for one in ("response-address", "kernel-id", "public-key")
    )
    gateway = gateway_of(address, kernel_id, key)
    ip = options.ip or Launch(gateway).ip
    return Launch(gateway, _checked_ip(ip), ports, encryption, _networks(options.trust))


def class_name_of(options: argparse.Namespace) -> str | None:
    """The class of ``--kernel-class-name``, as ``--kernel`` spells it; None for the default."""
    name = _word(options.kernel_class_name)
    if name is None or name == STOCK_KERNEL:
        return None
    module, _, cls = name.rpartition(".")
    if not module:
        raise UsageError(f"--kernel-class-name: {name!r} is not module.Class")
    return f"{module}:{cls}"


def _registered(options: argparse.Namespace, ports: PortRange | None) -> Launch:
    clash = next((one for one in ("ip", "trust") if getattr(options, one)), None)
    if clash is not None:
        raise UsageError(f"--{clash} does not go with --registration-file, whose address it has")
    path = options.registration_file
    if path == "-":
        return Launch(registration_of(_standard_input(), "standard input"), ports=ports)
    startup = read_startup_file(path, "registration file")
    if not isinstance(startup, Registration):
        raise UsageError(f"--registration-file: {path} is a connection file: trikernel start -f")
    return Launch(startup, ports=ports)


def _standard_input() -> str:
    return sys.stdin.read(1 << 16) if sys.stdin is not None else ""


def _value_of(options: argparse.Namespace, name: str) -> str | None:
    """The value of a flag, or of its environment variables; None if there is none."""
    given = _word(getattr(options, name.replace("-", "_")))
    variables = (_word(os.environ.get(one)) for one in _GATEWAYS[name][0])
    return given or next((one for one in variables if one), None)


def _word(value: str | None) -> str | None:
    """The word without spaces around it; None if it is empty, or still in braces."""
    if value is None or not value.strip() or re.fullmatch(r"\{.*\}", value.strip()):
        return None
    return value.strip()


def _checked_ip(ip: str) -> str:
    return _read("--ip", ip, lambda text: str(ipaddress.IPv4Address(text)), "an IPv4 address")


def _networks(texts: list[str]) -> list[Network]:
    what = "an address, or a network as in 10.0.0.0/8"
    return [_read("--trust", one, ipaddress.ip_network, what) for one in texts]


def _read(flag: str, text: str, read: Callable[[str], T], what: str) -> T:
    try:
        return read(text)
    except ValueError:
        raise UsageError(f"{flag} must be {what}, not {text!r:.80}") from None
