"""Kernels in processes of their own, spoken to with this package's client."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import trio

from trikernel.client import Client, Execution, open_kernel
from trikernel.wire import Message

from ..processes import PYTHON, ROOT, TIMEOUT

__all__ = ["HERE", "By", "errors_of", "interrupt", "open_process", "plain", "until_text"]

HERE = "tests.faults.kernels"
By = Literal["signal", "message"]

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def environment(folder: str, **env: str) -> dict[str, str]:
    """What a kernel's process gets: this checkout to import, a profile folder of its own."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"IPYTHONDIR": folder, "PYTHONPATH": os.pathsep.join(paths), **env}


@asynccontextmanager
async def open_process(spec: str = PYTHON, *flags: str, **env: str) -> AsyncIterator[Client]:
    """Start a kernel and have a client of it, for three times `TIMEOUT`; it always ends."""
    arguments = ["--kernel", spec, *flags]
    with tempfile.TemporaryDirectory() as folder, trio.fail_after(3 * TIMEOUT):
        env = environment(folder, **env)
        async with open_kernel(cwd=ROOT, env=env, extra_arguments=arguments) as client:
            yield client


async def interrupt(client: Client, by: By) -> None:
    """By SIGINT, or by an ``interrupt_request``, whose reply is waited for."""
    if by == "signal":
        await client.interrupt()
    else:
        await client.request("interrupt_request", channel="control")


async def until_text(execution: Execution, text: str, stream: str = "stdout") -> str:
    """Wait until what a cell has put out contains ``text``; all that it has put out."""
    if text not in getattr(execution, stream):
        async for _ in execution:
            if text in getattr(execution, stream):
                break
    assert text in getattr(execution, stream), f"the cell has ended, with {execution.outputs}"
    return str(getattr(execution, stream))


def errors_of(execution: Execution) -> list[dict[str, Any]]:
    """The contents of the ``error`` messages about a cell, those after its idle too."""
    found: list[Message] = [*execution.messages, *execution.late]
    return [dict(one.content) for one in found if one.msg_type == "error"]


def plain(traceback: list[str] | str) -> str:
    """A traceback, or any text, as one text without colours."""
    text = traceback if isinstance(traceback, str) else "\n".join(traceback)
    return _ANSI.sub("", text)
