"""What is known of debugpy while another thread imports it, and how it handles requests."""

from __future__ import annotations

import sys
import tokenize
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from trikernel.debugger.dap import DapStream, Refused
from trikernel.debugger.session import Session
from trikernel.debugger.tracing import _accept, _Session, trace_this_thread


def test_a_debugger_that_is_being_imported_traces_nothing_and_is_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # a module is in sys.modules from the moment in which its import begins
    monkeypatch.setitem(sys.modules, "pydevd", ModuleType("pydevd"))
    before = sys.gettrace()
    trace_this_thread()
    _Session("secret").stop()
    assert sys.gettrace() is before


async def test_strangers_at_the_debuggers_port_hold_up_nobody(autojump_clock: Any) -> None:
    """Whatever they say, also if they say nothing. The clock jumps if everybody waits."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    words = [b"", b"", b"GET / HTTP/1.1\r\n\r\n", b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"]
    words.append(b"Content-Length: 100000\r\n\r\n" + b"[" * 100_000)
    strangers = [await trio.open_tcp_stream("127.0.0.1", port) for _ in words]
    for stream, said in zip(strangers, words, strict=True):
        await stream.send_all(said)
    began, own = trio.current_time(), DapStream(await trio.open_tcp_stream("127.0.0.1", port))
    body = {"clientAccessToken": "secret"}
    await own.send({"type": "response", "request_seq": 1, "body": body})
    accepted = await _accept(listener, "secret")
    assert trio.current_time() - began < 1
    await accepted.send({"seq": 2, "type": "event"})
    while (await own.receive()).get("type") != "event":
        pass
    for stream in strangers:
        await stream.aclose()
    for end in (own, accepted):
        await end.aclose()
    await listener.aclose()


class _Processor:
    """What is used of pydevd's, which carries out requests: each sets breakpoints in the lines
    ``lines`` of a file. ``done`` is what pydevd does that takes long: at the lines that it has to
    look at, and when breakpoints have changed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.api: Any = SimpleNamespace(add_breakpoint=self._add)
        self.lines = [1, 2, 3]
        self.done: list[object] = []
        self.was_busy = False
        self._path = path
        self._debugger: Any = SimpleNamespace(
            mtime=0,
            on_breakpoints_changed=lambda removed=False: self.done.append("removed" * removed),
            reader=SimpleNamespace(process_net_command_json=self.process),
            writer=SimpleNamespace(add_command=lambda command: None),
        )
        pydevd = SimpleNamespace(get_global_debugger=lambda: self._debugger)
        command = SimpleNamespace(NetCommand=lambda *words, is_json: words)
        monkeypatch.setitem(sys.modules, "pydevd", pydevd)
        monkeypatch.setitem(sys.modules, "_pydevd_bundle.pydevd_net_command", command)
        self.session = _Session("secret")
        self.session.prepare()

    def handle(self) -> list[object]:
        """Have a request carried out; what takes long of it."""
        self.done = []
        self._debugger.reader.process_net_command_json(self._debugger, b'{"seq": 1}')
        return self.done

    def process(self, debugger: object, contents: bytes) -> None:
        self.was_busy = self.session.is_busy
        self.on_setbreakpoints_request(debugger, "request")

    def on_setbreakpoints_request(self, debugger: Any, request: object) -> None:
        debugger.on_breakpoints_changed(removed=True)
        for line in self.lines:
            words = (str(self._path), "python-line", 1, line)
            self.api.add_breakpoint(debugger, *words, adjust_line=True)
            if line == 5:
                raise ValueError("as for arguments of a wrong type")

    def _add(
        self, debugger: Any, path: str, kind: str, number: int, line: int, *, adjust_line: bool
    ) -> None:
        if adjust_line:
            self.done.append(line)
        debugger.on_breakpoints_changed()


def test_the_breakpoints_of_a_request_are_set_in_one_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file is read once, and anew for the next request, and changes are told once."""
    path, opened = tmp_path / "cell.py", list[object]()
    really_open = tokenize.open
    monkeypatch.setattr(tokenize, "open", lambda name: opened.append(name) or really_open(name))  # type: ignore[func-returns-value]
    processor = _Processor(monkeypatch, path)
    path.write_text("await x\n\ndef f():\n    y")
    assert processor.handle() == [2, ""]  # a line without code is moved
    path.write_text("1\n2\n")
    assert processor.handle() == [3, ""]
    path.write_text("%magic")
    assert processor.handle() == [1, 2, 3, ""]
    path.unlink()
    assert processor.handle() == [1, 2, 3, ""]
    assert opened == [str(path)] * 4
    processor.lines = []
    assert processor.handle() == ["removed"]


def test_a_debugger_is_busy_while_it_carries_out_a_request_that_fails_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processor = _Processor(monkeypatch, tmp_path / "there is none")
    processor.lines = [5]
    assert not processor.session.is_busy
    assert processor.handle() == [5, ""]
    assert processor.was_busy
    assert not processor.session.is_busy


@pytest.mark.parametrize("is_busy", [True, False])
async def test_a_request_that_is_being_carried_out_is_waited_for(
    is_busy: bool, autojump_clock: Any
) -> None:
    """A debugger that is idle, and has not answered, will not do so."""
    ours, theirs = trio.testing.memory_stream_pair()
    session = Session(DapStream(ours), lambda event: None, lambda: is_busy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        pending = session.send("setBreakpoints", {})
        began = trio.current_time()

        async def answer() -> None:
            stream = DapStream(theirs)
            request = await stream.receive()
            await trio.sleep(50)
            await stream.send({"type": "response", "request_seq": request["seq"], "body": 1})

        nursery.start_soon(answer)
        if is_busy:
            assert (await pending.response(20))["body"] == 1
            assert trio.current_time() - began == pytest.approx(50)
        else:
            with pytest.raises(Refused, match="has not answered setBreakpoints within 20 seconds"):
                await pending.response(20)
            assert trio.current_time() - began == pytest.approx(20)
        nursery.cancel_scope.cancel()
