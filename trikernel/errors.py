"""The whole error tree: each error says whose fault it is and what is done about it.

A peer's fault never stops the kernel: a `WireError` is logged, counted and dropped, a
`ContentError` becomes an error reply. What the person at the command line can mend is a
`UsageError` with one clear line. It knows nothing of any other layer.
"""

from __future__ import annotations

__all__ = [
    "AbortedError",
    "CellFailed",
    "ClientError",
    "ConnectionFileError",
    "ContentError",
    "DeadlineExceeded",
    "ExecutionTimeout",
    "KernelDied",
    "KernelNotReady",
    "NoSuchKernel",
    "PeerGone",
    "QueueFull",
    "SettingError",
    "StdinNotAllowed",
    "StdinUnavailable",
    "TrikernelError",
    "UnknownMessageType",
    "UsageError",
    "WireError",
]


class TrikernelError(Exception):
    """The root of every error that trikernel raises on its own account."""


class WireError(TrikernelError):
    """Frames that are no valid message. The sender's fault; logged, counted, dropped.

    ``kind`` is a short fixed word (``"signature"``, ``"replay"``, ``"json"`` ...) under
    which the kernel counts it, the text says what was wrong.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class ContentError(TrikernelError):
    """A well-signed request whose content is wrong. The client's fault; gets an error reply."""


class UnknownMessageType(ContentError):
    """A request of a type that this kernel has no handler for; gets an error reply."""


class PeerGone(TrikernelError):
    """The client that a message was meant for is no longer connected."""


class QueueFull(TrikernelError):
    """So many requests wait already that this one finds no room; it was not run."""


class StdinNotAllowed(TrikernelError):
    """`input()` was called while the frontend said ``allow_stdin: false``."""


class StdinUnavailable(TrikernelError):
    """`input()` was called where no blocking wait is possible (a kernel in memory)."""


class AbortedError(TrikernelError):
    """The request was cancelled by an ``abort_request`` that names it."""


class DeadlineExceeded(TrikernelError, TimeoutError):
    """The request was cancelled because its deadline passed."""


class UsageError(TrikernelError):
    """Something that the person at the command line can mend; shown as one line, exit code 2."""


class NoSuchKernel(UsageError):
    """There is no kernelspec of that name; names those that are installed."""


class SettingError(UsageError, ValueError):
    """A setting has a value out of its range; names the field and the range."""


class ConnectionFileError(UsageError):
    """A connection file cannot be used; names the file and the field."""


class ClientError(TrikernelError):
    """Something that a client asked for went wrong; see its subclasses."""


class CellFailed(ClientError):
    """A cell ended with an error. ``execution`` is what it brought until then.

    ``message`` is the ``error`` message, where it is not the cell's own but one of a task that it
    started.
    """

    def __init__(self, text: str, execution: object = None, message: object = None) -> None:
        super().__init__(text)
        self.execution = execution
        self.message = message


class ExecutionTimeout(ClientError, TimeoutError):
    """A cell took longer than its ``timeout``; the kernel was interrupted."""

    def __init__(self, text: str, execution: object = None) -> None:
        super().__init__(text)
        self.execution = execution


class KernelDied(ClientError):
    """The kernel ended, or does not answer any more, while somebody needs it."""


class KernelNotReady(KernelDied):
    """A kernel was started and ended, or gave no answer, before it was ready."""
