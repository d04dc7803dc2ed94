"""An interrupt in any line of ours that a cell comes to ends that cell, and nothing else.

The kernel's own tasks are protected from interrupts. What runs for a cell in its own frames (a
display, a magic, ``print``) is not, and may be left between any two lines: what it has begun to
prepare must not be taken for ready by the next cell.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio
import trio.testing

import trikernel
from trikernel.core import current_request
from trikernel.python import PythonKernel

from ..cells import served

# A coroutine that was made and not yet awaited is no harm.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

OURS = str(Path(trikernel.__file__).parent)
CELLS = {
    "text, a display and a result": "print('a'); display({'text/plain': 'b'}, raw=True)\n{1: 2}",
    "a magic around a statement": "%time x = 1",
    "representations": "class A:\n    def _repr_html_(self): return 'h'\nA()",
    "streams": "import sys; sys.stderr.write('e'); sys.stdout.flush()\n[1]",
    "a cell that is captured": "%%capture c\nprint(1)",
    "help": "?len",
    "an error": "1/0",
    "a child process": "!true",
}
NEXT = {
    "print('p')": "p",
    "{1: 2}": "{1: 2}",
    "class B:\n    def _repr_html_(self): return 'h'\nB()": "'text/html': 'h'",
    "%time 3": "Wall",
    "import sys; print('z', file=sys.stderr)": "z",
    "1/0": "ZeroDivisionError",
    "display(7)": "7",
    "?len": "Docstring",
    "!echo hi": "hi",
}


class Interrupt:
    """Raises `KeyboardInterrupt` in the ``nth`` line of ours that may be interrupted."""

    def __init__(self, nth: int) -> None:
        self._left = count(nth, -1)
        self.place = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        request = current_request.get()
        reaches = request is not None and not request.finished
        reaches = reaches and not trio.lowlevel.currently_ki_protected()
        if event == "line" and reaches and next(self._left) == 0:
            self.place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
            sys.settrace(None)
            raise KeyboardInterrupt
        return self


async def what_is_wrong_after(cell: str, interrupt: Interrupt) -> list[str]:
    """Run a cell with the interrupt in it, and those that come next; which of them fail."""
    before = sys.gettrace()
    async with served(PythonKernel()) as client:
        sys.settrace(interrupt)
        try:
            await client.execute(cell, stop_on_error=False)
        finally:
            sys.settrace(before)
        wrong = []
        for code, word in NEXT.items() if interrupt.place else ():
            execution = await client.execute(code, stop_on_error=False)
            assert execution.reply is not None
            shown = f"{execution.reply.content} {[one.content for one in execution.messages]}"
            if word not in shown:
                wrong.append(f"{code!r} after an interrupt in {interrupt.place}: {shown}")
        return wrong


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_the_next_cells_are_right(cell: str, request: pytest.FixtureRequest) -> None:
    """At a few lines of each cell; with ``--thorough`` at all."""
    step = 1 if request.config.getoption("--thorough") else 97
    for nth in count(step // 9, step):
        interrupt = Interrupt(nth)
        clock = trio.testing.MockClock(autojump_threshold=0.01)
        assert trio.run(what_is_wrong_after, cell, interrupt, clock=clock) == []
        if not interrupt.place:
            assert nth > step // 9
            break
