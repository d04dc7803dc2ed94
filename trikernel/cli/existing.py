"""``trikernel tasks`` and ``trikernel attach``, for a kernel that runs already.

The kernel runs on when the command ends. Text from the kernel is shown without control sequences
that could change the terminal's state.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from getpass import getpass
from pathlib import Path
from typing import Any

import trio

from ..client import Client, Execution, connect
from ..errors import ConnectionFileError, KernelDied, KernelNotReady, UsageError
from ..system import harmless
from ..timeline import TaskTree
from ..wire import Message

__all__ = ["attach", "show_tasks"]

READY = 10.0  # seconds that a kernel has to answer
ANSWER = 5.0  # seconds for a ``tasks_reply``; without one the kernel does not support it
WAITS = 1.0  # seconds after which the user is told that the line waits for another cell
LOOK = 0.5  # seconds for an ``is_complete_reply``


def show_tasks(options: argparse.Namespace) -> int:
    """Print the tasks of a kernel; with ``--watch`` repeatedly. Raises `UsageError`."""
    return _with_kernel(options.existing, partial(_show_tasks, watch=options.watch))


def attach(options: argparse.Namespace) -> int:
    """Run the lines of standard input in a kernel. Raises `UsageError`."""
    return _with_kernel(options.file, _attach)


def _with_kernel(file: str, use: Callable[[Client], Awaitable[int]]) -> int:
    async def main() -> int:
        async with connect(file, timeout=READY) as client:
            return await use(client)

    try:
        return trio.run(main)
    except KernelNotReady as error:
        where = "" if Path(file).name in str(error) else f"{file}: "
        raise UsageError(f"{where}{error}; is it still there?") from None
    except ConnectionFileError as error:
        raise UsageError(str(error)) from None
    except KernelDied as error:
        return _tell_death(error)
    except ExceptionGroup as group:  # of the nursery that a cell's outputs are shown in
        death: BaseException = group
        while isinstance(death, BaseExceptionGroup) and len(death.exceptions) == 1:
            death = death.exceptions[0]
        if not isinstance(death, KernelDied):
            raise
        return _tell_death(death)


def _tell_death(error: KernelDied) -> int:
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
    """Ask for the kernel's tasks on control. Raises `UsageError` if it does not tell them."""
    reply: Message | None = None
    with trio.move_on_after(ANSWER):
        reply = await client.send("tasks_request", {}, channel="control").wait_reply()
    if reply is not None and reply.content.get("status") == "ok":
        try:
            return TaskTree.from_content(reply.content)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
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
    number, lines = 0, _Lines()
    with trio.open_signal_receiver(signal.SIGINT) as interrupts:
        while True:
            number += 1
            prompt = f"In [{number}]: " if is_terminal else ""
            code = await _read_code(client, lines, interrupts, prompt)
            if code is None:
                print("left: the kernel runs on" if is_terminal else "", end="\n" * is_terminal)
                return 0
            if code.strip():
                execution = await _run(client, lines, interrupts, code)
                number = execution.execution_count or number
                kept = _kept_at_exit(execution)
                if kept is not None:
                    print("left: the kernel runs on" if kept else "left: the kernel ends")
                    return 0
            else:
                number -= 1


def _kept_at_exit(execution: Execution) -> bool | None:
    """Whether the kernel runs on after an ``exit`` in this cell; None if there was none.

    The kernel asks its frontend to leave by a payload of the reply (messaging.rst, Payloads).
    """
    payload = execution.reply.content.get("payload") if execution.reply is not None else None
    for item in payload if isinstance(payload, list) else []:
        if isinstance(item, dict) and item.get("source") == "ask_exit":
            return bool(item.get("keepkernel"))
    return None


class _Lines:
    """Reads lines of standard input, each in a thread. Such a read cannot be cancelled: if the
    caller of `read` no longer waits, the line goes to the next caller.
    """

    def __init__(self) -> None:
        self._reading = False
        self._waiting: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._line: str | None = None
        self._error: Exception | None = None

    async def read(self, prompt: str, *, password: bool = False) -> str | None:
        """The next line; None at the end of the input; empty after `give_up`. If it is cancelled,
        the line is not lost.
        """
        if self._reading:
            print(prompt, end="", flush=True)
        else:
            self._reading, self._ended, self._line, self._error = True, trio.Event(), None, None
            trio.lowlevel.spawn_system_task(self._read, prompt, password, name="a line")
        with (
            _echo_off() if password else contextlib.nullcontext(),
            trio.CancelScope() as self._waiting,
        ):
            await self._ended.wait()
        if self._waiting.cancelled_caught:
            return ""
        self._reading = False
        if self._error is not None:
            raise self._error
        return self._line

    def give_up(self) -> None:
        """Have a waiting `read` return an empty line; the next `read` gets the real one."""
        if self._waiting is not None:
            self._waiting.cancel()

    async def _read(self, prompt: str, password: bool) -> None:
        ask = (getpass if sys.platform == "win32" else _ask_unseen) if password else input
        try:
            self._line = await trio.to_thread.run_sync(ask, prompt, abandon_on_cancel=True)
        except EOFError:
            self._line = None
        except Exception as error:  # a terminal that is closed, for example
            self._error = error
        finally:
            self._ended.set()


def _ask_unseen(prompt: str) -> str:
    """Read a password. `getpass` is not used: if its caller no longer waited, the terminal would
    hide what is typed until the line has come. `_echo_off` turns the echo off instead.
    """
    print(prompt, end="", flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    print(flush=True)
    return line.rstrip("\n")


@contextlib.contextmanager
def _echo_off() -> Iterator[None]:
    """Turn off the terminal's echo in the block, if standard input is a terminal."""
    if sys.platform == "win32":  # there `getpass` is used, which does it
        yield
        return
    import termios

    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        yield
        return
    silent = list(before)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def _read_code(client: Client, source: _Lines, interrupts: Any, prompt: str) -> str | None:
    """Read lines until they are complete code; None at the end of the input."""
    lines: list[str] = []
    while True:
        more = "   ...: ".rjust(len(prompt)) if prompt else ""
        line = await _read_line(source, interrupts, more if lines else prompt)
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
    return code.rstrip().endswith((":", "\\"))  # without an answer: the kernel may be busy


async def _read_line(source: _Lines, interrupts: Any, prompt: str) -> str | None:
    """Read one line. A Ctrl-C meanwhile prints how to leave."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_say_how_to_leave, interrupts)
        line = await source.read(prompt)
        nursery.cancel_scope.cancel()
    return line


async def _say_how_to_leave(interrupts: Any) -> None:
    async for _ in interrupts:
        print("\n(nothing runs: Ctrl-D leaves, Enter goes on)", flush=True)


async def _run(client: Client, lines: _Lines, interrupts: Any, code: str) -> Execution:
    """Run code and show its outputs as they come."""
    shown = _Shown()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_interrupt, client, lines, interrupts)
        async with client.executing(code, on_input=partial(_answer, lines)) as execution:
            nursery.start_soon(_say_if_it_waits, execution)
            async for output in execution:
                shown.show(output)
        error = execution.error
        if error is not None and not shown.has_shown_error:
            shown.write("stderr", f"{error}\n")
        nursery.cancel_scope.cancel()
    shown.end()
    return execution


async def _interrupt(client: Client, lines: _Lines, interrupts: Any) -> None:
    async for _ in interrupts:
        await client.interrupt()
        lines.give_up()  # if the cell has asked for input, it no longer waits for it


async def _say_if_it_waits(execution: Execution) -> None:
    await trio.sleep(WAITS)
    if not execution.started and sys.stdin.isatty():
        print("(waits for the cell that runs there; Ctrl-C interrupts that one)", flush=True)


async def _answer(lines: _Lines, prompt: str, password: bool) -> str:
    line = await lines.read(harmless(prompt, False), password=password)
    if line is None:
        raise EOFError
    return line


class _Shown:
    """Shows the outputs of a cell as text, and ends its last line if the cell has not."""

    def __init__(self) -> None:
        self.has_shown_error = False
        self._last = "\n"

    def show(self, output: Any) -> None:
        """Show one output, which is in nbformat's form."""
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
        """Show text of the kernel."""
        stream = sys.stderr if name == "stderr" else sys.stdout
        print(harmless(text, stream.isatty()), end="", file=stream, flush=True)
        self._last = text[-1:] or self._last

    def end(self) -> None:
        """End the last line, because a prompt follows."""
        if self._last != "\n":
            print(flush=True)
