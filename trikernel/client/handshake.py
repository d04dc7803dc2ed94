"""The launcher's side of the startup handshake, for kernels that jupyter_client's manager starts.

The provisioner of the kernelspec asks the manager to write the file that is passed to the kernel.
Here that is a registration file, and the kernel tells its ports when it registers. See
`trikernel.transport.registration`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..transport import ConnectionInfo, Registrar, offers_handshake

__all__ = ["check_offers_handshake", "connection_info_of", "expect_registration", "note_ports"]


def check_offers_handshake(kernel_name: str, spec: Any) -> None:
    """Raise `UsageError` for a kernelspec whose protocol version is too low for the handshake."""
    version = getattr(spec, "kernel_protocol_version", None)
    if version is None:  # a version of jupyter_client that does not keep the field
        with suppress(OSError, ValueError):
            fields = json.loads(Path(spec.resource_dir, "kernel.json").read_text("utf-8"))
            version = fields.get("kernel_protocol_version")
    if not offers_handshake(str(version or "")):
        raise UsageError(
            f"kernel {kernel_name!r} does not offer the startup handshake: its kernelspec's "
            f"kernel_protocol_version is {version or 'not given'}, and has to be 5.6 at least"
        )


@contextmanager
def expect_registration(manager: Any, folder: Path) -> Iterator[Callable[[], Registrar | None]]:
    """Have a manager's kernel started with a registration file, which is removed at the end.

    Yields a function that returns the registrar; None until the provisioner has asked for the file.
    """
    made: list[Registrar] = []
    manager.connection_file = str(folder / f"registration-{manager.kernel_id}.json")
    manager.cache_ports = False  # no port is chosen here

    def write(**kwargs: Any) -> None:
        if not made:
            made.append(Registrar(connection_info_of(manager), manager.kernel_id))
            made[0].write(Path(manager.connection_file))

    manager.write_connection_file = write
    try:
        yield lambda: made[0] if made else None
    finally:
        Path(manager.connection_file).unlink(missing_ok=True)
        for registrar in made:
            registrar.close()


def note_ports(manager: Any, info: ConnectionInfo) -> None:
    """Set the kernel's ports in a manager and its provisioner."""
    for name, port in info.ports.items():
        setattr(manager, name, port)
    manager.provisioner.connection_info = manager.get_connection_info()


def connection_info_of(manager: Any) -> ConnectionInfo:
    """A manager's connection information as a `ConnectionInfo`; its key is bytes there."""
    plain = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in manager.get_connection_info(session=False).items()
    }
    fields = ConnectionInfo().as_dict()
    known: dict[str, Any] = {name: plain.pop(name) for name in fields if name in plain}
    return ConnectionInfo(**known, extra=plain)
