"""Starting and ending debugpy in this process, and the stream to it.

debugpy traces this process by pydevd, which speaks the Debug Adapter Protocol itself, so no adapter
process is needed in between. pydevd connects to a listening socket of ours on 127.0.0.1, which is
closed once it has: no port stays open by which somebody else on the machine could run code here. A
secret proves that it is this process that has connected.

debugpy is started and ended in threads of our own, because its import takes half a second, and its
calls block.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import sys
import threading
import tokenize
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import attrs
import trio

from ..system import has_debugpy, on_fork, run_in_own_thread
from .dap import DapStream, Refused, response
from .local import code_lines

__all__ = [
    "Traced",
    "Tracing",
    "find_thread",
    "is_installed",
    "start_debugpy",
    "trace_this_thread",
    "untrace_this_thread",
]

CONNECT_TIMEOUT = 30.0  # seconds, for the import of debugpy on a loaded machine
STOP_TIMEOUT = 2.0  # seconds
RETURN = 502  # pydevd's number for a response
_sessions = itertools.count(1)
_ENVIRONMENT = {
    # otherwise it writes four lines of warnings about frozen modules to stderr
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    # Each statement of a cell is compiled by itself. A step from one into the next only works if
    # pydevd knows the file and the functions that run them.
    "PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING": "1",
    "PYDEVD_IPYTHON_CONTEXT": "interactiveshell.py, run_statement, _error_of",
    # otherwise all stopped threads go on while a variable is shown that takes three seconds
    "PYDEVD_UNBLOCK_THREADS_ON_VARIABLES_TIMEOUT": "-1",
}


def is_installed() -> bool:
    """Whether debugpy can be imported. This does not import it."""
    return has_debugpy()


@attrs.frozen
class Traced:
    """A connection to a debugger. It traces this process once ``is_on`` is set, which is after
    ``configurationDone``. ``is_busy`` says whether it is carrying out a request.
    """

    stream: DapStream
    is_on: trio.Event
    is_busy: Callable[[], bool] = bool


@asynccontextmanager
async def start_debugpy() -> AsyncIterator[Traced]:
    """Start debugpy and have it connect; at the block's end it stops tracing. Raises `Refused` if
    it cannot be started, or does not connect within `CONNECT_TIMEOUT`.
    """
    session = _Session(secrets.token_hex())
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    failure: Refused | None = None
    async with trio.open_nursery() as nursery:
        is_on, failed = trio.Event(), trio.CancelScope()

        async def connect() -> None:
            nonlocal failure
            try:
                await run_in_own_thread(lambda: session.connect(port), "trikernel debugger's start")
            except Exception as error:  # whatever debugpy raises
                failure = Refused(f"debugpy cannot be started: {type(error).__name__}: {error}")
                failed.cancel()
            is_on.set()

        nursery.start_soon(connect, name="debugpy")
        stream: DapStream | None = None
        try:
            with failed, trio.move_on_after(CONNECT_TIMEOUT):
                async with listener:
                    stream = await _accept(listener, session.secret)
            if stream is not None:
                session.prepare()
                yield Traced(stream, is_on, lambda: session.is_busy)
            elif failure is None:
                failure = Refused("debugpy does not connect")
        finally:
            session.is_ended.set()
            with trio.move_on_after(STOP_TIMEOUT, shield=True):
                await run_in_own_thread(session.stop, "trikernel debugger's end")
                if stream is not None:
                    await stream.aclose()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _accept(listener: trio.SocketListener, secret: str) -> DapStream:
    """The first connection that knows the secret. Others are closed; one that says nothing, as that
    of a client which looks for somebody else at this port, holds up nobody.
    """
    found: list[DapStream] = []

    async def ask(stream: DapStream) -> None:
        try:
            with suppress(trio.BrokenResourceError, trio.EndOfChannel):
                if await _knows(stream, secret) and not found:
                    found.append(stream)
                    nursery.cancel_scope.cancel()
        finally:
            if stream not in found:
                await stream.aclose()

    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(ask, DapStream(await listener.accept()))
    return found[0]


async def _knows(stream: DapStream, secret: str) -> bool:
    """Whether the other end answers with the secret, within the time for that."""
    arguments = {"debugServerAccessToken": None}
    request = {"seq": 1, "type": "request", "command": "pydevdAuthorize", "arguments": arguments}
    await stream.send(request)
    message: dict[str, Any] = {}
    with trio.move_on_after(CONNECT_TIMEOUT / 10):
        while message.get("request_seq") != 1:
            message = await stream.receive()
    given = str((message.get("body") or {}).get("clientAccessToken"))
    return secrets.compare_digest(given.encode(), secret.encode())


class _Session:
    """debugpy in this process, from its start to its end. `connect` and `stop` are called in
    threads of our own.
    """

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.is_ended = threading.Event()
        self.is_busy = False  # set by pydevd's reader, while it carries out a request
        self._is_imported = False
        on_fork(self)

    def connect(self, port: int) -> None:
        """Have debugpy connect to ``port``. Returns when ``configurationDone`` was received and
        this process is traced.
        """
        with _environment():
            import debugpy

            debugpy.configure(subProcess=False)  # imports pydevd; child processes are not debugged
        self._is_imported = True
        debugpy.connect(("127.0.0.1", port), access_token=self.secret)
        if self.is_ended.is_set():
            self.stop()

    def prepare(self) -> None:
        """Change three things in pydevd. Its reader goes on after a request that it fails at, see
        `_answer_failure`. The breakpoints of a file are set in one go, see `_Breakpoints`. And its
        counter of changes to breakpoints and filters, ``mtime``, begins with another number in each
        session: pydevd caches what it knows of each function under that number, also after the end
        of a session, and would use an earlier session's knowledge.
        """
        debugger = sys.modules["pydevd"].get_global_debugger()
        if debugger is not None:
            debugger.mtime = next(_sessions) % 20_000 * 100_000  # fits a C int
            reader = debugger.reader
            _Breakpoints(reader.process_net_command_json.__self__)
            process = partial(_answer_failure, reader.process_net_command_json)

            def process_one(*request: Any) -> None:
                self.is_busy = True
                try:
                    process(*request)
                finally:
                    self.is_busy = False

            reader.process_net_command_json = process_one

    def stop(self) -> None:
        """End the tracing, and pydevd's threads."""
        # If debugpy is being imported, `connect` fails since nobody listens, or calls this again.
        if not self._is_imported:
            return
        pydevd = sys.modules["pydevd"]
        debugger = pydevd.get_global_debugger()
        if debugger is not None:
            debugger.ready_to_run = True  # otherwise `connect` may wait for it for ever
        pydevd.stoptrace()
        # pydevd's reader thread would reset this too, but later.
        if pydevd.get_global_debugger() is debugger:
            sys.modules["_pydevd_bundle.pydevd_constants"].set_global_debugger(None)

    def after_fork(self) -> None:
        """In a forked child, end the tracing: at a breakpoint nobody could let the child go on."""
        if self.is_ended.is_set() or "pydevd_tracing" not in sys.modules:
            return
        # pydevd has replaced `sys.settrace` by a function that does nothing
        sys.modules["pydevd_tracing"].restore_sys_set_trace_func()
        sys.settrace(None)
        threading.settrace(None)
        if sys.version_info >= (3, 12):
            monitoring, tool = sys.monitoring, sys.monitoring.DEBUGGER_ID
            with suppress(ValueError):
                monitoring.set_events(tool, monitoring.events.NO_EVENTS)
                for name, event in vars(monitoring.events).items():
                    if name.isupper() and name != "NO_EVENTS":
                        with suppress(ValueError):  # not an event, but a group of events
                            monitoring.register_callback(tool, event, None)


def _answer_failure(
    process: Callable[..., object], debugger: Any, contents: bytes, *rest: Any
) -> None:
    """Have pydevd process a request. An exception (for arguments of wrong types, for example) would
    end pydevd's reader, and with it the session: it is answered as a failure instead.
    """
    try:
        process(debugger, contents, *rest)
    except Exception as error:  # whatever pydevd raises
        failure = response(json.loads(contents), error=f"{type(error).__name__}: {error}")
        make = sys.modules["_pydevd_bundle.pydevd_net_command"].NetCommand
        debugger.writer.add_command(make(RETURN, 0, failure, is_json=True))


class _Breakpoints:
    """Has pydevd set the breakpoints of a file in one go.

    By itself it does two things for each of them. It reads and compiles the file, to move one that
    is in a line without code: for those of one cell that took a time that grew with the square of
    their number. And it forgets what it knows of all functions, and looks at the frames of all
    threads. Here a file is read once for a request, and the other is done once at its end, before
    the response. ``processor`` is pydevd's, which carries out requests.
    """

    def __init__(self, processor: Any) -> None:
        self._set, self._add = processor.on_setbreakpoints_request, processor.api.add_breakpoint
        self._lines: dict[str, frozenset[int]] = {}
        processor.on_setbreakpoints_request = self._set_all
        processor.api.add_breakpoint = self._add_one

    def _set_all(self, debugger: Any, request: object) -> object:
        change, changes = debugger.on_breakpoints_changed, list[bool]()
        self._lines.clear()  # files may have changed
        debugger.on_breakpoints_changed = lambda removed=False: changes.append(removed)
        try:
            return self._set(debugger, request)
        finally:
            debugger.on_breakpoints_changed = change
            if changes:
                change(removed=all(changes))

    def _add_one(self, debugger: object, path: str, *rest: Any, **more: Any) -> object:
        _, _, line, *_ = rest
        if line in self._lines_of(path):
            more = {**more, "adjust_line": False}
        return self._add(debugger, path, *rest, **more)

    def _lines_of(self, path: str) -> frozenset[int]:
        """The lines with code; none if the file is no Python, or cannot be read."""
        if path not in self._lines:
            try:
                with tokenize.open(path) as file:
                    self._lines[path] = frozenset(code_lines(file.read(), path))
            except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
                self._lines[path] = frozenset()
        return self._lines[path]


class Tracing:
    """Decides whether the threads of cells are traced during a session.

    From Python 3.12 on tracing costs nothing where nothing is looked for. On 3.11 a trace function
    is called for each call of any function, so it is set only while there is a reason: a
    breakpoint, a step, a pause. ``in_user_loops`` calls a function in each loop that runs cells.
    """

    def __init__(self, in_user_loops: Callable[[Callable[[], object]], object]) -> None:
        self._in_user_loops = in_user_loops
        self._reasons = set[str]()

    def want(self, reason: str, wanted: bool = True) -> None:
        """Add a reason to trace, or drop it. Code that runs already is traced as well."""
        if sys.version_info >= (3, 12):
            return
        if not wanted:
            self._reasons.discard(reason)
            self._in_user_loops(self._relax)
        elif not self._reasons:
            self._reasons.add(reason)
            debugger = _tracing_debugger()
            if debugger is not None:
                sys.modules["pydevd_tracing"].set_trace_to_threads(debugger.trace_dispatch)
                self._in_user_loops(trace_this_thread)  # where pydevd cannot trace another thread
        else:
            self._reasons.add(reason)

    def forget(self) -> None:
        """Drop all reasons, because a session begins or has ended."""
        self._reasons.clear()
        self._in_user_loops(self._relax)

    def _relax(self) -> None:
        if not self._reasons:  # a reason may have been added meanwhile
            untrace_this_thread()


def find_thread(number: object) -> int:
    """The identifier of the thread to which pydevd has given this number; that of the main thread
    if there is none.
    """
    schema = sys.modules.get("_pydevd_bundle._debug_adapter.pydevd_base_schema")
    names = vars(schema.BaseSchema).get("_dap_id_to_obj_id", {}) if schema is not None else {}
    name = names.get(number)
    for thread in threading.enumerate() if name else ():
        if getattr(thread, "__pydevd_id__", None) == name:
            return thread.ident or 0
    return threading.main_thread().ident or 0


def untrace_this_thread() -> None:
    """End the tracing of the calling thread, so that it runs at full speed again (on 3.11)."""
    trace = sys.gettrace()
    if trace is not None and type(trace).__module__.startswith("_pydevd"):
        sys.modules["pydevd_tracing"].SetTrace(None)  # `sys.settrace` would warn


def trace_this_thread() -> None:
    """Trace the calling thread (on 3.11), also after an exception in the trace function has ended
    its tracing.
    """
    if _tracing_debugger() is not None:
        with suppress(RuntimeError):  # the session has ended
            sys.modules["debugpy"].trace_this_thread(True)


def _tracing_debugger() -> Any:
    """pydevd's debugger object; None if pydevd traces nothing in this process."""
    # while another thread imports the module, the function may not be there yet
    get_global_debugger = getattr(sys.modules.get("pydevd"), "get_global_debugger", None)
    return get_global_debugger() if get_global_debugger is not None else None


@contextmanager
def _environment() -> Iterator[None]:
    """Set the environment variables that pydevd reads when it is imported, unless they are set."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
