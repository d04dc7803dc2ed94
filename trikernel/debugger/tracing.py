"""Starting and ending debugpy in this process, and the stream to it.

debugpy traces this process by pydevd, which speaks the Debug Adapter Protocol itself; an adapter's
process in between would add nothing. pydevd connects to a socket of ours, on 127.0.0.1, that takes
one connection and is closed again: no port stays open by which somebody else on the machine could
run code here. A secret tells that it is really this process that has connected.

Both start and end in a thread of their own: debugpy takes half a second to import, and waits.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import attrs
import trio

from ..system import has_debugpy, on_fork, run_in_own_thread
from .dap import DapStream, Refused, response

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
    # without it, four lines of warnings about frozen modules go to stderr
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    # each statement of a cell is compiled by itself: stepping goes on in the next one, if the
    # functions around are these
    "PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING": "1",
    "PYDEVD_IPYTHON_CONTEXT": "interactiveshell.py, run_statement, _error_of",
    # else what takes three seconds to look at lets everything else go on meanwhile
    "PYDEVD_UNBLOCK_THREADS_ON_VARIABLES_TIMEOUT": "-1",
}


def is_installed() -> bool:
    """Whether debugpy can be imported; it is not."""
    return has_debugpy()


@attrs.frozen
class Traced:
    """A connection to a debugger that traces this process, once ``is_on`` is set.

    That is after ``configurationDone``.
    """

    stream: DapStream
    is_on: trio.Event


@asynccontextmanager
async def start_debugpy() -> AsyncIterator[Traced]:
    """Have debugpy connect; it stops tracing at the end. Raises `Refused` if that fails."""
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
                yield Traced(stream, is_on)
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
    """The first connection that knows the secret."""
    while True:
        stream = DapStream(await listener.accept())
        with suppress(trio.BrokenResourceError, trio.EndOfChannel):
            arguments = {"debugServerAccessToken": None}
            ask = {"seq": 1, "type": "request", "command": "pydevdAuthorize"}
            await stream.send({**ask, "arguments": arguments})
            with trio.move_on_after(CONNECT_TIMEOUT / 10):
                while True:
                    message = await stream.receive()
                    if message.get("request_seq") == 1:
                        break
                given = str((message.get("body") or {}).get("clientAccessToken"))
                if secrets.compare_digest(given.encode(), secret.encode()):
                    return stream
        await stream.aclose()


class _Session:
    """debugpy as it is loaded in this process, from its start to its end; in threads of ours."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.is_ended = threading.Event()
        self._is_imported = False
        on_fork(self)

    def connect(self, port: int) -> None:
        """Connect to ``port``; returns when ``configurationDone`` has come and this process is
        traced.
        """
        with _environment():
            import debugpy

            debugpy.configure(subProcess=False)  # which imports pydevd; children are left alone
        self._is_imported = True
        debugpy.connect(("127.0.0.1", port), access_token=self.secret)
        if self.is_ended.is_set():
            self.stop()

    def prepare(self) -> None:
        """Have pydevd's reader go on after a request that it fails at, see `_answer_failure`; and
        have pydevd, which counts the changes of its breakpoints and filters, begin with a number
        of this session's own. It keeps what it knows of each function by that number, over the end
        of a session, and would take what was so in an earlier one for what is so now.
        """
        debugger = sys.modules["pydevd"].get_global_debugger()
        if debugger is not None:
            debugger.mtime = next(_sessions) % 20_000 * 100_000  # a C int
            reader = debugger.reader
            reader.process_net_command_json = partial(
                _answer_failure, reader.process_net_command_json
            )

    def stop(self) -> None:
        """Trace nothing any more, and end the debugger's threads."""
        if not self._is_imported:  # by now: `connect` finds nobody who listens, or stops again
            return
        pydevd = sys.modules["pydevd"]
        debugger = pydevd.get_global_debugger()
        if debugger is not None:
            debugger.ready_to_run = True  # else `connect` waits for configurationDone for ever
        pydevd.stoptrace()
        if pydevd.get_global_debugger() is debugger:  # its reader ends it, and takes its time
            sys.modules["_pydevd_bundle.pydevd_constants"].set_global_debugger(None)

    def after_fork(self) -> None:
        """In a forked child: nobody is there to say that it may go on, so it is not traced."""
        if self.is_ended.is_set() or "pydevd_tracing" not in sys.modules:
            return
        sys.modules["pydevd_tracing"].restore_sys_set_trace_func()  # theirs does nothing
        sys.settrace(None)
        threading.settrace(None)
        if sys.version_info >= (3, 12):
            monitoring, tool = sys.monitoring, sys.monitoring.DEBUGGER_ID
            with suppress(ValueError):
                monitoring.set_events(tool, monitoring.events.NO_EVENTS)
                for name, event in vars(monitoring.events).items():
                    if name.isupper() and name != "NO_EVENTS":
                        with suppress(ValueError):  # a group of others
                            monitoring.register_callback(tool, event, None)


def _answer_failure(
    process: Callable[..., object], debugger: Any, contents: bytes, *rest: Any
) -> None:
    """Have pydevd process a request. What it raises, as for arguments of wrong types, would end its
    reader, and with that the session: it is the message of a failure.
    """
    try:
        process(debugger, contents, *rest)
    except Exception as error:  # the boundary of pydevd's code
        failure = response(json.loads(contents), error=f"{type(error).__name__}: {error}")
        make = sys.modules["_pydevd_bundle.pydevd_net_command"].NetCommand
        debugger.writer.add_command(make(RETURN, 0, failure, is_json=True))


class Tracing:
    """Whether the threads of cells are traced while a session is there.

    From Python 3.12 on what is not looked for costs nothing. Before, a trace function is called for
    each call that anything makes, so there is one only while there is a reason: a breakpoint, a
    step, a pause. ``in_user_loops`` has a function called in each loop that cells run in.
    """

    def __init__(self, in_user_loops: Callable[[Callable[[], object]], object]) -> None:
        self._in_user_loops = in_user_loops
        self._reasons = set[str]()

    def want(self, reason: str, wanted: bool = True) -> None:
        """There is this reason, or there is none any more. What runs already is traced, too."""
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
        """The session has begun, or has ended: there is no reason."""
        self._reasons.clear()
        self._in_user_loops(self._relax)

    def _relax(self) -> None:
        if not self._reasons:  # another one may have come meanwhile
            untrace_this_thread()


def find_thread(number: object) -> int:
    """The identifier of the thread that pydevd gives this number; that of the main thread, if that
    cannot be told.
    """
    schema = sys.modules.get("_pydevd_bundle._debug_adapter.pydevd_base_schema")
    names = vars(schema.BaseSchema).get("_dap_id_to_obj_id", {}) if schema is not None else {}
    name = names.get(number)
    for thread in threading.enumerate() if name else ():
        if getattr(thread, "__pydevd_id__", None) == name:
            return thread.ident or 0
    return threading.main_thread().ident or 0


def untrace_this_thread() -> None:
    """Have the calling thread run at full speed again (on 3.11)."""
    trace = sys.gettrace()
    if trace is not None and type(trace).__module__.startswith("_pydevd"):
        sys.modules["pydevd_tracing"].SetTrace(None)  # `sys.settrace` would warn


def trace_this_thread() -> None:
    """Have the calling thread traced again, after an exception has ended that (on 3.11)."""
    if _tracing_debugger() is not None:
        with suppress(RuntimeError):  # the session has ended
            sys.modules["debugpy"].trace_this_thread(True)


def _tracing_debugger() -> Any:
    """pydevd's own, None where nothing in this process is traced by it."""
    # without it while another thread imports the module
    get_global_debugger = getattr(sys.modules.get("pydevd"), "get_global_debugger", None)
    return get_global_debugger() if get_global_debugger is not None else None


@contextmanager
def _environment() -> Iterator[None]:
    """What pydevd reads when it is imported; what is set already stays."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
