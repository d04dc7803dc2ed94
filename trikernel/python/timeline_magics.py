"""``%%timeline`` for one cell, ``%timeline on`` for each: what the tasks did, drawn below it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from ..core import current_request, current_subshell
from ..kernel import recorder_of
from ..timeline import Recorder, Timeline, origin_of

__all__ = ["TimelineMagics", "recorded"]

_EVENTS = ("pre_run_cell", "post_run_cell")


@magics_class
class TimelineMagics(Magics):
    """``%timeline`` and ``%%timeline``. Without one of them nothing is recorded, and no Trio
    instrument is installed.
    """

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        # The recorder of the cell that runs in each shell: subshells run cells at the same time.
        self._recorders: dict[object, Recorder] = {}
        self._is_on = False
        self._callbacks: tuple[Any, ...] = ()

    @magic_arguments()
    @argument("state", nargs="?", choices=("on", "off"), help="for each cell from now on, or none")
    @argument("-o", "--output", metavar="NAME", help="keep the timeline in a variable, too")
    @argument("--svg", metavar="FILE", help="write the picture to a file, too")
    @argument("--trace", metavar="FILE", help="write a trace for https://ui.perfetto.dev, too")
    @line_cell_magic
    def timeline(self, line: str, cell: str | None = None) -> None:
        """Record what tasks do: ``%%timeline`` while this cell runs, ``%timeline on`` each cell.

        Which task ran and what it waited on, nurseries, errors, cancels and deadlines, and in red
        who held the loop for longer than 50 ms, with the line.
        """
        if cell is not None:  # a cell is rewritten to await `AsyncMagics.timeline`
            raise UsageError("%%timeline has to be the first magic of a cell that runs by itself")
        state = options_of(line).state
        if state == "on":
            self._turn_on()
        elif state == "off":
            self._turn_off()
        else:
            print(f"%timeline is {'on' if self._is_on else 'off'}: say on or off")

    def _turn_on(self) -> None:
        self._is_on = True
        if not self._callbacks:
            self._callbacks = self._begin, self._end
            for event, function in zip(_EVENTS, self._callbacks, strict=True):
                self.shell.events.register(event, function)

    def _turn_off(self) -> None:
        self._is_on = False
        self._drop()
        self._listen_no_more()

    def _listen_no_more(self) -> None:
        """Unregister from IPython's events, unless a cell of another shell is still recorded."""
        if not self._recorders:
            for event, function in zip(_EVENTS, self._callbacks, strict=False):
                self.shell.events.unregister(event, function)
            self._callbacks = ()

    def _begin(self, info: Any) -> None:
        self._drop()  # the recorder of a cell that was left behind
        if self._is_on:
            recorder = self._recorders[current_subshell.get()] = _recorder(self.shell)
            recorder.start()

    def _end(self, result: Any) -> None:
        recorder = self._drop()
        if recorder is not None:  # None at the end of the cell that has turned it on
            display(recorder.timeline())
        if not self._is_on:
            self._listen_no_more()

    def _drop(self) -> Recorder | None:
        """Stop and return the recorder of this shell, if there is one."""
        recorder = self._recorders.pop(current_subshell.get(), None)
        if recorder is not None:
            recorder.stop()
        return recorder


def options_of(line: str) -> Any:
    """The options on the magic's line. Raises `UsageError`."""
    return parse_argstring(TimelineMagics.timeline, line)


@contextmanager
def recorded(shell: Any, line: str) -> Iterator[None]:
    """Record what tasks do in the block and show the timeline at its end, also if it raises."""
    options = options_of(line)
    if options.state is not None:
        raise UsageError(f"%timeline {options.state} is a line of its own, with one %")
    recorder = _recorder(shell)
    try:
        with recorder:
            yield
    finally:
        timeline = recorder.timeline()
        display(timeline)
        _keep(shell, options, timeline)


def _recorder(shell: Any) -> Recorder:
    title = origin_of(current_request.get())
    return recorder_of(shell.find_kernel(), title=title)


def _keep(shell: Any, options: Any, timeline: Timeline) -> None:
    if options.output:
        shell.user_ns[options.output] = timeline
    for path, draw in ((options.svg, timeline.svg), (options.trace, timeline.chrome_trace)):
        if path:
            try:
                Path(path).write_text(draw(), "utf-8")
            except OSError as error:
                raise UsageError(f"%%timeline: {path}: {error.strerror}") from None
