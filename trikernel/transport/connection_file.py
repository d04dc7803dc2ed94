"""Connection files to frozen values and back.

A connection file says where a kernel listens and with which key messages are signed. Whoever
can read it can run code in the kernel, so a file that others can read is refused.

A kernel that makes its own connection file removes it when it ends. A kernel that is killed cannot,
and leaves a file with a key in it. So such a file says which process it belongs to, and the next
kernel that starts removes it, if that process is certainly gone: if it was a process of this
machine, since its last boot, in this PID namespace, and its process id is free, or belongs to a
process that was started at another time. A folder may be shared by several machines; files of
other machines stay. All this is read from ``/proc``; where there is none, nothing is removed.

Source: "Making kernels for Jupyter", connection files; jupyter_client's schema.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
import tempfile
import uuid
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import zmq
from zmq.utils import z85

from ..errors import ConnectionFileError

__all__ = [
    "ConnectionInfo",
    "connection_info",
    "is_registration",
    "new_connection_file",
    "read_connection_file",
    "read_fields",
    "remove_stale_files",
    "write_connection_file",
    "write_for_owner",
]

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_TRANSPORTS = ("tcp", "ipc")
NO_IPV6 = "a name or an IPv4 address (IPv6 is not supported)"
PROCESS_FIELD = "trikernel_process"
_PATTERN = "kernel-*.json"
_MOST_BYTES = 1 << 16
_NAMELESS = {"kernel_name": ""}  # as jupyter_client writes it; servers list no file without it
_CURVE = ("curve_publickey", "curve_secretkey")


@attrs.frozen
class ConnectionInfo:
    """Where a kernel listens. A port of 0 means: bind any, then write it back.

    ``ip`` is the address for tcp and the path's beginning for ipc, where a port is the path's
    last part (``{ip}-{port}``). ``extra`` keeps fields that are not ours.
    """

    transport: str = "tcp"
    ip: str = "127.0.0.1"
    shell_port: int = 0
    iopub_port: int = 0
    stdin_port: int = 0
    control_port: int = 0
    hb_port: int = 0
    key: str = attrs.field(factory=lambda: uuid.uuid4().hex, repr=False)
    signature_scheme: str = "hmac-sha256"
    extra: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    def endpoint(self, port: int) -> str:
        """The zmq address of a port."""
        separator = ":" if self.transport == "tcp" else "-"
        return f"{self.transport}://{self.ip}{separator}{port}"

    @property
    def ports(self) -> dict[str, int]:
        """``{"shell_port": ...}`` and so on."""
        return {name: getattr(self, name) for name in PORTS}

    def curve_keys(self, source: str = "connection information") -> tuple[bytes, bytes] | None:
        """The kernel's public and secret CURVE key; None if the connection is not encrypted.

        If any field is about CURVE, both keys have to be there, valid, and belong together. Else
        this raises `ConnectionFileError` that names ``source`` and the field, because a user who
        asks for encryption must not get an unencrypted connection. The message shows no key.
        """
        mentioned = sorted(name for name in self.extra if "curve" in name.lower())
        if not mentioned:
            return None
        for name in mentioned:
            if name not in _CURVE:
                raise ConnectionFileError(
                    f"{source}: field {name!r} is not known: CURVE needs {' and '.join(_CURVE)}"
                )
        for name in _CURVE:
            if name not in self.extra:
                raise ConnectionFileError(
                    f"{source}: field {name!r} is missing: CURVE needs {' and '.join(_CURVE)}"
                )
            if not _is_z85_key(self.extra[name]):
                raise ConnectionFileError(
                    f"{source}: field {name!r} must be a CURVE key, 40 characters of Z85"
                )
        if not zmq.has("curve"):
            raise ConnectionFileError(f"{source}: field {_CURVE[0]!r}: this libzmq has no CURVE")
        public, secret = (str(self.extra[name]).encode() for name in _CURVE)
        if zmq.curve_public(secret) != public:
            raise ConnectionFileError(
                f"{source}: field 'curve_publickey' does not belong to 'curve_secretkey'"
            )
        return public, secret

    def encrypted(self) -> ConnectionInfo:
        """The same with a new pair of CURVE keys. Raises `ConnectionFileError` without CURVE."""
        if not zmq.has("curve"):
            raise ConnectionFileError("this libzmq has no CURVE")
        keys = dict(zip(_CURVE, (key.decode() for key in zmq.curve_keypair()), strict=True))
        return attrs.evolve(self, extra={**self.extra, **keys})

    def as_dict(self) -> dict[str, Any]:
        """The file's content."""
        fields = attrs.asdict(self, filter=lambda field, _: field.name != "extra")
        return {**self.extra, **fields}


def read_connection_file(path: str | os.PathLike[str]) -> ConnectionInfo:
    """The connection file at ``path`` as a value.

    Raises `ConnectionFileError`, which names the file and the field, when the file is missing,
    unreadable, no plain file or no JSON object; when it belongs to another user or is readable by
    others (only a warning if ``JUPYTER_ALLOW_INSECURE_WRITES`` is set); when a field is of the
    wrong kind, or the fields about CURVE are not complete and valid; or when it is a registration
    file, which does not say where a kernel listens.
    """
    path = Path(path)
    fields = read_fields(path)
    if is_registration(fields):
        raise ConnectionFileError(
            f"connection file {path}: is a registration file, for a kernel that is started with it;"
            " it writes a connection file of its own"
        )
    return connection_info(path, fields)


def is_registration(fields: Mapping[str, Any]) -> bool:
    """Whether these are the fields of a registration file, which says where to register, not where
    to listen.
    """
    return "registration_port" in fields or "registration_ip" in fields


def read_fields(path: Path, what: str = "connection file") -> dict[str, Any]:
    """The JSON object in a connection file or registration file, whatever its fields are. ``what``
    is what the file is expected to be, for errors.

    Raises `ConnectionFileError`, as `read_connection_file` does, for all that is wrong with the
    file itself, and not with its fields.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConnectionFileError(f"{what} {path}: is no plain file")
            fields = json.loads(file.read().decode("utf-8"))
    except FileNotFoundError:
        raise ConnectionFileError(f"{what} {path}: there is no such file") from None
    except OSError as error:
        raise ConnectionFileError(f"{what} {path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConnectionFileError(f"{what} {path}: is no JSON (truncated?): {error}") from None
    except RecursionError:
        raise ConnectionFileError(f"{what} {path}: is nested too deeply") from None
    if not isinstance(fields, dict):
        raise ConnectionFileError(f"{what} {path}: holds no JSON object")
    what = "registration file" if is_registration(fields) else "connection file"
    _check_owner(path, status, what)
    return fields


def write_connection_file(path: str | os.PathLike[str], info: ConnectionInfo) -> None:
    """Write a connection file that only its owner can read. The file is replaced as a whole, so no
    reader sees half of it.

    Raises `ConnectionFileError` when the folder cannot be written.
    """
    write_for_owner(Path(path), _NAMELESS | info.as_dict(), "connection file")


def write_for_owner(path: Path, fields: Mapping[str, Any], what: str) -> None:
    """Write a JSON file that only its owner can read; no reader sees half of it.

    Raises `ConnectionFileError`, which calls the file ``what``, when the folder cannot be written.
    """
    try:
        for folder in reversed(path.parent.parents):
            folder.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(fields, file, indent=2)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise ConnectionFileError(f"{what} {path}: cannot be written: {error.strerror}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting: if it is a pipe, nobody may ever write to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_owner(path: Path, status: os.stat_result, what: str) -> None:
    """Refuse a file that belongs to another user, or that others can read."""
    if sys.platform == "win32":
        return
    mode = stat.S_IMODE(status.st_mode)
    sudo_user = os.environ.get("SUDO_UID", "")
    owners = {os.geteuid(), 0, int(sudo_user) if sudo_user.isdigit() else 0}
    if status.st_uid not in owners:
        text = f"belongs to another user (number {status.st_uid}), who knows its key"
        advice = f"run: chown $(id -u) {path}"
    elif mode & 0o077:
        text = f"field 'key' can be read by others (mode {mode:04o})"
        advice = f"run: chmod 600 {path}"
    else:
        return
    if os.environ.get("JUPYTER_ALLOW_INSECURE_WRITES", "").lower() in ("", "0", "false", "no"):
        raise ConnectionFileError(f"{what} {path}: {text}; {advice}")
    warnings.warn(
        f"{what} {path}: {text}, and JUPYTER_ALLOW_INSECURE_WRITES allows it",
        RuntimeWarning,
        stacklevel=3,
    )


def connection_info(path: Path, fields: Mapping[str, Any]) -> ConnectionInfo:
    """The fields of a connection file as a value. Raises `ConnectionFileError`."""

    def wrong(name: str, what: str) -> ConnectionFileError:
        found = "" if name == "key" else f", not {fields[name]!r}"
        return ConnectionFileError(f"connection file {path}: field {name!r} must be {what}{found}")

    known = {field.name: field.type for field in attrs.fields(ConnectionInfo)}
    values: dict[str, Any] = {}
    for name in (*PORTS, "transport", "ip", "key", "signature_scheme"):
        if name not in fields:
            continue
        value = fields[name]
        if name in PORTS:
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
                raise wrong(name, "a port, an integer from 0 to 65535")
        elif not isinstance(value, str):
            raise wrong(name, "a string")
        elif not value.isprintable():
            raise wrong(name, "of printable characters")
        values[name] = value
    if values.setdefault("transport", "tcp") not in _TRANSPORTS:
        raise wrong("transport", "one of 'tcp' and 'ipc'")
    if values["transport"] == "tcp" and ":" in values.get("ip", ""):
        raise wrong("ip", NO_IPV6)
    if "key" not in values:
        raise ConnectionFileError(
            f"connection file {path}: field 'key' is missing (truncated?); "
            "an empty string turns signing off"
        )
    ours = _NAMELESS.items()
    extra = {one[0]: one[1] for one in fields.items() if one[0] not in known and one not in ours}
    info = ConnectionInfo(**values, extra=extra)
    info.curve_keys(f"connection file {path}")
    return info


def _is_z85_key(value: object) -> bool:
    if not isinstance(value, str) or len(value) != 40 or not value.isascii():
        return False
    try:
        return z85.encode(z85.decode(value.encode())) == value.encode()
    except (ValueError, KeyError, struct.error):
        return False


def new_connection_file(
    folder: str | os.PathLike[str],
    info: ConnectionInfo | None = None,
    name: str | None = None,
    *,
    tidies: bool = True,
) -> Path:
    """Write a new connection file for a kernel in this process; returns its path. It has a new key
    and ports of 0, unless ``info`` has others, and a unique name, unless ``name`` is given.

    With ``tidies`` it first removes stale connection files in the folder, by reading each of them.
    Raises `ConnectionFileError` when it cannot be written.
    """
    if tidies:
        remove_stale_files(folder)
    path = Path(folder) / (name or f"kernel-{uuid.uuid4()}.json")
    process = _describe()
    info = info or ConnectionInfo()
    extra = {**info.extra, PROCESS_FIELD: process} if process else info.extra
    write_connection_file(path, attrs.evolve(info, extra=extra))
    return path


def remove_stale_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove this user's connection files whose kernel is certainly gone. Returns their paths.

    Never raises: a file that cannot be read or removed stays.
    """
    removed: list[Path] = []
    for path in sorted(Path(folder).glob(_PATTERN)):
        with suppress(OSError, ValueError, RecursionError):
            if _is_stale(path):
                path.unlink()
                removed.append(path)
    return removed


def _is_stale(path: Path) -> bool:
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
        return False
    if sys.platform == "win32" or status.st_uid != os.geteuid():
        return False
    fields = json.loads(path.read_text("utf-8"))
    process = fields.get(PROCESS_FIELD) if isinstance(fields, dict) else None
    own = _describe()
    if own is None or not isinstance(process, dict) or process.keys() != own.keys():
        return False
    if any(process[name] != own[name] for name in ("boot", "namespace", "clock")):
        return False
    pid, started = process["pid"], process["started"]
    if not _is_positive(pid) or not _is_positive(started):
        return False
    try:
        return bool(_started(pid) != started)
    except FileNotFoundError:
        return _is_free(pid)


def _is_positive(value: object) -> bool:
    return type(value) is int and value > 0


def _is_free(pid: int) -> bool:
    """Whether no process has that id; ``/proc`` alone may hide those of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _describe() -> dict[str, Any] | None:
    """What identifies this process among all others; None where that cannot be known.

    ``/proc`` may be that of another PID namespace, in which the same id is another process: then
    this returns None. A time namespace has a time since boot of its own.
    """
    pid = os.getpid()
    try:
        if os.readlink("/proc/self") != str(pid):
            return None
        return {
            "pid": pid,
            "started": _started(pid),
            "boot": Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(),
            "namespace": os.readlink("/proc/self/ns/pid"),
            "clock": _link_or_none("/proc/self/ns/time"),  # since Linux 5.6
        }
    except (OSError, ValueError, IndexError):
        return None


def _link_or_none(path: str) -> str | None:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None


def _started(pid: int) -> int:
    """When a process was started, in ticks since the boot. Source: proc_pid_stat(5), field 22."""
    text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    return int(text.rpartition(")")[2].split()[19])
