"""``trikernel launch``, which starts a kernel for a gateway on another machine; its kernelspec."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from ..errors import UsageError
from ..kernel import Kernel, start_kernel
from ..transport import PortRange

__all__ = ["add_remote_flags", "launch_kernel", "remote_argv", "remote_doubts", "remote_metadata"]

PROVISIONER = "distributed-provisioner"  # the name of an entry point of gateway_provisioners
PROCESS_PROXY = "enterprise_gateway.services.processproxies.distributed.DistributedProcessProxy"
SMALLEST_RANGE = 1001  # ports: gateway_provisioners refuses a smaller range
_GROUP = "jupyter_client.kernel_provisioners"
_PASSED = ("kernel-id", "port-range", "response-address", "public-key", "transport-encryption")


def launch_kernel(
    kernel_class: type[Kernel], options: argparse.Namespace, others: list[str]
) -> None:
    """Launch a kernel as the flags say. Raises `UsageError`."""
    from ..remote import launch, launch_of  # not needed by `trikernel start`

    start_kernel(kernel_class, options, others, partial(launch, launch_of(options)))


def add_remote_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``trikernel install`` for a kernel on other machines."""
    group = parser.add_argument_group("a kernel on other machines, by gateway_provisioners")
    hosts = "start it there by ssh, on one after the other: host1,host2"
    group.add_argument("--remote", metavar="HOSTS", help=hosts)
    python = "with --remote: the Python there (default: the same path as here)"
    group.add_argument("--remote-python", metavar="PATH", help=python)
    ports = "with --remote: the ports it may use there, a thousand at least: 40000..41000"
    group.add_argument("--port-range", metavar="LOWEST..HIGHEST", help=ports)


def remote_argv(argv: list[str], options: argparse.Namespace) -> list[str]:
    """The command that launches the kernel there, made from the command that starts it here with a
    connection file.
    """
    start = argv.index("start")
    passed = [word for one in _PASSED for word in (f"--{one}", f"{{{one.replace('-', '_')}}}")]
    rest = argv[argv.index("{connection_file}") + 1 :]
    return [options.remote_python or argv[0], *argv[1:start], "launch", *rest, *passed]


def remote_metadata(options: argparse.Namespace) -> dict[str, Any] | None:
    """The metadata of the kernelspec for ``--remote``: the provisioner, and Enterprise Gateway's
    process proxy; None without that flag.

    Raises `UsageError` for wrong hosts or ports, and for flags that need ``--remote``.
    """
    if options.remote is None:
        extra = next((one for one in ("remote_python", "port_range") if getattr(options, one)), "")
        if extra:
            raise UsageError(f"--{extra.replace('_', '-')} goes with --remote")
        return None
    hosts = [one.strip() for one in options.remote.split(",") if one.strip()]
    wrong = next(
        (one for one in hosts if not one.isprintable() or set(one) & set(" ;&|<>'\"$")), ""
    )
    if not hosts or wrong:
        raise UsageError(f"--remote must be hosts, as in host1,host2, not {options.remote!r:.80}")
    config: dict[str, Any] = {}
    if options.port_range is not None:
        PortRange.parse(options.port_range, "--port-range", at_least=SMALLEST_RANGE)
        config["port_range"] = options.port_range
    provisioner = {"remote_hosts": hosts, **config}
    proxy = {"remote_hosts": ",".join(hosts), **config}
    return {
        "kernel_provisioner": {"provisioner_name": PROVISIONER, "config": provisioner},
        "process_proxy": {"class_name": PROCESS_PROXY, "config": proxy},
    }


def remote_doubts() -> list[str]:
    """Warnings of what has to be installed before Jupyter can start such a kernel."""
    from importlib.metadata import entry_points

    if any(one.name == PROVISIONER for one in entry_points(group=_GROUP)):
        return []
    return ["Jupyter lists it once this is there: pip install gateway_provisioners"]
