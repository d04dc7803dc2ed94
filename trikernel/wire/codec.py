"""Frames to messages and back: sign, verify, encode, decode. No I/O.

A message's signature is remembered only after it was verified: so a peer without the key can
neither fill the replay window nor push a signature out of it. Thread-safe.
Source: messaging.rst, "The wire protocol".
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import itertools
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from ..errors import SettingError, WireError
from . import json
from .message import PROTOCOL_VERSION, Header, Message

__all__ = ["DELIMITER", "Codec", "Limits"]

DELIMITER = b"<IDS|MSG>"

_EMPTY = b"{}"
_JOIN = 1 << 14  # bytes of a content below which one copy costs less than a call for each frame
_MOST_TYPES = 256  # message types whose header is kept
_SECOND = 1_000_000_000  # nanoseconds
_FIELDS = ("session", "username", "date", "version")


@attrs.frozen
class Limits:
    """Limits beyond which a message is refused before it is decoded.

    ``max_frames`` is for the number of all frames of a message, identities and buffers included,
    ``max_message_bytes`` for the sum of their sizes, ``max_identities`` for the number of routing
    frames. ``replay_window`` is how many verified signatures are remembered (about 150 bytes each):
    a message that is among the last ``replay_window`` ones is refused when it comes again.
    """

    max_frames: int = 4096
    max_message_bytes: int = 1 << 30
    max_identities: int = 64
    replay_window: int = 8_192


class _ReplayWindow:
    """The last N verified signatures."""

    def __init__(self, size: int) -> None:
        self._known: set[bytes] = set()
        self._order: deque[bytes] = deque()
        self._size = size
        self._lock = threading.Lock()

    def remember(self, signature: bytes) -> bool:
        """Add a signature; False if it is among the last N already."""
        with self._lock:
            if signature in self._known:
                return False
            self._known.add(signature)
            self._order.append(signature)
            if len(self._order) > self._size:
                self._known.discard(self._order.popleft())
            return True


class _NoObject(WireError):
    """A frame is JSON, but no object, or it is empty."""


class Codec:
    """Turns messages into signed frames and frames into verified messages.

    With an empty ``key`` messages are not signed: the signature frame is empty, and there is no
    replay window. ``signature_scheme`` is ``hmac-`` and a name that `hashlib` knows; another one
    raises `SettingError`. ``session`` is this side's session id, a new one unless it is given.
    """

    def __init__(
        self,
        key: bytes = b"",
        signature_scheme: str = "hmac-sha256",
        *,
        session: str | None = None,
        username: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.key = key
        self.signature_scheme = signature_scheme
        self.session = session or str(uuid.uuid4())
        self.username = username if username is not None else _username()
        self.limits = limits or Limits()
        self._mac = hmac.new(key, digestmod=_digest(signature_scheme)) if key else None
        self._seen = _ReplayWindow(self.limits.replay_window)
        self._counter = itertools.count(1)
        self._common: Mapping[str, Any] = {}
        self._common_raw = _EMPTY
        self._headers: dict[str, bytes] = {}  # for each message type: see `_header_of`
        self._prefix = json.dumps(f"{self.session}_{os.getpid()}_")[:-1]
        self._spelled = 0, b""  # a second and its date as text, for other messages of that second

    def header(
        self, msg_type: str, msg_id: str | None = None, *, subshell_id: str | None = None
    ) -> bytes:
        """A new header of this session, as JSON; ``msg_id`` is unique unless given."""
        if subshell_id is not None:
            fields = json.loads(self.header(msg_type, msg_id))
            return json.dumps({**fields, "subshell_id": subshell_id})
        second, nanoseconds = divmod(time.time_ns(), _SECOND)
        spelled = self._spelled if self._spelled[0] == second else self._spell(second)
        return (self._headers.get(msg_type) or self._header_of(msg_type)) % (
            json.dumps(msg_id) if msg_id else b'%b%d"' % (self._prefix, next(self._counter)),
            spelled[1],
            nanoseconds // 1000,
        )

    def _spell(self, second: int) -> tuple[int, bytes]:
        """A second and its date as text. It is kept, as one tuple, which other threads read."""
        date = datetime.fromtimestamp(second, UTC).isoformat()
        self._spelled = second, date[: -len("+00:00")].encode()
        return self._spelled

    def _header_of(self, msg_type: str) -> bytes:
        """The header of a message type as a format string, in which three things are missing: the
        ``msg_id``, the date to the second in ISO 8601, and its microseconds.
        """
        fields = (msg_type, self.username, self.session, PROTOCOL_VERSION)
        header = (
            b'{"msg_id":%%b,"msg_type":%b,"date":"%%b.%%06d+00:00","username":%b,"session":%b,'
            b'"version":%b}'
        )
        header %= tuple(json.dumps(field).replace(b"%", b"%%") for field in fields)
        if len(self._headers) < _MOST_TYPES:
            self._headers[msg_type] = header
        return header

    def encode(
        self,
        msg_type: str,
        content: Mapping[str, Any] | bytes,
        *,
        parent: Header | Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        buffers: Sequence[bytes] = (),
        identities: Sequence[bytes] = (),
        header: bytes | None = None,
    ) -> list[bytes]:
        """The frames of one message, from the identities to the last buffer.

        ``content`` is a mapping, or JSON that is encoded already. ``parent`` is the header of the
        request that the message is about. Values that JSON cannot represent are replaced (see
        `trikernel.wire.json.dumps`), so this never raises because of a value. An object in
        ``buffers`` that has no buffer raises `TypeError`.
        """
        if header is None:  # the same as `header`, without a call, which every message would take
            second, nanoseconds = divmod(time.time_ns(), _SECOND)
            spelled = self._spelled if self._spelled[0] == second else self._spell(second)
            header = (self._headers.get(msg_type) or self._header_of(msg_type)) % (
                b'%b%d"' % (self._prefix, next(self._counter)),
                spelled[1],
                nanoseconds // 1000,
            )
        parts = [
            header,
            parent.raw if isinstance(parent, Header) else json.dumps(parent or {}),
            json.dumps({**self._common, **metadata}) if metadata else self._common_raw,
            content if isinstance(content, bytes) else json.dumps(content),
        ]
        frames = [*identities, DELIMITER, self.sign(parts), *parts]
        for one in buffers:
            frames.append(one if isinstance(one, bytes) else bytes(memoryview(one)))
        return frames

    def mark(self, metadata: Mapping[str, Any]) -> None:
        """Add ``metadata`` to the metadata of each further message; its own fields come first."""
        self._common, self._common_raw = dict(metadata), json.dumps(metadata)

    def change_key(self, key: bytes) -> None:
        """Sign and verify with another key from now on, as the other side has changed."""
        self._mac = hmac.new(key, digestmod=_digest(self.signature_scheme)) if key else None
        self.key = key

    def sign(self, parts: Sequence[bytes]) -> bytes:
        """The hexadecimal HMAC of the four JSON frames; empty without a key."""
        if self._mac is None:
            return b""
        mac = self._mac.copy()
        if len(parts[-1]) < _JOIN:
            mac.update(b"".join(parts))
        else:
            for part in parts:
                mac.update(part)
        return mac.hexdigest().encode()

    def decode(self, frames: Sequence[bytes]) -> Message:
        """The message in ``frames``. Its signature is remembered if nothing but the content is
        wrong.

        Raises `WireError` whose ``kind`` is one of ``size``, ``frames``, ``delimiter``,
        ``signature``, ``replay``, ``json``, ``header``. The error has the ``message`` if only its
        content is wrong, and is empty or JSON, but no object: such a request can be answered.
        """
        identities, body = self._split(frames)
        signature, raw_header, raw_parent, raw_metadata, raw_content = body[:5]
        if self._mac is not None and not hmac.compare_digest(self.sign(body[1:5]), signature):
            word = "unsigned message" if not signature else "wrong signature"
            raise WireError("signature", f"{word}: the sender does not have this kernel's key")
        content, wrong = _EMPTY_DICT, None
        if raw_content != _EMPTY:
            try:
                content = _mapping("content", raw_content)
            except _NoObject as error:  # if the rest is right, the request gets an error reply
                wrong = error
        message = Message(
            header=_header(raw_header),
            parent_header=_EMPTY_DICT if raw_parent == _EMPTY else _mapping("parent", raw_parent),
            metadata=_EMPTY_DICT if raw_metadata == _EMPTY else _mapping("metadata", raw_metadata),
            content=content,
            buffers=body[5:],
            identities=identities,
        )
        if self._mac is not None and not self._seen.remember(signature):
            raise WireError("replay", "a message that was already received came again")
        if wrong is not None:
            raise WireError("json", str(wrong), message)
        return message

    def decode_header(self, raw: bytes) -> Header:
        """One header frame. Raises `WireError`."""
        return _header(raw)

    def _split(self, frames: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        limits = self.limits
        if len(frames) > limits.max_frames:
            raise WireError("frames", f"{len(frames)} frames, at most {limits.max_frames} allowed")
        size = sum(map(len, frames))
        if size > limits.max_message_bytes:
            raise WireError("size", f"{size} bytes, at most {limits.max_message_bytes} allowed")
        try:
            cut = frames.index(DELIMITER)
        except ValueError:
            raise WireError("delimiter", "no <IDS|MSG> delimiter among the frames") from None
        if cut > limits.max_identities:
            raise WireError("frames", f"{cut} identities, at most {limits.max_identities} allowed")
        body = frames[cut + 1 :]
        if len(body) < 5:
            raise WireError("frames", f"{len(body)} frames after the delimiter, at least 5 needed")
        return frames[:cut], body


_EMPTY_DICT: dict[str, Any] = {}


def _username() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "username"


def _digest(signature_scheme: str) -> str:
    scheme, _, digest = signature_scheme.partition("-")
    known = scheme == "hmac" and digest in hashlib.algorithms_available
    if not known or not hashlib.new(digest).digest_size:  # 0 for shake, whose size can be chosen
        raise SettingError(
            f"signature_scheme: {signature_scheme!r} is not known, use for example 'hmac-sha256'"
        )
    return digest


def _mapping(name: str, raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError as error:
        kind = WireError if raw else _NoObject
        raise kind("json", f"the {name} frame is not JSON in UTF-8: {error}") from None
    if not isinstance(value, dict):
        raise _NoObject("json", f"the {name} frame is a JSON {type(value).__name__}, no object")
    return value


def _header(raw: bytes) -> Header:
    fields = _mapping("header", raw)
    for name in ("msg_id", "msg_type"):
        if not isinstance(fields.get(name), str):
            raise WireError("header", f"the header has no {name!r}, or it is no string")
    if not isinstance(fields.get("date"), str):  # no reason to refuse a message: it is not needed
        fields["date"] = ""
    for name in _FIELDS:
        if not isinstance(fields.setdefault(name, ""), str):
            raise WireError("header", f"the header's {name!r} is no string")
    return Header(
        fields["msg_id"],
        fields["msg_type"],
        fields["session"],
        fields["username"],
        fields["date"],
        fields["version"],
        raw,
        fields.get("subshell_id"),
    )
