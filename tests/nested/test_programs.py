"""Programs as those of Trio's documentation, which end in `trio.run`, pasted into a cell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..processes import KernelProcess, kernel_process


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelProcess]:
    with kernel_process() as kernel:
        kernel.execute("import trio\nasync def nothing(): pass\ntrio.run(nothing)")  # the hint
        yield kernel


PROGRAMS: dict[str, tuple[str, str]] = {
    "two children and their parent": (
        """
import trio

async def boil(what):
    print("on:", what)
    await trio.sleep(0.01)
    print("off:", what)

async def cook():
    async with trio.open_nursery() as kitchen:
        for what in ("rice", "rice"):
            kitchen.start_soon(boil, what)
        print("both on the stove")
    print("dinner")

trio.run(cook)
""",
        "both on the stove\non: rice\non: rice\noff: rice\noff: rice\ndinner\n",
    ),
    "an instrument that tells what the loop does": (
        """
import trio

class Diary(trio.abc.Instrument):
    steps = 0
    def before_run(self): print("begins")
    def task_spawned(self, task): self.steps += task.name.endswith("stroll")
    def before_io_wait(self, timeout): self.time = trio.current_time()
    def after_run(self): print("ends", self.steps, self.time > 0)

async def stroll():
    await trio.sleep(0.01)

async def day():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stroll)
        nursery.start_soon(stroll)

trio.run(day, instruments=[Diary()])
""",
        "begins\nends 2 True\n",
    ),
    "an echo server and its client": (
        """
import trio

async def echo(stream):
    async for data in stream:
        await stream.send_all(data[::-1])
    print("server: gone")

async def talk(port):
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for word in (b"abc", b"xyz"):
            await stream.send_all(word)
            print("client:", await stream.receive_some())

async def main():
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        await talk(listeners[0].socket.getsockname()[1])
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()

import trio.testing
trio.run(main)
""",
        "client: b'cba'\nclient: b'zyx'\nserver: gone\n",
    ),
    "a channel that is closed by its sender": (
        """
import trio

async def post(letters):
    async with letters:
        for number in range(3):
            await letters.send(f"letter {number}")

async def read(letters):
    async with letters:
        async for letter in letters:
            print(letter)

async def main():
    async with trio.open_nursery() as nursery:
        into, out_of = trio.open_memory_channel(0)
        nursery.start_soon(post, into)
        nursery.start_soon(read, out_of)

trio.run(main)
""",
        "letter 0\nletter 1\nletter 2\n",
    ),
    "a channel with clones for each of its users": (
        """
import trio

read = []

async def post(letters):
    async with letters:
        for number in range(3):
            await letters.send(number)

async def take(letters):
    async with letters:
        async for letter in letters:
            read.append(letter)

async def main():
    async with trio.open_nursery() as nursery:
        into, out_of = trio.open_memory_channel(0)
        async with into, out_of:
            for _ in range(2):
                nursery.start_soon(post, into.clone())
                nursery.start_soon(take, out_of.clone())

trio.run(main)
print(sorted(read))
""",
        "[0, 0, 1, 1, 2, 2]\n",
    ),
    "a channel without a bound, faster filled than read": (
        """
import math, trio, trio.testing

async def fill(into):
    for number in range(1000):
        await trio.sleep(0.1)
        await into.send(number)

async def read(out_of):
    async for number in out_of:
        await trio.sleep(1)

async def main():
    into, out_of = trio.open_memory_channel(math.inf)
    with trio.move_on_after(20.05):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill, into)
            nursery.start_soon(read, out_of)
    print(out_of.statistics().current_buffer_used > 150)

trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
""",
        "True\n",
    ),
    "context variables of requests and their helpers": (
        """
import contextvars, trio

asked_by = contextvars.ContextVar("asked_by")
lines = []

async def help(what):
    await trio.sleep(0.001)
    lines.append(f"{asked_by.get()} {what}")

async def serve(name):
    asked_by.set(name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(help, "a")
        nursery.start_soon(help, "b")

async def main():
    async with trio.open_nursery() as nursery:
        for name in "xyz":
            nursery.start_soon(serve, name)

trio.run(main)
print(sorted(lines))
""",
        "['x a', 'x b', 'y a', 'y b', 'z a', 'z b']\n",
    ),
    "a thread that calls back into Trio": (
        """
import trio

def double(questions, answers):
    while True:
        try:
            number = trio.from_thread.run(questions.receive)
        except trio.EndOfChannel:
            return trio.from_thread.run(answers.aclose)
        trio.from_thread.run(answers.send, number * 2)

async def main():
    ask, questions = trio.open_memory_channel(0)
    answers, hear = trio.open_memory_channel(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, double, questions, answers)
        for number in (1, 2):
            await ask.send(number)
            print(await hear.receive())
        await ask.aclose()

trio.run(main)
""",
        "2\n4\n",
    ),
    "threads that find their task's context": (
        """
import contextvars, trio

box = contextvars.ContextVar("box")

def fill(text):
    box.get().append(text)
    print("in a thread")

async def main():
    box.set([])
    await trio.to_thread.run_sync(fill, "hello")
    print(box.get())

trio.run(main)
""",
        "in a thread\n['hello']\n",
    ),
    "clocks that are faster": (
        """
import time, trio, trio.testing

async def nap():
    begun = trio.current_time()
    await trio.sleep(365 * 24 * 3600)
    print((trio.current_time() - begun) // (24 * 3600) >= 365)

begun = time.monotonic()
trio.run(nap, clock=trio.testing.MockClock(rate=10 ** 9))
trio.run(nap, clock=trio.testing.MockClock(autojump_threshold=0))
print(time.monotonic() - begun < 30)
""",
        "True\nTrue\nTrue\n",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_ends_in_trio_run_works_in_a_cell(kernel: KernelProcess, name: str) -> None:
    code, output = PROGRAMS[name]
    text = kernel.text(code)
    if name == "two children and their parent":  # which of them is first, Trio leaves open
        assert sorted(text.splitlines()) == sorted(output.splitlines())
    else:
        assert text == output


def test_a_program_that_fails_fails_as_it_does_anywhere(kernel: KernelProcess) -> None:
    code = """
import trio

async def post(letters):
    async with letters:
        await letters.send(1)
        await trio.sleep(0.01)
        await letters.send(2)

async def close(letters):
    await trio.sleep(0.005)
    await letters.aclose()

async def main():
    async with trio.open_nursery() as nursery:
        into, out_of = trio.open_memory_channel(5)
        nursery.start_soon(post, into)
        nursery.start_soon(close, into)

trio.run(main)
"""
    reply, _ = kernel.execute(code)
    assert (reply["ename"], kernel.text("print(7)")) == ("ExceptionGroup", "7\n")
    assert "ClosedResourceError" in "".join(reply["traceback"])


def test_groups_are_strict_or_not_as_the_inner_run_is_told(kernel: KernelProcess) -> None:
    code = """
import warnings
warnings.simplefilter("ignore", trio.TrioDeprecationWarning)

async def fail():
    raise ValueError("x")

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)

for strict in (True, False):
    try:
        trio.run(main, strict_exception_groups=strict)
    except Exception as error:
        print(type(error).__name__)
"""
    assert kernel.text(code) == "ExceptionGroup\nValueError\n"


@pytest.mark.parametrize(
    ("package", "code", "output"),
    [
        (
            "trio_parallel",
            "import operator, trio_parallel\n"
            "async def main():\n"
            "    print(await trio_parallel.run_sync(operator.mul, 6, 7))\n"
            "trio.run(main)",
            "42\n",
        ),
        (
            "trio_websocket",
            """
from trio_websocket import ConnectionClosed, open_websocket, serve_websocket

async def turn(request):
    socket = await request.accept()
    try:
        while True:
            await socket.send_message((await socket.get_message())[::-1])
    except ConnectionClosed:
        print("closed")

async def main():
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, turn, "127.0.0.1", 0, None)
        async with open_websocket("127.0.0.1", server.port, "/", use_ssl=False) as socket:
            await socket.send_message("stressed")
            print(await socket.get_message())
        nursery.cancel_scope.cancel()

trio.run(main)
""",
            "desserts\nclosed\n",
        ),
    ],
)
def test_libraries_on_trio_work_in_a_nested_run(
    kernel: KernelProcess, package: str, code: str, output: str
) -> None:
    assert kernel.text(code) == output


def test_a_notebook_of_ipykernels_trio_loop_works(kernel: KernelProcess) -> None:
    """Cells as in the demo of trio-jupyter: top-level await, a counter that goes on, a crash."""
    cells = [
        "import trio, time",
        "await trio.sleep(0)",
        "trio.current_time() > 0",
        "%autoawait trio",
        "async with trio.open_nursery() as own: own.start_soon(trio.sleep, 0.01)",
        "ticks = 0\nasync def tick():\n    global ticks\n    while True:\n"
        "        await trio.sleep(0.001)\n        ticks += 1",
        "GLOBAL_NURSERY.start_soon(tick)",
        "await trio.sleep(0.1)\nassert ticks > 3",
        "async def crash():\n    raise RuntimeError('in the background')",
        "GLOBAL_NURSERY.start_soon(crash)\nawait trio.sleep(0.02)",
    ]
    for cell in cells:
        reply, outputs = kernel.execute(cell)
        assert reply["status"] == "ok", (cell, reply)
    assert [one["content"]["evalue"] for one in outputs if one["msg_type"] == "error"] == [
        "in the background"
    ]
    assert kernel.text("before = ticks; await trio.sleep(0.1); print(ticks > before)") == "True\n"
    assert kernel.text("GLOBAL_NURSERY.cancel_scope.cancel()").count("DeprecationWarning") == 1


def test_global_nursery_says_what_to_write_instead(kernel: KernelProcess) -> None:
    text = kernel.text("GLOBAL_NURSERY.start_soon(trio.sleep, 0)")
    assert "DeprecationWarning: GLOBAL_NURSERY" in text
    assert "from trikernel.notebook import nursery" in text
