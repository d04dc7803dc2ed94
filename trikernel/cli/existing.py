"""``trikernel tasks`` and ``trikernel attach``: a look at a kernel that runs already.

The kernel is left as it is: it runs on when the command ends. What comes from it is shown as text
that a terminal does not obey.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from ..client import Client, Execution, connect
from ..errors import ConnectionFileError, KernelDied, KernelNotReady, UsageError
from ..system import harmless
from ..timeline import TaskTree
from ..wire import Message

__all__ = ["attach", "show_tasks"]

READY = 10.0  # seconds that a kernel has to answer
ANSWER = 5.0  # seconds that it has for its tasks, before it counts as one that does not know them
LOOK = 0.5  # seconds in which it says whether a line is complete


def show_tasks(options: argparse.Namespace) -> int:
    """Print the tasks of a kernel; again and again with ``--watch``. Raises `UsageError`."""
    return _with_kernel(options.existing, partial(_show_tasks, watch=options.watch))


def attach(options: argparse.Namespace) -> int:
    """Run lines that are typed in a kernel. Raises `UsageError`."""
    return _with_kernel(options.file, _attach)


def _with_kernel(file: str, use: Callable[[Client], Awaitable[int]]) -> int:
    async def main() -> int:
        async with connect(file, timeout=READY) as client:
            return await use(client)

    try:
        return trio.run(main)
    except KernelNotReady as error:
        raise UsageError(f"{file}: {error}; is its kernel still there?") from None
    except ConnectionFileError as error:
        raise UsageError(str(error)) from None
    except KernelDied as error:
        print(f"trikernel: {error}", file=sys.stderr)
        return 1


# Tasks


async def _show_tasks(client: Client, watch: float | None) -> int:
    is_terminal = sys.stdout.isatty()
    before = ""
    while True:
        text = str(await _ask_tasks(client))
        if watch is None:
            print(text)
            return 0
        if is_terminal:
            print(f"\x1b[H\x1b[2J{text}", flush=True)
        elif text != before:
            print(text, end="\n\n", flush=True)
        before = text
        await trio.sleep(watch)


async def _ask_tasks(client: Client) -> TaskTree:
    """Its tasks, over control. Raises `UsageError` for a kernel that does not tell them."""
    reply: Message | None = None
    with trio.move_on_after(ANSWER):
        reply = await client.send("tasks_request", {}, channel="control").wait_reply()
    if reply is not None and reply.content.get("status") == "ok":
        try:
            return TaskTree.from_content(reply.content)
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
    name = f"{client.info.get('implementation', 'an unknown kernel')!s:.80}"
    version = f"{client.info.get('implementation_version', '')!s:.80}"
    about = harmless(f"{name} {version}".strip(), False)
    raise UsageError(f"this kernel does not tell its tasks: it is {about}")


# Lines


async def _attach(client: Client) -> int:
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        banner = str(client.info.get("banner", "")).strip()
        print(harmless(banner, sys.stdout.isatty()))
        print("attached: Ctrl-C interrupts the cell, Ctrl-D leaves, and the kernel runs on")
    number = 0
    with trio.open_signal_receiver(signal.SIGINT) as interrupts:
        while True:
            number += 1
            code = await _read_code(client, interrupts, f"In [{number}]: " if is_terminal else "")
            if code is None:
                print("left: the kernel runs on" if is_terminal else "", end="\n" * is_terminal)
                return 0
            if code.strip():
                execution = await _run(client, interrupts, code)
                number = execution.execution_count or number
            else:
                number -= 1


async def _read_code(client: Client, interrupts: Any, prompt: str) -> str | None:
    """A line, or several until they are complete; None at the end of the input."""
    lines: list[str] = []
    while True:
        more = "   ...: ".rjust(len(prompt)) if prompt else ""
        line = await _read_line(interrupts, more if lines else prompt)
        if line is None:
            return "\n".join(lines) if lines else None
        lines.append(line)
        code = "\n".join(lines)
        if (not line.strip() and len(lines) > 1) or not await _wants_more(client, code):
            return code


async def _wants_more(client: Client, code: str) -> bool:
    with trio.move_on_after(LOOK):
        reply = await client.is_complete(code)
        return reply.content.get("status") == "incomplete"
    return code.rstrip().endswith((":", "\\"))  # a kernel that is busy, or does not know


async def _read_line(interrupts: Any, prompt: str) -> str | None:
    """One line, in a thread, which nothing can stop: a Ctrl-C meanwhile says how to leave."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_say_how_to_leave, interrupts)
        line = await trio.to_thread.run_sync(_ask, prompt, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    return line


def _ask(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        return None


async def _say_how_to_leave(interrupts: Any) -> None:
    async for _ in interrupts:
        print("\n(nothing runs: Ctrl-D leaves, Enter goes on)", flush=True)


async def _run(client: Client, interrupts: Any, code: str) -> Execution:
    """Run it and show what it puts out while it comes."""
    shown = _Shown()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_interrupt, client, interrupts)
        async with client.executing(code, on_input=_answer) as execution:
            async for output in execution:
                shown.show(output)
        error = execution.error
        if error is not None and not shown.has_shown_error:
            shown.write("stderr", f"{error}\n")
        nursery.cancel_scope.cancel()
    shown.end()
    return execution


async def _interrupt(client: Client, interrupts: Any) -> None:
    async for _ in interrupts:
        await client.interrupt()


async def _answer(prompt: str, password: bool) -> str:
    from getpass import getpass

    ask = getpass if password else input
    return await trio.to_thread.run_sync(ask, harmless(prompt, False), abandon_on_cancel=True)


class _Shown:
    """What a cell puts out, as text; a line that it has not ended is ended."""

    def __init__(self) -> None:
        self.has_shown_error = False
        self._last = "\n"

    def show(self, output: Any) -> None:
        """One output, in nbformat's words."""
        kind = output["output_type"]
        if kind == "stream":
            self.write(output["name"], output["text"])
        elif kind == "error":
            self.has_shown_error = True
            self.write("stderr", "\n".join(output["traceback"]) + "\n")
        else:
            text = output["data"].get("text/plain", "(something that a terminal cannot show)")
            self.write("stdout", "".join(text) + "\n")

    def write(self, name: str, text: str) -> None:
        """Text of the kernel's."""
        stream = sys.stderr if name == "stderr" else sys.stdout
        print(harmless(text, stream.isatty()), end="", file=stream, flush=True)
        self._last = text[-1:] or self._last

    def end(self) -> None:
        """The next thing is a prompt."""
        if self._last != "\n":
            print(flush=True)
