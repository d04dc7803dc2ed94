"""Window systems' loops, which are given turns from Trio's.

What is wanted
    A window reacts while the kernel is idle and while a cell awaits, within some 10 ms, and the
    cells of a notebook with an open window take no longer than without.

What does not work
    To run the window system's loop while nothing else runs, as ipykernel does: a window is dead
    while a cell waits for something, and a notebook that is run as a whole hangs in it. To have
    Trio be its guest (`trio.lowlevel.start_guest_run`): Trio waits in a thread then, so each cell
    of everybody pays two changes of thread for each time that it waits; an interrupt has to pass
    through the foreign loop; and it would have to be chosen before the kernel starts.

What is done
    A Trio task has the window system handle what has come, without waiting, every ``interval``
    seconds. No window system tells in Python by which descriptor it would wake up, so it is asked.
    Whether there is a display is found out first, and for Qt, which ends the process that it cannot
    find one in, in a process of its own. PyQt also ends the process when a slot raises while
    `sys.excepthook` is Python's own; so another one is put there, which reports.

What remains
    While a cell computes, windows stand still. A dialogue that runs a loop of its own (``exec()``)
    holds the kernel up until it is closed. wx and macOS' own loop have not been tried.
"""

from __future__ import annotations

import importlib
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from ..core import call_unprotected, current_request, is_cancel
from ..errors import UsageError

__all__ = ["GUIS", "follow_gui", "open_gui", "report_uncaught"]

_QT = ("PyQt6", "PySide6", "PyQt5", "PySide2")
_QT_OF = {"qt6": _QT[:2], "qt5": _QT[2:]}
_NO_WINDOWS = ("offscreen", "minimal", "vnc", "linuxfb")  # platforms of Qt's without a display
_PROBE = "import {0}.QtWidgets as q, sys; q.QApplication(sys.argv[:1])"
_PROBE_SECONDS = 20
_TK_DONT_WAIT = 2  # TCL_DONT_WAIT, as tkinter has it
_MOST = 500  # events in one turn

_HELD, _AWAKE = 300, 100  # milliseconds without a turn: a loop of a cell's runs; how often it wakes
_TK_AWAKE = "trikernel_awake"
_kept: list[object] = []  # the windows of an application end with it

_LIVELY = 0.1  # seconds after an event in which the next one is soon looked for

Turn = Callable[[], bool]


@enable_ki_protection
async def follow_gui(
    turn: Turn, interval: float, report: Callable[[BaseException], object]
) -> None:
    """Give turns until cancelled; what one raises is reported.

    ``turn`` tells whether anything has happened: then the next turn is after ``interval`` seconds,
    else after twice as many.
    """
    lively_until = -math.inf
    while True:
        happened = False
        try:
            happened = call_unprotected(turn)
        except BaseException as raised:
            if is_cancel(raised):
                raise
            report(raised)
        now = trio.current_time()
        if happened:
            lively_until = now + _LIVELY
        await trio.sleep(interval if now < lively_until else 2 * interval)


def report_uncaught(report: Callable[[BaseException], object]) -> Callable[[], None]:
    """Have what a slot raises reported, where nobody has seen to that. Returns what undoes it."""
    before = sys.excepthook
    if before is not sys.__excepthook__:
        return lambda: None

    def hook(kind: type[BaseException], error: BaseException, tb: Any) -> None:
        report(error.with_traceback(tb))

    def undo() -> None:
        if sys.excepthook is hook:
            sys.excepthook = before

    sys.excepthook = hook
    return undo


def open_gui(name: str) -> Turn:
    """What gives a window system a turn. Raises `UsageError` where that cannot be had."""
    opener = GUIS[name]
    try:
        return opener(name)
    except ImportError as error:
        raise UsageError(f"%gui {name}: {error}; it has to be installed") from None


# Whether there is a display


def _check_display(name: str) -> None:
    """Raise `UsageError` if there is no display that answers, on systems where X shows windows."""
    if sys.platform in ("win32", "darwin") or os.environ.get("WAYLAND_DISPLAY"):
        return
    display = os.environ.get("DISPLAY", "")
    if not display:
        raise UsageError(f"%gui {name}: there is no display (neither DISPLAY nor WAYLAND_DISPLAY)")
    if not _answers(display):
        raise UsageError(f"%gui {name}: the display {display} does not answer")


def _answers(display: str) -> bool:
    host, _, number = display.rpartition(":")
    number = number.partition(".")[0]
    if not number.isdigit():
        return False
    if host not in ("", "unix"):
        with suppress(OSError), socket.create_connection((host, 6000 + int(number)), timeout=3):
            return True
        return False
    if sys.platform != "win32":
        path = f"/tmp/.X11-unix/X{number}"
        for address in (path, "\0" + path):
            with suppress(OSError), socket.socket(socket.AF_UNIX) as one:
                one.connect(address)
                return True
    return False


# The window systems


def _until_none(handle_one: Callable[[], object]) -> bool:
    """Handle what has come; whether there was anything."""
    number = 0
    while number < _MOST and handle_one():
        number += 1
    return number > 0


def _open_tk(name: str) -> Turn:
    import tkinter

    _check_display(name)
    # an interpreter without windows: an event of any window of this thread is one of its turn
    interpreter: Any = tkinter.Tcl().tk
    interpreter.eval(f"proc {_TK_AWAKE} {{}} {{after {_AWAKE} {_TK_AWAKE}}}")

    def turn() -> bool:
        interpreter.call("after", "cancel", _TK_AWAKE)
        happened = _until_none(partial(interpreter.dooneevent, _TK_DONT_WAIT))
        interpreter.call("after", _HELD, _TK_AWAKE)  # mainloop() hears of an interrupt by that
        return happened

    return turn


def _open_qt(name: str) -> Turn:
    package = _find_qt(name)
    widgets = importlib.import_module(f"{package}.QtWidgets")
    core = importlib.import_module(f"{package}.QtCore")
    app = widgets.QApplication.instance()
    if app is None:
        _check_qt(name, package)
        app = widgets.QApplication(sys.argv[:1] or ["trikernel"])
        app.setQuitOnLastWindowClosed(False)  # it would end the next dialogue's loop, too
        app.lastWindowClosed.connect(core.QCoreApplication.quit)  # said within app.exec() only
    flags: Any = getattr(core.QEventLoop, "ProcessEventsFlag", core.QEventLoop).AllEvents
    dispatcher = core.QAbstractEventDispatcher.instance()
    deletion: Any = getattr(core.QEvent, "Type", core.QEvent).DeferredDelete
    deletion = getattr(deletion, "value", deletion)
    held = core.QTimer()
    held.setInterval(_HELD)
    held.timeout.connect(partial(_exit_if_stopped, core.QCoreApplication.exit))
    _kept.append(app)

    def turn() -> bool:
        held.start()
        happened = bool(dispatcher.processEvents(flags))
        app.sendPostedEvents(None, deletion)
        return happened

    return turn


@enable_ki_protection
def _exit_if_stopped(exit_loops: Callable[[], object]) -> None:
    """Called in a loop that a cell runs by itself (``exec()``): Python's signals are heard here,
    and what the cell waits for ends when that is to stop.
    """
    request = current_request.get()
    if request is not None and request.stop_reason is not None and not request.finished:
        exit_loops()


def _find_qt(name: str) -> str:
    """The package: one that is imported already, or chosen by QT_API, or installed."""
    wanted = _QT_OF.get(name, _QT)
    chosen = [one for one in wanted if one.lower() == os.environ.get("QT_API", "").lower()]
    imported = [one for one in wanted if f"{one}.QtCore" in sys.modules]
    for package in (*imported, *chosen, *wanted):
        with suppress(ImportError):
            importlib.import_module(f"{package}.QtWidgets")
            return str(package)
    raise ImportError(f"none of {', '.join(wanted)} can be imported")


def _check_qt(name: str, package: str) -> None:
    """Qt ends the process where it finds no display, or not all of its own libraries."""
    if os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0] in _NO_WINDOWS:
        return
    _check_display(name)
    command = [sys.executable, "-c", _PROBE.format(package)]
    probe = subprocess.run(
        command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
    )
    if probe.returncode:
        said = [line for line in probe.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise UsageError(f"%gui {name}: Qt cannot start here: {said[0]}")


def _open_gtk(name: str) -> Turn:
    gi = importlib.import_module("gi")
    _check_display(name)
    for version in ("4.0",) if name == "gtk4" else ("3.0",) if name == "gtk3" else ("3.0", "4.0"):
        with suppress(ValueError):
            gi.require_version("Gtk", version)
            break
    gtk = importlib.import_module("gi.repository.Gtk")
    glib = importlib.import_module("gi.repository.GLib")
    if gtk.init_check() in (False, None) or gtk.init_check() == (False, None):
        raise UsageError(f"%gui {name}: GTK cannot start here")
    return partial(_until_none, partial(glib.MainContext.default().iteration, False))


def _open_wx(name: str) -> Turn:
    wx = importlib.import_module("wx")
    _check_display(name)
    app = wx.GetApp() or wx.App(redirect=False)
    loop = wx.GUIEventLoop()

    def dispatch() -> bool:
        return bool(loop.Pending()) and bool(loop.Dispatch())

    def turn() -> bool:
        with wx.EventLoopActivator(loop):
            happened = _until_none(dispatch)
            app.ProcessIdle()
        return happened

    return turn


def _open_osx(name: str) -> Turn:
    """By IPython's own hook for its terminal, told that there is something to read already."""
    if sys.platform != "darwin":
        raise UsageError(f"%gui {name}: only macOS has that")
    hook = importlib.import_module("IPython.terminal.pt_inputhooks.osx").inputhook
    readable, writable = os.pipe()
    os.write(writable, b"x")

    class Context:
        """What the hook asks."""

        def fileno(self) -> int:
            """Readable."""
            return readable

        def input_is_ready(self) -> bool:
            """At once."""
            return True

        _input_is_ready = staticmethod(lambda wait=False: True)

    def turn() -> bool:
        hook(Context())
        return False

    return turn


GUIS: dict[str, Callable[[str], Turn]] = {
    "tk": _open_tk,
    **dict.fromkeys(("qt", "qt5", "qt6"), _open_qt),
    **dict.fromkeys(("gtk", "gtk3", "gtk4"), _open_gtk),
    "wx": _open_wx,
    "osx": _open_osx,
}
"""By the name that ``%gui`` takes: what makes the function that gives a turn."""
