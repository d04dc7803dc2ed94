"""Whether a scheduler, Trio or an asyncio loop of the user's, is at work in a frame.

The user's code starts tasks in nurseries, and runs asyncio loops of its own (`asyncio.run`). What
such a library does is not protected from `KeyboardInterrupt` as the kernel's code is. If that is
raised in the middle, a task is lost: it belongs to its nursery, or to its loop, but no step of it
is made any more. Then the clean-up that the interrupt begins waits for that task for ever. An
import that is cut off in the wrong place keeps the lock which every thread needs for its imports.

So nothing is raised there, at first. An asyncio loop is asked to call a function that raises it,
between two of its steps, where nothing can be lost; `asyncio.Runner` does it in a similar way. In
Trio the stop stays pending, and the main thread is signalled again. The work of either is short. A
scheduler that seems to be at work for longer than `PATIENCE` has called something that blocks
(`time.sleep` as a callback); then the exception is raised all the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import attrs
import trio

from .user_code import is_machinery

if TYPE_CHECKING:
    import asyncio

__all__ = ["PATIENCE", "Scheduler"]

PATIENCE = 0.2  # seconds that a scheduler has for what it is doing
_LIBRARY = str(Path(os.__file__).parent) + os.sep
_ASYNCIO = str(Path(os.__file__).parent / "asyncio") + os.sep
_IMPORTS = "<frozen importlib._bootstrap>"  # holds the lock of all imports for a moment
# file names that stand for no file begin so: methods that attrs makes, modules of the interpreter
_GENERATED = ("<attrs generated", "<frozen ")


def _code_of(found: Any, *names: str) -> CodeType | None:
    """The code of a private function; None where the library has no such function, or is not
    imported.
    """
    for name in names:
        found = getattr(found, name, None)
    code: CodeType | None = getattr(found, "__code__", None)
    return code


_SPAWN = _code_of(trio, "_core", "_run", "Runner", "spawn_impl")


@attrs.frozen
class Scheduler:
    """What is at work: ``loop`` is an asyncio loop. It is None if it is Trio, a function of
    asyncio's that the user's code has called (`asyncio.TaskGroup.create_task`), or an import.
    """

    loop: asyncio.AbstractEventLoop | None

    @classmethod
    def at(cls, frame: FrameType | None) -> Scheduler | None:
        """What is at work in that frame. None if that is the user's code, or belongs to another
        library that the user's code has called.
        """
        is_critical = frame is not None and frame.f_code.co_filename == _IMPORTS
        run_once = _code_of(sys.modules.get("asyncio"), "BaseEventLoop", "_run_once")
        while frame is not None:
            code = frame.f_code
            if code is _SPAWN:
                return cls(None)
            if code is run_once:
                return cls(frame.f_locals.get("self"))
            if not _is_library(code.co_filename):
                return cls(None) if is_critical else None
            is_critical = is_critical or code.co_filename.startswith(_ASYNCIO)
            frame = frame.f_back
        return None

    def have_called(self, function: Callable[[], object]) -> None:
        """Have an asyncio loop call a function next; from any thread, and in signal handlers.
        Without a loop nothing is called: what is at work goes on in a moment.
        """
        if self.loop is not None:
            with suppress(RuntimeError):  # another thread has closed it just now
                self.loop.call_soon_threadsafe(function)


def _is_library(filename: str) -> bool:
    """Whether it is code of Trio's, of ours, or of the standard library, asyncio above all."""
    if is_machinery(filename) or filename.startswith(_GENERATED):
        return True
    return filename.startswith(_LIBRARY) and "-packages" not in filename
