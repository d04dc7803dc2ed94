"""The messages that a kernel's code sends beside replies, and the parent that each of them gets.

Every call here is synchronous and works from any thread. The parent of a message is the request
that the sending code runs for, which is known by its context. Code without one, in a thread that C
code has started for example, belongs to the running request, else to the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar, Token
from typing import Any
from weakref import WeakSet

import attrs
from trio.lowlevel import enable_ki_protection

from ..core import Connection, Event, Request, Stopper, TextKey, current_request, current_subshell
from ..errors import TrikernelError
from ..transport import Channel
from ..wire import DELIMITER, Header, json, reply_type
from .shown import CHECKED

__all__ = ["NOT_SERVED", "ChannelHandle", "Sender", "forget_open_texts", "open_texts"]

NOT_SERVED = "this kernel is not being served: pass it to serve() or run()"
_STREAMS = ("stdout", "stderr")
_PLAIN = frozenset((name, str) for name in _STREAMS)


@attrs.frozen(eq=False)
class ChannelHandle:
    """One of the kernel's channels, as the first argument of `Kernel.send_response`."""

    sender: Sender
    name: str

    @property
    def channel(self) -> Channel:
        """The transport's channel behind it."""
        return self.sender.channel(self.name)

    def send_multipart(self, frames: Sequence[bytes], *args: Any, **kwargs: Any) -> None:
        """Send frames that are already signed; zmq's further arguments are accepted, not used."""
        self.sender.send_frames(self.name, [bytes(frame) for frame in frames])


@attrs.frozen(eq=False)
class _Parent:
    """The parent that `Sender.set_parent` was given, and the request that gave it."""

    request: Request | None
    header: Header
    idents: list[bytes]


_said: ContextVar[_Parent | None] = ContextVar("said_parent", default=None)


def _explicit_parent() -> _Parent | None:
    """The parent that the current request has set, if it has; not that of an earlier cell."""
    said = _said.get()
    return said if said is not None and said.request is current_request.get() else None


open_texts: WeakSet[Any] = WeakSet()
"""The streams that append to a text in the iopub queue without asking whose text it is. `forget` of
one ends that until its next write.
"""


def forget_open_texts() -> None:
    """From now on the parent or the place of a text may be another one within the same request."""
    for stream in tuple(open_texts):
        stream.forget()


class Sender:
    """The sending side of a kernel. It has a connection while the kernel is served.

    ``owner`` is the name of the kernel's class. ``last_request`` is the request of the shell lane
    that ran last, ``last_cell`` the last one that was a cell and not silent. With ``prefers_cells``
    code without a context belongs to a cell. ``has_set_parent`` is true once any code has called
    `set_parent`. With ``is_strict`` the content of displays is checked; it is off for Python cells,
    and for kernels written for ipykernel, which may send whatever their frontend understands. With
    ``keeps_silence`` a silent request sends nothing on iopub; it is off for engines, whose clients
    rely on ipykernel's behaviour.
    """

    def __init__(self, owner: str = "Kernel") -> None:
        self.owner = owner
        self.last_request: Request | None = None
        self.last_cell: Request | None = None
        self.prefers_cells = False
        self.has_set_parent = False
        self.is_strict = self.keeps_silence = True
        self._connection: Connection | None = None
        self._stopper: Stopper | None = None

    def connect(self, connection: Connection, stopper: Stopper) -> None:
        """The kernel is served: what it sends goes there."""
        self._connection, self._stopper = connection, stopper

    def disconnect(self) -> None:
        """It is no longer served."""
        self._connection = self._stopper = self.last_request = self.last_cell = None

    @property
    def is_connected(self) -> bool:
        """Whether the kernel is served."""
        return self._connection is not None

    @property
    def connection(self) -> Connection:
        """The ways to the clients; `TrikernelError` while the kernel is not served."""
        if self._connection is None:
            raise TrikernelError(NOT_SERVED)
        return self._connection

    def channel(self, name: str) -> Channel:
        """The transport's channel of that name. Raises `ValueError`."""
        transport = self.connection.transport
        for channel in (*transport.shell, transport.control, transport.stdin, transport.iopub):
            if channel.name == name:
                return channel
        raise ValueError(f"the transport has no channel {name!r}")

    # The parent

    def current(self) -> Request | None:
        """The request that this code runs for: by context, else the running, else the last."""
        request = current_request.get()
        if request is not None:
            return request
        running = tuple(self._stopper.running) if self._stopper is not None else ()
        if self.prefers_cells:
            for one in reversed(running):
                if getattr(one.content, "silent", None) is False:
                    return one
            if self.last_cell is not None:
                return self.last_cell
        return running[-1] if running else self.last_request

    def parent_header(self) -> Header | None:
        """The header of the request that this code runs for."""
        explicit = _explicit_parent() if self.has_set_parent else None
        if explicit is not None:
            return explicit.header
        request = self.current()
        return request.message.header if request is not None else None

    def idents(self) -> list[bytes]:
        """The routing frames of the client that this code runs for."""
        explicit = _explicit_parent()
        if explicit is not None:
            return explicit.idents
        request = self.current()
        return list(request.message.identities) if request is not None else []

    def set_parent(
        self, ident: Sequence[bytes], parent: Mapping[str, Any]
    ) -> Token[_Parent | None]:
        """Make ``parent`` (a message, or the header of one) the parent of what this task and its
        children send. Returns what `reset_parent` takes.
        """
        header = parent.get("header", parent if "msg_id" in parent else {})
        parent_header = Header(
            header.get("msg_id", ""),
            header.get("msg_type", ""),
            header.get("session", ""),
            header.get("username", ""),
            str(header.get("date", "")),
            header.get("version", ""),
            json.dumps(header),
        )
        if not self.has_set_parent:
            self.has_set_parent = True
            forget_open_texts()
        return _said.set(_Parent(current_request.get(), parent_header, list(ident or ())))

    def reset_parent(self, token: Token[_Parent | None]) -> None:
        """Undo the call of `set_parent` that returned ``token``, in the thread or task of that."""
        _said.reset(token)

    def get_parent(self) -> dict[str, Any]:
        """The message that this code runs for, as a nested dictionary; ``{}`` for none."""
        explicit = _explicit_parent()
        if explicit is not None:
            return {"header": explicit.header.as_dict()}
        request = self.current()
        return request.message.as_dict() if request is not None else {}

    def is_silent(self) -> bool:
        """Whether a silent request runs: then nothing goes out on iopub."""
        request = self.current()
        silent = request is not None and getattr(request.content, "silent", False) is True
        return silent and self.keeps_silence

    # Sending

    def text_key(self, name: str) -> TextKey:
        """Whose text it is that this code writes to ``stdout`` or ``stderr`` now."""
        return TextKey(self.parent_header(), name)

    @enable_ki_protection
    def send(
        self,
        stream: str,
        msg_or_type: str | Mapping[str, Any],
        content: dict[str, Any],
        ident: bytes | Sequence[bytes] | None = None,
        buffers: Sequence[bytes] = (),
        header: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """See `Kernel.send_response`; ``stream`` is the channel's name."""
        msg_type = msg_or_type
        if not isinstance(msg_type, str):
            msg_type, content, header, metadata = _unpack(msg_type, metadata)
        idents = [ident] if isinstance(ident, bytes) else list(ident or ())
        connection = self._connection or self.connection
        iopub, request = connection.iopub, self.current()
        said = _explicit_parent() if self.has_set_parent else None
        parent = said.header if said else request.message.header if request else None
        if stream == "iopub":
            silent = request is not None and getattr(request.content, "silent", False) is True
            if silent and self.keeps_silence:
                return
            if msg_type == "stream":
                plain = content.keys() == {"name", "text"} and not metadata
                if plain and (content["name"], type(content["text"])) in _PLAIN:
                    iopub.write(TextKey(parent, content["name"]), content["text"])
                    return
                _check_stream(self.owner, content)
            elif (check := CHECKED.get(msg_type)) is not None and self.is_strict:
                check(self.owner, content, request)
            idents = idents or [iopub.topic(msg_type)]
        frames = connection.codec.encode(
            msg_type,
            content,
            parent=parent,
            metadata=metadata,
            buffers=buffers,
            identities=idents or self.idents(),
            header=json.dumps(header) if header else None,
        )
        if stream == "iopub":
            iopub.post(frames)
        else:
            self.send_frames(stream, frames)

    def send_frames(self, stream: str, frames: list[bytes]) -> None:
        """Send signed frames; a handler's own reply counts as the reply of its request."""
        if stream == "iopub":
            self.connection.iopub.post(frames)
            return
        request = current_request.get()
        if request is not None and _is_reply(frames, request):
            if request.answered:
                return
            request.advance(Event.ANSWER)
        self.connection.replies.send(self.channel(stream), frames)

    def give_way(self) -> None:
        """To be called at the end of each call by which the user's code sends something: raise an
        interrupt that is pending, and wait while more is queued than subscribers read.

        It is not protected itself. Called by protected code, it does nothing.
        """
        subshell, connection = current_subshell.get(), self._connection
        stopper = self._stopper if subshell is None else subshell.stopper
        if stopper is not None and connection is not None:
            if stopper.pending:
                stopper.raise_pending()
            iopub = connection.iopub
            if iopub.entries and iopub.is_full:
                iopub.wait_for_room(stopper.raise_pending)


def _unpack(message: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> Any:
    """Type, content, header and metadata of a message of `session.msg`."""
    header, content = message["header"], dict(message.get("content", {}))
    return header["msg_type"], content, header, metadata or message.get("metadata")


def _check_stream(owner: str, content: Mapping[str, Any]) -> None:
    name, text = content.get("name"), content.get("text")
    call = f"{owner}.send_response"
    if name not in _STREAMS:
        raise ValueError(f"{call}: a stream's name is 'stdout' or 'stderr', not {name!r:.80}")
    if not isinstance(text, str):
        is_bytes = isinstance(text, (bytes, bytearray, memoryview))
        words = "decode it, as in text.decode(errors='replace')" if is_bytes else "use str()"
        kind = type(text).__name__
        raise TypeError(f"{call}: a stream's text is a str, not {kind} {text!r:.80}: {words}")


def _is_reply(frames: list[bytes], request: Request) -> bool:
    """Whether a handler sends the reply itself, as those with three arguments do."""
    at = len(request.message.identities)
    if not request.wants_reply or frames[at : at + 1] != [DELIMITER] or len(frames) < at + 6:
        return False
    header = json.loads(frames[at + 2])
    return isinstance(header, dict) and header.get("msg_type") == reply_type(request.msg_type)
