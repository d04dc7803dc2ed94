"""The whole error tree: each error says whose fault it is and what is done about it.

A peer's fault never stops the kernel: a `WireError` is logged, counted and dropped (a message that
is whole but for its content is answered), a `ContentError` becomes an error reply. What the person
at the command line can mend is a `UsageError` with one clear line. It knows nothing of any other
layer.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AbortedError",
    "CellFailed",
    "CellStillRuns",
    "CellStopped",
    "ClientError",
    "ConnectionFileError",
    "ContentError",
    "DeadlineExceeded",
    "ExecutionTimeout",
    "KernelClassError",
    "KernelDied",
    "KernelNotReady",
    "LeftOpenError",
    "LoopLost",
    "NoSubshell",
    "NoSuchKernel",
    "NotRegistered",
    "PeerGone",
    "QueueFull",
    "SettingError",
    "StdinNotImplementedError",
    "StdinUnavailable",
    "TrikernelError",
    "UnknownMessageType",
    "UnknownSubshellError",
    "UsageError",
    "WireError",
]


class TrikernelError(Exception):
    """The root of every error that trikernel raises on its own account."""


class WireError(TrikernelError):
    """Frames that are no valid message. The sender's fault; logged, counted, dropped.

    ``kind`` is a short fixed word (``"signature"``, ``"replay"``, ``"json"`` ...) under
    which the kernel counts it, the text says what was wrong. ``message`` is what can be answered
    all the same, with no content: a request that is right but for that.
    """

    def __init__(self, kind: str, detail: str, message: object = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.message = message


class ContentError(TrikernelError):
    """A well-signed request whose content is wrong. The client's fault; gets an error reply."""


class UnknownMessageType(ContentError):
    """A request of a type that this kernel has no handler for; gets an error reply."""


class PeerGone(TrikernelError):
    """The client that a message was meant for is no longer connected."""


class QueueFull(TrikernelError):
    """So many requests wait already that this one finds no room; it was not run."""


class StdinNotImplementedError(TrikernelError, NotImplementedError):
    """`input()` was called while the frontend said ``allow_stdin: false``.

    It has the name of IPython's, by which nbclient and papermill know it.
    """


class StdinUnavailable(TrikernelError):
    """`input()` was called where no blocking wait is possible (a kernel in memory)."""


class AbortedError(TrikernelError):
    """The request was cancelled by an ``abort_request`` that names it."""


class LeftOpenError(TrikernelError):
    """Code has entered cancel scopes or nurseries and has not left them. They were closed.

    ``what`` says which, outermost last: values with ``kind`` (``"nursery"`` or ``"cancel scope"``)
    and ``tasks`` (how many a nursery had).
    """

    def __init__(self, what: Sequence[object], where: str = "") -> None:
        names = [str(getattr(one, "kind", one)) for one in reversed(what)]
        super().__init__(
            f"this code has left open: {', '.join(names)}; closed again, tasks in it are cancelled"
            + (f"\nopened {where}" if where else "")
            + "\nto keep one open across cells use `await trikernel.notebook.enter(...)`,"
            " or start tasks in `trikernel.notebook.nursery`"
        )
        self.what = what


class NoSubshell(TrikernelError):
    """There is no subshell of that id, or the kernel has none at all."""


class UnknownSubshellError(NoSubshell):
    """There is no subshell of that id: deleted, or never created. Its name and text are what
    ipykernel replies; frontends' code may look at them.
    """


class LoopLost(TrikernelError):
    """The user's code has crashed Trio itself; its cause is what crashed it. A new loop goes on."""


class CellStopped(BaseException):
    """Raised in synchronous code that has swallowed `KeyboardInterrupt` and goes on.

    The third stop of a request, and each one after it, is this: neither ``except Exception`` nor
    ``except KeyboardInterrupt`` catches it.
    """


class DeadlineExceeded(TrikernelError, TimeoutError):
    """The request was cancelled because its deadline passed."""


class UsageError(TrikernelError):
    """Something that the person at the command line can mend; shown as one line, exit code 2."""


class NoSuchKernel(UsageError):
    """There is no kernelspec of that name; names those that are installed."""


class KernelClassError(UsageError, TypeError):
    """A kernel's class cannot work as it is written; names class and member, and what is right."""


class SettingError(UsageError, ValueError):
    """A setting has a value out of its range; names the field and the range."""


class ConnectionFileError(UsageError):
    """A connection file cannot be used; names the file and the field."""


class NotRegistered(UsageError):
    """An engine's controller did not take it: it is not there, or refuses."""


ClientError = TrikernelError
"""The name by which programs may know what a client raises; it has no class of its own."""


class CellFailed(TrikernelError):
    """A cell ended with an error. ``execution`` is what it brought until then.

    ``message`` is the ``error`` message, where it is not the cell's own but one of a task that it
    started.
    """

    def __init__(self, text: str, execution: object = None, message: object = None) -> None:
        super().__init__(text)
        self.execution = execution
        self.message = message


class ExecutionTimeout(TrikernelError, TimeoutError):
    """A cell took longer than its ``timeout``; the kernel was interrupted."""

    def __init__(self, text: str, execution: object = None) -> None:
        super().__init__(text)
        self.execution = execution


class CellStillRuns(ExecutionTimeout):
    """A cell took longer than its ``timeout``, was told to stop, and runs on: C code, mostly.

    Only a restart of the kernel helps. ``place`` is where its code stands, as far as the kernel
    could tell (``"sqlite3.Connection.execute, line 3"``), else empty. ``restarted`` says that the
    kernel has been restarted since: the next cell finds a new one, without the names of before.
    """

    def __init__(
        self, text: str, execution: object = None, place: str = "", *, restarted: bool = False
    ) -> None:
        super().__init__(text, execution)
        self.place = place
        self.restarted = restarted


class KernelDied(TrikernelError):
    """The kernel ended, or does not answer any more, while somebody needs it."""


class KernelNotReady(TrikernelError):
    """A kernel was started and ended, or gave no answer, before it was ready."""
