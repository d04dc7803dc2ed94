"""What is known of debugpy while another thread imports it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import trio

from trikernel.debugger.dap import DapStream
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
