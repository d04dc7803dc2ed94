"""What an author or a user hands over and JSON has no word for: it is sent, or told by an error.

In each place of each message where a value of theirs can be. Whatever it is, each request gets its
one reply and its idle, what goes out is JSON in UTF-8, and the kernel goes on.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trikernel import Kernel
from trikernel.wire import json as wire_json

from ..harness import Peer, connect, open_transport, served_on


class Raises:
    """Whatever is asked of it."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def __repr__(self) -> str:
        raise self._error

    def __iter__(self) -> Iterator[Any]:
        raise self._error

    def __len__(self) -> int:
        raise self._error


class Anew:
    """Two more of its kind are in it, at each level."""

    def __iter__(self) -> Iterator[Any]:
        return iter([Anew(), Anew()])


class Stubborn(float):
    def __float__(self) -> float:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError


def cycle() -> list[Any]:
    value: list[Any] = [1]
    value += [value, {"again": value, "and": [value]}]
    return value


def deep(levels: int = 5_000) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def endless() -> Iterator[int]:
    while True:
        yield 1


ODD: dict[str, Callable[[], Any]] = {
    "NaN": lambda: math.nan,
    "infinities": lambda: [math.inf, -math.inf],
    "bytes": lambda: [b"\xff", bytearray(b"x"), memoryview(b"abc")[::2]],
    "dates": lambda: [
        datetime.datetime.now(datetime.UTC),
        datetime.date.min,
        datetime.timedelta(1),
    ],
    "a time with a zone": lambda: datetime.time(1, tzinfo=datetime.UTC),
    "numpy's scalars": lambda: [numpy.int64(1), numpy.float32("nan"), numpy.bool_(True)],
    "numpy's dates": lambda: [numpy.datetime64("2026-01-01"), numpy.datetime64("NaT", "s")],
    "an array": lambda: numpy.array([[math.nan, 1], [2, 3]]),
    "an array of objects": lambda: numpy.array([b"x", None, Raises(ValueError)], dtype=object),
    "a lone surrogate": lambda: ["\ud800", {"\udc00": "\ud800"}],
    "a cycle": cycle,
    "a deep list": deep,
    "new values at each level": Anew,
    "an iterator without an end": endless,
    "an integer that is too long to write": lambda: [10**5000, {10**5000: 1}],
    "keys of any kind": lambda: {None: 1, 1: 2, b"x": 3, (1, 2): 4, numpy.int64(5): 6, math.nan: 7},
    "a float that cannot be one": lambda: Stubborn(1.5),
    "what raises": lambda: Raises(RuntimeError),
    "what interrupts": lambda: Raises(KeyboardInterrupt),
    "what exits": lambda: [2**70, Raises(SystemExit)],
    "what recurses": lambda: Raises(RecursionError),
    "a class": lambda: Raises,
    "ellipsis": lambda: ...,
}


class Giver(Kernel):
    """Hands over ``value`` in the place that the code names."""

    implementation = "giver"
    value: Any = None

    async def do_execute(self, code: str, silent: bool, **options: Any) -> Any:
        value = self.value
        reply: dict[str, Any] = {"status": "ok"}
        if code in ("payload", "user_expressions", "other"):
            reply[code] = [{"source": "x", "data": value}] if code == "payload" else {"x": value}
        elif code == "whole user_expressions":
            reply["user_expressions"] = value
        elif code == "error":
            reply |= {"status": "error", "ename": value, "evalue": value, "traceback": [value]}
        elif code == "raise":
            raise RuntimeError(value)
        elif code in DISPLAYED:
            content = {"data": {}, "metadata": {}, "transient": {}, code: {"text/plain": value}}
            self.send_response(self.iopub_socket, "display_data", content)
        elif code == "message":
            self.send_response(
                self.iopub_socket, "own_message", {"x": value}, metadata={"x": value}
            )
        elif code == "stream":
            self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": value})
        return reply

    def do_complete(self, code: str, cursor_pos: int) -> Any:
        found = {"matches": [self.value], "cursor_start": 0, "cursor_end": 0}
        return {"status": "ok", **found, "metadata": {"x": self.value}}

    def do_inspect(self, code: str, cursor_pos: int, *args: Any, **more: Any) -> Any:
        return {"status": "ok", "found": True, "data": {"x": self.value}, "metadata": {}}

    def do_history(self, *args: Any, **asked: Any) -> Any:
        return {"status": "ok", "history": [(1, 1, self.value)]}

    def do_is_complete(self, code: str) -> Any:
        return {"status": "incomplete", "indent": self.value}


DISPLAYED = ("data", "metadata", "transient")
CELLS = (
    *DISPLAYED, "payload", "user_expressions", "whole user_expressions", "other", "error", "raise",
    "message", "stream",
)  # fmt: skip
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    *[("execute_request", {"code": one, "stop_on_error": False}) for one in CELLS],
    ("complete_request", {"code": "x", "cursor_pos": 1}),
    ("inspect_request", {"code": "x", "cursor_pos": 1}),
    ("history_request", {"hist_access_type": "tail", "n": 1, "output": False, "raw": True}),
    ("is_complete_request", {"code": "x"}),
    ("kernel_info_request", {}),
]


async def every_place(make: Callable[[], Any]) -> None:
    kernel = Giver()
    kernel.value = make()
    kernel.language_info = {"name": "x", "more": make()}
    transport = open_transport("memory")
    with closing(transport), closing(connect(transport, b"me")) as connection:
        async with served_on(transport, kernel):
            peer = Peer(connection)
            await peer.until_subscribed()
            for msg_type, content in REQUESTS:
                msg_id = peer.send(msg_type, content)
                reply = await peer.receive()  # `Codec.decode` reads it, or raises
                assert reply.parent_id == msg_id
                assert reply.msg_type == msg_type.replace("_request", "_reply")
                await peer.until_idle(msg_id)
            kernel.value = "on"
            about = await peer.until_idle(peer.send("execute_request", {"code": "stream"}))
            assert "on" in [one.content.get("text") for one in about]


def run(make: Callable[[], Any]) -> None:
    trio.run(every_place, make, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("case", ODD)
def test_it_is_sent_or_told_wherever_it_is_given(case: str) -> None:
    run(ODD[case])


LEAVES = st.sampled_from(sorted(ODD)).map(lambda case: ODD[case]()) | st.text(st.characters())
VALUES = st.recursive(
    LEAVES | st.floats() | st.integers() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=8)
@given(VALUES)
def test_any_mixture_is_sent_or_told(value: Any) -> None:
    run(lambda: value)


@given(VALUES)
def test_any_mixture_is_json_that_others_read(value: Any) -> None:
    def constant(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    json.loads(wire_json.dumps(value).decode(), parse_constant=constant)
